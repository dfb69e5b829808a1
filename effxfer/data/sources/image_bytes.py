"""Read, find and stamp a listed image: a file of a folder, or a file in a shard."""

import os
from pathlib import Path

from effxfer.data.sources.shards.tar_index import members, read_member, split_path
from effxfer.runtime.reading import read_regular, unfit_error


def read_image_bytes(root: Path, path: str, limit: int) -> bytes:
    """Read the bytes of an image.

    Args:
        root: The listing's root.
        path: The item's path.
        limit: Largest size in bytes.

    Raises:
        OSError: If it is absent, no regular file, larger than the limit, or cannot be read.
        DataError: If its shard is damaged (`E323`).
    """
    place = split_path(root, path)
    return read_regular(root / path, limit) if place is None else read_member(*place, limit)


def stamp_of(root: Path, path: str, limit: int) -> str:
    """Return a text that changes when the image does: sizes, inode and times of its file, and its place in a shard.

    Raises:
        OSError: As `read_image_bytes`.
        DataError: As `read_image_bytes`.
    """
    place = split_path(root, path)
    facts = os.stat(f"{root}/{path}" if place is None else place[0])  # noqa: PTH116 (a third of the time of pathlib on 60,000 files)
    if unfit := unfit_error(facts, limit if place is None else facts.st_size):
        raise unfit
    member = "" if place is None else "{} {} ".format(*members(place[0])[place[1]])
    return f"{member}{facts.st_size} {facts.st_ino} {facts.st_mtime_ns} {facts.st_ctime_ns}"
