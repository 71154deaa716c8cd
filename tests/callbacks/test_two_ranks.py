"""Two processes of one run write one record, one W&B run and one set of pictures."""

import json

import pytest

from tests.processes import two

WORKER = """
import sys
from pytorch_lightning import Callback, Trainer
from lightning_gen.callbacks import Curves, Pictures, RecordLogger, Resume, Throughput, Wandb, publish
from lightning_gen.results.result import Name, Result
from tests.callbacks.conftest import Known, loader

class Measure(Callback):
    def on_test_epoch_end(self, trainer, module):
        publish(trainer, [Result(float(trainer.world_size), "exact", name=Name("n"))], final=True)

folder = sys.argv[1]
trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp_find_unused_parameters_true", max_epochs=2, num_sanity_val_steps=0,
    enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False, default_root_dir=folder,
    logger=[RecordLogger(folder), Wandb(folder=folder, mode="offline")],
    callbacks=[Resume(), Throughput(1), Pictures(n=4, strip=2, every_n_epochs=1), Measure(), Curves()],
)
trainer.fit(Known(), loader(), loader())
trainer.test(trainer.model, loader(), verbose=False)
trainer.strategy.barrier()
"""


@pytest.mark.slow  # tests/test_ddp.py has the one record, test_wandb.py the one W&B run
def test_two_ranks_leave_one_record(tmp_path):
    two("-c", WORKER, str(tmp_path))

    lines = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text().splitlines()]
    places = [(line["name"], line["step"]) for line in lines if "name" in line]
    assert len(places) == len(set(places)), "a value stands there once, not once per rank"
    assert [step for name, step in places if name == "train/loss"] == [1, 2, 3, 4]
    assert json.loads((tmp_path / "metrics.json").read_text())["n"]["value"] == 2.0
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1
    pictures = sorted(p.name for p in (tmp_path / "samples").glob("grid-*"))
    assert pictures == ["grid-00000002.png", "grid-00000004.png"]
