"""The number of threads: the faster one of a few steps, kept for the run, which is else as without a measurement."""

import json

import pytest
import torch

from lightning_gen.callbacks.trial import Turns
from lightning_gen.stages import threads
from tests.families.test_players import same
from tests.test_estimate import QUICK, pictures
from tests.test_run import BARE, command

SHORT = (*BARE, "data.batch_size=8")
LONG = (*SHORT, "trainer.max_steps=9")


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
    monkeypatch.setattr(Turns, "medians", property(lambda self: {2: 0.75, 1: 0.5}))
    run = tmp_path / "run"
    assert command(*LONG, f"run={run}") == 0
    assert "threads      1 of 2: a step takes 0.5 s with 1, 0.75 s with 2" in capsys.readouterr().out
    assert json.loads((run / "run.json").read_text())["threads"] == 1
    assert torch.get_num_threads() == 2, "the next job of a sweep has all of them again"


def test_a_measured_run_is_the_run_that_was_told_so_bit_for_bit(unsaid, tmp_path, capsys, monkeypatch):
    assert command(*LONG, f"run={tmp_path / 'measured'}") == 0
    chosen = json.loads((tmp_path / "measured/run.json").read_text())["threads"]
    assert chosen in (1, 2) and "threads " in capsys.readouterr().out
    monkeypatch.setenv("OMP_NUM_THREADS", str(chosen))
    torch.set_num_threads(chosen)
    assert command(*LONG, f"run={tmp_path / 'told'}") == 0
    assert same(weights(tmp_path / "measured"), weights(tmp_path / "told"))
    assert "threads " not in capsys.readouterr().out
    assert "threads" not in json.loads((tmp_path / "told/run.json").read_text())


@pytest.fixture
def seen(monkeypatch):
    """The number of threads at each step of an optimizer."""
    seen, step = [], torch.optim.Adam.step

    def watched(*args, **options):
        seen.append(torch.get_num_threads())
        return step(*args, **options)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    return seen


@pytest.mark.parametrize(("kept", "taken"), [pytest.param(1, 1, marks=pytest.mark.slow), (64, 2)])
def test_a_resumed_run_keeps_its_number_and_measures_nothing(kept, taken, unsaid, tmp_path, seen, monkeypatch):
    """But no more threads than there are here."""
    run = tmp_path / "run"
    assert command(*LONG, f"run={run}") == 0
    known = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(known | {"threads": kept}))
    monkeypatch.setattr(Turns, "medians", property(lambda self: pytest.fail("measured again")))
    seen.clear()
    assert command(*SHORT, "trainer.max_steps=12", f"run={run}") == 0
    assert {*seen} == {taken}


def test_an_estimate_is_of_the_number_that_the_run_will_choose(unsaid, tmp_path, seen, capsys, monkeypatch):
    monkeypatch.setattr(Turns, "medians", property(lambda self: seen.clear() or {2: 0.75, 1: 0.5}))
    assert command(*LONG, "stage=estimate") == 0
    assert "threads      1 of 2" in capsys.readouterr().out and {*seen} == {1}


def test_data_are_refused_before_anything_is_measured(unsaid, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(threads, "measured", lambda *_: pytest.fail("measured"))
    folder = pictures(tmp_path / "mine", 7)
    assert command("experiment=my_images", f"data.path={folder}", "data.test_size=4", *QUICK) == 2
    assert "6 samples or more in the train split, mine has 3" in capsys.readouterr().err


def test_steps_of_each_number_alternate_until_they_say_enough(unsaid, monkeypatch):
    from lightning_gen.callbacks import trial

    class Trainer:
        global_step, should_stop, estimated_stepping_batches, accumulate_grad_batches = 0, False, 100, 1

    clock = iter(range(100))
    monkeypatch.setattr(trial.time, "perf_counter", lambda: next(clock) / 10)
    watch, trainer = Turns((2, 1), torch.set_num_threads), Trainer()
    watch.on_train_start(trainer)
    taken = []
    while not trainer.should_stop:
        taken.append(torch.get_num_threads())
        trainer.global_step += 1
        watch.on_train_batch_end(trainer)
    assert taken == [2, 2, 1, 1, 2, 1, 2, 1], "the first of each is not timed, then three"
    assert watch.medians == pytest.approx({2: 0.1, 1: 0.1})


def test_a_step_of_fewer_batches_counts_as_a_whole_one(monkeypatch):
    """Ten batches of 0.1 s an epoch, three a step: the fourth step has one, and always falls to the second way."""
    from lightning_gen.callbacks import trial

    class Trainer:
        global_step, should_stop, estimated_stepping_batches, accumulate_grad_batches = 0, False, 100, 3

    now = 0.0
    monkeypatch.setattr(trial.time, "perf_counter", lambda: now)
    watch, trainer, batch = Turns((2, 1), lambda way: None, seconds=4, pairs=4), Trainer(), 0
    watch.on_train_start(trainer)
    while not trainer.should_stop:
        now, batch = now + 0.1, batch % 10 + 1
        trainer.global_step += batch % 3 == 0 or batch == 10
        watch.on_train_batch_end(trainer)
    assert watch.medians == pytest.approx({2: 0.3, 1: 0.3})
    assert [round(s, 3) for s in watch.seconds[1]] == [0.3] * len(watch.seconds[1])
