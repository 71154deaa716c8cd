"""A run that was stopped and resumed, or given more steps, equals the run that was never stopped, bit for bit."""

import os
import shutil
import signal

import pytest
import torch
from pytorch_lightning import Callback

from lightning_gen.results.store import read_record
from lightning_gen.runs import checkpoint_file, weights_file
from lightning_gen.runs.checkpoint_file import Damaged
from lightning_gen.stages import Session, main

TINY = (
    *("experiment=ddpm_digits", "quality=none", "callbacks.likelihood=null", "logger=none", "callbacks.pictures=null"),
    *("net.channels=8", "net.groups=4", "sampler.steps=3", "callbacks.curves=null", "callbacks.throughput=null"),
    *("callbacks.progress=null", "trainer.log_every_n_steps=1", "trainer.check_val_every_n_epoch=1"),
    "callbacks.checkpoints.monitor=val/loss/ema",
)
BATCHES = 10  # in an epoch of digits
STEPS = 24


class Signal(Callback):
    """SIGTERM to this process after so many batches."""

    def __init__(self, batch):
        self.left = batch

    def on_train_batch_end(self, *_):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGTERM)


def train(folder, *words, signal_at=None):
    """The exit code of a run in `folder`, which gets SIGTERM after so many batches."""
    with pytest.MonkeyPatch.context() as patch:
        if signal_at is not None:
            fit = Session.fit

            def signalled(session):
                session.trainer.callbacks.insert(0, Signal(signal_at))
                fit(session)

            patch.setattr(Session, "fit", signalled)
        return main([*TINY, f"run={folder}", *words])


def loaded(folder, name="last.ckpt"):
    return torch.load(folder / "checkpoints" / name, weights_only=True)


