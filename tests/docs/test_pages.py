"""The pages for developers are true to the tree: their files exist, their examples run, every room is drawn."""

import re
from pathlib import Path

import pytest
import torch

from effxfer.deploy.int8.recipes import RECIPES, Recipe
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.scores.context import ScoreContext
from effxfer.report import Report
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from effxfer.stages.stage import Stage
from effxfer.train.devices import pick_device
from effxfer.transfer.base import Strategy
from tests.contracts.test_floors import APART, FILES, LEVEL, room
from tests.prune.nets import make
from tests.transfer.tasks import adapt, task

HOUSE = Path(__file__).parents[2]
PAGES = sorted((HOUSE / "docs").glob("*.md"))


def examples(page: str) -> dict[str, object]:
    """What the code blocks of a page define, one after the other."""
    names: dict[str, object] = {"__name__": page}
    for block in re.findall(r"^```python\n(.*?)^```", (HOUSE / "docs" / page).read_text(), flags=re.M | re.S):
        exec(compile(block, page, "exec"), names)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_files_that_a_page_names_exist(page):
    lines = [line for line in page.read_text().splitlines() if "(new)" not in line]
    named = {path for line in lines for path in re.findall(r"`((?:effxfer|tests|guide|docs)/[\w/.-]+)`", line)}
    assert sorted(path for path in named if not (HOUSE / path).exists()) == []


@pytest.mark.parametrize("page", ["architecture.md", "architecture.svg"])
def test_every_room_is_on_the_page(page):
    text = (HOUSE / "docs" / page).read_text()
    rooms = {room(file) for file in FILES} - APART | {"runtime"}
    assert sorted(name for name in rooms if not re.search(rf"\b{name}\b", text)) == []


def test_the_floors_of_the_table_are_those_of_the_test():
    rows = re.findall(r"^\| (\d) \| (.*?) \|", (HOUSE / "docs" / "architecture.md").read_text(), flags=re.MULTILINE)
    floors = {name: int(floor) for floor, cell in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", cell)}
    order = sorted(LEVEL, key=lambda name: (LEVEL[name], name))
    assert [name for name in order if name in floors] == order
    ranks = [floors[name] for name in order]
    assert ranks == sorted(ranks)


def test_the_example_of_a_score_keeps_the_largest_weights_of_each_layer():
    net = make()
    names = list(Mask.full(net).keep)
    scores = examples("add-a-score.md")["lamp"](net, names, ScoreContext())
    for name in names:
        weight = net.get_parameter(name).detach()
        assert scores[name].shape == weight.shape
        assert scores[name].max() == 1
        assert torch.equal(scores[name].flatten().argsort(), weight.abs().flatten().argsort())


def test_the_example_of_a_strategy_trains_and_is_plain_fine_tuning_at_zero():
    cls = examples("add-a-strategy.md")["ConfidencePenalty"]
    assert issubclass(cls, Strategy)
    torch.manual_seed(0)
    *_, rows = adapt(cls(batch=16, beta=0.1), task())
    assert rows[-1]["loss"] < rows[0]["loss"]
    learner = torch.nn.Linear(4, 3)
    learner.output = SINGLE_LABEL
    batch = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    terms = cls(beta=0.0).loss(learner, batch, 0.0)
    assert sum(terms.values()) == Strategy().loss(learner, batch, 0.0)["label"]


def test_the_example_of_a_stage_moves_statistics_and_no_weight(dense, data):
    from effxfer.data.load import load
    from effxfer.train.state import Work

    page = examples("add-a-stage.md")
    assert isinstance(page["STAGE"], Stage)
    net = dense.net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    settings, tasks = page["Recalibrate"](images=16), [load(data, net.input)]
    after, report = page["recalibrate"](net, tasks, settings, device=pick_device("cpu"), work=Work(None))
    moved = {name for name, tensor in after.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all("running" in name or "num_batches" in name for name in moved)
    assert isinstance(report, Report)
    assert report["images"].value == 16


def test_the_example_of_a_recipe_is_new():
    recipe = examples("add-an-int8-recipe.md")["RECIPE"]
    assert isinstance(recipe["u8s8-last"], Recipe)
    assert recipe.keys().isdisjoint(RECIPES)
    assert recipe["u8s8-last"] not in RECIPES.values()
