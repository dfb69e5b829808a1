"""Recognize image files by name, and litter that operating systems, synchronizers and tools create in folders."""

SUFFIX_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}
SUFFIXES = frozenset(suffix for suffixes in SUFFIX_OF.values() for suffix in suffixes)
LITTER = frozenset(
    {
        "lost+found", "$recycle.bin", "recycler", "system volume information",  # file systems
        "network trash folder", "temporary items", "thumbs.db", "ehthumbs.db", "desktop.ini",  # desktops
        "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot",  # network storage
        "__macosx", "__pycache__", "cvs",  # archives and tools
    }
)  # fmt: skip


def is_image(name: str) -> bool:
    """Whether a file name has the suffix of an image format."""
    return name[name.rfind(".") :].lower() in SUFFIXES


def is_litter(name: str) -> bool:
    """Whether a name is hidden, or that of a file or folder which systems and tools create by themselves.

    >>> [is_litter(name) for name in ("lost+found", ".Trash-1000", "._1.jpg", "cat")]
    [True, True, True, False]
    """
    return name.startswith(".") or name.casefold() in LITTER
