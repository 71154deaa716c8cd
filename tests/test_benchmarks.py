"""The speed suite: its counts, its table, and that every part runs; no time is tested here."""

import json
import os
import resource
import sys
import time
from functools import partial

import pytest
import torch

from benchmarks import parts, table
from benchmarks.counting import Live, forward_and_backward, operators, saved_bytes
from benchmarks.suite import rows
from benchmarks.table import Row, at_least, at_most, counted
from benchmarks.timing import ROOT, Run, one_thread, row
from lightning_gen.config import instantiate

FOLDER = ROOT / "benchmarks" / "parts"
# Operators of ddpm_cifar's network forward and backward: none is added unseen. The goal of the suite is lower.
CIFAR = 792


def test_every_part_is_listed_and_has_cases():
    assert sorted(parts.NAMES) == sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    for name in parts.NAMES:
        module = parts.part(name)
        assert module.CASES or module.LONG
        assert all(case.__doc__ for case in (*module.CASES, *module.LONG)), name


def test_operators_are_counted_without_views():
    x = torch.ones(4, requires_grad=True)
    assert operators(lambda: x.view(2, 2).t() + 1).total == 1
    both = forward_and_backward(lambda: (x * x).reshape(2, 2))
    assert both.names["aten::mul"] == 3 and both.syncs == 0  # one forward, one for each factor backward
    assert operators(lambda: float(x.detach().sum())).syncs == 1


def test_bytes_are_counted_once():
    x, w = torch.ones(10, requires_grad=True), torch.ones(10, requires_grad=True)
    assert saved_bytes(lambda: x * w, [w]) == 40
    assert saved_bytes(lambda: x * x, []) == 40
    with Live() as live:
        for _ in range(5):
            torch.ones(100)
    assert live.peak == 400 and live.now == 0


def test_ddpm_cifar_has_no_more_operators():
    from benchmarks.parts.network import cifar

    net, x, t = instantiate.build(cifar(Run())), torch.randn(1, 3, 32, 32), torch.tensor([500.0])
    assert forward_and_backward(lambda: net(x, t)).total <= CIFAR


def test_the_samplers_have_no_more_operators_and_no_host_sync():
    for made in parts.part("sampling").counts(Run()):
        assert made.held(), made


def test_a_missed_goal_is_shown_as_missed():
    made = counted("a", 3.0, peers={"x": 2.0, "y": 1.0}, goal=at_most(2.0), reason="it is slow")
    assert made.peer == "y" and made.ratio == (3.0, 3.0, 3.0)
    assert "**missed**: it is slow" in table.line(made.cells()) and "ours / peer ≤ 2" in table.line(made.cells())
    assert counted("a", 1.0, goal=at_most(1.0, "ours")).verdict() == "held"
    assert counted("a", 1.0, goal=at_least(1.1, "ours"), reason="b").verdict() == "**missed**: b"
    assert counted("a", 1.0).verdict() == ""


def test_a_row_is_of_medians_and_of_the_rounds_ratios():
    seconds = {"": [1.0, 2.0, 9.0], "far": [8.0, 8.0, 8.0], "near": [1.0, 4.0, 3.0], "least": [1.0, 1.0, 1.0]}
    made = row("a", seconds, ["far", "near"], "least", at_most(0.5), "ms", 2, "b")
    assert (made.ours, made.peer, made.theirs) == (1000.0, "near", 1500.0)
    assert made.ratio == (pytest.approx(2 / 3), 0.5, 3.0) and made.limit_ratio == (2.0, 1.0, 9.0)
    assert made.held() is False and made.reason == "b"
    also = row("a", seconds, ["far", "near"], "least", at_most(0.3), reason="b")  # the limit has 1 of 3
    assert also.held() is False and also.reason == "also by least, at 0.33"
    also = row("a", seconds, ["far", "near"], "least", at_most(1.9, "limit"), reason="b")  # the peer 3 of 1
    assert also.held() is False and also.reason == "also by near, at 3.00"
    also = row("a", seconds, ["far", "near"], goal=at_most(1500, "ours"), reason="b")
    assert also.held() is False and also.reason == "also by near, at 3,000"
    held = row("a", seconds, limit="least", goal=at_most(1500, "ours"), reason="b")  # by the limit
    assert held.held() is False and held.reason == "b"
    rate = row("a", seconds, ["far", "near"], goal=at_least(1.2), unit="a second", per=2)
    assert (rate.ours, rate.peer) == (1.0, "near") and rate.held() and rate.reason == ""


