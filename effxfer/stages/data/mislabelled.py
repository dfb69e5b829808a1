"""Find labels that are likely wrong, by linear probes on a backbone's features of all splits."""

import numpy as np

from effxfer import model_source
from effxfer.data.listing import Finding
from effxfer.data.settings import DataSettings
from effxfer.net.settings import BackboneSettings
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.tasks import load_task
from effxfer.train.devices import pick_device
from effxfer.train.evaluate import predict
from effxfer.transfer.fine_tuning.linear import Features
from effxfer.transferability.suspects import suspects

GROUP = "labels that may be wrong"


def find_mislabelled(
    backbone: BackboneSettings, data: DataSettings, context: RunContext, *, seed: int = 0
) -> list[Finding]:
    """Find the images of a data set whose label is likely wrong (`W338`), the likeliest first.

    Args:
        backbone: Backbone that computes the features; it must not have been trained on these labels.
        data: Settings of a data set that loads without errors.
        context: Device and cache; `out` is not used.
        seed: Random seed of the folds.

    Returns:
        One warning per image, with its label and the class that its features suggest.

    Raises:
        SettingsError: If the backbone does not exist.
        ModelFileError: If its weights do not fit.
        DataError: If the data cannot be loaded.
    """
    net, _ = model_source.open_model(backbone)
    net.set_input_size(net.input.size)
    device, task = pick_device(context.device), load_task(data, net.input, context)
    net.to(device.torch)
    splits = [split for split in (task.train, task.val, task.test) if len(split)]
    features = [predict(Features(net), split.rows, net.input, device).double().numpy() for split in splits]
    labels = np.concatenate([split.labels for split in splits])
    names = [name for split in splits for name in split.names]
    return [
        Finding(
            code="W338", severity="warning", path=names[one.row], group=GROUP,
            text=f"labelled {task.classes[labels[one.row]]}, looks like {task.classes[one.looks_like]}",
            hint="look at it, and correct the label if it is wrong",
        )
        for one in suspects(np.concatenate(features), labels, seed=seed)
    ]  # fmt: skip
