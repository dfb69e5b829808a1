import copy
import os

import pytest

from effxfer.errors import SettingsError
from effxfer.pipeline.plan import check_plan, find_pipeline, read_plan
from effxfer.toml import read_toml
from tests import plans

TABLE = {
    "data": {"source": "digits"},
    "backbone": {"source": "resnet20-cifar10"},
    "stage": [
        {"name": "dense", "run": "finetune", "fit": {"epochs": 2}},
        {"name": "small", "run": "prune", "method": "channels", "ratio": 0.5},
        {"name": "dense-onnx", "run": "export", "from": "dense"},
        {"name": "small-onnx", "run": "export"},
        {"run": "bench"},
    ],
}


@pytest.fixture
def table():
    return copy.deepcopy(TABLE)


@pytest.fixture
def file(tmp_path):
    return plans.write(tmp_path / "mine.toml", "images")


def mistakes(table, **more):
    with pytest.raises(SettingsError) as caught:
        check_plan("mine", table, **more)
    return str(caught.value)


def test_a_plan_is_what_its_table_says(table):
    plan = check_plan("mine", table)
    assert [step.name for step in plan.steps] == ["dense", "small", "dense-onnx", "small-onnx", "bench"]
    assert [step.stage for step in plan.steps] == ["finetune", "prune channels", "export", "export", "bench"]
    assert plan.steps[0].settings.fit.epochs == 2
    assert plan.place(plan.steps[2]) == "3-dense-onnx"
    assert list(plan.data) == ["digits"]


def test_a_step_starts_from_the_network_before_it_or_from_what_it_names(table):
    plan = check_plan("mine", table)
    assert [step.source for step in plan.steps[:4]] == ["", "dense", "dense", "small"]


def test_a_bench_compares_all_exports_before_it_or_those_it_names(table):
    assert check_plan("mine", table).steps[-1].models == ("dense-onnx", "small-onnx")
    table["stage"][-1]["models"] = ["small-onnx", "dense-onnx"]
    assert check_plan("mine", table).steps[-1].models == ("small-onnx", "dense-onnx")


def test_every_mistake_is_named_at_once(table):
    table["dta"] = {}
    table["data"]["val_fractoin"] = 0.1
    table["backbone"]["size"] = 3
    dense, small, dense_onnx, small_onnx, bench = table["stage"]
    dense["fit"]["epoch"] = 3
    small["method"] = "chanels"
    dense_onnx["from"] = "dens"
    small_onnx["opset"] = "twenty"
    bench["models"] = ["small-onx"]
    text = mistakes(table)
    for part in (
        "unknown table 'dta' (did you mean 'data'?)",
        "[data] unknown setting 'val_fractoin' (did you mean 'val_fraction'",
        "[backbone] size",
        "stage 'dense': unknown setting 'fit.epoch' (did you mean 'epochs'?)",
        "stage 'small': no pruning method 'chanels' (did you mean 'channels'?)",
        "stage 'dense-onnx': from: no earlier stage to take 'dens' (did you mean 'dense'",
        "stage 'small-onnx': opset",
        "stage 'bench': models: no earlier stage to take 'small-onx' (did you mean 'small-onnx'",
    ):
        assert part in text


def test_a_mistake_in_a_step_is_not_told_again_by_those_that_use_it(table):
    table["stage"][0]["run"] = "finetun"
    text = mistakes(table)
    assert "no stage 'finetun' (did you mean 'finetune'?)" in text
    assert text.count(";") == 0


@pytest.mark.parametrize("name", ["a/b", "", "a b", "..", "é!", ".work-x", "a\0b", "a\nb", "a\n", "\x1b[31m", "\u202e"])
def test_names_are_directories_so_they_are_plain(table, name):
    table["stage"][0]["name"] = name
    assert "letters, digits, - and _ only" in mistakes(table)


@pytest.mark.parametrize("name", ["n" * 300, "é" * 60])
def test_a_name_that_no_directory_can_have_is_refused(table, name):
    table["stage"][0]["name"] = name
    text = mistakes(table)
    assert "a name has at most 100 bytes" in text
    assert len(text) < 1000


