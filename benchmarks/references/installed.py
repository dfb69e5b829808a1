"""Whether a library that effxfer is compared with is installed."""

import importlib.metadata


def installed_version(package: str) -> str | None:
    """Return the version of a library, or say how to get it and return None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        print(f"skipped: {package} is not installed; `pip install {package}` in an environment for development")
        return None
