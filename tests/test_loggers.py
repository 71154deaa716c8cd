"""What loggers are told of a run, how many there may be, and a sweep's run as W&B's own agent starts it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from lightning_gen import __version__
from lightning_gen.config.root import IDENTITY
from lightning_gen.runs.folder import RunFolder
from lightning_gen.runs.sources import digest
from lightning_gen.stages.loggers import WITHHELD, build_loggers, close, describe, public
from tests.test_run import BARE, CHAIN, command

ROOT = Path(__file__).resolve().parents[1]


def test_neither_places_nor_secrets_leave_the_machine():
    config = {
        "data": {"path": "/home/me/photos", "root": "~/data", "api_key": "s3cret", "source": "https://me:pw@host/x"},
        "callbacks": {"checkpoints": {"monitor": "val/loss/ema"}, "x": [{"token": "s3cret", "n": 3}, "/home/me/y"]},
        "init": "outputs/a",
    }
    assert public(config) == {
        "data": {"path": "photos", "root": "data", "api_key": WITHHELD, "source": "https://host/x"},
        "callbacks": {"checkpoints": {"monitor": "val/loss/ema"}, "x": [{"token": WITHHELD, "n": 3}, "y"]},
        "init": "outputs/a",
    }


def test_every_logger_is_told_config_size_code_and_data(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.store({key: {} for key in IDENTITY} | {"seed": 4, "module": {"steps": 9}, "run": "/home/me/x", "logger": {}})
    folder.identify(data="abc")
    told = []
    loggers = [SimpleNamespace(log_hyperparams=told.append)] * 2
    module = SimpleNamespace(model=torch.nn.Linear(3, 2))
    describe(SimpleNamespace(folder=folder, module=module, trainer=SimpleNamespace(loggers=loggers)))
    assert len(told) == 2 and told[0] == told[1]
    assert told[0]["seed"] == 4 and told[0]["module"] == {"steps": 9} and not {"run", "logger"} & {*told[0]}
    assert told[0]["parameters"] == 8 and told[0]["data_fingerprint"] == "abc" and told[0]["version"] == __version__
    assert told[0]["code"] == {"lightning_gen": digest("lightning_gen")[:16]}


def test_the_codes_digest_follows_names_and_bytes_of_linked_files_too(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (package := tmp_path / "somepackage").mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.py").write_text("a = 1\n")
    (package / "linked").symlink_to(tmp_path / "elsewhere")
    found = [digest("somepackage")]
    (tmp_path / "elsewhere" / "a.py").write_text("a = 2\n")
    found.append(digest("somepackage"))
    (tmp_path / "elsewhere" / "a.py").rename(tmp_path / "elsewhere" / "b.py")
    found.append(digest("somepackage"))
    (package / "data.txt").write_text("no source")
    assert len({*found}) == 3 and digest("somepackage") == found[-1]
    (package / "linked").unlink()
    shutil.copytree(tmp_path / "elsewhere", package / "linked")
    assert digest("somepackage") == found[-1], "installed, where the link is a folder"


def test_none_one_or_several_loggers_are_built(tmp_path):
    folder = RunFolder(tmp_path)
    wandb = {"_target_": "lightning_gen.callbacks.Wandb", "mode": "disabled"}
    csv = {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": str(tmp_path / "csv")}
    both = {"a": wandb, "b": None, "c": csv}
    for node, names in ((None, []), ({}, []), (wandb, ["Wandb"]), (both, ["Wandb", "CSVLogger"])):
        loggers = build_loggers({"logger": node}, folder)
        assert [type(logger).__name__ for logger in loggers] == names
    assert loggers[0].save_dir == str(tmp_path)
    close(loggers)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ["data.batch_size=5000", "trainer.limit_val_batches=0.0001", "optimize=nothing"])
def test_a_run_that_is_refused_begins_no_logger_and_leaves_no_folder(words, tmp_path, capsys):
    told = ("logger=wandb", "logger.mode=offline", "trainer.max_steps=2", f"run={tmp_path / 'new' / 'run'}")
    assert command(*(word for word in BARE if not word.startswith(("logger", "data.batch"))), *told, words) == 2
    assert words.partition("=")[0].removeprefix("data.") in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_sweeps_run_by_wandbs_agent(tmp_path):
    """The agent's own code makes the command of the sweep in docs/sweep.yaml, its variables and its folder."""
    sweep = yaml.safe_load((ROOT / "docs" / "sweep.yaml").read_text())
    assert sweep["metric"] == {"name": "val/loss/ema", "goal": "minimize"}
    values = {key: node.get("value", node.get("values", [None])[-1]) for key, node in sweep["parameters"].items()}
    values |= {key: yaml.safe_load(value) for key, value in (word.split("=") for word in BARE if word not in CHAIN)}
    values |= {"trainer.max_steps": 3, "logger": "wandb", "trainer": "cpu", "logger.checkpoint": True}
    args = {key: {"value": value} for key, value in values.items()}
    script = f"""
import sys
from wandb.wandb_agent import Agent
agent = Agent(None, None, sweep_id="sweep1")
agent._sweep_command = {sweep["command"]!r}
agent._command_run({{"run_id": "trial1", "program": {str(ROOT / "run.py")!r}, "args": {args!r}}})
sys.exit(agent._run_processes["trial1"].wait())
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    environment |= {"WANDB_SWEEP_ID": "sweep1", "WANDB_PROJECT": "theirs", "WANDB_MODE": "offline"}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "outputs" / "edm_digits-trial1"
    (kept,) = folder.glob("wandb/offline-run-*")
    assert f"wandb sync {kept.relative_to(tmp_path)}" in done.stdout
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["module"]["optimizer"]["lr"] == 0.001 and config["seed"] == 1 and (folder / "record.jsonl").is_file()

    inspect = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(kept)]
    lines = subprocess.run(inspect, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    run = next(record["run"] for record in records if record["type"] == "run")
    assert (run["run_id"], run["sweep_id"], run["project"]) == ("trial1", "sweep1", "theirs")
    sent = [record["config"]["update"] for record in records if record["type"] == "config"]
    assert sent[0]["module"] == config["module"] and sent[0]["parameters"] > 0 and sent[0]["data_fingerprint"]
    artifacts = [record["artifact"] for record in records if record["type"] == "artifact"]
    assert [entry["path"] for each in artifacts for entry in each["manifest"]["contents"]] == ["last.ckpt"]
