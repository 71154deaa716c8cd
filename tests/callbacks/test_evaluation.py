"""An evaluation that is stopped keeps the numbers before it, and goes on where it stood, to the same numbers."""

import json
import os
import re
import signal
from collections import Counter

import pytest
import torch
from pytorch_lightning import Callback

import run as entry
from lightning_gen.callbacks.evaluation import COLUMNS, Evaluation, Pieces, shares, table
from lightning_gen.callbacks.likelihood.base import Likelihood
from lightning_gen.callbacks.publishing import publish
from lightning_gen.callbacks.quality import Quality
from lightning_gen.errors import Stopped
from lightning_gen.families import GenerativeModule
from lightning_gen.results.result import Name, Result
from lightning_gen.runs.folder import PIECES
from tests.test_run import TINY

WORDS = (*TINY, "trainer.max_steps=2", "quality.n=40", "quality.block=8", "quality.metrics=[fid,kid]")
WORDS += (
    "callbacks.likelihood.batch=2",
    "callbacks.likelihood.n=8",
    "callbacks.pictures=null",
    "callbacks.curves=null",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert entry.main([*WORDS, f"run={folder}"]) == 0
    return folder


def stop_at(monkeypatch, owner, name, number):
    """SIGTERM before the number-th call."""
    original, calls = getattr(owner, name), []

    def call(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize(
    ("owner", "name", "number", "blocks", "draws"),
    [(Likelihood, "block", 3, 2, 5), (Quality, "_quantised", 4, 0, 2)],
)
def test_it_goes_on_where_it_stood(trained, monkeypatch, capsys, owner, name, number, blocks, draws):
    """Four blocks of likelihoods, then five of samples: what is kept is not computed again."""
    before, words = (trained / "metrics.json").read_bytes(), ("stage=evaluate", f"run={trained}")
    with monkeypatch.context() as patch:
        stop_at(patch, owner, name, number)
        assert entry.main([*words]) == 75
    error = capsys.readouterr().err
    assert "by SIGTERM" in error and "Traceback" not in error and (trained / "stopped").read_text() in error
    assert (trained / "metrics.json").read_bytes() == before

    computed = Counter()
    for place, method in ((GenerativeModule, "chain"), (Likelihood, "block")):
        monkeypatch.setattr(place, method, counting(computed, method, getattr(place, method)))
    assert entry.main([*words]) == 0
    assert computed == +Counter(block=blocks, chain=draws)
    assert (trained / "metrics.json").read_bytes() == before, "other numbers"
    assert (trained / "metrics-before.json").read_bytes() == before
    assert not (trained / PIECES).exists() and not (trained / "stopped").exists()


def test_annealed_chains_go_on_where_they_stood(tmp_path, monkeypatch):
    """Step sizes by a pilot run, two blocks of chains from each end: stopped in the last, that one alone is run."""
    from lightning_gen.callbacks.likelihood import ais

    words = (
        "experiment=ebm_rings data.n=256 data.batch_size=64 quality=none logger=none trainer.max_steps=2 net.width=8 "
    )
    words += (
        "module.loss.chains=64 callbacks.likelihood.schedule=5 callbacks.likelihood.burn=2 callbacks.likelihood.n=20 "
    )
    words += " ".join(f"callbacks.{name}=null" for name in ("pictures", "curves", "field", "energies", "health"))
    folder = tmp_path / "run"
    assert entry.main([*words.split(), f"run={folder}"]) == 0
    before = (folder / "metrics.json").read_bytes()
    with monkeypatch.context() as patch:
        stop_at(patch, ais, "log_weights", 4)
        assert entry.main(["stage=evaluate", f"run={folder}"]) == 75
    computed = Counter()
    for name in ("log_weights", "tuned_steps"):
        monkeypatch.setattr(ais, name, counting(computed, name, getattr(ais, name)))
    assert entry.main(["stage=evaluate", f"run={folder}"]) == 0
    assert computed == Counter(log_weights=1) and (folder / "metrics.json").read_bytes() == before


def counting(counter, name, function):
    """The function, whose calls are counted."""

    def call(*arguments, **options):
        counter[name] += 1
        return function(*arguments, **options)

    return call


def test_other_weights_or_another_sampler_take_no_block_of_these(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, Quality, "results", 1)
        assert entry.main([*WORDS, f"run={folder}"]) == 75
    assert list((folder / PIECES).rglob("*.pt")) and not (folder / "metrics.json").exists()
    loaded = []
    load = Pieces.load

    def watched(self, block, device):
        piece = load(self, block, device)
        loaded.append(piece is not None)
        return piece

    monkeypatch.setattr(Pieces, "load", watched)
    for words in (["sampler.steps=3"], ["quality.n=39"]):
        with monkeypatch.context() as patch:
            stop_at(patch, Quality, "results", 1)
            assert entry.main(["stage=evaluate", f"run={folder}", *words]) == 75
        assert loaded and not any(loaded), words
        assert len(list((folder / PIECES).iterdir())) == 1, "the blocks of another evaluation stay for ever"
        loaded.clear()


def test_damaged_blocks_are_made_again_and_a_full_disk_keeps_none(tmp_path, monkeypatch):
    pieces = Pieces(tmp_path / "x", "Quality-1")
    pieces.store(0, {"x": torch.ones(3), "calls": 2, "seconds": 0.5, "none": None})
    kept = pieces.load(0, torch.device("cpu"))
    assert torch.equal(kept["x"], torch.ones(3)) and (kept["calls"], kept["seconds"], kept["none"]) == (2, 0.5, None)
    assert pieces.load(1, torch.device("cpu")) is None
    pieces.path(0).write_bytes(pieces.path(0).read_bytes()[:100])
    assert pieces.load(0, torch.device("cpu")) is None

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    pieces.store(2, {"x": torch.ones(3)})
    assert pieces.load(2, torch.device("cpu")) is None


def test_numbers_are_written_together_or_not_at_all(tmp_path, known, rows, make_trainer):
    (tmp_path / "metrics.json").write_text(json.dumps({"old": Result(1.0, "exact").as_dict()}))
    old = (tmp_path / "metrics.json").read_bytes()

    class Measure(Callback):
        def __init__(self, stop=False):
            self.stop = stop

        def on_test_epoch_end(self, trainer, module):
            for name in ("a", "b"):
                publish(trainer, [Result(2.0, "exact", name=Name(name))], final=True)
                assert (tmp_path / "metrics.json").read_bytes() == old
                if self.stop:
                    raise Stopped

    with pytest.raises(Stopped):
        make_trainer(Evaluation(), Measure(True)).test(known(), rows(), verbose=False)
    assert (tmp_path / "metrics.json").read_bytes() == old
    make_trainer(Measure(), Evaluation()).test(known(), rows(), verbose=False)
    assert json.loads((tmp_path / "metrics.json").read_text()).keys() == {"a", "b"}
    assert (tmp_path / "metrics-before.json").read_bytes() == old


def test_the_table_says_of_each_number_its_error_kind_direction_and_protocol():
    result = Result(3.0, "estimate", 0.5, "", {"n": 4, "flags": ["few", "old"]}, name=Name("fid", "x", "ema"))
    bound = Result(float("inf"), "upper bound", None, "nats")
    numbers = {"fid/x/ema": result.as_dict() | {"step": 7}, "log_z/raw": bound.as_dict() | {"step": 7}}
    fid, log_z = (dict(zip(COLUMNS, row, strict=True)) for row in table(numbers))
    assert fid["protocol_hash"] == numbers["fid/x/ema"]["protocol_hash"] and fid["flags"] == "few, old"
    assert [fid[key] for key in ("name", "value", "error", "kind", "better", "step")] == [
        *("fid/x/ema", 3.0, 0.5, "estimate", "lower", 7)
    ]
    assert [log_z[key] for key in ("value", "error", "kind", "unit", "better")] == [
        "inf",
        None,
        "upper bound",
        "nats",
        None,
    ]


def test_it_says_where_its_time_went(trained, capsys):
    """Every second is of one activity: a callback's are those that it does not spend in sampling or features."""
    capsys.readouterr()
    assert entry.main(["stage=evaluate", f"run={trained}"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("evaluation in ")]
    shares = {name: int(share) for name, share in re.findall(r"([a-z][a-z ]*) (\d+)%", line.partition(": ")[2])}
    assert {"sampling", "likelihood", "quality"} <= {*shares} and abs(sum(shares.values()) - 100) <= len(shares) + 1


def test_shares_add_up_to_the_whole():
    spent = {"sampling": 6.0, "features": 1.0, "quality": 2.95, "likelihood": 0.01}
    said = "evaluation in 10.0 s: sampling 60%, quality 30%, features 10%"
    assert shares(spent, 10.0) == said
    assert shares(spent, 20.0).endswith("the rest 50%, sampling 30%, quality 15%, features 5%")