def test_stages_beyond_all_use_are_counted(table):
    table["stage"] *= 4000
    assert "there are 20000 stages: at most 500" in mistakes(table)


@pytest.mark.parametrize("text", [".".join(["a"] * 50_000) + "=1", "dense" + ".x" * 30 + "=1"])
def test_a_change_of_too_many_parts_is_refused(file, text):
    with pytest.raises(SettingsError, match="parts: tables go at most 20 deep") as caught:
        read_plan(file, changes=[text])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", ["9" * 100_000, "-" + "9" * 5000, str(2**64)])
def test_a_change_to_a_number_of_any_size_is_refused(file, value):
    with pytest.raises(SettingsError, match=r"dense.*fit\.epochs") as caught:
        read_plan(file, changes=[f"dense.fit.epochs={value}"])
    assert len(str(caught.value)) < 1000


def test_a_pipeline_that_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    for name, words in {
        "pipe.toml": "a named pipe",
        ".": "a folder",
        "no" * 300: "no pipeline",
        "a\0": "no pipeline",
    }.items():
        with pytest.raises(SettingsError, match=words):
            read_plan(tmp_path / name)


@pytest.mark.parametrize("name", ["data", "backbone"])
def test_names_of_tables_are_taken(table, name):
    table["stage"][-1]["name"] = name
    assert "another table is called so" in mistakes(table)


def test_two_steps_of_one_name_are_refused(table):
    table["stage"][3]["name"] = "dense-onnx"
    assert "two stages are called 'dense-onnx'" in mistakes(table)


def test_two_unnamed_steps_of_one_kind_are_refused(table):
    table["stage"] = [{"run": "finetune"}, {"run": "finetune"}]
    assert "two stages are called 'finetune'" in mistakes(table)


def test_two_tasks_of_one_name_are_refused(table):
    table["data"] = [{"source": "digits"}, {"source": "digits"}]
    assert "two tasks are called 'digits'" in mistakes(table)
    table["data"][1]["name"] = "more"
    assert list(check_plan("mine", table).data) == ["digits", "more"]


def test_a_step_takes_all_tasks_or_those_it_names(table):
    table["data"] = [{"source": "digits"}, {"source": "digits", "name": "more"}]
    table["stage"][0]["tasks"] = ["more"]
    plan = check_plan("mine", table)
    assert plan.steps[0].tasks == ("more",)
    table["stage"][0]["tasks"] = ["mor"]
    assert "no task 'mor' (did you mean 'more'" in mistakes(table)


@pytest.mark.parametrize(("key", "value"), [("from", 3), ("tasks", "digits"), ("tasks", [1])])
def test_links_are_names(table, key, value):
    table["stage"][1][key] = value
    assert f"{key} should be a" in mistakes(table)


def test_a_step_cannot_start_from_a_later_one_or_from_a_comparison(table):
    table["stage"][0]["from"] = "small"
    assert "from: no earlier stage to take 'small'" in mistakes(table)
    table["stage"][0].pop("from")
    table["stage"].append({"name": "more", "run": "finetune", "from": "bench"})
    assert "from: no earlier stage to take 'bench'" in mistakes(table)


def test_a_comparison_of_nothing_is_refused(table):
    table["stage"] = [{"run": "finetune"}, {"run": "bench"}]
    assert "there is nothing to compare" in mistakes(table)


@pytest.mark.parametrize("stage", [[], {"run": "finetune"}, "finetune", [3], None])
def test_no_stages_are_refused(table, stage):
    table["stage"] = stage
    assert "there is no" in mistakes(table)
    table.pop("stage")
    assert "there is no [[stage]]" in mistakes(table)


@pytest.mark.parametrize("key", ["data", "backbone"])
def test_a_table_that_is_missing_is_named(table, key):
    table.pop(key)
    assert f"[{key}] source is required" in mistakes(table)


def test_one_seed_replaces_every_stage_that_has_one(table):
    table["stage"][0]["seed"] = 3
    plan = check_plan("mine", table, seed=7)
    assert [step.settings.seed for step in plan.steps[:2]] == [7, 7]
    assert check_plan("mine", table).steps[0].settings.seed == 3


