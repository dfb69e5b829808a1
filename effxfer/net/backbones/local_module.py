"""Import a user's network from a module beside the pipeline file that names it."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from effxfer.errors import SettingsError, out_of_memory


def import_beside(source: str, folder: Path) -> None:
    """Import the module of `package.module:factory` from a folder, if it is there and not installed.

    The folder is on the import path for this import only, so later imports never find modules in it by accident.

    Raises:
        SettingsError: If importing it raises anything.
    """
    module, mark, _ = source.partition("@")[0].partition(":")
    top = module.partition(".")[0]
    present = (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()
    if not mark or not top.isidentifier() or not present or find_spec(top):
        return
    # At the end: nothing in the folder hides a module that is installed.
    sys.path.append(str(folder))
    try:
        import_module(module)
    except Exception as error:  # a user's module may raise anything
        if out_of_memory(error):
            raise
        text = f"no backbone {source}: importing {module} from {folder} raises {type(error).__name__}: {error}"
        raise SettingsError(text, "fix the module, or name another backbone") from error
    finally:
        sys.path.remove(str(folder))
