"""The record is the truth: nothing logged is lost, nothing abandoned is read, one process writes."""

import json
import math
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities import rank_zero_only

import run as entry
from lightning_gen.callbacks.loggers.record import RecordLogger, Resume
from lightning_gen.callbacks.publishing import log_image, publish
from lightning_gen.errors import RunDeleted
from lightning_gen.results.result import Name, Result
from lightning_gen.results.store import read_record, write_atomically
from lightning_gen.runs.metrics_file import read_metrics
from tests.test_run import BARE


def values(folder: Path, name: str) -> dict[int, float]:
    return {line["step"]: line["value"] for line in read_record(folder / "record.jsonl") if line["name"] == name}


def test_every_value_is_a_line_with_step_epoch_and_time(tmp_path):
    logger = RecordLogger(tmp_path)
    logger.log_metrics({"a": 0.5, "b": torch.tensor(2.0), "epoch": 3}, 7)
    logger.log_metrics({"c": np.float32(1.5)}, 8)
    lines = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    assert [(x["name"], x["value"], x["step"], x["epoch"]) for x in lines] == [
        ("a", 0.5, 7, 3),
        ("b", 2.0, 7, 3),
        ("c", 1.5, 8, 3),
    ]
    assert all(line["time"] > 1.6e9 for line in lines)


def test_what_is_not_finite_stays_valid_json(tmp_path):
    RecordLogger(tmp_path).log_metrics({"x": float("nan"), "y": float("-inf")}, 1)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    for line in (tmp_path / "record.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    x, y = (line["value"] for line in read_record(tmp_path / "record.jsonl"))
    assert math.isnan(x) and y == -math.inf


def test_a_second_logger_appends(tmp_path):
    RecordLogger(tmp_path).log_metrics({"loss": 1.0}, 1)
    before = (tmp_path / "record.jsonl").read_bytes()
    RecordLogger(tmp_path).log_metrics({"loss": 2.0}, 2)
    assert (tmp_path / "record.jsonl").read_bytes().startswith(before)
    assert values(tmp_path, "loss") == {1: 1.0, 2: 2.0}


def test_the_newest_value_of_a_name_and_step_counts(tmp_path):
    logger = RecordLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 5)
    logger.log_metrics({"loss": 2.0}, 5)
    assert values(tmp_path, "loss") == {5: 2.0}


def test_a_resume_drops_the_abandoned_future_and_only_that(tmp_path):
    logger = RecordLogger(tmp_path)
    logger.resume(0)
    for step in range(1, 8):
        logger.log_metrics({"loss": float(step)}, step)
    logger.resume(4)
    logger.log_metrics({"loss": 60.0}, 6)
    assert values(tmp_path, "loss") == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0, 6: 60.0}
    assert len((tmp_path / "record.jsonl").read_text().splitlines()) == 9, "the file itself forgets nothing"


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_costs_that_line_alone(tmp_path, cut):
    path = tmp_path / "record.jsonl"
    logger = RecordLogger(tmp_path)
    for step in (1, 2):
        logger.log_metrics({"loss": float(step)}, step)
    path.write_bytes(path.read_bytes()[:-cut])
    survivors = {1: 1.0, 2: 2.0} if cut == 1 else {1: 1.0}
    assert values(tmp_path, "loss") == survivors
    RecordLogger(tmp_path).log_metrics({"loss": 3.0}, 3)
    assert values(tmp_path, "loss") == survivors | {3: 3.0}


def test_a_damaged_line_that_no_kill_explains_is_named(tmp_path):
    (tmp_path / "record.jsonl").write_text('{"name": }\n{"name": "a", "value": 1.0, "step": 1}\n')
    with pytest.raises(ValueError, match="record.jsonl:1"):
        read_record(tmp_path / "record.jsonl")


def test_what_was_logged_outlives_kill_9(tmp_path):
    child = os.fork()
    if not child:
        logger = RecordLogger(tmp_path)
        for step in range(100):
            logger.log_metrics({"loss": float(step)}, step)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert values(tmp_path, "loss") == {step: float(step) for step in range(100)}


def test_only_rank_0_writes(tmp_path, monkeypatch):
    logger = RecordLogger(tmp_path)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger.log_metrics({"loss": 1.0}, 1)
    logger.resume(3)
    assert not os.listdir(tmp_path)
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    logger.log_metrics({"loss": 1.0}, 1)
    assert values(tmp_path, "loss") == {1: 1.0}


