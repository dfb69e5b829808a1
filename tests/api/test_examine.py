import subprocess
import sys

import pytest

import effxfer as ex
from effxfer.errors import DataError, SettingsError
from tests import digit_pairs, tiny

BACKBONE = "effxfer.net.cifar:resnet20"


def test_check_returns_its_findings_and_raises_only_when_it_is_told_to(folder, tmp_path):
    checked = ex.check(ex.load_data(folder), out=tmp_path / "audit")
    assert checked.errors == ()
    checked.raise_errors()
    assert (tmp_path / "audit" / "data_audit.csv").is_file()
    tiny.write_images(tmp_path / "bad")
    (tmp_path / "bad" / "red" / "00.png").write_text("no image")
    checked = ex.check(tmp_path / "bad")
    assert [finding.code for finding in checked.errors] == ["E301"]
    with pytest.raises(DataError, match=r"red/00\.png"):
        checked.raise_errors()
    assert ex.check(tmp_path / "bad", skip_bad=True).errors == ()


def test_check_names_mistakes(folder):
    with pytest.raises(SettingsError, match="did you mean 'skip_bad'"):
        ex.check(folder, skip_bat=True)


def test_rank_orders_backbones_and_writes_a_page(folder, tmp_path):
    backbones = [ex.load(BACKBONE, pretrained=False, size=16), "resnet20-cifar10"]
    quick = {"images": 30, "max_seconds": 0.1, "device": "cpu"}
    ranking = ex.rank(folder, backbones, by="neighbours", out=tmp_path, **quick)
    assert set(ranking.backbones) == {BACKBONE, "resnet20-cifar10"}
    assert ranking.facts() == {"page": tmp_path / "rank.html"}
    assert (tmp_path / "rank.html").is_file()


@pytest.mark.parametrize("kind", ["multi", "value"])
def test_rank_and_suspects_refuse_other_labels_than_classes_before_torch_is_loaded(kind, tmp_path):
    data = digit_pairs.data_of(digit_pairs.write_pairs(tmp_path / "pairs", 12), kind).plain()
    code = f"""if True:
        import sys
        import effxfer as ex
        from effxfer.errors import SettingsError
        for call in (lambda: ex.rank({data}, [{BACKBONE!r}]), lambda: ex.check({data}, suspects={BACKBONE!r})):
            try:
                call()
            except SettingsError as error:
                print(error)
        sys.exit('torch' if 'torch' in sys.modules else None)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for purpose in ("rank", "suspects"):
        assert f"{purpose} needs one class for each example" in done.stdout
    assert done.stdout.count(f"labels = '{kind}'") == 2
    assert ex.check(data, allow_empty=True).source == data["source"]


def test_backbones_are_listed_by_the_names_that_load_takes():
    assert "resnet20-cifar10" in ex.list_models().names
    names = ex.list_models("mobilenetv2_0*").names
    assert all(name.startswith("timm:mobilenetv2_0") for name in names)
    assert ex.load(names[0]).settings.source == names[0]


def test_rank_is_previewed(folder):
    assert ex.preview(ex.rank, folder, [BACKBONE])["settings"]["by"] == "linear"
