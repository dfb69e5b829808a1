import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

import effxfer
from effxfer.errors import ModelFileError, SettingsError
from effxfer.net import cifar, conv4
from effxfer.net.backbones.architectures import build_body
from effxfer.net.backbones.trust import (
    BUNDLED,
    check_trusted,
    module_digest,
    module_files,
    trust,
    trust_file,
    trust_sources,
)

SOURCE = "kept_network:make"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A place for modules, on the path, and one for the user's list."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "modules").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield tmp_path / "modules"
    for name in [name for name in sys.modules if name.startswith("kept_")]:
        del sys.modules[name]


def refused(source, args=None, where="it"):
    with pytest.raises(ModelFileError) as caught:
        check_trusted({"source": source, "args": args or {}}, where)
    assert caught.value.code == "E413"
    return str(caught.value)


def keep(text):
    trust_file().parent.mkdir(parents=True, exist_ok=True)
    trust_file().write_text(text)


@pytest.mark.parametrize(
    ("source", "args"),
    [
        ("timm:resnet18", {"pad_type": "same", "output_stride": 8, "drop_rate": 0.1}),
        ("timm:test_vit", {"img_size": [32, 32], "global_pool": ""}),
        ("torchvision:mobilenet_v2", {"width_mult": 0.5}),
        ("effxfer.net.cifar:resnet20", {"width": 8}),
        ("effxfer.net.conv4:conv4", {}),
        ("effxfer.net.text.encoder:Encoder", {"vocabulary": 250_002, "separator": 250_001, "mlp": 16_384}),
    ],
)
def test_known_networks_with_known_arguments_run(source, args):
    check_trusted({"source": source, "args": args}, "it")


@pytest.mark.parametrize(
    ("source", "args"),
    [
        ("timm:resnet18", {"pretrained_cfg": {"url": "http://localhost/x"}}),
        ("timm:resnet18", {"pretrained_cfg": "x"}),
        ("timm:resnet18", {"checkpoint_path": "/etc/passwd"}),
        ("timm:resnet18", {"pretrained": True}),
        ("timm:resnet18", {"cache_dir": "x"}),
        ("timm:resnet18", {"act_layer": "torch.nn:ReLU"}),
        ("timm:resnet18", {"act_layer": {"url": "x"}}),
        ("timm:resnet18", {"drop_rate": float("nan")}),
        ("timm:resnet18", {"width": 10**9}),
        ("timm:resnet18", {"layers": [1] * 1000}),
        ("timm:resnet18", {"layers": [[[[1]]]]}),
        ("torchvision:resnet18", {"weights": "DEFAULT"}),
        ("torchvision:resnet18", {"weights_backbone": "DEFAULT"}),
        ("effxfer.net.cifar:resnet20", {"width": "16", "more": 1}),
    ],
)
def test_no_argument_of_a_file_fetches_reads_or_grows(source, args):
    assert f"it gives {source} {list(args)[-1]} = " in refused(source, args)


@pytest.mark.parametrize(
    "source",
    [
        "torch.fx.graph_module:reduce_graph_module", "timm.models:create_model", "effxfer.net.net:Net",
        "effxfer.net.net:rebuild", "effxfer.net.backbones.pretrained:open_backbone", "os:system",
        "effxfer.net.cifar:nn.Module",
        "no_such_module_anywhere:make", "effxfer.net.backbones.architectures:build_body", "", ":", "a b:c", "../x:y",
        "timm.:x", "Timm:resnet18",
    ],
)  # fmt: skip
def test_nothing_else_does(source):
    refused(source)


def test_the_error_is_the_way_out(home):
    (home / "kept_network.py").write_text("print('imported')")
    found = refused(SOURCE, where="a/manifest.json")
    digest = hashlib.sha256(b"print('imported')").hexdigest()
    assert "a/manifest.json names the network 'kept_network:make': opening it would import 'kept_network'" in found
    assert f"({home / 'kept_network.py'}) and run it" in found
    line = f'"{SOURCE}" = "{digest}"'
    assert f'use `effxfer.trust("{SOURCE}")`; to trust it permanently, put the line {line} into {trust_file()}' in found
    keep(f'"{SOURCE}" = "{digest}"\n')
    check_trusted({"source": SOURCE, "args": {}}, "it")


def test_what_is_not_there_cannot_be_kept(home):
    found = refused(SOURCE)
    assert "(not found here)" in found
    assert "for good" not in found


def test_a_module_that_changed_is_refused_and_not_run(home):
    file = home / "kept_network.py"
    file.write_text("pass")
    keep(f'"{SOURCE}" = "{module_digest("kept_network")}"\n')
    file.write_text(f"open({str(home / 'ran')!r}, 'w')")
    assert "its digest was " in refused(SOURCE)
    assert not (home / "ran").exists()


