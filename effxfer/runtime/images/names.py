"""Which names in a folder are those of images, and which were left by systems, synchronisers and tools."""

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
    """Say whether a file name ends like an image's."""
    return name[name.rfind(".") :].lower() in SUFFIXES


def is_litter(name: str) -> bool:
    """Say whether a name is hidden, or one that systems and tools leave in folders that are not theirs.

    >>> [is_litter(name) for name in ("lost+found", ".Trash-1000", "._1.jpg", "cat")]
    [True, True, True, False]
    """
    return name.startswith(".") or name.casefold() in LITTER