def assert_equal(one, two, path=""):
    """Equal containers of equal tensors, bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == two.keys(), path
        for key in one:
            assert_equal(one[key], two[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), path
        for index, (a, b) in enumerate(zip(one, two, strict=True)):
            assert_equal(a, b, f"{path}.{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), path
    else:
        assert one == two, path


def assert_same_run(one, two):
    """Checkpoints, counters of the loops, best checkpoint and record are equal."""
    for name in ("last.ckpt", "best.ckpt"):
        a, b = loaded(one, name), loaded(two, name)
        for state in (a, b):
            state.pop("run"), state.pop("config"), state.pop("ckpt_path", None)
        assert_equal(a, b, name)
    records = [
        [{key: value for key, value in line.items() if key != "time"} for line in read_record(folder / "record.jsonl")]
        for folder in (one, two)
    ]
    assert records[0] == records[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train(folder, f"trainer.max_steps={STEPS}") == 0
    return folder


QUICK = (BATCHES,)


@pytest.mark.parametrize(
    "batch", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in range(1, STEPS + 1)]
)
def test_a_run_stopped_after_any_batch_and_resumed_equals_one_never_stopped(whole, batch, tmp_path):
    words = (f"trainer.max_steps={STEPS}",)
    assert train(tmp_path / "run", *words, signal_at=batch) == 75
    assert train(tmp_path / "run", *words) == 0
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize(
    "first", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in range(BATCHES, STEPS)]
)
def test_more_steps_are_the_longer_run(whole, first, tmp_path):
    assert train(tmp_path / "run", f"trainer.max_steps={first}") == 0
    assert train(tmp_path / "run", f"trainer.max_steps={STEPS}") == 0
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_another_precision_resumes_to_the_bit_too(precision, tmp_path):
    words = (f"trainer.precision={precision}", "trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=3")
    assert train(tmp_path / "a", *words, "trainer.max_steps=3") == 0
    assert train(tmp_path / "a", *words, "trainer.max_steps=6") == 0
    assert train(tmp_path / "b", *words, "trainer.max_steps=6") == 0
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert main(["stage=sample", f"run={tmp_path / 'a'}", "n=2"]) == 0


@pytest.mark.parametrize("batch", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, BATCHES))])
def test_a_stop_inside_an_accumulation_window_waits_for_its_step(batch, tmp_path):
    words = ("trainer.accumulate_grad_batches=4", "trainer.max_steps=6")
    assert train(tmp_path / "a", *words, signal_at=batch) == 75
    steps = {2: 1, 5: 2, BATCHES: 3}  # windows of 4, 4 and 2 batches
    assert loaded(tmp_path / "a")["global_step"] == steps[batch]
    assert train(tmp_path / "a", *words) == 0
    assert train(tmp_path / "b", *words) == 0
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_a_copy_that_is_kept_is_written_once_per_step(tmp_path):
    words = ("trainer.accumulate_grad_batches=4", "trainer.max_steps=4", "callbacks.checkpoints.keep_every_n_steps=2")
    times = {}

    class Times(Callback):
        def on_train_batch_end(self, trainer, *_):
            for path in (tmp_path / "run" / "checkpoints").glob("step-*"):
                times.setdefault(path.name, set()).add(path.stat().st_mtime_ns)

    with pytest.MonkeyPatch.context() as patch:
        fit = Session.fit
        patch.setattr(Session, "fit", lambda session: (session.trainer.callbacks.append(Times()), fit(session))[1])
        assert train(tmp_path / "run", *words) == 0
    assert {name: len(moments) for name, moments in times.items()} == {"step-00000002.ckpt": 1, "step-00000004.ckpt": 1}
    assert loaded(tmp_path / "run", "step-00000004.ckpt")["global_step"] == 4


def test_a_fast_dev_run_leaves_nothing_that_a_run_would_resume(whole, tmp_path):
    assert train(tmp_path / "run", "trainer.fast_dev_run=true", "callbacks.checkpoints.monitor=null") == 0
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert train(tmp_path / "run", f"trainer.max_steps={STEPS}") == 0
    assert_same_run(tmp_path / "run", whole)


def flip(path, bit):
    """Invert one bit of a file."""
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.fixture
def saved(whole, tmp_path):
    """A copy of the whole run, and its folder of checkpoints."""
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run", tmp_path / "run" / "checkpoints"


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(whole, tmp_path, capfd):
    folder = tmp_path / "run"
    words = ("callbacks.checkpoints.every_n_steps=8", f"trainer.max_steps={STEPS}")
    assert train(folder, *words, signal_at=20) == 75
    files = folder / "checkpoints"
    assert loaded(folder, "last.ckpt")["global_step"] == 20 and loaded(folder, "last-1.ckpt")["global_step"] == 16
    flip(files / "last.ckpt", 123_456)
    capfd.readouterr()
    assert train(folder, *words) == 0
    message = capfd.readouterr().err
    assert "last.ckpt is damaged" in message and "last-1.ckpt" in message and "20" in message
    assert_same_run(folder, whole)


@pytest.mark.parametrize("damage", ["truncated", "absent"])
def test_other_stages_take_the_older_checkpoint_too(saved, damage, capfd):
    folder, files = saved
    shutil.copy(files / "last.ckpt", files / "step-00000024.ckpt")
    (files / "last-1.ckpt").unlink(missing_ok=True)
    if damage == "absent":
        (files / "last.ckpt").unlink()
    else:
        (files / "last.ckpt").write_bytes((files / "last.ckpt").read_bytes()[:-1000])
    assert main(["stage=export", f"run={folder}"]) == 0
    assert "last.ckpt" in capfd.readouterr().err


def test_a_run_without_an_intact_checkpoint_does_not_start_anew(saved, capfd):
    folder, files = saved
    for path in files.iterdir():
        path.unlink()
    assert train(folder, f"trainer.max_steps={STEPS}") == 2
    message = capfd.readouterr().err
    assert str(STEPS) in message and "last.ckpt" in message and "fresh=true" in message


def test_a_checkpoint_of_another_run_is_refused(saved, tmp_path, capfd):
    folder, files = saved
    assert train(tmp_path / "other", "module.optimizer.lr=0.1", "trainer.max_steps=12") == 0
    shutil.copy(tmp_path / "other" / "checkpoints" / "last.ckpt", files / "last.ckpt")
    assert train(folder, "trainer.max_steps=30") == 2
    message = capfd.readouterr().err
    assert "last.ckpt is of the run" in message and "another config" in message


def test_a_moved_run_goes_on(saved, tmp_path):
    folder, _ = saved
    assert train(folder.rename(tmp_path / "moved"), f"trainer.max_steps={STEPS + 1}") == 0
    assert loaded(tmp_path / "moved")["global_step"] == STEPS + 1


def test_an_export_is_intact_or_refused(saved):
    folder, _ = saved
    assert main(["stage=export", f"run={folder}"]) == 0
    path = folder / "export" / "model.safetensors"
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 8 * len(whole) // 50):
        flip(path, bit)
        with pytest.raises(Damaged, match=r"model.safetensors is damaged"):
            weights_file.read(path)
        path.write_bytes(whole)
    weights_file.read(path)


class Poison(Callback):
    """A weight of the raw or the averaged model that is not finite from a step on."""

    def __init__(self, which, step):
        self.which, self.step = which, step

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.global_step == self.step:
            next(getattr(module, self.which).parameters()).data.flatten()[0] = float("inf")


@pytest.mark.parametrize("which", ["model", "ema"])
def test_a_weight_that_is_not_finite_is_never_saved(which, tmp_path, capfd):
    words = ("callbacks.checkpoints.every_n_steps=1", "trainer.max_steps=12")
    with pytest.MonkeyPatch.context() as patch:
        fit = Session.fit
        poison = Poison(which, 5)
        patch.setattr(Session, "fit", lambda session: (session.trainer.callbacks.insert(0, poison), fit(session))[1])
        assert train(tmp_path / "run", *words) == 1
    message = capfd.readouterr().err
    assert f"{which}." in message and "not finite" in message and "step 5" in message and "rank 0" in message
    for name, step in (("last.ckpt", 4), ("last-1.ckpt", 3)):
        state = loaded(tmp_path / "run", name)
        assert state["global_step"] == step
        assert all(value.isfinite().all() for value in state["state_dict"].values())


def test_a_step_that_overflows_leaves_the_finite_checkpoint(tmp_path, capfd):
    words = ("callbacks.checkpoints.every_n_steps=1", "trainer.max_steps=12", "trainer.gradient_clip_val=null")
    sgd = "module.optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 3.0e+38}"
    assert train(tmp_path / "run", *words, sgd) == 1
    assert "not finite" in capfd.readouterr().err
    for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt"):
        assert all(value.isfinite().all() for value in loaded(tmp_path / "run", path.name)["state_dict"].values())


def test_weights_that_are_not_finite_are_not_exported(saved, capfd):
    folder, files = saved
    state = loaded(folder)
    next(value for key, value in state["state_dict"].items() if key.startswith("ema.")).flatten()[0] = float("nan")
    checkpoint_file.write(state, files / "last.ckpt")
    assert main(["stage=export", f"run={folder}"]) == 1
    assert "not finite" in capfd.readouterr().err and not (folder / "export").exists()


def test_a_folder_that_is_deleted_while_the_run_trains_is_noticed(tmp_path, capsys):
    class Delete(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 3:
                shutil.rmtree(tmp_path / "run")

    with pytest.MonkeyPatch.context() as patch:
        fit = Session.fit
        patch.setattr(Session, "fit", lambda session: (session.trainer.callbacks.insert(0, Delete()), fit(session))[1])
        assert train(tmp_path / "run", "trainer.max_steps=12", "callbacks.checkpoints.every_n_steps=4") == 1
    assert "was deleted" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()
