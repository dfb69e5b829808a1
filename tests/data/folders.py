"""Folders of images, read, and what was found in them in short."""

from effxfer.data.settings import DataSettings
from effxfer.data.sources.folder import read_folder


def read(root, **options):
    return read_folder(root, DataSettings(source=str(root), **options))


def codes(found):
    return sorted(finding.code for finding in found.findings)


def labels(found):
    return sorted({(item.split, item.label) for item in found.items})
