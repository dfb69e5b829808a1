import json
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from effxfer.artifact import Artifact, describe
from effxfer.data.settings import DataSettings
from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.stages.prune import lottery
from effxfer.stages.prune import ticket as stage
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.key import stage_key
from effxfer.stages.runner.source import fill_in_weights, point_to_weights, read_ticket, write_ticket
from effxfer.stages.settings.common import TICKET
from effxfer.stages.train import finetune
from effxfer.stages.train.finetune import train
from tests import tiny

ONE = {"fit": {**tiny.FIT, "epochs": 1}}
FEW = {**ONE, "sparsity": 0.8, "rounds": 1}


@pytest.fixture(scope="module")
def found(tmp_path_factory, dense, data):
    """A ticket of 20 % of the weights, and what it was found in."""
    return tiny.stage("prune lottery", dense, tmp_path_factory.mktemp("ticket") / "ticket", data, **FEW)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same images in two classes of other names."""
    folder = tiny.write_images(tmp_path_factory.mktemp("other") / "others", seed=1)
    (folder / "red").rename(folder / "warm")
    shutil.rmtree(folder / "blue")
    return tiny.data_of(folder)


def apply(ticket, out, data, **changes):
    return tiny.stage("ticket", ticket, out, data, **changes)


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_lottery_leaves_its_ticket(found, dense):
    ticket = read_ticket(found.path)
    assert TICKET in found.manifest.files
    net, kept = ticket.network(), found.net().masks()
    assert all(torch.equal(net.masks()[name], keep) for name, keep in kept.items())
    for name, tensor in dense.net().state_dict().items():
        assert name.startswith("head") or torch.equal(net.state_dict()[name], tensor)
    facts = ticket.facts
    assert facts.recipe == {"stage": "prune lottery", "settings": found.manifest.settings}
    assert facts.origin["key"] == found.manifest.key
    assert facts.origin["reached"]["accuracy/val"] == found.manifest.report["accuracy/val"].value
    assert 1 - facts.kept / facts.masked == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "more", "point"),
    [
        ("prune lottery", {"rewind": "rate"}, "trained to"),
        ("prune lottery", {"rewind": "init"}, "drawn anew"),
        ("prune lottery", {"rewind": 0.5}, "after 0.5 epochs"),
        ("prune gradual", {}, "trained to"),
        ("prune structured", {"ratio": 0.4}, "the stage got"),
    ],
)
def test_every_search_for_tickets_leaves_one(dense, data, tmp_path, name, more, point):
    more = {**({} if name != "prune structured" else {"sparsity": None}), **more}
    settings = {k: v for k, v in {**FEW, **more}.items() if k in tiny.STAGES[name].settings.model_fields}
    made = tiny.stage(name, dense, tmp_path / "out", data, **settings)
    ticket = read_ticket(made.path)
    assert point in ticket.facts.rewind
    net, trained, given = ticket.network(), made.net(), dense.net()
    assert all(torch.equal(net.masks()[n], keep) for n, keep in trained.masks().items())
    body = "body.stage3.2.conv2.weight"
    begins = {
        "trained to": trained.get_parameter(body),
        "the stage got": given.get_parameter(body),
    }.get(point)
    if begins is None:
        assert not torch.equal(net.get_parameter(body), given.get_parameter(body))
        assert not torch.equal(net.get_parameter(body), trained.get_parameter(body))
    else:
        assert torch.equal(net.get_parameter(body), begins)


def test_it_is_trained_as_its_recipe_says_unless_told(found, data, tmp_path, monkeypatch):
    seen = []

    def watch(net, tasks, strategy, fit, **more):
        seen.append((strategy, fit))
        return train(net, tasks, strategy, fit, **more)

    monkeypatch.setattr(stage, "train", watch)
    ticket = read_ticket(found.path)
    apply(ticket, tmp_path / "as", data)
    apply(ticket, tmp_path / "other", data, fit={"epochs": 0, "lr": 0.5}, options={"augment": {"flip": True}})
    apply(ticket, tmp_path / "probe", data, strategy="probe", fit={"epochs": 0})
    (strategy, fit), (changed, other), (probe, _) = seen
    assert fit.model_dump() == {**fit.model_dump(), **ONE["fit"]}
    assert strategy.batch == 8
    assert (other.epochs, other.lr, other.keep) == (0, 0.5, "last")
    assert (changed.batch, changed.augment.crop, changed.augment.flip) == (8, "none", True)
    assert type(probe) is not type(strategy)


def test_it_starts_from_the_rewind_point_with_a_fresh_head(found, other, tmp_path, monkeypatch):
    starts = []

    def watch(net, *args, **more):
        net.apply_masks_()
        starts.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
        return train(net, *args, **more)

    monkeypatch.setattr(stage, "train", watch)
    ticket = read_ticket(found.path)
    made = apply(ticket, tmp_path / "out", other)
    assert made.manifest.classes == ("green", "warm")
    expected = ticket.network()
    expected.apply_masks_()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(starts[0][name], tensor)


def test_its_zeros_stay_through_later_stages(found, other, tmp_path):
    made = apply(read_ticket(found.path), tmp_path / "out", other)
    net = made.net()
    gone = {name: ~keep for name, keep in net.masks().items()}
    assert all(torch.equal(~gone[name], keep) for name, keep in found.net().masks().items())
    assert all(bool((net.get_parameter(name)[context] == 0).all()) for name, context in gone.items())
    assert made.manifest.report["sparsity/prunable"].value == pytest.approx(80, abs=0.01)
    small = tiny.stage("prune channels", made, tmp_path / "small", other, fit={**tiny.FIT, "epochs": 0}).net()
    assert all(bool((small.get_parameter(name)[~keep] == 0).all()) for name, keep in small.masks().items())
    assert sum(int((~keep).sum()) for keep in small.masks().values()) > 0


def test_controls_are_of_the_same_sparsity_and_the_same_start(found, data, tmp_path):
    ticket, none = read_ticket(found.path), {"epochs": 0}
    own, random, again, dense = (
        apply(ticket, tmp_path / str(number), data, mask=mask, fit=none, seed=seed).net()
        for number, (mask, seed) in enumerate([("ticket", 0), ("random", 0), ("random", 1), ("none", 0)])
    )
    start = ticket.network()
    for name, keep in own.masks().items():
        assert int(random.masks()[name].sum()) == int(keep.sum())
        assert torch.equal(random.get_parameter(name), start.get_parameter(name) * random.masks()[name])
        assert torch.equal(dense.get_parameter(name), start.get_parameter(name))
    assert any(not torch.equal(random.masks()[name], keep) for name, keep in own.masks().items())
    assert any(not torch.equal(random.masks()[name], keep) for name, keep in again.masks().items())
    assert dense.masks() == {}
    assert torch.equal(own.get_parameter("head.out.weight"), random.get_parameter("head.out.weight"))


def test_a_structured_ticket_has_random_channels_for_a_control(dense, data, tmp_path):
    made = tiny.stage("prune structured", dense, tmp_path / "found", data, rounds=1, ratio=0.5, **ONE)
    ticket, none = read_ticket(made.path), {"epochs": 0}
    own = apply(ticket, tmp_path / "own", data, fit=none).net()
    random = apply(ticket, tmp_path / "random", data, mask="random", fit=none).net()
    assert random.masks().keys() == own.masks().keys()
    assert not torch.equal(own.body.stage3[2].bn2.running_var, random.body.stage3[2].bn2.running_var)
    differ = 0
    for name, keep in own.masks().items():
        rows = [mask.view(len(mask), -1).any(1) for mask in (keep, random.masks()[name])]
        assert int(rows[0].sum()) == int(rows[1].sum())
        differ += int((rows[0] != rows[1]).sum())
    assert differ


def test_a_fresh_process_rebuilds_the_same_network(found, tmp_path):
    torch.manual_seed(1)
    example = torch.randn(4, 3, 16, 16)
    net = read_ticket(found.path).network()
    net.apply_masks_()
    shutil.copy(found.path / TICKET, tmp_path / TICKET)
    with torch.inference_mode():
        save_file({"example": example, "expected": net(example)}, tmp_path / "io.safetensors")
    code = (
        "import sys, torch; from pathlib import Path; from safetensors.torch import load_file;"
        "from effxfer.stages.runner.source import read_ticket; torch.set_num_threads(1); here = Path(sys.argv[1]);"
        "net = read_ticket(here / 'ticket.safetensors').network(); net.apply_masks_();"
        "io = load_file(here / 'io.safetensors');"
        "torch.set_grad_enabled(False); sys.exit(not torch.equal(net(io['example']), io['expected']))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


def test_reading_one_loads_no_torch(found):
    code = (
        "import sys; from pathlib import Path; from effxfer.stages.runner.source import parent_of, read_ticket;"
        "from effxfer.prune.tickets.ticket_report import describe;"
        "ticket = read_ticket(Path(sys.argv[1])); parent_of(ticket); str(describe(ticket));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(found.path)], check=False).returncode == 0


def test_goes_on_after_a_cut_bit_for_bit(found, other, tmp_path, monkeypatch):
    ticket, more = read_ticket(found.path), {"fit": {"epochs": 3}}
    made = apply(ticket, tmp_path / "whole", other, **more)
    calls, predict = [], finetune.predict

    def cut_off(*args, **rest):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return predict(*args, **rest)

    monkeypatch.setattr(finetune, "predict", cut_off)
    with pytest.raises(KeyboardInterrupt):
        apply(ticket, tmp_path / "cut", other, **more)
    assert not (tmp_path / "cut").exists()
    assert list((tmp_path / ".work-cut").glob("key-*/checkpoint.pt"))
    resumed = apply(ticket, tmp_path / "cut", other, **more)
    assert same(resumed.net(), made.net())
    assert resumed.manifest.key == made.manifest.key


def test_a_lottery_that_was_cut_off_leaves_the_same_ticket(found, dense, data, tmp_path, monkeypatch):
    def cut_off(net, *args, label, **more):
        if label == "ticket round 1 of 1":
            raise KeyboardInterrupt
        return train(net, *args, label=label, **more)

    monkeypatch.setattr(lottery, "train", cut_off)
    with pytest.raises(KeyboardInterrupt):
        tiny.stage("prune lottery", dense, tmp_path / "cut", data, **FEW)
    monkeypatch.undo()
    again = tiny.stage("prune lottery", dense, tmp_path / "cut", data, **FEW)
    assert (again.path / TICKET).read_bytes() == (found.path / TICKET).read_bytes()


def test_the_key_is_of_the_ticket_not_of_its_place(found, dense, data, tmp_path):
    ticket, context = read_ticket(found.path), RunContext(out=tmp_path / "out", device="cpu")
    settings = tiny.settings_of("ticket")
    key = stage_key("ticket", settings, ticket, [data], context)
    shutil.copy(found.path / TICKET, tmp_path / "elsewhere.safetensors")
    assert stage_key("ticket", settings, read_ticket(tmp_path / "elsewhere.safetensors"), [data], context) == key
    pointing = point_to_weights(ticket, str(dense.path))
    assert stage_key("ticket", settings, pointing, [data], context) == key
    sparser = tiny.stage("prune lottery", dense, tmp_path / "sparser", data, **{**FEW, "sparsity": 0.9})
    assert stage_key("ticket", settings, read_ticket(sparser.path), [data], context) != key


def test_a_ticket_that_points_opens_what_it_points_to(found, dense, data, tmp_path):
    file = tmp_path / "lean.safetensors"
    write_ticket(point_to_weights(read_ticket(found.path), str(dense.path)), file)
    assert file.stat().st_size < (found.path / TICKET).stat().st_size / 5
    none = {"epochs": 0}
    light = apply(read_ticket(file), tmp_path / "light", data, fit=none)
    assert same(light.net(), apply(read_ticket(found.path), tmp_path / "heavy", data, fit=none).net())
    assert fill_in_weights(read_ticket(file)).content == (found.path / TICKET).read_bytes()


def test_other_weights_than_it_points_to_are_refused(found, dense, data, tmp_path):
    moved = Artifact.load(shutil.copytree(dense.path, tmp_path / "moved"))
    ticket = point_to_weights(read_ticket(found.path), str(moved.path))
    shutil.rmtree(moved.path)
    with pytest.raises(ModelFileError):
        fill_in_weights(ticket)
    assert fill_in_weights(ticket, str(dense.path)).content == (found.path / TICKET).read_bytes()
    with pytest.raises(ModelFileError, match="has other weights than the ticket's rewind point") as caught:
        fill_in_weights(ticket, "resnet20-cifar10")
    assert caught.value.code == "E404"
    with pytest.raises(ModelFileError, match="has other weights than the ticket's rewind point"):
        point_to_weights(read_ticket(found.path), "resnet20-cifar10")
    with pytest.raises(SettingsError, match="a backbone has no effect"):
        fill_in_weights(read_ticket(found.path), str(dense.path))


def test_a_flipped_byte_is_found(found, tmp_path):
    content = bytearray((found.path / TICKET).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / TICKET).write_bytes(content)
    with pytest.raises(ModelFileError, match=r"ticket\.safetensors was changed since it was written") as caught:
        read_ticket(tmp_path / TICKET)
    assert caught.value.code == "E404"


def test_what_holds_no_ticket_is_named(dense, tmp_path):
    with pytest.raises(ModelFileError, match=r"is the result of finetune and holds no ticket\.safetensors"):
        read_ticket(dense.path)
    with pytest.raises(ModelFileError, match="no ticket"):
        read_ticket(tmp_path / "nowhere")
    with pytest.raises(ModelFileError, match="is not a ticket"):
        read_ticket(dense.path / "weights.safetensors")


def test_only_a_ticket_is_replaced_by_a_ticket(found, dense, data, tmp_path):
    ticket, file = read_ticket(found.path), tmp_path / "file"
    file.write_text("years of work")
    with pytest.raises(SettingsError, match="exists but is not a ticket file"):
        write_ticket(ticket, file, force=True)
    assert file.read_text() == "years of work"
    write_ticket(ticket, tmp_path / "mine")
    write_ticket(ticket, tmp_path / "mine")
    another = read_ticket(tiny.stage("prune lottery", dense, tmp_path / "x", data, **{**FEW, "sparsity": 0.5}).path)
    with pytest.raises(SettingsError, match="is another ticket"):
        write_ticket(another, tmp_path / "mine")
    write_ticket(another, tmp_path / "mine", force=True)
    assert read_ticket(tmp_path / "mine").facts.identity == another.facts.identity


def digits(folder, classes):
    """Scikit-learn's digits of some classes as images, every second one."""
    told = load_digits()
    for number, (pixels, label) in enumerate(zip(told.images[::2], told.target[::2], strict=True)):
        if label in classes:
            place = folder / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 15.9).astype("uint8")).resize((16, 16)).save(place / f"{number:04}.png")
    return DataSettings(source=str(folder), val_fraction=0.2, test_fraction=0.3)


