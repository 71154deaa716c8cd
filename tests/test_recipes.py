"""make results: its list of trainings, what it keeps of them, its page, and stops."""

import importlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

import run as entry
from benchmarks.parts.loop import composed
from benchmarks.peers import program, pytorch_ddpm
from benchmarks.recipes import __main__ as recipes
from benchmarks.recipes import check, page, record, train, which
from benchmarks.recipes.tables import Cell, Table, recipe, schedule, tables
from lightning_gen.config.instantiate import build, build_module, complete
from lightning_gen.data.samples import ROUNDED, read_samples
from lightning_gen.results.result import Name
from lightning_gen.stages import command

# The first row of each table is quick.
CELLS = [
    pytest.param(Cell(table, row, table.seeds[0]), id=f"{table.name}, {row}", marks=[pytest.mark.slow] * bool(i))
    for table in tables().values()
    for i, row in enumerate(table.rows)
]
# What stands in for run.py: it logs a rate and is measured; pause=1 has its parent stopped, once; wait=1 waits for a
# stop, once; fail=1 fails.
FAKE = """
import json, os, sys, pathlib
words = dict(word.split("=", 1) for word in sys.argv[1:])
run = pathlib.Path(words["run"])
def measure(weights, value):
    number = {"value": value, "error": 0.5, "kind": "estimate", "unit": ""}
    number |= {"protocol": {"n": 5, "evaluations": 35.0}, "protocol_hash": "p" * 16}
    names = (f"fid/digits/{weights}", "fid/digits/held-out", f"is/digits/{weights}")
    (run / "metrics.json").write_text(json.dumps(dict.fromkeys(names, number)))
if "stage" not in words:
    if words.get("fail"): sys.exit("error: fail")
    run.mkdir(exist_ok=True, parents=True)
    if not (run / "config.yaml").exists():
        (run / "config.yaml").write_text("data: {batch_size: 30}\\nmodule: {}")
        (run / "record.jsonl").write_text(json.dumps({"name": "speed/images_per_s", "value": 10, "step": 40}) + "\\n")
        if words.get("pause") or words.get("wait"):
            import signal
            signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
            if words.get("pause"): os.kill(os.getppid(), signal.SIGTERM)
            while True: signal.pause()
    sum(i * i for i in range(10**6))
    (run / "run.json").write_text(json.dumps({"config": "c" * 64, "step": 40}))
    measure("ema", 1.0 + int(words["seed"]))
elif "samples" in words:
    import numpy
    run.mkdir(exist_ok=True, parents=True)
    measure("samples", float(numpy.load(words["samples"])["images"].mean()))
elif words["stage"] == "export":
    (run / "export").mkdir(exist_ok=True)
    for name in ("metrics.json", "config.yaml"):
        (run / "export" / name).write_text((run / name).read_text())
"""
# What stands in for the program of a peer: its samples are a quarter of the seed; --pause has its parent stopped, once.
PROGRAM = """
import argparse, os, pathlib, signal, numpy
made = argparse.ArgumentParser()
made.add_argument("--seed", type=int)
made.add_argument("--steps", type=int)
made.add_argument("--pause", action="store_true")
made.add_argument("--file", type=pathlib.Path)
options = made.parse_args()
begun = pathlib.Path("begun")
if options.pause and not begun.exists():
    begun.touch()
    os.kill(os.getppid(), signal.SIGTERM)
    while True: signal.pause()
sum(i * i for i in range(10**6))
about = {"sampler": "none", "package": "numpy", "program": "d" * 64, "steps": options.steps, "seconds": 30.0}
numpy.savez(options.file, images=numpy.full((5, 1, 8, 8), options.seed / 4), **about)
"""


