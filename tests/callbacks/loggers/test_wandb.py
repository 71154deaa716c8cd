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
from lightning_gen.callbacks.loggers.wandb_environment import VARIABLES, staging
from lightning_gen.callbacks.publishing import log_samples


@pytest.fixture(autouse=True)
def no_account(tmp_path, monkeypatch):
    """A home without a key."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC", "WANDB_BASE_URL", *VARIABLES.values()):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(home))
    return home


class Run:
    """A wandb.Run that remembers, or fails."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.logged, self.defined = fails, [], {}

    def define_metric(self, name, **options):
        self.defined[name] = options

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


def wandb(*words):
    """What W&B's own command prints."""
    done = subprocess.run([Path(sys.executable).parent / "wandb", *words], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def test_an_offline_run_holds_what_was_sent_and_nothing_private(tmp_path, known, rows, make_trainer, monkeypatch):
    """Pixels, steps, best values, config, tables and artifacts, read back from W&B's own file."""
    monkeypatch.setenv("SOME_TOKEN", "hunter2hunter2")
    monkeypatch.delenv("WANDB_DATA_DIR")
    (weights := tmp_path / "model.safetensors").write_bytes(bytes(99))
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    grey = pixels[:, :, :1]
    folder = tmp_path / "run"
    logger = Wandb(folder=str(folder), tags=["one", "two"], group="several", job_type="trial")
    assert logger.mode == "offline"
    trainer = make_trainer(loggers=[logger], max_epochs=1)
    trainer.fit(known(), rows())
    log_image(trainer, "colour", pixels)
    log_image(trainer, "grey", grey)
    log_samples(trainer, "samples", np.stack([pixels, pixels[::-1]]))
    logger.log_hyperparams({"module": {"steps": 4}, "parameters": 7})
    for value in (3.0, 1.0, 2.0):
        logger.log_metrics({"fid/x/ema": value, "fid/x/ema/error": 0.1, "is/x/ema": value, "train/lr": value}, 4)
    logger.log_files("export", [weights], {"step": 4})
    number = logger.version
    told = logger.close()

    (kept,) = (folder / "wandb").glob("offline-run-*")
    assert kept.name.endswith(number)
    shown = {p.name.split("_")[0]: np.asarray(Image.open(p)) for p in kept.rglob("*.png")}
    assert (shown["colour"] == pixels).all() and (shown["grey"] == grey[:, :, 0]).all()
    assert all(
        word in told for word in ("2 pictures", "1 table", "1 artifact", f"wandb sync {kept}", "no WANDB_API_KEY")
    )
    assert "Would sync 1 run" in wandb("sync", "--dry-run", str(kept))

    records = [json.loads(line) for line in wandb("leet", "inspect", "--json", str(kept)).splitlines()]
    about = next(record["run"] for record in records if record["type"] == "run")
    assert [about[key] for key in ("project", "display_name", "run_group", "job_type", "tags")] == [
        *("lightning-gen", "run", "several", "trial", ["one", "two"])
    ]
    assert {"module": {"steps": 4}, "parameters": 7} in [
        r["config"]["update"] for r in records if r["type"] == "config"
    ]
    summary = {}
    for record in records:
        summary |= record.get("summary", {}).get("update", {})
    assert summary["fid/x/ema"] == {"min": 1, "last": 2} and summary["is/x/ema"] == {"max": 3, "last": 2}
    assert summary["train/lr"] == 2 and summary["fid/x/ema/error"] == 0.1 and summary["samples.nrows"] == 2
    artifacts = {r["artifact"]["name"]: r["artifact"] for r in records if r["type"] == "artifact"}
    sent = artifacts[f"export-{number}"]
    assert sent["type"] == "model" and json.loads(sent["metadata"]) == {"step": 4}
    (entry,) = sent["manifest"]["contents"]
    assert entry["path"] == weights.name and Path(entry["local_path"]).read_bytes() == bytes(99)
    copies = [Path(one["local_path"]) for each in artifacts.values() for one in each["manifest"]["contents"]]
    assert len(copies) == 4 and all(folder in copy.parents for copy in copies), "sync needs the run folder alone"
    assert (np.asarray(Image.open(copies[0])) == pixels).all() or (np.asarray(Image.open(copies[1])) == pixels).all()

    items = [record["history"]["item"] for record in records if record["type"] == "history"]
    losses = [item["trainer/global_step"] for item in items if "train/loss" in item]
    pictures = [item["trainer/global_step"] for item in items if "colour.filenames" in item]
    assert losses == [1, 2, 3, 4] and pictures == [4]

    private = [b"hunter2", b"execnet", str(tmp_path).encode()]
    if len(socket.gethostname()) > 3:
        private.append(socket.gethostname().encode())
    for entry in (entry for each in artifacts.values() for entry in each["manifest"]["contents"]):
        del entry["local_path"]  # where `wandb sync` finds the copies
    files = [
        p.read_bytes() for p in kept.rglob("*") if p.is_file() and p.suffix != ".wandb" and p.parent.name != "logs"
    ]
    assert [word for word in private if word in b"".join([json.dumps(records).encode(), *files])] == []

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
    with pytest.raises(ValueError, match="logger.mode=online"):
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


def test_what_the_config_leaves_open_is_named_by_wandbs_variables(tmp_path, monkeypatch):
    """An agent's project, entity and id are W&B's own business: it would warn of ours, and ignore them."""
    asked = []
    stand_in(monkeypatch, lambda **options: asked.append(options) or Run())

    def start(**options):
        Wandb(folder=str(tmp_path / f"run{len(asked)}"), **options).log_metrics({"loss": 1.0}, 0)
        return [asked[-1].get(key) for key in ("project", "entity", "name", "group", "job_type", "tags", "id")]

    *plain, number = start()
    assert plain == ["lightning-gen", None, "run0", None, None, []] and len(number) == 8
    for what, name in VARIABLES.items():
        if what != "sweep":
            monkeypatch.setenv(name, f"{what}1, {what}2" if what == "tags" else what)
    assert start() == ["project", "entity", "name", "group", "job_type", ["tags1", "tags2"], "id"]
    given = {"project": "p", "entity": "e", "name": "n", "group": "g", "job_type": "j", "tags": ["t"]}
    assert start(**given) == [*given.values(), "id"]
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    assert start(**given) == [None, None, "n", "g", "j", ["t"], None]
    assert Wandb(folder=str(tmp_path / "run3")).version == "id"


def test_a_run_id_of_the_environment_replaces_the_runs_own_and_is_said(tmp_path, monkeypatch, capsys):
    stand_in(monkeypatch, lambda **options: Run())
    (logger := Wandb(folder=str(tmp_path))).log_metrics({"loss": 1.0}, 0)
    before = logger.version
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    (logger := Wandb(folder=str(tmp_path))).log_metrics({"loss": 1.0}, 0)
    assert logger.version == "mine" and before in capsys.readouterr().err


def test_each_number_is_defined_once_with_the_direction_that_is_registered(tmp_path, monkeypatch):
    run = Run()
    stand_in(monkeypatch, lambda **options: run)
    logger = Wandb(folder=str(tmp_path))
    names = ("val/loss/ema", "fid/x/held-out", "recall/x/ema", "train/lr", "log_z/raw", "val/loss/ema/error")
    for _ in range(2):
        logger.log_metrics(dict.fromkeys(names, 1.0) | {"epoch": 0}, 1)
    best = {name: options["summary"] for name, options in run.defined.items() if "summary" in options}
    assert best == {"val/loss/ema": "min,last", "fid/x/held-out": "min,last", "recall/x/ema": "max,last"}


def test_no_failure_of_any_call_leaves_the_logger(tmp_path, monkeypatch, capsys):
    def broken(*args, **options):
        raise ConnectionError("the service is gone")

    calls = {
        "log_hyperparams": ({"a": 1},),
        "log_table": ("x", ["a"], [[1]]),
        "log_samples": ("x", np.zeros((2, 3, 3, 1), np.uint8)),
        "log_files": ("export", [tmp_path / "absent"], {}),
        "alert": ("x", "y"),
    }
    for name, arguments in calls.items():
        stand_in(monkeypatch, lambda **options: Run(fails=True))
        for what in ("Table", "Artifact"):
            monkeypatch.setattr(sys.modules["wandb"], what, broken, raising=False)
        logger = Wandb(folder=str(tmp_path / name))
        getattr(logger, name)(*arguments)
        told = logger.close()
        assert "record.jsonl" in told and told.startswith("W&B: stopped")
        assert capsys.readouterr().err.count("W&B: ") == 1, name
    assert "WANDB_DATA_DIR" in os.environ


def test_copies_wait_in_the_run_folder_unless_the_person_says_where(tmp_path, monkeypatch):
    with staging(str(tmp_path)):
        assert os.environ["WANDB_DATA_DIR"] != str(tmp_path / "wandb" / "data")
    monkeypatch.delenv("WANDB_DATA_DIR")
    with pytest.raises(KeyError), staging(str(tmp_path)):
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "wandb" / "data")
        raise KeyError
    assert "WANDB_DATA_DIR" not in os.environ