def build(path):
    """A call that writes its process and its page faults for 64 MiB; the peer's takes longer to build."""
    order = path.with_name("order")
    time.sleep(path.name == "ofx")
    with order.open("a") as file:
        file.write("built\n")

    def call():
        with order.open("a") as file:
            file.write("called\n")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)
        with path.open("a") as file:
            file.write(f"{os.getpid()} {resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before}\n")

    return call


@pytest.mark.skipif(sys.platform != "linux", reason="the C library is another one")
def test_programs_are_timed_in_processes_of_their_own_with_their_own_memory(tmp_path):
    found = Run(least=4, most=4).programs({name: partial(build, tmp_path / f"of{name}") for name in ("", "x")})
    lines = [[line.split() for line in (tmp_path / file).read_text().splitlines()] for file in ("of", "ofx")]
    assert len(found[""]) == len(found["x"]) == 4 <= min(map(len, lines))
    (ours,), (theirs,) = ({pid for pid, _ in one} for one in lines)
    assert len({ours, theirs, str(os.getpid())}) == 3
    assert (tmp_path / "order").read_text().split()[:3] == ["built", "built", "called"]
    pages = 2**26 // os.sysconf("SC_PAGE_SIZE")
    assert int(lines[0][-1][1]) < pages / 100 and int(lines[1][-1][1]) > pages / 2


def test_results_are_read_back_and_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    of = table.machine()
    seconds = {"": [1.0, 1.1, 1.2], "x": [2.0, 2.0, 2.0]}
    before = [row("a", seconds, ["x"]), counted("b", 7), Row("c", reason="x is missing")]
    page = table.write(of, "one", 0.5, before)
    assert table.stored(of) == {"one": before}
    table.write(of, "two", 0.5, [counted("d", 1)])
    assert set(table.stored(of)) == {"one", "two"}
    assert "not measured: x is missing" in page.read_text() and of["cpu"] in page.read_text()
    same, slower = [], {"": [1.9, 2.0, 2.1], "x": seconds["x"]}
    assert table.changes(before, before) == same
    (changed,) = table.changes(before, [row("a", slower, ["x"])])
    assert changed.startswith("a: ours / x 1.00")
    assert table.changes(before, [counted("b", 8)]) == ["b: 8, stored 7"]
    assert table.changes(before, [counted("e", 8)]) == ["e: not in the stored results"]
    alone = [row("f", {"": [1.0, 1.1, 1.2]}, unit="s")]
    assert table.changes(alone, [row("f", {"": [1.2, 1.3, 1.4]}, unit="s")]) == []
    (changed,) = table.changes(alone, [row("f", {"": [1.3, 1.4]}, unit="s")])
    assert changed == "f: ours 1.35 (1.30 to 1.40), stored 1.10 (1.00 to 1.20)"
    # Other versions, other results: nothing of the old ones stays.
    table.write({**of, "python": "2.7"}, "three", 0.5, [])
    assert list(table.stored(of)) == ["three"]


def test_a_missing_peer_is_named_and_the_table_goes_on():
    def needs(run):
        """It needs azula. More."""
        raise ModuleNotFoundError("No module named 'azula'", name="azula")
        yield

    def has(run):
        yield counted("b", 1)

    module = type("Part", (), {"CASES": (needs, has), "LONG": ()})
    missing, other = rows(module, Run())
    assert missing.what == "It needs azula" and "azula is missing: pip install -e '.[bench]'" in missing.verdict()
    assert other.ours == 1


def test_stored_results_name_no_machine_but_by_its_cpu():
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        stored = json.loads(path.read_text())
        assert set(stored["machine"]) == {"cpu", "cores", "python", "versions"}
        assert path == table.results_file(stored["machine"])
        assert path.with_suffix(".md").read_text() == table.page(stored["machine"], stored["parts"])
        assert set(stored["parts"]) <= set(parts.NAMES)


SLOW = {
    "loop",
    "memory",
    "metrics",
    "start",
    "threads",
    "ranks",
    "network",
    "likelihood",
}  # processes, Inception, compilation


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in parts.NAMES])
def test_every_part_runs(name):
    with one_thread():
        found = list(rows(parts.part(name), Run(tiny=True)))
    assert found and len({row.what for row in found}) == len(found)
    for made in found:
        assert made.ours is not None or "missing" in made.reason or "core" in made.reason, made
        assert made.held() is not False or made.reason, made
