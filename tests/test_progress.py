from contextlib import contextmanager

from effxfer import progress


def test_without_a_watcher_progress_goes_nowhere():
    with progress.bar("x", 3) as advance:
        advance(1, "text")


def test_the_innermost_watcher_is_told_and_then_the_outer_one_again():
    told = []

    def watcher(name):
        @contextmanager
        def sink(label, total):
            told.append((name, label, total))
            yield lambda steps, text: told.append((name, steps, text))

        return sink

    with progress.show_through(watcher("outer")):
        with progress.show_through(watcher("inner")), progress.bar("train", 2) as advance:
            advance(2, "loss")
        with progress.bar("search", 1):
            pass
    assert told == [("inner", "train", 2), ("inner", 2, "loss"), ("outer", "search", 1)]


def test_remarks_reach_whoever_listens_and_empty_ones_nobody():
    told = []
    progress.remark("unheard")
    with progress.show_through(lambda label, total: None, told.append):
        progress.remark("heard")
        progress.remark("")
    assert told == ["heard"]
