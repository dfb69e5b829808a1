"""Wrong labels of a folder of images are found by a bundled backbone, wherever they lie."""

from functools import partial

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from effxfer.data.checks.audit import audit
from effxfer.data.settings import DataSettings
from effxfer.net.settings import BackboneSettings
from effxfer.stages.data.mislabelled import GROUP, find_mislabelled
from effxfer.stages.runner.context import RunContext

WRONG = 0.2


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder per digit, 80 images in each, some of them in the wrong one; and the paths of those."""
    root, rng, wrong = tmp_path_factory.mktemp("digits"), np.random.default_rng(0), set()
    told = load_digits()
    some = np.concatenate([np.flatnonzero(told.target == digit)[:80] for digit in range(10)])
    for row in some:
        label = int(told.target[row])
        moved = rng.random() < WRONG
        folder = root / str((label + rng.integers(1, 10)) % 10 if moved else label)
        folder.mkdir(exist_ok=True)
        Image.fromarray((told.images[row] * 15.9).astype("uint8")).resize((32, 32)).save(folder / f"{row}.png")
        if moved:
            wrong.add(f"{folder.name}/{row}.png")
    return root, wrong


@pytest.mark.slow
def test_most_wrong_labels_are_found_and_few_right_ones_are_accused(digits, tmp_path):
    root, wrong = digits
    backbone, data = BackboneSettings(source="resnet20-cifar10"), DataSettings(source=str(root))
    found = find_mislabelled(backbone, data, RunContext(out=tmp_path, device="cpu"))
    paths = [one.path for one in found]
    assert {one.code for one in found} == {"W338"}
    assert {one.group for one in found} == {GROUP}
    assert len(wrong.intersection(paths)) >= 0.7 * len(wrong)
    assert len(wrong.intersection(paths)) >= 0.85 * len(paths)
    assert wrong.issuperset(paths[:20]), "the likeliest first"


def test_an_audit_lists_them_after_what_it_finds_itself(digits, tmp_path):
    root, wrong = digits
    data = DataSettings(source=str(root))
    suspect = partial(
        find_mislabelled, BackboneSettings(source="resnet20-cifar10"), data, RunContext(out=tmp_path, device="cpu")
    )
    found = audit(data, extra_checks=suspect)
    table = next(one for one in found.report.tables if "may be wrong" in one.title)
    assert len(table.rows) == 50
    assert table.rows[0]["image"] in wrong
    assert any(note.startswith("W338") for note in found.report.notes)
    assert len([row for row in found.rows() if row["code"] == "W338"]) >= 0.7 * len(wrong)