class Measure(Callback):
    """Publishes once per validation and once per test."""

    def on_validation_epoch_end(self, trainer, module):
        publish(
            trainer, [Result(float(trainer.global_step), "estimate", 0.5, name=Name("fid", "x", "ema"))], final=False
        )
        log_image(trainer, "picture", np.zeros((2, 2, 3), np.uint8))

    def on_validation_end(self, trainer, module):
        self.monitored = float(trainer.callback_metrics["fid/x/ema"])

    def on_test_epoch_end(self, trainer, module):
        publish(
            trainer,
            [Result(float("inf"), "upper bound", None, "bits/dim", {"n": 8}, name=Name("nll", None, "ema"))],
            final=True,
        )


class Taker(RecordLogger):
    """Remembers at which step pictures came."""

    def log_image(self, name, images, step=None):
        self.steps = [*getattr(self, "steps", []), step]


def test_metrics_pictures_and_losses_of_one_moment_stand_at_one_step(tmp_path, known, rows, make_trainer):
    logger, measure = Taker(tmp_path), Measure()
    trainer = make_trainer(measure, Resume(), loggers=[logger])
    trainer.fit(known(), rows(), rows())
    losses, fids = values(tmp_path, "train/loss"), values(tmp_path, "fid/x/ema")
    assert sorted(losses) == list(range(1, 9))
    assert fids == {4: 4.0, 8: 8.0} and logger.steps == [4, 8]
    assert values(tmp_path, "fid/x/ema/error") == {4: 0.5, 8: 0.5}
    assert measure.monitored == 8.0, "a checkpoint callback must find it by its name"


def test_a_test_without_training_stands_at_the_step_of_the_weights(tmp_path, known, rows, make_trainer):
    module = known()
    module.trained_steps = 123
    make_trainer(Measure(), loggers=[RecordLogger(tmp_path)]).test(module, rows(), verbose=False)
    assert values(tmp_path, "nll/ema") == {123: math.inf}
    assert read_metrics(tmp_path / "metrics.json")["nll/ema"]["step"] == 123


def test_final_results_are_merged_into_metrics_json(tmp_path, known, rows, make_trainer):
    (tmp_path / "metrics.json").write_text(
        json.dumps({n: Result(1.0, "exact").as_dict() for n in ("other", "nll/ema")})
    )
    make_trainer(Measure()).test(known(), rows(), verbose=False)
    metrics = read_metrics(tmp_path / "metrics.json")
    assert metrics["other"]["value"] == 1.0
    entry = metrics["nll/ema"]
    assert entry["value"] == math.inf and entry["kind"] == "upper bound" and entry["protocol"] == {"n": 8}
    json.loads((tmp_path / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_floats_are_no_picture(known, make_trainer):
    with pytest.raises(TypeError, match="uint8"):
        log_image(make_trainer(), "x", np.zeros((2, 2, 3), np.float32))


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "metrics.json"
    write_atomically(path, b"old")

    def fail(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("gone", ["record", "folder", "replaced"])
def test_a_record_that_is_gone_is_noticed_at_the_next_write(tmp_path, gone, closed):
    logger, path = RecordLogger(tmp_path / "run"), tmp_path / "run" / "record.jsonl"
    logger.log_metrics({"loss": 1.0}, 1)
    if closed:
        logger.finalize("success")
    if gone == "folder":
        shutil.rmtree(tmp_path / "run")
    else:
        path.unlink()
    if gone == "replaced":
        (tmp_path / "other").write_text("")
        (tmp_path / "other").rename(path)
    with pytest.raises(RunDeleted, match=f"{tmp_path / 'run'}.*deleted"):
        logger.log_metrics({"loss": 2.0}, 2)
    assert gone == "replaced" or not path.exists()


def test_a_run_whose_folder_is_deleted_ends_with_a_sentence(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    append = RecordLogger._append

    def deleting(self, lines):
        append(self, lines)
        if any(line.get("step") == 2 for line in lines):
            shutil.rmtree(folder)

    monkeypatch.setattr(RecordLogger, "_append", deleting)
    assert entry.main([*BARE, "trainer.max_steps=9", f"run={folder}"]) == 1
    error = capsys.readouterr().err
    assert f"error: {folder} was deleted" in error and "Traceback" not in error
    assert not folder.exists()
