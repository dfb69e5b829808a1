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
from effxfer.runtime.images.preprocess import Preprocess


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Where a task's images come from; `Task.loader` holds it.

    Attributes:
        settings: Which images.
        cache: Folder of decoded images; None is the user's cache directory.
        history: What the network was trained on before: its splits hold.
    """

    settings: DataSettings
    cache: Path | None = None
    history: History = NONE

    def load(self, preprocess: Preprocess, listing: Listing | None = None) -> Task:
        """Decode the images, with a progress bar if there is anything to decode.

        Args:
            preprocess: Size, crop and interpolation, as the network expects them.
            listing: What `scan` gave for the same settings; None lists the files now.
        """
        with ExitStack() as stack:
            done, advance = 0, None

            def count(now: int, total: int) -> None:
                nonlocal done, advance
                if now < done:  # the target's images are counted from 0 again
                    done, advance = 0, None
                label = f"decode {Path(self.settings.source).name}"
                advance = advance or stack.enter_context(progress.bar(label, total))
                advance(now - done, "")
                done = now

            task = load(
                self.settings, preprocess, cache=self.cache, progress=count, history=self.history, listing=listing
            )
        return replace(task, loader=self)
