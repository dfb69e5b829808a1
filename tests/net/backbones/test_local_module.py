import sys

import pytest

from effxfer.errors import SettingsError
from effxfer.net.backbones.local_module import import_beside


@pytest.fixture
def folder(tmp_path):
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("beside"):
            del sys.modules[name]


@pytest.mark.parametrize(("name", "file"), [("besidea", "besidea.py"), ("besideb.nets", "besideb/nets.py")])
def test_a_module_beside_a_pipeline_is_imported_and_the_folder_is_left(folder, name, file):
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / "besideb").mkdir(exist_ok=True)
    (folder / "besideb" / "__init__.py").touch()
    (folder / "besidehelp.py").write_text("there = 3\n")
    (folder / file).write_text("from besidehelp import there\n")
    path = list(sys.path)
    import_beside(f"{name}:make", folder)
    assert sys.modules[name].there == 3
    assert sys.path == path


def test_what_is_installed_comes_first_and_what_is_not_named_is_not_imported(folder):
    for name in ("timm", "json", "besidec"):
        (folder / f"{name}.py").write_text("raise SystemExit('imported')\n")
    for source in ("timm:resnet18", "json:make", "besided:make", "besidec", "model directory", "../x:y"):
        import_beside(source, folder)
    assert not [name for name in sys.modules if name.startswith("beside")]


def test_a_module_that_raises_is_named(folder):
    (folder / "besidee.py").write_text("1 / 0\n")
    with pytest.raises(SettingsError, match=r"besidee .*raises ZeroDivisionError"):
        import_beside("besidee:make", folder)
