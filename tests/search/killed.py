"""A search in a process of its own, to be killed: `python killed.py FOLDER TRIALS WORKERS`."""

import signal
import sys
from pathlib import Path

from effxfer.search.space import SearchSettings
from effxfer.search.study import search_head
from tests.search.tasks import features_of, table, xor

SETTINGS = {"epochs": 12, "folds": 3, "startup": 4, "finalists": 2, "size_penalty": 0.001}


def run(folder, trials, workers):
    features = features_of(table(xor, n=150, n_val=80), 2)
    settings = SearchSettings(trials=trials, workers=workers, **SETTINGS)
    return search_head(features, settings=settings, storage_dir=folder, seed=4)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite that runs in the background ignores it
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
