"""The validators by name, and their evidence."""

from collections.abc import Callable

import numpy as np
import torch

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.domain_adaptation.validators.bnm import bnm_score
from effxfer.transfer.domain_adaptation.validators.dev import dev_score
from effxfer.transfer.domain_adaptation.validators.entropy import entropy_score
from effxfer.transfer.domain_adaptation.validators.information import information_score
from effxfer.transfer.domain_adaptation.validators.outputs import DomainOutputs
from effxfer.transfer.domain_adaptation.validators.snd import snd_score
from effxfer.transfer.fine_tuning.linear import Features

VALIDATORS: dict[str, Callable[[DomainOutputs], float]] = {
    "bnm": bnm_score,
    "dev": dev_score,
    "entropy": entropy_score,
    "information": information_score,
    "snd": snd_score,
}
MOST_TRAIN = 2000  # training examples whose features are computed


def validate_on_target(name: str, net: Net, task: Task, device: Device) -> float:
    """Score a network for the target of a task, without its labels; higher is better.

    Args:
        name: A key of `VALIDATORS`.
        net: The network.
        task: Its `unlabelled` examples are the target's.
        device: Device of the network.

    Raises:
        SettingsError: If the task has no target, or no single labels.
    """
    if task.unlabelled is None or task.output.kind != "single":
        text = f"validator {name!r} looks at a target domain of the same classes, and the data have none"
        raise SettingsError(text, "name it with data.target, or leave validator out")
    return VALIDATORS[name](domain_outputs(net, task, device))


def domain_outputs(net: Net, task: Task, device: Device) -> DomainOutputs:
    """Compute a network's outputs on both domains."""
    assert task.unlabelled is not None
    features = Features(net)
    chosen = np.linspace(0, len(task.train) - 1, min(len(task.train), MOST_TRAIN)).round().astype(int)
    val, target, train = (
        predict(features, rows, net.input, device)
        for rows in (task.val.rows, task.unlabelled.rows, task.train.rows[chosen])
    )
    return DomainOutputs(
        source_logits=predict(net, task.val.rows, net.input, device),
        source_labels=torch.tensor(task.val.labels),
        source_features=val,
        train_features=train,
        target_logits=predict(net, task.unlabelled.rows, net.input, device),
        target_features=target,
    )