def test_the_digest_is_of_the_packages_as_well(home):
    package = home / "kept_package"
    package.mkdir()
    (package / "__init__.py").write_text("a = 1\n")
    (package / "net.py").write_text("b = 2\n")
    assert module_files("kept_package.net") == (package / "__init__.py", package / "net.py")
    assert module_digest("kept_package.net") == hashlib.sha256(b"a = 1\nb = 2\n").hexdigest()
    assert not [name for name in sys.modules if name.startswith("kept_")]


@pytest.mark.parametrize(
    "module", ["kept_folder", "kept_folder.inner", "kept_folder.inner.net", "sys", "x.y.z", "json.no"]
)
def test_what_only_an_import_could_find_has_no_files(home, module):
    (home / "kept_folder/inner").mkdir(parents=True)
    assert module_files(module) == ()
    assert module_digest(module) == ""


def test_byte_code_that_lies_beside_is_not_run(home):
    """Of other source, with a mark that says that nobody needs to check_trusted."""
    import py_compile

    file, evil = home / "kept_network.py", home / "other.py"
    file.write_text("made = 'here'\n")
    evil.write_text("made = 'elsewhere'\n")
    cached = home / "__pycache__" / f"kept_network.{sys.implementation.cache_tag}.pyc"
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(evil), cfile=str(cached), invalidation_mode=mode)
    seen = [sys.executable, "-c", "import kept_network; print(kept_network.made)"]
    done = subprocess.run(seen, cwd=home, capture_output=True, text=True, check=True)
    assert done.stdout == "elsewhere\n", "Python itself would run it"
    keep(f'"{SOURCE}" = "{module_digest("kept_network")}"\n')
    check_trusted({"source": SOURCE, "args": {}}, "it")
    assert sys.modules["kept_network"].made == "here"
    assert sys.pycache_prefix is None


def test_a_trusted_module_that_does_not_run_is_named(home):
    (home / "kept_network.py").write_text("1 / 0")
    keep(f'"{SOURCE}" = "{module_digest("kept_network")}"\n')
    assert "it names kept_network, which cannot be imported: ZeroDivisionError" in refused(SOURCE)


def test_trust_ends_with_its_block():
    with trust("os:system"):
        check_trusted({"source": "os:system", "args": {}}, "it")
        with trust("timm:resnet18"):
            check_trusted({"source": "timm:resnet18", "args": {"pretrained_cfg": "x"}}, "it")
            check_trusted({"source": "os:system", "args": {}}, "it")
    refused("os:system")
    refused("timm:resnet18", {"pretrained_cfg": "x"})


def test_naming_a_library_does_not_free_its_arguments():
    with trust_sources("timm:resnet18@weights.pth", "mine:make@weights.pth", "", "runs/dense"):
        check_trusted({"source": "mine:make", "args": {"anything": {}}}, "it")
        refused("timm:resnet18", {"pretrained_cfg": "x"})


@pytest.mark.parametrize("name", ["mine", "mine:", ":make", "a-b:c", "runs/dense", ""])
def test_only_a_factory_can_be_trusted(name):
    with pytest.raises(SettingsError, match="is not the name of a factory"), trust(name):
        pass


def test_without_a_home_nothing_is_kept(monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", lambda _self: (_ for _ in ()).throw(RuntimeError("no home")))
    assert trust_file() is None
    assert "for good" not in refused("json:JSONDecoder")


def test_own_networks_are_those_of_this_package():
    made = {f"{m.__name__}:{name}" for m, name in [(cifar, "resnet20"), (cifar, "resnet56"), (conv4, "conv4")]}
    assert made <= BUNDLED.keys()
    for source in made:
        build_body(source, {"width": 4})


def test_every_place_that_rebuilds_is_known():
    """A new one either has a network in memory, or calls `check_trusted` first."""
    root, places = Path(effxfer.__file__).parent, set()
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"rebuild", "build_body", "Net"}:
                places.add(str(file.relative_to(root)))
    in_memory = {
        "net/reinitialize.py",
        "net/dual_encoder/open_folder.py",  # the package's own encoder, and towers of timm by its table of names
        "net/edits.py",
        "net/net.py",
        "net/backbones/hugging_face.py",
        "net/backbones/probe.py",
        "net/text/new_encoder.py",  # always the package's own encoder
        "prune/graph/transaction.py",
        "stages/train/zero_shot/frozen_features.py",  # always the package's own identity on vectors
    }
    assert places == in_memory | {"artifact.py", "prune/tickets/file.py", "stages/runner/saved_net.py"}
    for name in places - in_memory:
        assert "check_trusted(" in (root / name).read_text()
