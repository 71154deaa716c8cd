"""W&B is a mirror: without a key offline and never a prompt, never the end of a run, nothing private, true pixels."""

import json
import os
import re
import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytorch_lightning.utilities import rank_zero_only

from lightning_gen.callbacks import Wandb, log_image
from lightning_gen.callbacks.loggers.wandb import has_key


@pytest.fixture(autouse=True)
def no_account(tmp_path, monkeypatch):
    """A home without a key."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(home))
    return home


class Run:
    """A wandb.Run that remembers, or fails."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.logged = fails, []

    def define_metric(self, *args, **kwargs):
        pass

    def log(self, values):
        if self.fails:
            raise BrokenPipeError("the service is gone")
        self.logged.append(values)


def stand_in(monkeypatch, init) -> None:
    """Put a module in wandb's place."""
    module = types.ModuleType("wandb")
    module.init = init
    module.Settings = type("Settings", (), {"model_fields": {}})
    module.Image = lambda picture: picture
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr("lightning_gen.callbacks.loggers.wandb.find_spec", lambda name: True)


def test_offline_pictures_are_the_pixels_at_the_losses_step(tmp_path, known, rows, make_trainer, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "hunter2hunter2")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    grey = pixels[:, :, :1]
    folder = tmp_path / "run"
    logger = Wandb(folder=str(folder))
    assert logger.mode == "offline"
    trainer = make_trainer(loggers=[logger], max_epochs=1)
    trainer.fit(known(), rows())
    log_image(trainer, "colour", pixels)
    log_image(trainer, "grey", grey)
    number = logger.version
    logger.close()

    (kept,) = (folder / "wandb").glob("offline-run-*")
    assert kept.name.endswith(number)
    shown = {p.name.split("_")[0]: np.asarray(Image.open(p)) for p in kept.rglob("*.png")}
    assert (shown["colour"] == pixels).all() and (shown["grey"] == grey[:, :, 0]).all()

    tool = Path(sys.executable).parent / "wandb"
    told = subprocess.run([tool, "leet", "inspect", "--json", kept], capture_output=True, text=True, check=True).stdout
    items = [json.loads(line)["history"]["item"] for line in told.splitlines() if '"history"' in line]
    losses = [item["trainer/global_step"] for item in items if "train/loss" in item]
    pictures = [item["trainer/global_step"] for item in items if "colour.filenames" in item]
    assert losses == [1, 2, 3, 4] and pictures == [4]

    private = [b"hunter2", os.path.basename(sys.argv[0]).encode() or b"pytest", str(tmp_path).encode()]
    if len(socket.gethostname()) > 3:
        private.append(socket.gethostname().encode())
    sent = b"".join(p.read_bytes() for p in kept.rglob("*") if p.is_file() and p.parent.name != "logs")
    assert [word for word in private if word in sent] == []

    assert Wandb(folder=str(folder)).version == number, "a resume goes on with the same run"


def test_a_key_means_online_and_none_offline(no_account, monkeypatch):
    assert not has_key() and Wandb().mode == "offline"
    (no_account / ".netrc").write_text("machine elsewhere.org login user password x\n")
    assert not has_key()
    (no_account / ".netrc").write_text("machine api.wandb.ai login user password " + 40 * "a" + "\n")
    assert has_key() and Wandb().mode == "online"
    (no_account / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
    assert has_key() and Wandb().mode == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert Wandb().mode == "offline"


def test_online_without_a_key_is_refused_at_once():
    with pytest.raises(ValueError, match="logger.mode=online needs a W&B key"):
        Wandb(mode="online")


def test_a_failing_start_falls_back_to_offline_and_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
    run, asked = Run(), []
    error = type("CommError", (Exception,), {"__module__": "wandb.errors.errors"})

    def init(**options):
        asked.append((options["mode"], options["id"]))
        if options["mode"] == "online":
            raise error("no network")
        return run

    stand_in(monkeypatch, init)
    sys.modules["wandb"].teardown = lambda: asked.append(("teardown", asked[0][1]))
    logger = Wandb(folder=str(tmp_path))
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
    assert [what for what, _ in asked] == ["online", "teardown", "offline"] and len({name for _, name in asked}) == 1
    assert [item["trainer/global_step"] for item in run.logged] == [0, 1, 2]
    assert len(re.findall("no network", capsys.readouterr().err)) == 1


def test_a_failure_while_logging_ends_wandb_and_not_the_run(tmp_path, monkeypatch, capsys, known, rows, make_trainer):
    stand_in(monkeypatch, lambda **options: Run(fails=True))
    trainer = make_trainer(loggers=[Wandb(folder=str(tmp_path))])
    trainer.fit(known(), rows())
    log_image(trainer, "x", np.zeros((2, 2, 3), np.uint8))
    assert trainer.global_step == 8
    assert capsys.readouterr().err.count("the service is gone") == 1


def test_an_interrupt_is_no_failure_of_wandb(tmp_path, monkeypatch):
    def init(**options):
        raise KeyboardInterrupt

    stand_in(monkeypatch, init)
    with pytest.raises(KeyboardInterrupt):
        Wandb(folder=str(tmp_path)).log_metrics({"loss": 1.0}, 0)


def test_no_package_and_no_wish_are_no_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lightning_gen.callbacks.loggers.wandb.find_spec", lambda name: None)
    Wandb(folder=str(tmp_path)).log_metrics({"loss": 1.0}, 0)
    assert "not installed" in capsys.readouterr().err
    Wandb(folder=str(tmp_path / "b"), mode="disabled").log_metrics({"loss": 1.0}, 0)
    assert capsys.readouterr().err == "" and not (tmp_path / "b").exists()


def test_rank_0_alone_makes_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    stand_in(monkeypatch, lambda **options: pytest.fail("a second run"))
    logger = Wandb(folder=str(tmp_path / "r"))
    logger.log_metrics({"loss": 1.0}, 0)
    logger.experiment.log({"loss": 1.0})
    assert not (tmp_path / "r").exists()
