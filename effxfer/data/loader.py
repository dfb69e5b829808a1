"""Load a task for one preprocessing after another, with a progress bar."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from effxfer import progress
from effxfer.data.history import NONE, History
from effxfer.data.listing import Listing
from effxfer.data.load import load
from effxfer.data.settings import DataSettings
from effxfer.data.task import Task
from effxfer.runtime.inputs import Input

VERBS = {"image": "decode", "text": "tokenize"}


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Source of a task's examples; `Task.loader` holds it.

    Attributes:
        settings: Settings of the data set.
        cache: Folder of decoded examples; None for the user's cache directory.
        history: Splits of the network's earlier stages, which are kept.
        as_words: Whether texts are divided into words, because another task of the network tags these.
    """

    settings: DataSettings
    cache: Path | None = None
    history: History = NONE
    as_words: bool = False

    def load(self, input: Input, listing: Listing | None = None) -> Task:
        """Decode the images or tokenize the texts, with a progress bar if there is anything to do.

        Args:
            input: The network's input: size, crop and interpolation of images, or the tokenizer.
            listing: Result of `scan` for the same settings; None to scan now.
        """
        with ExitStack() as stack:
            counted, advance = 0, None

            def count(now: int, total: int) -> None:
                nonlocal counted, advance
                if now < counted:  # the target's examples are counted from 0 again
                    counted, advance = 0, None
                label = f"{VERBS.get(input.kind, 'read')} {Path(self.settings.source).name}"
                advance = advance or stack.enter_context(progress.bar(label, total))
                advance(now - counted, "")
                counted = now

            task = load(
                self.settings, input, cache=self.cache, progress=count, history=self.history, listing=listing,
                as_words=self.as_words,
            )  # fmt: skip
        return replace(task, loader=self)
