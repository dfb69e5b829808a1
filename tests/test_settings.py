import json
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

import effxfer
from effxfer.errors import SettingsError
from effxfer.settings import Settings, build, problems
from effxfer.stages import STAGES
from effxfer.train.settings import FitSettings
from effxfer.transfer import SELF_SUPERVISED, STRATEGIES


class Inner(Settings):
    epochs: int = Field(default=10, ge=0)
    lr: float = Field(default=1e-3, gt=0)


class Outer(Settings):
    name: str
    kind: Literal["a", "b"] = "a"
    file: Path = Path("x")
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    words: tuple[str, ...] = ()
    fit: Inner = Inner()
    more: dict[str, object] = Field(default_factory=dict)


def test_every_mistake_is_told_at_once_with_what_would_work():
    table = {"kind": "c", "nam": 1, "words": [1], "fit": {"epoch": 3, "lr": 0, "epochs": "3"}, "mean": [1, 2]}
    with pytest.raises(SettingsError) as caught:
        build(Outer, table, "stage 'dense'")
    text = str(caught.value)
    for expected in (
        "stage 'dense': ",
        "name is required",
        "unknown setting 'nam' (did you mean 'name'?)",
        "unknown setting 'fit.epoch' (did you mean 'epochs'?)",
        "fit.lr: input should be greater than 0, not 0",
        "fit.epochs: input should be a valid integer, not '3'",
        "kind: input should be 'a' or 'b', not 'c'",
        "words.0: input should be a valid string, not 1",
        "mean.2 is required",
        "settings are: name, kind, file",
    ):
        assert expected in text
    assert caught.value.code == "E201"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 3),
        ("name", None),
        ("fit", {"epochs": 3.0}),
        ("fit", {"epochs": True}),
        ("fit", {"lr": "1e-3"}),
        ("fit", 3),
        ("words", "abc"),
        ("fit", {"lr": float("inf")}),
        ("fit", {"lr": float("nan")}),
        ("more", {"a": [{"b": float("nan")}]}),
    ],
)
def test_nothing_is_converted(field, value):
    (mistake,) = problems(Outer, {"name": "x", field: value})
    assert mistake.startswith(field)
    with pytest.raises(SettingsError):
        build(Outer, {"name": "x", field: value}, "x")


def test_lists_fit_tuples_strings_fit_paths_whole_numbers_fit_fractions():
    made = build(Outer, {"name": "x", "mean": [1, 2, 3], "file": "a/b", "words": ["a"], "fit": {"lr": 1}}, "x")
    assert (made.mean, made.file, made.words, made.fit.lr) == ((1.0, 2.0, 3.0), Path("a/b"), ("a",), 1.0)


def test_a_table_given_in_part_keeps_the_other_defaults_of_its_place():
    """`prune --method lottery --lr 0.01` trained for the ten epochs of `finetune`, and not for the stage's three."""
    for name, stage in STAGES.items():
        for field, info in stage.settings.model_fields.items():
            if isinstance(info.default, FitSettings):
                made = build(stage.settings, NEEDED.get(name, {}) | {field: {"lr": 0.01}}, name)
                assert getattr(made, field) == info.default.model_copy(update={"lr": 0.01}), name
    augmented = {k: v for k, v in SELF_SUPERVISED.items() if not problems(v, {"augment": {"flip": False}})}
    assert "simclr" in augmented
    for name, cls in augmented.items():
        made = build(cls, {"augment": {"flip": False}}, name)
        assert made.augment == cls.model_fields["augment"].default.model_copy(update={"flip": False}), name


def test_what_is_made_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Inner().epochs = 3


texts = st.text(st.characters(codec="utf-8"), max_size=6)
finite = st.floats(allow_nan=False, allow_infinity=False)
inner = st.builds(Inner, epochs=st.integers(0, 2**53), lr=finite.filter(lambda x: x > 0))
plain = st.recursive(finite | texts | st.booleans() | st.none(), lambda x: st.lists(x, max_size=2), max_leaves=4)
outer = st.builds(
    Outer,
    name=texts,
    kind=st.sampled_from("ab"),
    mean=st.tuples(finite, finite, finite),
    words=st.lists(texts, max_size=2).map(tuple),
    fit=inner,
    more=st.dictionaries(texts, plain, max_size=2),
)


@given(outer)
def test_plain_values_make_the_same_settings(settings):
    assert build(Outer, settings.plain(), "x") == settings


