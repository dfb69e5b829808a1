"""The second file of a dual encoder: its text tower, and retrieval by both files.

Shape legend: N images, M different captions.
"""

from dataclasses import replace
from pathlib import Path

from effxfer.data.labels.captions import Captions, captions_of, class_of_captions
from effxfer.data.task import Split, Task
from effxfer.deploy.export.logits import open_model
from effxfer.net.net import Net
from effxfer.net.text.text_tower import TextTower
from effxfer.report import Measurement, Report
from effxfer.runtime.class_tables.embed import embed_rows
from effxfer.stages.settings.common import FILES
from effxfer.stages.train.image_text.towers import token_rows
from effxfer.transfer.image_text.recall import recall_rows


def text_task(tower: TextTower, task: Task) -> Task:
    """Return a task of the captions of images: which class a caption is of, each different caption once.

    Args:
        tower: The text tower.
        task: Task of images with the classes of both towers; without captions, these are prompts.
    """
    text, captions = tower.net, captions_of(task, tower.prompts)
    splits = {name: _split_of(text, task, captions, name) for name in captions.of_images}
    return replace(
        task, name=f"{task.name} captions", output=text.output, input=text.input, train=splits["train"],
        val=splits["val"], test=splits["test"], target=None, unlabelled=None, loader=None, class_embeddings=None,
    )  # fmt: skip


def _split_of(text: Net, task: Task, captions: Captions, name: str) -> Split:
    places, labels = class_of_captions(task, captions, name)
    texts = [captions.texts[place] for place in places]
    return Split(rows=token_rows(text, texts), labels=labels, names=texts)


def file_recall(
    folder: Path, text_folder: Path, tower: TextTower, task: Task, precision: str, threads: int
) -> Report:  # fmt: skip
    """Measure retrieval of validation and test pairs by both files of a precision; in place of an absent one, float32.

    Args:
        folder: Folder of the file of images.
        text_folder: Folder of the file of texts.
        tower: The text tower, which says how texts are tokenized.
        task: Task of images.
        precision: A key of `FILES`.
        threads: Threads of ONNX Runtime.
    """
    files = [place / FILES[precision] for place in (folder, text_folder)]
    if not any(file.is_file() for file in files):
        return Report()
    images, texts = (
        open_model(file if file.is_file() else file.with_name(FILES["fp32"]), threads, exact=False) for file in files
    )
    captions, rows = captions_of(task, tower.prompts), list[Measurement]()
    for name, split in task.reported_splits.items():
        used, of_images = captions.of_split(name)
        encoded = embed_rows(texts, token_rows(tower.net, [captions.texts[place] for place in used]))
        rows += recall_rows(embed_rows(images, split.rows), encoded, of_images, f"{name}/{precision}")
    return Report(rows=tuple(rows))
