"""One machine's part of a shared search: `python shared.py FOLDER TRIALS WORKERS STORAGE`."""

import sys
from pathlib import Path

from effxfer.search.space import SearchSettings
from effxfer.search.study import search_head
from tests.search.tasks import features_of, table, xor


def run(folder, trials, workers, storage):
    features = features_of(table(xor, n=60, n_val=30), 2)
    settings = SearchSettings(
        trials=trials, workers=workers, storage=storage, epochs=4, folds=1, startup=4, finalists=1, latency=False
    )
    return search_head(features, settings=settings, storage_dir=folder, seed=4)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
