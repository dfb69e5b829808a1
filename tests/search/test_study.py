import os
import signal
import subprocess
import sys
import time
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest
import torch

from effxfer import progress
from effxfer.errors import LockedError, ModelFileError, SettingsError
from effxfer.net.heads.build import build_head
from effxfer.process.folder_lock import lock_folder
from effxfer.report import Report
from effxfer.search.judging.metrics import measure
from effxfer.search.space import SearchSettings
from effxfer.search.storage.backends import JOURNAL, own_journal
from effxfer.search.storage.trials import counts, load_study
from effxfer.search.study import search_head
from tests.search import killed
from tests.search.tasks import blobs, corners, features_of, slopes, table, xor

ROOT = Path(__file__).parents[2]


def start(folder, trials, workers):
    command = [sys.executable, "-m", "tests.search.killed", str(folder), str(trials), str(workers)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)


def wait_for(folder, condition, process, seconds=120):
    """Poll the journal without disturbing it, until `condition(study)` gives something true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, f"it ended before it was killed: {process.stderr.read().decode()}"
        if (folder / JOURNAL).exists() and b"facts" in (folder / JOURNAL).read_bytes():
            found = condition(load_study(own_journal(folder)))
            if found:
                return found
        time.sleep(0.02)
    raise AssertionError("nothing happened")


def finished(study):
    return [t for t in study.trials if t.state.name in {"COMPLETE", "PRUNED"}]


def keys(study):
    return sorted(str(sorted(t.params.items())) for t in finished(study))


def accuracy(result, features, labels):
    x = torch.from_numpy(np.concatenate([features[t][1] for t in result.taps], 1))
    head = build_head(result.spec, x.shape[1], int(labels[0].max()) + 1).eval()
    head.load_state_dict(result.state)
    with torch.no_grad():
        return float((head(x).argmax(1).numpy() == labels[1]).mean())


@pytest.mark.parametrize(("make", "metric"), [(corners, "mAP"), (slopes, "R2")])
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_heads_for_several_labels_and_values_are_searched_by_their_metric(make, metric, workers, tmp_path):
    features = features_of(table(make, n=160, n_val=80))
    settings = SearchSettings(trials=6, epochs=9, folds=2, startup=6, finalists=2, workers=workers, pruner="none")
    result = search_head(features, settings=settings, storage_dir=tmp_path / "one", seed=0)
    assert result.report.get(f"head {metric}/val") > 85
    assert result.report.get(f"head {metric}/val") == pytest.approx(
        100 * measure(features.output, result.raw, features.val_labels)
    )
    assert result.raw.shape == (80, features.output.width)
    heads = {row["head"].split()[0] for row in result.report.tables[0].rows}
    assert ("cosine" in heads) == (make is corners), "an angle has no scale"


def test_a_metric_of_another_kind_of_label_is_refused(tmp_path):
    settings = SearchSettings(trials=2, metric="macro_f1")
    with pytest.raises(SettingsError, match="give mAP"):
        search_head(features_of(table(corners)), settings=settings, storage_dir=tmp_path, seed=0)


def test_where_a_line_cannot_separate_the_searched_head_beats_the_linear_one(tmp_path):
    features, labels = table(xor)
    settings = SearchSettings(trials=12, epochs=30, folds=1, taps=(("out",), ("early", "out")), startup=6)
    result = search_head(features_of((features, labels), 2), settings=settings, storage_dir=tmp_path, seed=0)
    linear = result.report.get("linear head accuracy/val")
    assert linear < 70
    assert result.report.get("head accuracy/val") > linear + 15
    assert result.spec.kind == "mlp"
    assert 100 * accuracy(result, features, labels) == pytest.approx(result.report.get("head accuracy/val"))


def test_where_a_line_separates_the_result_is_no_worse_and_small(tmp_path):
    features, labels = table(blobs)
    settings = SearchSettings(trials=12, epochs=12, folds=1, size_penalty=0.01)
    result = search_head(features_of((features, labels), 3), settings=settings, storage_dir=tmp_path, seed=0)
    plain = result.report.get("linear head accuracy/val")
    assert plain > 90
    gained = result.report.get("head accuracy/val") - plain
    factor = result.report.get("head parameters") / result.report.get("linear head parameters")
    assert gained >= 1.0 * np.log10(factor) - 1e-6


def test_the_same_seed_gives_the_same_head_and_another_seed_another_search(tmp_path):
    features, labels = table(blobs, n=120, n_val=60)
    settings = SearchSettings(trials=8, epochs=4, folds=1, startup=3)
    found = [
        search_head(features_of((features, labels), 3), settings=settings, storage_dir=tmp_path / str(k), seed=seed)
        for k, seed in enumerate((1, 1, 2))
    ]
    assert found[0].spec == found[1].spec
    assert all(torch.equal(found[0].state[k], found[1].state[k]) for k in found[0].state)
    assert (
        keys(load_study(own_journal(tmp_path / "0")))
        == keys(load_study(own_journal(tmp_path / "1")))
        != keys(load_study(own_journal(tmp_path / "2")))
    )


def test_a_finished_search_gives_its_result_again_and_more_trials_go_on(tmp_path):
    features, labels = table(blobs, n=120, n_val=60)
    settings = SearchSettings(trials=5, epochs=4, folds=1)
    first = search_head(features_of((features, labels), 3), settings=settings, storage_dir=tmp_path, seed=1)
    before = (tmp_path / JOURNAL).read_bytes()
    again = search_head(features_of((features, labels), 3), settings=settings, storage_dir=tmp_path, seed=1)
    assert (tmp_path / JOURNAL).read_bytes() == before
    assert first.spec == again.spec
    assert first.taps == again.taps
    assert all(torch.equal(first.state[k], again.state[k]) for k in first.state)

    more = settings.model_copy(update={"trials": 9})
    search_head(features_of((features, labels), 3), settings=more, storage_dir=tmp_path, seed=1)
    found = keys(load_study(own_journal(tmp_path)))
    assert len(found) == len(set(found)) == 9


def test_the_report_counts_ranks_and_survives_json(tmp_path):
    features, labels = table(blobs, n=120, n_val=60)
    settings = SearchSettings(trials=8, epochs=9, folds=2, metric="macro_f1")
    told = []

    class Bar:
        def __init__(self, label, total):
            told.append((label, total))

        def __enter__(self):
            return lambda steps, text: told.append((steps, text))

        def __exit__(self, *_):
            return None

    with progress.show_through(Bar):
        result = search_head(features_of((features, labels), 3), settings=settings, storage_dir=tmp_path, seed=1)
    report = result.report
    assert report.get("trials complete") + report.get("trials pruned") == 8
    assert report.get("head macro_f1/val") >= report.get("linear head macro_f1/val") - 1
    (table_,) = report.tables
    assert 0 in [row["trial"] for row in table_.rows]
    best = [y for _, y in report.curves[0].points]
    assert best == sorted(best)
    assert Report.from_json(report.to_json()) == report
    assert ("head search", 8) in told
    assert sum(steps for steps, _ in told if isinstance(steps, int)) >= 8


def test_a_folder_is_not_shared_by_searches(tmp_path):
    features, labels = table(blobs, n=60, n_val=30)
    settings = SearchSettings(trials=1, epochs=1)
    search_head(features_of((features, labels), 3), settings=settings, storage_dir=tmp_path, seed=1)
    with pytest.raises(ModelFileError, match="differs in seed"):
        search_head(features_of((features, labels), 3), settings=settings, storage_dir=tmp_path, seed=2)
    other = settings.model_copy(update={"epochs": 2})
    with pytest.raises(ModelFileError, match="differs in epochs"):
        search_head(features_of((features, labels), 3), settings=other, storage_dir=tmp_path, seed=1)
    with lock_folder(tmp_path), pytest.raises(LockedError):
        search_head(features_of((features, labels), 3), settings=settings, storage_dir=tmp_path, seed=1)


def test_a_limit_below_the_linear_head_is_refused(tmp_path):
    features, labels = table(blobs, n=60, n_val=30)
    with pytest.raises(SettingsError, match="less than the 21 of the plain linear head"):
        search_head(
            features_of((features, labels), 3), settings=SearchSettings(max_parameters=20), storage_dir=tmp_path, seed=1
        )


def test_when_time_is_up_there_is_still_a_linear_head(tmp_path):
    features, labels = table(blobs, n=120, n_val=60)
    settings = SearchSettings(trials=10_000, seconds=1e-3, epochs=3, folds=1)
    result = search_head(features_of((features, labels), 3), settings=settings, storage_dir=tmp_path, seed=1)
    assert result.report.get("trials complete") == 1
    assert result.spec.kind == "linear"


def test_a_clock_that_is_set_back_does_not_prolong_a_search(tmp_path, monkeypatch):
    moments = chain([time.time()], repeat(time.time() - 86_400))
    monkeypatch.setattr(time, "time", lambda: next(moments))
    features, labels = table(blobs, n=60, n_val=30)
    settings = SearchSettings(trials=200, seconds=0.3, epochs=3, folds=1, startup=200)
    result = search_head(features_of((features, labels), 3), settings=settings, storage_dir=tmp_path, seed=1)
    assert result.report.get("trials complete") < 100


@pytest.mark.parametrize("lines", [2, 3, 5, 12, 20])
def test_cut_off_before_its_first_trial_was_done_it_ends_alike(tmp_path, lines):
    features = features_of(table(blobs, n=60, n_val=30), 3)
    settings = SearchSettings(trials=3, epochs=3, folds=1, startup=2, finalists=1)
    whole = search_head(features, settings=settings, storage_dir=tmp_path / "whole", seed=1)
    (tmp_path / "cut").mkdir()
    journal = (tmp_path / "whole" / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / "cut" / JOURNAL).write_bytes(b"".join(journal[:lines]))
    cut = search_head(features, settings=settings, storage_dir=tmp_path / "cut", seed=1)
    assert cut.spec == whole.spec
    assert all(torch.equal(cut.state[name], tensor) for name, tensor in whole.state.items())
    assert cut.report.get("trials complete") == whole.report.get("trials complete") == 3


def test_killed_in_the_middle_and_resumed_it_ends_like_the_uninterrupted_search(tmp_path):
    process = start(tmp_path / "cut", 14, 1)
    wait_for(tmp_path / "cut", lambda study: len(finished(study)) >= 5, process)
    process.kill()
    process.communicate()
    with (tmp_path / "cut" / JOURNAL).open("ab") as stream:
        stream.write(b'{"op_code": 6, "work')
    before = keys(load_study(own_journal(tmp_path / "cut")))

    resumed, whole = killed.run(tmp_path / "cut", 14, 1), killed.run(tmp_path / "whole", 14, 1)
    study = load_study(own_journal(tmp_path / "cut"))
    after = keys(study)
    assert len(after) == len(set(after)) == 14
    assert set(before) <= set(after)
    assert counts(study.trials)["lost"] <= 1
    assert after == keys(load_study(own_journal(tmp_path / "whole")))
    assert resumed.spec == whole.spec
    assert all(torch.equal(resumed.state[k], whole.state[k]) for k in whole.state)


@pytest.mark.slow
def test_a_killed_worker_loses_one_trial_and_the_others_go_on(tmp_path):
    process = start(tmp_path, 30, 2)

    def victim(study):
        parents = [t.user_attrs["owner"]["pid"] for t in study.trials if "owner" in t.user_attrs]
        others = {
            t.user_attrs["owner"]["pid"] for t in study.trials if t.state.name == "RUNNING" and "owner" in t.user_attrs
        }
        return next(iter(others - set(parents[:1])), None)

    os.kill(wait_for(tmp_path, victim, process), signal.SIGKILL)
    said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 0, said
    study = load_study(own_journal(tmp_path))
    found = keys(study)
    assert len(found) == len(set(found)) == 30
    assert counts(study.trials)["lost"] <= 1
    assert counts(study.trials, own_journal(tmp_path))["running"] == 0
    assert len({t.user_attrs["owner"]["pid"] for t in study.trials if "owner" in t.user_attrs}) >= 3
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_parent_ends_its_workers_and_the_search_resumes(tmp_path, number):
    process = start(tmp_path, 400, 2)
    wait_for(tmp_path, lambda study: len(finished(study)) >= 4, process)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0

    def running():
        study = load_study(own_journal(tmp_path))
        return counts(study.trials, own_journal(tmp_path))["running"]

    end = time.monotonic() + 60
    while running() and time.monotonic() < end:
        time.sleep(0.05)
    assert running() == 0
    done = len(finished(load_study(own_journal(tmp_path))))
    killed.run(tmp_path, done + 2, 1)
    found = keys(load_study(own_journal(tmp_path)))
    assert len(found) == len(set(found)) == done + 2