@pytest.fixture
def table():
    return Table("small", "Small", "Nothing.", 60.0, (0, 1), {"FID": ("fid/digits",)}, {"a": ("x=1",), "b": ("x=2",)})


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing is trained in the repository, and nothing written into its pages."""
    (tmp_path / "run.py").write_text(FAKE)
    peers = tmp_path / "benchmarks" / "peers"
    peers.mkdir(parents=True)
    for file, text in (("../__init__.py", ""), ("__init__.py", ""), ("fake.py", PROGRAM)):
        (peers / file).write_text(text)
    monkeypatch.setattr(train, "ROOT", tmp_path)
    monkeypatch.setattr("benchmarks.recipes.tables.FOLDER", tmp_path / "outputs")
    monkeypatch.setattr(record, "FOLDER", tmp_path / "outputs")
    monkeypatch.setattr(record, "STORED", tmp_path / "stored")
    monkeypatch.setattr(page, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(which, "PAGE", tmp_path / "which-family.md")
    which.PAGE.write_text("")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("cell", CELLS)
def test_every_row_composes_without_faults(cell, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "job", lambda config, folder: None)
    trained = [*cell.source.words, *cell.words[1:]] if cell.source else cell.words  # its samplers are checked so, too
    if cell.peer:
        options = importlib.import_module(cell.peer[1]).words().parse_args([*cell.peer[2:], "--file=x"])
        assert options.steps > 0 and options.n == 1500
        np.savez(tmp_path / "x.npz", images=np.zeros((2, 1, 8, 8)))
        trained = [*trained, f"samples={tmp_path / 'x.npz'}"]
    assert entry.main([*trained, f"run={tmp_path / 'run'}"]) == 0, capsys.readouterr().err


def test_every_column_shows_a_number_that_is_registered():
    for table in tables().values():
        for names in table.columns.values():
            assert all(Name.parse(f"{name}/ema").about.sign for name in names), names


def test_a_schedule_ends_with_the_row():
    words = ["experiment=glow_digits", "trainer.max_steps=500"]
    assert recipe("glow_digits")["module"]["scheduler"]["T_max"] == recipe("glow_digits")["trainer"]["max_steps"]
    assert schedule(words) == ["module.scheduler.T_max=500"]
    assert schedule(["experiment=sngan_cifar", "trainer.max_steps=1000"]) == [
        "module.scheduler.total_iters=1000",
        "module.critic_scheduler.total_iters=5000",
    ]
    assert schedule(["experiment=ddpm_digits", "trainer.max_steps=1000"]) == []  # a warm-up keeps its length
    assert schedule(["experiment=glow_digits"]) == []


def test_all_are_trained_once_and_shown_with_their_spread(table, tmp_path, capsys):
    assert train.train_all(record.missing(table), jobs=2, hours=None) == 0
    assert record.missing(table) == []
    stored = record.load(table)
    assert {row: sorted(seeds) for row, seeds in stored["rows"].items()} == {"a": ["0", "1"], "b": ["0", "1"]}
    kept = stored["rows"]["a"]["1"]
    assert list(kept["numbers"]) == ["fid/digits/ema"] and kept["numbers"]["fid/digits/ema"]["value"] == 2.0
    assert kept["words"] == ["x=1", "seed=1", "logger=none"] and kept["steps"] == 40 and kept["unseen"] == 0
    assert kept["minutes"] > kept["cpu_minutes"] > 0  # the stand-in's rates say two minutes
    assert stored["protocols"] == {"p" * 16: {"n": 5, "evaluations": 35.0}}
    text = "\n".join(page.section(table))
    assert re.search(
        r"\| a \| 1.50 ± 0.50 \| 40 \| \d+\.\d \| 2 \|", text
    )  # (1 + 2) / 2, and their deviation / sqrt(2)
    assert record.expected_minutes(Cell(table, "a", 0)) < 1


def test_the_last_samples_of_the_first_seed_are_shown(table, capfd):
    drawn = replace(table, pictures=True)
    cells = drawn.cells()
    assert train.train_all(cells, 2, None) == 1, "the stand-in draws nothing"
    assert "has no grid of samples, which its table shows" in capfd.readouterr().out
    assert [cell.seed for cell in record.missing(drawn)] == [0, 0] and "![" not in "\n".join(page.section(drawn))
    for cell in cells:
        (cell.run / "samples").mkdir()
        for step in (20, 40):
            (cell.run / "samples" / f"grid-{step:08}.png").write_text(f"{cell} at {step}")
    assert train.train_all(record.missing(drawn), 2, None) == 0
    assert record.picture(cells[0]).read_text() == "small/a seed=0 at 40"
    assert (
        "| ![samples of a](results/small-a.png)<br>a | ![samples of b](results/small-b.png)<br>b |  |"
        in page.section(drawn)
    )
    assert "![" not in "\n".join(page.section(table))


def test_rows_are_measured_by_one_classifier_of_the_data(table, monkeypatch):
    protocol = {"features": "digits classifier", "reference_fingerprint": "f", "features_sha256": "a" * 64}
    stored = {"protocols": {"q" * 16: protocol}, "rows": {}}
    other = protocol | {"features_sha256": "b" * 64}
    monkeypatch.setattr(record, "load", lambda _: stored)
    monkeypatch.setattr(record, "measured", lambda *_: ({"fid/digits/ema": {}}, {"p" * 16: other}))
    with pytest.raises(ValueError, match="weights bbbbbbbb, those of the other rows of aaaaaaaa"):
        record.add(Cell(table, "a", 0), 1.0, 1.0, 0)
    monkeypatch.undo()
    record.classifiers(p for table in tables().values() for p in record.load(table)["protocols"].values())


def test_each_stored_picture_is_of_a_row_that_was_trained(monkeypatch):
    monkeypatch.undo()
    trained = [cell for table in tables().values() for cell in table.cells() if table.pictures and record.entry(cell)]
    assert {path.name for path in record.STORED.glob("*.png")} <= {record.picture(cell).name for cell in trained}


def test_other_words_are_another_training(table):
    train.train_all(record.missing(table), jobs=2, hours=None)
    other = replace(table, rows=table.rows | {"b": ("x=3",)})
    assert [str(cell) for cell in record.missing(other)] == ["small/b seed=0", "small/b seed=1"]
    assert "Not measured yet: b." in page.section(other)


def test_rows_of_a_training_measure_its_export_seed_by_seed(table, monkeypatch):
    evaluated = Table("other", "Other", "", 1.0, (0, 1), table.columns, {"ddim": ("sampler=ddim",)}, of="small/a")
    monkeypatch.setattr("benchmarks.recipes.tables.tables", lambda: {"small": table, "other": evaluated})
    cells = evaluated.cells()
    assert train.train_all(cells, jobs=1, hours=None) == train.STOPPED  # there is nothing to measure yet
    assert train.train_all([Cell(table, "a", seed) for seed in (0, 1)], jobs=1, hours=None) == 0
    assert train.train_all(cells, jobs=1, hours=None) == 0
    kept = record.entry(cells[1])
    assert kept["words"] == ["stage=evaluate", "sampler=ddim", "logger=none"] and kept["minutes"] is None
    assert kept["numbers"]["fid/digits/ema"]["value"] == 2.0 and kept["steps"] == 40
    assert check.check(cells[1], train.Commands()) == "again from the export: agrees"
    text = "\n".join(page.section(evaluated))
    assert "| ddim | 1.50 ± 0.50 | 35 | 2 |" in text and "| evaluations | seeds |" in text
    with record.changing(table) as stored:
        stored["rows"]["a"]["1"]["config"] = "d" * 16
    assert [cell.seed for cell in record.missing(evaluated)] == [1]  # seed 1 was trained anew, by another config
    with record.changing(table) as stored:
        del stored["rows"]["a"]["0"]
    assert [cell.seed for cell in record.missing(evaluated)] == [0, 1]


@pytest.fixture
def peers(table):
    return replace(table, rows={"theirs": ("peer=fake", "--steps=40")}, measure=("data=x",))


def test_a_peer_writes_samples_which_are_measured(peers, tmp_path):
    assert train.train_all(record.missing(peers), jobs=2, hours=None) == 0
    assert record.missing(peers) == []
    cell = Cell(peers, "theirs", 1)
    kept = record.entry(cell)
    assert kept["peer"] == ["-m", "benchmarks.peers.fake", "--steps=40", "--seed=1"]
    assert kept["words"] == ["stage=evaluate", "data=x", "seed=1", "logger=none"]
    assert kept["numbers"]["fid/digits/samples"]["value"] == 0.25
    assert (kept["steps"], kept["minutes"], kept["config"]) == (40, 0.5, "d" * 16)
    assert kept["cpu_minutes"] > 0 and kept["versions"]["numpy"] == np.__version__
    text = "\n".join(page.section(peers))
    assert re.search(r"\| theirs \| 0.12 ± 0.12 \| 40 \| 0.5 \| 2 \|", text), text
    command = "`python -m benchmarks.peers.fake --steps=40 --file=FILE`"
    assert f"| theirs | `stage=evaluate data=x logger=none samples=FILE`, FILE by {command} |" in text
    assert check.check(cell, train.Commands()) == "again from the samples: agrees"
    np.savez(cell.samples, images=np.full((5, 1, 8, 8), 1.8))
    assert check.check(cell, train.Commands()) == "again from the samples: fid/digits/samples: 1.8, stored 0.25 ± 0.5"
    cell.samples.unlink()
    assert check.check(cell, train.Commands()).startswith("not checked")
    longer = replace(peers, rows={"theirs": ("peer=fake", "--steps=50")})
    assert len(record.missing(longer)) == 2


def test_a_peer_that_was_stopped_is_begun_anew_and_its_samples_are_drawn_once(peers):
    paused = replace(peers, rows={"theirs": ("peer=fake", "--steps=40", "--pause")}, seeds=(0,))
    assert train.train_all(record.missing(paused), jobs=1, hours=None) == train.STOPPED
    cell = Cell(paused, "theirs", 0)
    assert not cell.samples.exists()
    assert train.train_all([cell], jobs=1, hours=None) == 0
    drawn = cell.samples.stat().st_mtime_ns
    assert train.train_all([cell], jobs=1, hours=None) == 0 and cell.samples.stat().st_mtime_ns == drawn


def test_the_loop_written_anew_draws_a_gaussian_of_known_variance():
    """By the exact noise of x_0 ~ N(0, s^2): sqrt(1 - a) x / (a s^2 + 1 - a), a = prod(1 - beta)."""
    torch.manual_seed(0)
    s, kept = 0.4, (1 - pytorch_ddpm.BETAS).cumprod(0)

    def net(x, t):
        a = kept[t].float()
        return (1 - a).sqrt() * x / (a * s**2 + 1 - a)

    drawn = pytorch_ddpm.ancestral(net, torch.randn(20_000), pytorch_ddpm.BETAS)
    assert abs(drawn.mean()) < 4 * s / 20_000**0.5
    assert drawn.std() == pytest.approx(s, rel=0.03)


def test_a_program_writes_what_run_py_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pytorch_ddpm, "BETAS", pytorch_ddpm.BETAS[:3])
    file = tmp_path / "new" / "x.npz"
    options = pytorch_ddpm.words().parse_args(["--steps=2", "--n=3", f"--file={file}"])
    program.main(pytorch_ddpm.train, options)
    assert capsys.readouterr().out.startswith("649,329 parameters, 2 steps, ")
    with np.load(file) as stored:
        assert int(stored["steps"]) == 2 and stored["seconds"] > 0 and len(str(stored["program"])) == 64
    given = read_samples(file, (1, 8, 8), "digits")
    assert given.rows.shape == (3, 1, 8, 8) and given.quantisation == ROUNDED


def test_a_failure_is_told_and_the_others_go_on(table, capfd):
    bad = replace(table, rows={"a": ("fail=1",), "b": ("x=2",)})
    assert train.train_all(record.missing(bad), jobs=1, hours=None) == 1
    assert [str(cell) for cell in record.missing(bad)] == ["small/a seed=0", "small/a seed=1"]
    assert "small/a seed=0: exit code 1: see outputs/small/a-0-" in capfd.readouterr().out


def test_a_stop_is_handed_on_and_the_same_command_goes_on(table):
    paused = replace(table, rows={"a": ("pause=1",)})
    assert train.train_all(record.missing(paused), jobs=1, hours=None) == train.STOPPED
    assert len(record.missing(paused)) == 2 and not (Cell(paused, "a", 1).run).exists()
    first = train.Cost(Cell(paused, "a", 0).folder).seconds
    assert train.train_all([Cell(paused, "a", 0)], jobs=1, hours=None) == 0
    assert record.entry(Cell(paused, "a", 0))["cpu_minutes"] * 60 > first


def test_seconds_of_training_count_every_image_and_the_steps_after_the_last_record(tmp_path):
    """30 images a batch, 10 and then 20 a second: 40 steps take 120 s, 20 more 30 s; five times that with a critic."""
    lines = [{"name": "speed/images_per_s", "value": value, "step": step} for value, step in ((10, 40), (20, 50))]
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for critic_steps, seconds in ((None, 150.0), (5, 750.0)):
        module = {} if critic_steps is None else {"critic_steps": critic_steps}
        (tmp_path / "config.yaml").write_text(json.dumps({"data": {"batch_size": 30}, "module": module}))
        assert record.training_seconds(tmp_path, 60) == pytest.approx(seconds)
    (tmp_path / "record.jsonl").write_text("")
    with pytest.raises(ValueError, match="record.jsonl has no speed/images_per_s"):
        record.training_seconds(tmp_path, 60)


def test_what_cannot_be_recorded_is_told_and_the_others_go_on(table, capfd):
    nothing = replace(table, columns={"KID": ("kid/digits",)})
    assert train.train_all(record.missing(nothing), jobs=1, hours=None) == 1
    told = capfd.readouterr().out
    assert all(f"small/{row} seed={seed}: not recorded: " in told for row in "ab" for seed in (0, 1))
    assert "has none of the numbers that its table shows" in told and len(record.missing(nothing)) == 4


def test_a_command_whose_end_nobody_saw_is_told(table, tmp_path):
    train.Cost(tmp_path / "x").write(open=1)
    cost = train.Cost(tmp_path / "x")
    assert (cost.seconds, cost.unseen) == (0.0, 1)
    cost.seconds += 7
    cost.write(open=0)
    assert (train.Cost(tmp_path / "x").seconds, train.Cost(tmp_path / "x").unseen) == (7.0, 1)


def test_a_command_that_outlived_a_killed_start_is_stopped_before_it_is_begun_again(table):
    """Neither another process that has its number by now, nor one whose program is at work."""
    cells = [Cell(table, row, seed) for row in ("a", "b") for seed in (0, 1)][:3]
    named, began = [f"run={cells[0].run}", "run=another", f"run={cells[2].run}"], [1, 1, os.getpid()]
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    running = [subprocess.Popen([*sleep, word]) for word in named]
    for cell, process, by in zip(cells, running, began, strict=True):
        cost = train.Cost(cell.folder)
        cost.write(open=process.pid)
        cost.file.write_text(json.dumps(json.loads(cost.file.read_text()) | {"by": by}))
    assert train.train_all(cells, jobs=1, hours=None) == 0
    assert running[0].wait(timeout=10) == -signal.SIGTERM
    assert [process.poll() for process in running[1:]] == [None, None]
    for process in running[1:]:
        process.kill()
        process.wait()
    assert [record.entry(cell)["unseen"] for cell in cells] == [1, 1, 1]


def test_a_training_with_an_unseen_end_has_no_minutes(table):
    train.Cost(Cell(table, "a", 0).folder).write(open=1)
    assert train.train_all([Cell(table, "a", 0)], jobs=1, hours=None) == 0
    kept = record.entry(Cell(table, "a", 0))
    assert (kept["minutes"], kept["unseen"]) == (None, 1)
    assert record.expected_minutes(Cell(table, "a", 1)) == table.minutes  # its CPU minutes are too few
    assert "| a | 1.00 ± 0.50 (one seed) | 40 | – | 1 |" in "\n".join(page.section(table))
    assert "| ≥ " in "\n".join(page.section(table))


def test_hours_end_it(table):
    """One training that would never end, and one that is not begun; no alarm is left of a run that ends before."""
    waiting = replace(table, rows={"a": ("wait=1",)})
    assert train.train_all(record.missing(waiting), jobs=1, hours=1 / 3600) == train.STOPPED
    assert len(record.missing(waiting)) == 2 and not Cell(waiting, "a", 1).run.exists()
    assert train.train_all([Cell(table, "a", 0)], jobs=1, hours=1.0) == 0
    assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())


def test_what_has_moved_is_told(table):
    def number(value, error=None, kind="estimate"):
        return {"value": value, "error": error, "kind": kind}

    old = {"fid/digits/ema": number(1.0, 0.1), "is/digits/ema": number(1.0)}
    assert list(check.differences(old, old, 1.0)) == []
    near, far = {"fid/digits/ema": number(1.14, 0.1)}, {"fid/digits/ema": number(1.2, 0.1)}
    gone = "is/digits/ema is not measured any more"
    assert list(check.differences(old, near, 1.0)) == [gone]  # 1.4 of 0.1, and the difference has an error of 0.141
    assert list(check.differences(old, far, 1.0)) == ["fid/digits/ema: 1.2, stored 1 ± 0.1", gone]
    other = {"fid/digits/ema": number(math.nan, 0.1), "is/digits/ema": number(1.01)}
    assert list(check.differences(old, other, 1.0)) == [
        "fid/digits/ema: nan, stored 1 ± 0.1",
        "is/digits/ema: 1.01, stored 1",
    ]
    kinds = {"fid/digits/ema": number(1.0, 0.1, "exact"), "is/digits/ema": number(1.0)}
    assert list(check.differences(old, kinds, 1.0)) == ["fid/digits/ema is of the kind exact, stored estimate"]


def test_an_export_is_measured_again_and_a_short_row_without_one_trained_again(table, monkeypatch):
    train.train_all(record.missing(table), jobs=2, hours=None)
    cell = Cell(table, "a", 0)
    assert check.check(cell, train.Commands()) == "again from the export: agrees"
    shutil.rmtree(cell.run / "export")
    assert check.check(cell, train.Commands()) == "trained again: agrees"
    monkeypatch.setattr(check, "SHORT", 0.0)
    assert check.check(cell, train.Commands()).startswith("not checked")
    assert check.check(Cell(table, "a", 5), train.Commands()) == "not trained"


def test_kinds_are_marked_and_never_mixed(table):
    numbers = {"exact/log_likelihood/ema": {"value": -80.0, "error": 0.5, "kind": "lower bound"}}
    one = {"numbers": numbers}
    nats = replace(table, columns={"nats": ("exact/log_likelihood",)})
    assert page.shown(nats, "nats", [one]) == "≥ -80.00 ± 0.50 (one seed)"
    other = {"numbers": {"exact/log_likelihood/ema": {"value": -80.0, "error": 0.5, "kind": "exact"}}}
    with pytest.raises(ValueError, match="2 numbers of 2 runs, of kind exact and lower bound, expected one of each"):
        page.shown(nats, "nats", [one, other])


def test_a_command_is_shown_as_a_shell_takes_it():
    """bash would make two words of {a,b}."""
    words = ["experiment=x", "module.loss={_target_:a.B,r1:1.0}", "sampler.steps=null", "seed=3"]
    shown = page.typed({"words": words})
    assert shown == "`experiment=x 'module.loss={_target_:a.B,r1:1.0}' sampler.steps=null`"
    assert shlex.split(shown.strip("`")) == words[:-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "0"], "--jobs: 0, expected a whole number of 1 or more"),
        (["--hours", "-1"], "--hours"),
        (["--hours", "nan"], "--hours: nan, expected a number of hours"),
        (["--page", "--only", "demo"], "--page takes no --only"),
        (["--left", "--jobs", "1"], "--left takes no --jobs"),
        (["--check", "--hours", "1"], "--check takes no --hours"),
        (["--only", "demo/nothing"], "--only demo/nothing: no such table or row"),
    ],
)
def test_what_does_nothing_or_cannot_be_is_refused(words, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recipes", *words])
    with pytest.raises(SystemExit, match="2"):
        recipes.main()
    assert said in capsys.readouterr().err


def test_what_is_left_of_the_chosen_is_said_and_nothing_of_others(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recipes", "--left", "--only", "rings", "demo/EDM, dropout .1"])
    assert recipes.main() == 0
    assert re.findall(r"^(\w+): (\d+) of (\d+) ", capsys.readouterr().out, re.MULTILINE) == [
        ("demo", "3", "3"),
        ("rings", "15", "15"),
    ]


def test_the_page_is_what_its_files_say(monkeypatch):
    monkeypatch.undo()
    assert page.render() == page.PAGE.read_text()
    text = which.PAGE.read_text()
    assert which.render(text) == text


def test_no_number_of_which_family_is_typed(monkeypatch):
    monkeypatch.undo()
    by_hand = re.sub(r"<!-- part: \w+ -->.*?<!-- end -->", "", which.PAGE.read_text(), flags=re.DOTALL)
    assert not re.findall(r"\d", by_hand)


@pytest.mark.slow
@pytest.mark.parametrize("row", tables()["digits"].rows)
def test_a_family_has_the_model_of_which_family(row):
    config = composed([*tables()["digits"].rows[row], "trainer=cpu"])
    complete(config, build(config["data"], "data"))
    assert type(build_module(config).model) is which.model_of(tables()["digits"], row)


def test_the_far_and_the_few_are_told(table, monkeypatch):
    """A family with more than ten times the best FID, and one whose samples reach less than half of the data."""
    digits = replace(table, name="digits", columns={"FID": ("fid/digits",), "coverage": ("coverage/digits",)})
    monkeypatch.setattr(which, "tables", lambda: {"digits": digits})

    def entry_of(row, fid, coverage):
        cell, number = Cell(digits, row, 0), {"error": 0.1, "kind": "estimate", "unit": "", "protocol_hash": "p"}
        numbers = {"fid/digits/raw": {"value": fid, **number}, "coverage/digits/raw": {"value": coverage, **number}}
        return {"0": {"words": cell.words, "numbers": numbers}}

    stored = {"protocols": {}, "rows": {"a": entry_of("a", 1.0, 0.4), "b": entry_of("b", 10.5, 0.9)}}
    monkeypatch.setattr(which, "load", lambda table: stored)
    first, second = which.failures().splitlines()
    assert "that of a." in first and "10 times as large: b." in first and second.endswith("digits: a.")
