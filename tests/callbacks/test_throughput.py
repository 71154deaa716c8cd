"""Shares add up to one and go where the time went; the summary counts the images of all steps."""

import time

import pytest

from lightning_gen.callbacks import RecordLogger, Throughput
from lightning_gen.callbacks.throughput import SHARES
from lightning_gen.results.store import read_record


def slow(base: type, where: str, seconds: float) -> type:
    """The module with a sleep in one hook."""

    def sleeping(self, *args):
        time.sleep(seconds)
        return getattr(base, where)(self, *args)

    return type("Slow", (base,), {where: sleeping})


@pytest.mark.parametrize(("where", "share"), [
    ("training_step", "step"), ("validation_step", "evaluation"), ("transfer_batch_to_device", "data"),
])  # fmt: skip
def test_the_share_grows_where_the_time_is_spent(tmp_path, known, rows, make_trainer, where, share):
    module = slow(known, where, 0.03)()
    trainer = make_trainer(Throughput(4), loggers=[RecordLogger(tmp_path)], max_epochs=3)
    trainer.fit(module, rows(), rows() if share == "evaluation" else None)
    lines = {(x["name"], x["step"]): x["value"] for x in read_record(tmp_path / "record.jsonl")}
    for step in (4, 8, 12):
        shares = {name: lines[f"speed/{name}", step] for name in SHARES}
        assert sum(shares.values()) == pytest.approx(1.0)
    last = {name: lines[f"speed/{name}", 12] for name in SHARES}
    assert max(last, key=last.get) == share and last[share] > 0.5


def test_images_per_second_counts_images_and_leaves_evaluation_out(tmp_path, known, rows, make_trainer, capsys):
    class Timed(known):
        def training_step(self, batch, batch_idx):
            time.sleep(0.02)
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            time.sleep(0.2)

    make_trainer(Throughput(4), loggers=[RecordLogger(tmp_path)], max_epochs=3).fit(Timed(), rows(), rows())
    speeds = [x["value"] for x in read_record(tmp_path / "record.jsonl") if x["name"] == "speed/images_per_s"]
    assert len(speeds) == 3 and all(12 < speed < 101 for speed in speeds), "2 images in 20 ms and a little more"
    told = capsys.readouterr().out
    assert "images/s over 12 steps" in told and "evaluation" in told


def test_a_wrong_interval_is_named():
    with pytest.raises(ValueError, match="every_n_steps is 0"):
        Throughput(0)
