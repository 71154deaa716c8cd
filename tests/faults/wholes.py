"""Uninterrupted runs of five families on one rank and two, to which others are compared."""

import json
import time
from collections import Counter
from pathlib import Path

from tests.callbacks.test_resume import assert_same_run
from tests.faults.jobs import DyingInASave, Job

WORDS = (
    *("logger=none", "quality=pixels", "quality.n=20", "quality.metrics=[fid]", "callbacks.pictures=null"),
    *("callbacks.curves=null", "callbacks.throughput=null", "callbacks.progress=null", "callbacks.likelihood=null"),
    *("trainer.log_every_n_steps=1", "trainer.check_val_every_n_epoch=1", "trainer.limit_train_batches=5"),
    *("trainer.max_steps=16", "trainer.enable_progress_bar=false", "data.batch_size=32"),
    *("callbacks.checkpoints.every_n_steps=3", "callbacks.checkpoints.keep_every_n_steps=6"),
)
EMA = "callbacks.checkpoints.monitor=val/loss/ema"
CHAINS = ("sampler.steps=2", "callbacks.health=null")
FAMILIES = {
    "ddpm": ("experiment=ddpm_digits", "net.channels=8", "net.groups=4", "module.steps=4", "sampler.steps=2", EMA),
    "ebm": ("experiment=ebm_digits", "net.channels=8", "net.blocks=1", "module.loss.chains=100", *CHAINS, EMA)
    + ("module.loss.sampler.steps=2",),
    "rbm": ("experiment=rbm_digits", "module.hidden=8", *CHAINS, "callbacks.energies=null")
    + ("callbacks.checkpoints.monitor=val/loss/raw",),
    "vae": ("experiment=vae_digits", EMA),
    "made": ("experiment=made_digits", "net.width=16", "net.orderings=3", EMA),
}
LONGEST = 240.0  # seconds for a run of two or three, on a busy machine


class Whole:
    """An uninterrupted run: its folder, its seconds, and the number of calls that its saves make."""

    def __init__(self, folder: Path, family: str, world: int) -> None:
        self.path, self.world, counts = folder / "run", world, folder / "counts"
        self.words = [*FAMILIES[family], *WORDS, *["trainer=ddp_cpu"] * (world > 1)]
        since, log = time.monotonic(), folder / "log"
        job = Job([*self.words, f"run={self.path}"], world, log, DyingInASave(counts=counts))
        codes = job.wait(LONGEST)
        job.kill()
        assert codes == [0] * world, log.read_text()[-3000:]
        self.seconds, self.calls = time.monotonic() - since, Counter(counts.read_text().split())

    def difference(self, folder: Path) -> str:
        """How a resumed run differs from this one; empty where it does not."""
        try:
            assert_same_run(folder, self.path)
        except AssertionError as error:
            return str(error)[:1500]
        numbers = [json.loads((path / "metrics.json").read_text()) for path in (folder, self.path)]
        wrong = [] if numbers[0] == numbers[1] else ["other numbers"]
        files = [{str(p.relative_to(path)) for p in path.rglob("*")} for path in (folder, self.path)]
        others = (files[0] ^ files[1]) - {"metrics-before.json"}  # of a run whose numbers stood before it was killed
        return ", ".join([*wrong, *(f"{name} is left or missing" for name in others)])