@pytest.mark.slow
def test_a_ticket_of_one_task_beats_a_random_mask_on_another(tmp_path):
    """Digits 0 to 4 find it, and 5 to 9 are learnt by it: from a backbone that knows photographs, at 16 pixels."""
    few, many = digits(tmp_path / "few", range(5)), digits(tmp_path / "many", range(5, 10))
    source = BackboneSettings(source="resnet20-cifar10", size=16, crop_pct=1.0)
    fit = {"epochs": 2, "lr": 0.004, "warmup": 0.0, "keep": "last"}
    more = {"sparsity": 0.9, "rounds": 1, "fit": fit, "options": {**tiny.PLAIN, "batch": 32}}
    found = tiny.stage("prune lottery", source, tmp_path / "found", few, **more)
    ticket = read_ticket(found.path)
    own, random = (apply(ticket, tmp_path / mask, many, mask=mask, fit={"epochs": 3}) for mask in ("ticket", "random"))
    home = apply(ticket, tmp_path / "home", few)
    assert same(home.net(), found.net()), "on the task that it was found on, it is what was found"
    assert own.manifest.classes == ("5", "6", "7", "8", "9")
    gained = own.manifest.report["accuracy/test"].value - random.manifest.report["accuracy/test"].value
    assert own.manifest.report["accuracy/test"].n > 100
    assert gained > 15, gained


def test_its_manifest_says_what_it_was_made_from(found, data, tmp_path):
    ticket = read_ticket(found.path)
    made = apply(ticket, tmp_path / "out", data, fit={"epochs": 0})
    assert made.manifest.parent == {"ticket": ticket.facts.identity}
    assert json.loads(json.dumps(describe(made.net())))["edits"] == list(made.manifest.edits)
