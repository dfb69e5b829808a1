"""The worked tables of the guide are read as the guide says."""

import re
import tomllib
from pathlib import Path

import pytest

from effxfer.data.labels.arrays import describe_label
from effxfer.data.settings import DataSettings
from effxfer.data.sources.table import read_table
from effxfer.settings import build

GUIDE = (Path(__file__).parents[3] / "guide" / "data.md").read_text()
TABLES = re.findall(r"```text\n(path,.*?)```\n\n```toml\n(.*?)```", GUIDE, flags=re.DOTALL)
LABELS = [
    ["beach, dog", "dog", "no label"],
    ["beach, dog, ?sea", "dog, ?sea", "sea"],
    ["34 71.5", "29 nan", "61 80.2"],
]


def test_every_kind_has_a_table():
    assert len(TABLES) == len(LABELS)


@pytest.mark.parametrize(("number", "labels"), list(enumerate(LABELS)))
def test_a_table_of_the_guide_is_read_with_the_settings_beside_it(tmp_path, number, labels):
    table, text = TABLES[number]
    (tmp_path / "table.csv").write_text(table)
    settings = build(DataSettings, tomllib.loads(text)["data"], "data")
    listing = read_table(tmp_path / "table.csv", settings)
    assert [describe_label(settings.labels, item.label, listing.classes) for item in listing.items] == labels
    assert not listing.findings