def every(cls=Settings):
    """All settings models of effxfer; those of documents are read, and never written by themselves."""
    below = [
        other
        for sub in cls.__subclasses__()
        for other in every(sub)
        if not sub.__module__.startswith("effxfer.documents.")
    ]
    return [cls, *below] if cls.__module__.startswith("effxfer.") and cls is not Settings else below


REQUIRED = {
    "BackboneSettings": {"source": "timm:x"}, "Channels": {"ratio": 0.5}, "DataSettings": {"source": "x"},
    "Gradual": {"sparsity": 0.5}, "Lottery": {"sparsity": 0.5}, "Rank": {"backbones": ["timm:x"]},
    "SentenceTeacher": {"source": "hf:x"}, "Shrink": {"latency_ratio": 0.5}, "Structured": {"ratio": 0.5},
    "TaskHead": {"spec": {}, "layers": [0]},
}  # fmt: skip
SWITCHES = {"bundle": True, "max_per_class": 3, "target": "y", "latency": True}
VALUES = [
    None, False, True, 0, 1, 2, 8, 0.25, 64.5, "", "a", "x", "auto", "all", "first", "same", "split", "train",
    [], [1, 2], ["a"], [0.5, 0.5, 0.5], {}, {"a": 1}, {"source": "y"}, {"crop": "none"}, {"epochs": 3},
]  # fmt: skip


def own(field):
    """A field's default, and the words that it takes."""

    def words(annotation):
        return [v for part in get_args(annotation) for v in ([part] if isinstance(part, str) else words(part))]

    default = field.get_default(call_default_factory=True)
    return [*words(field.annotation), *([default] if type(default).__module__ == "builtins" else [])]


@pytest.mark.parametrize("cls", sorted({*every(), *STRATEGIES.values()}, key=str), ids=lambda cls: cls.__name__)
def test_every_setting_of_every_model_survives_a_round_trip(cls):
    """Manifests hold all values, so that whether one was set must not matter."""
    tried = set()
    for name, value in [(name, v) for name, field in cls.model_fields.items() for v in [*VALUES, *own(field)]]:
        for more in ({}, SWITCHES):
            table = {**REQUIRED.get(cls.__name__, {}), **{k: v for k, v in more.items() if k in cls.model_fields}}
            if not problems(cls, table | {name: value}):
                made = build(cls, table | {name: value}, "x")
                again = build(cls, json.loads(json.dumps(made.plain())), "x")
                assert (again, again.plain(), repr(again)) == (made, made.plain(), repr(made))
                tried.add(name)
    assert tried == set(cls.model_fields), "every field was tried"


def test_nothing_asks_whether_a_setting_was_set():
    sources = [file for file in Path(effxfer.__file__).parent.rglob("*.py") if "fields_set" in file.read_text()]
    assert sources == []


NEEDED = {
    "prune channels": {"ratio": 0.5},
    "prune gradual": {"sparsity": 0.5},
    "prune lottery": {"sparsity": 0.5},
    "prune structured": {"ratio": 0.5},
    "shrink": {"latency_ratio": 0.5},
}


@pytest.mark.parametrize("name", sorted(STAGES))
def test_defaults_of_every_stage_survive(name):
    made = build(STAGES[name].settings, NEEDED.get(name, {}), name)
    assert build(STAGES[name].settings, made.plain(), name) == made


def test_a_table_nested_beyond_reason_is_refused():
    table: dict[str, object] = {}
    for _ in range(100_000):
        table = {"more": table}
    assert problems(Outer, table) == ["tables are nested too deeply"]


def test_checking_settings_loads_no_torch():
    code = (
        "import sys; from effxfer.stages import STAGES; from effxfer.settings import problems; "
        "assert problems(STAGES['finetune'].settings, {'fit': {'epoch': 1}}); "
        "sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_rate_that_is_no_number_never_reaches_training():
    assert problems(FitSettings, {"lr": float("inf")}) == ["lr: input should be a finite number, not inf"]


def test_many_mistakes_are_counted_and_long_ones_cut():
    with pytest.raises(SettingsError) as caught:
        build(Outer, {"name": "x", **{f"{'n' * 5000}{i}": 0 for i in range(100)}}, "x")
    assert "and 80 more" in caught.value.problem
    assert len(caught.value.problem) < 20_000


def test_an_integer_of_any_size_is_a_mistake_of_whoever_gave_it():
    assert problems(Outer, {"name": "x", "fit": {"epochs": 10**5000}}) == ["an integer has too many digits"]
    (mistake,) = problems(Outer, {"name": "x", "fit": {"lr": -(10**4000)}})
    assert len(mistake) < 300
