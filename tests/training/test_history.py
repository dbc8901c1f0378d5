"""What a run reports of itself: its words, its seconds, and a metric that cannot be tried early."""

import time

from small import blobs, net

from kdtutor import fit
from kdtutor.methods import CrossEntropy
from kdtutor.training import History


def test_its_words():
    rows = [{"epoch": 1}, {"epoch": 2}]
    assert repr(History(rows)) == "History(2 epochs, finished)"
    assert repr(History(rows, "stopped", {"a": 0.5, "n": 3})) == "History(2 epochs, stopped, a=0.5)"


def test_seconds_are_those_of_the_run():
    began = time.perf_counter()
    history = fit(CrossEntropy(net(1)), blobs(), 2, progress=False)
    outside = time.perf_counter() - began
    assert sum(r["seconds"] for r in history.rows) <= history.result["seconds"] <= outside


def test_a_metric_may_fail_on_the_trial_batch():
    calls = []

    def whole(net, batches):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("not all classes are here")
        return 1.0

    history = fit(CrossEntropy(net(1)), blobs(), 1, metric=whole, progress=False)
    assert history.result["test_whole_last"] == 1.0
