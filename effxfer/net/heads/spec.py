"""Specification of a head as plain values; it is checked before torch is loaded."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from effxfer.settings import Settings

Metric = Literal["euclidean", "cosine"]
Distance = Literal["euclidean", "cosine", "relation"]
Transform = Literal["none", "l2", "cl2n"]
Kind = Literal["linear", "cosine", "mlp", "prototypes", "compare", "label_words", "mmoe", "mtan", "per_task", "split"]
Form = Literal["product", "cosine", "reconstruction", "direct", "indirect"]
Pooling = Literal["mean", "gem", "attention", "bilinear"]
OF_TASKS = ("mmoe", "mtan", "per_task", "split")  # serve several tasks, and have a form of their own
OF_ONE_TASK = ("cosine", "linear", "mlp")  # what each of several tasks may have for itself
ONLY: dict[tuple[str, str], tuple[str, ...]] = {
    ("kind", "cosine"): ("scale", "learn_scale"),
    ("kind", "mlp"): ("width", "depth", "activation", "norm", "bottleneck"),
    ("kind", "prototypes"): ("distance", "transform", "hidden"),
    ("distance", "relation"): ("hidden",),
    ("kind", "compare"): ("form",),
    ("kind", "per_task"): ("heads",),
    ("kind", "mmoe"): ("experts", "expert_width"),
    ("pool", "gem"): ("power", "learn_power"),
    ("pool", "attention"): ("queries",),
    ("pool", "bilinear"): ("rank",),
    ("join", "gate"): ("mix",),
}


class HeadSpec(Settings):
    """Specification of a head; a manifest stores `plain()`, and `build(HeadSpec, ...)` reads it.

    A setting that has no effect on the chosen kind is refused unless it has its default value.

    Attributes:
        kind: `linear`; `cosine` (the angle between feature and class weight, times a scale); `mlp`; `prototypes`;
            `compare`, with a row of numbers for each class that is given and not learnt; `label_words`, which reads the
            place of a prompt's mask and suits texts alone; `mmoe`, experts that several tasks share; `mtan`, masks of
            each task over the maps of the body's stages; `per_task`, a head for each task with layers of its own;
            `split`, a part of the features for each task.
        dropout: Share of inputs (`mlp`: of each hidden layer's outputs) zeroed in training; 0 is none.
        standardize: Subtract a stored mean from each feature and divide by a stored deviation first;
            a fresh head stores 0 and 1.
        scale: Cosine only: what the cosine is multiplied by, at first.
        learn_scale: Cosine only: train the scale.
        width: MLP only: units of each hidden layer.
        depth: MLP only: hidden layers.
        activation: MLP only.
        norm: MLP only: normalisation before each activation.
        distance: Prototypes only: `euclidean` or `cosine`, see `prototype_logits`; or `relation`, which is learned.
        transform: Prototypes only: what happens to features first. `l2` gives them length 1; `cl2n` subtracts a stored
            mean before; `none` leaves them.
        hidden: Relation only: hidden units of the learned comparison.
        form: Compare only: what a linear map of features is compared with. `product` and `cosine` with the rows of the
            classes. `reconstruction`: the angle between features and what the map, transposed, makes of a row.
            `direct`: log odds of attributes with their presence. `indirect`: the same, by way of known classes.
        experts: Mixture of experts only: how many.
        expert_width: Mixture of experts only: outputs of each.
        heads: Per task only: the head of each task.
        bottleneck: MLP only: rank of the first hidden layer's weights, which are a product then; 0 is full rank.
        pool: How positions of a layer become one vector: `mean`; `gem`; `attention`; `bilinear`, the mean and beside
            it second moments.
        join: How several layers become one: `concat`, side by side; `gate`, added up with weights found per image.
        grid: For all but `mean` and `concat`: maps are averaged over windows first, such that a side of at least so
            many positions keeps less than twice as many; 0 keeps all.
        power: GeM only: the exponent, at first; 1 is the mean of what is positive.
        learn_power: GeM only: train the exponent.
        queries: Attention only: how many averages are taken.
        rank: Bilinear only: linear combinations of channels, each two of which are multiplied.
        mix: Gate only: the width that layers are brought to.
    """

    kind: Kind = "linear"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    standardize: bool = False
    # A cosine ahead by 1 is e^16 = 9 million to 1, enough for any number of classes; at
    # 10, as in 1804.09458, 22,000 to 1.
    scale: float = Field(default=16.0, gt=0, le=1000, allow_inf_nan=False)
    learn_scale: bool = True
    # Chosen, not measured: of the order of a body's features, and below; latency and overfitting grow with it.
    width: int = Field(default=256, ge=1, le=65536)
    # At most 3: features of a pretrained body are close to separable, and each layer adds latency.
    depth: int = Field(default=1, ge=1, le=3)
    activation: Literal["relu", "gelu", "hardswish"] = "relu"
    norm: Literal["none", "batch", "layer"] = "none"
    distance: Distance = "euclidean"
    transform: Transform = "none"
    # Chosen, not measured: as many as Conv-4 has features; the paper has 8 behind convolutions of 64 channels.
    hidden: int = Field(default=64, ge=1, le=65536)
    form: Form = "product"
    experts: int = Field(default=4, ge=1, le=64)
    # Chosen, not measured: 4 experts have as many outputs as a hidden layer of the default width.
    expert_width: int = Field(default=64, ge=1, le=65536)
    heads: tuple["TaskHead", ...] = ()
    bottleneck: int = Field(default=0, ge=0, le=65536)
    pool: Pooling = "mean"
    join: Literal["concat", "gate"] = "concat"
    grid: int = Field(default=0, ge=0, le=256)
    # 3: where Radenović et al. (1711.02512) start.
    power: float = Field(default=3.0, ge=1, le=32, allow_inf_nan=False)
    learn_power: bool = True
    queries: int = Field(default=1, ge=1, le=64)
    # Chosen, not measured: 16 x 16 = 256 products beside the average, as many as a layer has channels.
    rank: int = Field(default=16, ge=1, le=1024)
    # Chosen, not measured: a projection to so many numbers for each layer.
    mix: int = Field(default=64, ge=1, le=65536)

    @property
    def pools(self) -> bool:
        """Whether the head pools unaveraged layers, instead of taking concatenated averages."""
        return self.pool != "mean" or self.join != "concat"

    @property
    def position_pools(self) -> tuple[str, ...]:
        """How it pools positions other than by their mean, also for some of several tasks."""
        pools = (self.pool, *(each.spec.pool for each in self.heads))
        return tuple(dict.fromkeys(pool for pool in pools if pool != "mean"))

    @model_validator(mode="after")
    def _check_effects(self) -> "HeadSpec":
        foreign = {
            name: place for place, names in ONLY.items() if getattr(self, place[0]) != place[1] for name in names
        }
        if not self.pools:
            foreign["grid"] = ("pool", "")
        idle = [name for name in foreign if getattr(self, name) != type(self).model_fields[name].default]
        if idle:
            kind = getattr(self, foreign[idle[0]][0])
            raise ValueError(f"a {kind} head has no {' or '.join(idle)}")
        if self.kind in ("prototypes", "label_words") and (self.dropout or self.standardize or self.pools):
            raise ValueError(f"a {self.kind} head has a transform of its own: no dropout, standardize, pool or join")
        if self.kind in OF_TASKS and (self.dropout or self.standardize or self.pools):
            raise ValueError(f"a head of kind {self.kind} has no dropout, standardize, pool or join")
        if self.kind == "compare" and (self.dropout or self.standardize or self.pools):
            raise ValueError("a compare head standardises by itself: no dropout, standardize, pool or join")
        if (self.kind == "per_task") != bool(self.heads):
            raise ValueError("a head of kind per_task has heads, and no other has")
        return self


class TaskHead(Settings):
    """The head of one of several tasks.

    Attributes:
        spec: The head.
        layers: Places of the layers that it reads, among those that feed the heads of all tasks.
    """

    spec: HeadSpec
    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_kind(self) -> "TaskHead":
        if self.spec.kind not in OF_ONE_TASK:
            raise ValueError(f"one of several tasks has a {' or '.join(OF_ONE_TASK)} head, not {self.spec.kind}")
        return self


HeadSpec.model_rebuild()


def describe(spec: HeadSpec) -> str:
    """Describe a head in a few words.

    >>> describe(HeadSpec(kind="mlp", width=64, depth=2, norm="batch"))
    'mlp 2 x 64 relu, batch norm'
    """
    text: str = spec.kind
    if spec.kind == "mlp":
        text += f" {spec.depth} x {spec.width} {spec.activation}"
        text += f", {spec.norm} norm" if spec.norm != "none" else ""
        text += f", bottleneck {spec.bottleneck}" if spec.bottleneck else ""
    if spec.kind == "cosine":
        text += f" x {spec.scale:.3g}{'' if spec.learn_scale else ' fixed'}"
    if spec.kind == "prototypes":
        text += f", {spec.distance}" + (f", {spec.transform}" if spec.transform != "none" else "")
    if spec.kind == "compare":
        text += f", {spec.form}"
    if spec.kind == "per_task":
        text = "; ".join(describe(each.spec) for each in spec.heads)
    return text + _describe_pool(spec) + (f", dropout {spec.dropout:.2g}" if spec.dropout else "")


def _describe_pool(spec: HeadSpec) -> str:
    pools = {
        "mean": "",
        "gem": f" on gem {spec.power:.3g}{'' if spec.learn_power else ' fixed'}",
        "attention": f" on attention x {spec.queries}",
        "bilinear": f" on bilinear {spec.rank}",
    }
    return pools[spec.pool] + (f", gate {spec.mix}" if spec.join == "gate" else "")
