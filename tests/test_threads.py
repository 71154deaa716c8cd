"""The number of threads: the faster one of a few steps, kept for the run, which is else as without a measurement."""

import json

import pytest
import torch

from lightning_gen.callbacks.trial import ThreadTrial
from tests.families.test_players import same
from tests.test_run import BARE, command

LONG = (*BARE, "trainer.max_steps=9")


@pytest.fixture
def unsaid(monkeypatch):
    """A person who does not say the number, on a machine with two cores."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def weights(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_the_faster_number_is_taken_said_and_kept(unsaid, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ThreadTrial, "medians", property(lambda self: {2: 0.75, 1: 0.5}))
    run = tmp_path / "run"
    assert command(*LONG, f"run={run}") == 0
    assert "threads      1 of 2: a step takes 0.5 s with 1, 0.75 s with 2" in capsys.readouterr().out
    assert json.loads((run / "run.json").read_text())["threads"] == 1
    assert torch.get_num_threads() == 2, "the next job of a sweep has all of them again"


def test_a_measured_run_is_the_run_that_was_told_so_bit_for_bit(unsaid, tmp_path, capsys, monkeypatch):
    assert command(*LONG, f"run={tmp_path / 'measured'}") == 0
    threads = json.loads((tmp_path / "measured/run.json").read_text())["threads"]
    assert threads in (1, 2) and "threads " in capsys.readouterr().out
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    torch.set_num_threads(threads)
    assert command(*LONG, f"run={tmp_path / 'told'}") == 0
    assert same(weights(tmp_path / "measured"), weights(tmp_path / "told"))
    assert "threads " not in capsys.readouterr().out
    assert "threads" not in json.loads((tmp_path / "told/run.json").read_text())


def test_a_resumed_run_keeps_its_number_and_measures_nothing(unsaid, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    assert command(*LONG, f"run={run}") == 0
    known = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(known | {"threads": 1}))
    monkeypatch.setattr(ThreadTrial, "medians", property(lambda self: pytest.fail("measured again")))
    seen, step = [], torch.optim.Adam.step

    def watched(*args, **options):
        seen.append(torch.get_num_threads())
        return step(*args, **options)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    assert command(*BARE, "trainer.max_steps=12", f"run={run}") == 0
    assert {*seen} == {1}


def test_steps_of_each_number_alternate_until_they_say_enough(unsaid, monkeypatch):
    from lightning_gen.callbacks import trial

    class Trainer:
        global_step, should_stop = 0, False

    clock = iter(range(100))
    monkeypatch.setattr(trial.time, "perf_counter", lambda: next(clock) / 10)
    watch, trainer = ThreadTrial(2), Trainer()
    threads = []
    while not trainer.should_stop:
        threads.append(torch.get_num_threads())
        trainer.global_step += 1
        watch.on_train_batch_end(trainer)
    assert threads == [2, 2, 1, 2, 1, 2, 1], "the first is not timed, then three of each"
    assert watch.medians == pytest.approx({2: 0.1, 1: 0.1})
