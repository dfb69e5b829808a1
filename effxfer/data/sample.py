"""Choose some examples of a split."""

import numpy as np

from effxfer.data.task import Split, subset


def sample_evenly(split: Split, count: int, seed: int) -> Split:
    """Return at most `count` examples of a split in their order; of single labels the same share of each class.

    Args:
        split: The split.
        count: Largest number of examples.
        seed: Random seed of the choice.
    """
    n = len(split)
    order = np.random.default_rng(seed).permutation(n)
    if np.ndim(split.labels) == 1:
        # Stable, so that within a class the order is that of the permutation.
        order = order[np.argsort(split.labels[order], kind="stable")]
    # Evenly spaced over examples sorted by class: of each the same share; sorted again, as files are read in order.
    return subset(split, np.sort(order[np.linspace(0, n - 1, min(count, n)).round().astype(int)]))
