"""A network of one's own, in a module that lies beside the pipeline that names it."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from effxfer.errors import SettingsError, out_of_memory


def import_beside(source: str, folder: Path) -> None:
    """Import the module of `package.module:factory` from a folder, if it lies there and is not installed.

    The folder is searched for this module only, and not for what a library might look for later.

    Raises:
        SettingsError: If importing it raises anything.
    """
    module, mark, _ = source.partition("@")[0].partition(":")
    top = module.partition(".")[0]
    there = (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()
    if not mark or not top.isidentifier() or not there or find_spec(top):
        return
    sys.path.append(str(folder))
    try:
        import_module(module)
    except Exception as error:  # whatever somebody's module raises
        if out_of_memory(error):
            raise
        text = f"no backbone {source}: importing {module} from {folder} raises {type(error).__name__}: {error}"
        raise SettingsError(text, "mend the module, or name another backbone") from error
    finally:
        sys.path.remove(str(folder))
