"""Persistent chains: they survive a stop, differ between ranks, and go back to the rank that they were of."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
import torch

import run as entry
from lightning_gen.errors import Diverged
from lightning_gen.families import RBM
from tests.processes import ROOT, start_two, two

WORDS = ["experiment=rbm_digits", "module.hidden=16", "quality=none", "logger=none", "callbacks.pictures=null"]
WORDS += ["callbacks.likelihood=null", "callbacks.checkpoints.keep_every_n_steps=4", "callbacks.curves=null"]
WORDS += ["module.chains=400", "module.restart=0.1", "module.centred=true", "trainer.check_val_every_n_epoch=1"]
WORDS += ["callbacks.health.every_n_steps=4", "callbacks.health.length=4", "callbacks.health.long=2"]


def state(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


def equal(a, b):
    """Weights, offsets and chains, bit for bit."""
    assert a["state_dict"].keys() == b["state_dict"].keys()
    return torch.equal(a["chains"], b["chains"]) and all(
        torch.equal(a["state_dict"][key], b["state_dict"][key]) for key in a["state_dict"]
    )


def cut(whole, step):
    """The run folder as a kill after `step` would have left it."""
    parts = whole.with_name("parts")
    (parts / "checkpoints").mkdir(parents=True)
    shutil.copy(whole / "config.yaml", parts)
    shutil.copy(whole / f"checkpoints/step-{step:08d}.ckpt", parts / "checkpoints/last.ckpt")
    return parts


def test_a_run_that_was_killed_equals_one_that_was_not(tmp_path):
    steps = ["trainer.max_steps=20"]
    assert entry.main([*WORDS, f"run={tmp_path / 'whole'}", *steps]) == 0
    parts = cut(tmp_path / "whole", 8)
    assert entry.main([*WORDS, f"run={parts}", *steps]) == 0
    assert state(parts)["chains"].shape == (1, 400, 1, 8, 8)
    assert equal(state(tmp_path / "whole"), state(parts))


def train(folder, steps):
    two(str(ROOT / "run.py"), *WORDS, "trainer=ddp_cpu", f"run={folder}", f"trainer.max_steps={steps}")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    train(folder / "whole", 12)
    return folder


@pytest.mark.slow
def test_ranks_have_chains_of_their_own_and_get_them_back(ranks):
    parts = cut(ranks / "whole", 4)
    halfway = state(parts)["chains"]
    assert halfway.shape == (2, 200, 1, 8, 8)
    assert not torch.equal(halfway[0], halfway[1])
    train(parts, 12)
    assert equal(state(ranks / "whole"), state(parts))


@pytest.mark.slow
def test_two_ranks_record_their_chains_statistics_once(ranks):
    lines = [json.loads(line) for line in (ranks / "whole" / "record.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if x.get("name") == "energy/gap"] == [4, 8, 12]
    assert sorted(path.name for path in (ranks / "whole" / "samples").glob("long-*")) == [
        f"long-{step:08d}.png" for step in (4, 8, 12)
    ]


@pytest.mark.slow
def test_another_number_of_ranks_is_refused(ranks, capsys):
    assert entry.main([*WORDS, f"run={ranks / 'whole'}", "trainer.max_steps=20"]) == 2
    assert "2 ranks" in capsys.readouterr().err


RINGS = ["experiment=ebm_rings", "quality=none", "logger=none", "callbacks=default", "callbacks.pictures=null"]
RINGS += ["net.width=16", "net.depth=1", "data.batch_size=64", "module.loss.sampler.steps=5", "module.loss.chains=64"]
RINGS += ["trainer.log_every_n_steps=2", "trainer.max_steps=8", "callbacks.curves=null", "callbacks.likelihood=null"]
DIVERGING = ["module.loss.sampler._target_=lightning_gen.samplers.Langevin", "module.loss.sampler.step_size=8.0"]
DIVERGING += ["~module.loss.sampler.jump"]


def test_chains_that_diverge_while_finite_stop_the_run(tmp_path, capsys):
    """Unadjusted steps of eta = 8 in a bowl of curvature 1 grow sevenfold each, far below what float32 holds."""
    assert entry.main([*RINGS, *DIVERGING, f"run={tmp_path / 'diverged'}"]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search("^error: .*rank 0 .*1000.*1 to 2", said)
    assert entry.main([*RINGS, f"run={tmp_path / 'sound'}"]) == 0


def test_null_is_no_limit(tmp_path):
    assert entry.main([*RINGS, *DIVERGING, "module.loss.limit=null", f"run={tmp_path}", "trainer.max_steps=2"]) == 0


def test_a_chain_of_one_rank_stops_all():
    module = RBM(lambda parameters: torch.optim.SGD(parameters, lr=0.1), (1, 2, 2), 3, limit=5.0)
    gathered = SimpleNamespace(all_gather=lambda far: torch.stack([far, torch.tensor(7.0)]))
    module._trainer = SimpleNamespace(strategy=gathered, log_every_n_steps=10)
    module.loss.max_deviation = torch.tensor(1.0)
    with pytest.raises(Diverged, match="rank 1 .*7 nats.* 5.*21 to 30"):
        module.watch(30)
    module.watch(40)


@pytest.mark.slow
def test_two_ranks_stop_together(tmp_path):
    words = [*WORDS, "trainer=ddp_cpu", f"run={tmp_path}", "trainer.max_steps=12", "module.limit=1.0e-6"]
    done = start_two(str(ROOT / "run.py"), *words, "trainer.log_every_n_steps=2")
    assert done.returncode == 1 and done.stdout.count("error: ") == 2, done.stdout
