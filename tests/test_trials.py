"""trainer=debug, overfit and profile: what one tries before a run, by the command."""

import json
import logging

import pytest

import run as entry
from lightning_gen.families import GenerativeModule
from tests.test_run import BARE, TINY


@pytest.fixture
def messages():
    """What Lightning logs, which it prints on stderr."""
    found, handler = [], logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    logging.getLogger("pytorch_lightning").addHandler(handler)
    yield found
    logging.getLogger("pytorch_lightning").removeHandler(handler)


def test_overfit_repeats_one_batch_with_profiler_and_summary_printed(tmp_path, monkeypatch, messages):
    seen, losses = [], GenerativeModule.losses

    def watched(self, player, batch, *rest):
        seen.append(batch["index"].tolist())
        return losses(self, player, batch, *rest)

    monkeypatch.setattr(GenerativeModule, "losses", watched)
    words = ["trainer=overfit", "trainer.profiler=simple", "trainer.enable_model_summary=true", "trainer.max_steps=3"]
    assert entry.main([*BARE, *words, "trainer.accelerator=cpu", f"run={tmp_path / 'a'}"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a-overfit"]
    assert len(seen) == 3 and seen[0] == seen[1] == seen[2]
    said = "\n".join(messages)
    assert "FIT Profiler Report" in said and "TEST Profiler Report" in said and "Trainable params" in said


def test_profile_writes_a_table_and_a_trace(tmp_path):
    """Of the training and of the test; the trace is JSON that Chrome and Perfetto read."""
    words = ["trainer=profile", "trainer.max_steps=6", "trainer.accelerator=cpu", f"run={tmp_path / 'a'}"]
    assert entry.main([*BARE, *words]) == 0
    table = (tmp_path / "a" / "profile" / "fit-operators.txt").read_text()
    assert "aten::addmm" in table or "aten::convolution" in table
    (trace,) = (tmp_path / "a" / "profile").glob("fit-*.trace.json")
    assert any("run_training_batch" in str(event.get("name")) for event in json.loads(trace.read_text())["traceEvents"])


def test_debug_tries_everything_and_keeps_no_number(tmp_path, capsys):
    words = [
        "trainer=debug",
        "trainer.accelerator=cpu",
        "quality=pixels",
        "callbacks.pictures=null",
        "callbacks.curves=null",
    ]
    assert entry.main([*(word for word in TINY if "pictures" not in word), *words, f"run={tmp_path / 'a'}"]) == 0
    assert "keeps neither weights nor numbers" in capsys.readouterr().out
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
