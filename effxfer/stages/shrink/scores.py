"""Score a candidate on the validation split by the file that ships."""

from typing import Any

import torch

from effxfer.net.net import Net
from effxfer.stages.shrink.contest import Contest
from effxfer.train.evaluate import predict


def scores_of(contest: Contest, net: Net, network: str, *, can_ship_float: bool) -> dict[str, Any]:
    """Score a candidate on the validation split by the file that ships.

    Args:
        contest: What all candidates share.
        net: The candidate.
        network: Name of the network that it is made of.
        can_ship_float: Whether its float32 file meets the latency as well: the more accurate one ships.

    Returns:
        `val` and `float`, scores as it ships and in float32; `int8`, the score of the int8 file if there is one;
        `ships`, the precision; `outputs` of the validation split as it ships; `scoring`, the seconds that this took.
    """
    began, task, shipping = contest.now(), contest.task_for(net), contest.network_of(network).shipping
    float32 = predict(net, task.val.rows, net.input, contest.device).numpy()
    outputs = {"float32": float32}
    if shipping.int8:
        outputs["int8"] = shipping.outputs(net, task, contest.device)
    values = {name: net.output.score(raw, task.val.labels).value for name, raw in outputs.items()}
    ships = shipping.precision
    if can_ship_float and values["float32"] > values[ships]:
        ships = "float32"
    row = {"val": values[ships], "float": values["float32"], "ships": ships, "scoring": contest.now() - began}
    return {
        **row,
        **{n: v for n, v in values.items() if n == "int8"},
        "outputs": torch.from_numpy(outputs[ships].copy()),
    }