def test_changes_replace_values_of_the_file(file):
    changes = ["dense.fit.epochs=9", "data.val_fraction=0.3", "backbone.args.width=32", 'small.importance="taylor"']
    plan = read_plan(file, changes=changes)
    assert plan.steps[0].settings.fit.epochs == 9
    assert plan.data["images"].val_fraction == 0.3
    assert plan.backbone.args == {"width": 32}
    assert plan.steps[1].settings.importance == "taylor"
    assert plan.steps[0].settings.fit.lr == 0.01, "what was not changed stays"


def test_data_and_backbone_replace_the_files(file):
    plan = read_plan(file, data="digits", backbone="timm:resnet18", seed=5)
    assert plan.data["digits"].source == "digits"
    assert plan.backbone.source == "timm:resnet18"
    assert plan.backbone.args == {"width": 16}
    assert plan.steps[0].settings.seed == 5
    assert plan.name == "mine"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("dense.fit.epochs", "is not KEY=VALUE"),
        ("epochs=3", "is not KEY=VALUE"),
        ("dens.fit.epochs=3", "no table 'dens' (did you mean 'dense'"),
        ("dense.fit.epochs.more=3", "is 4, not a table"),
        ("dense.fit.epoch=3", "did you mean 'epochs'"),
        ("dense.fit.epochs=many", "fit.epochs"),
    ],
)
def test_a_wrong_change_is_explained(file, change, text):
    with pytest.raises(SettingsError) as caught:
        read_plan(file, changes=[change])
    assert text in str(caught.value)


def test_several_tasks_are_not_changed_by_one_value(tmp_path):
    text = plans.TOML.replace("[data]", "[[data]]")
    with pytest.raises(SettingsError, match="several tables: change the file"):
        read_plan(plans.write(tmp_path / "mine.toml", "images", text), changes=["data.val_fraction=0.3"])


def test_a_shipped_pipeline_is_found_by_name():
    assert find_pipeline("demo").name == "demo.toml"
    assert read_toml(find_pipeline("demo"))["backbone"]
    with pytest.raises(SettingsError, match="did you mean 'demo'"):
        find_pipeline("demoo")


@pytest.mark.parametrize(("text", "code"), [("", "E206"), ("[data", "E205"), ("\xff", "E205")])
def test_a_file_that_is_no_pipeline_is_named(tmp_path, text, code):
    file = tmp_path / "broken.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError) as caught:
        read_plan(file)
    assert caught.value.code == code


@pytest.fixture
def tickets(table):
    """Finds a ticket, and trains it."""
    table["stage"] = [
        {"name": "dense", "run": "finetune"},
        {"name": "found", "run": "prune", "sparsity": 0.5},
        {"name": "small", "run": "prune", "method": "channels", "ratio": 0.5},
        {"run": "ticket"},
        {"run": "export"},
    ]
    return table


def test_a_ticket_comes_from_the_last_stage_that_left_one_or_from_a_file(tickets):
    assert [step.source for step in check_plan("mine", tickets).steps[3:]] == ["found", "ticket"]
    tickets["stage"][3] = {"run": "ticket", "file": "t.safetensors", "mask": "none", "fit": {"epochs": 2}}
    step = check_plan("mine", tickets).steps[3]
    assert (step.source, step.file, step.settings.mask) == ("", "t.safetensors", "none")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"from": "dense"}, "from: no earlier stage to take 'dense'"),
        ({"from": "found", "file": "x"}, "give either file or from"),
        ({"file": ""}, "file is the name of a ticket"),
        ({"file": 3}, "file is the name of a ticket"),
        ({"fit": {"epoch": 3}}, "fit: unknown setting 'epoch' (did you mean 'epochs'?)"),
        ({"mask": "rando"}, "mask"),
    ],
)
def test_mistakes_about_a_ticket_are_named(tickets, change, text):
    tickets["stage"][3] |= change
    assert text in mistakes(tickets)


def test_a_ticket_must_come_from_somewhere(tickets):
    tickets["stage"].pop(1)
    assert "there is no ticket to train" in mistakes(tickets)


def test_a_file_is_for_tickets_only(tickets):
    tickets["stage"][0]["file"] = "x"
    assert "for stages that take one" in mistakes(tickets)
