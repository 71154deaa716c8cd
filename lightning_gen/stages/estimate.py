"""stage=estimate: what a training will take in operations, memory, time and disk, before it begins."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from lightning_gen.config.instantiate import build, refusing
from lightning_gen.runs.folder import RunFolder
from lightning_gen.stages.session import Session

WARM, STEPS, SECONDS = 3, 3, 2.0  # optimizer steps before the clock, then as many and as long at least
SAMPLED = 0.5  # seconds of sampling, at least


def estimate(config: dict[str, Any], data: Any) -> None:
    """Take a few steps of the training and of the sampling, in a folder that is thrown away, and print what is seen.

    Args:
        config: of the run.
        data: those of the run, which are read already.
    """
    print("a few steps of the training and of the sampling ...", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        compiled = config["module"].get("compile")
        counted = trial(config, Path(scratch) / "counted", data, compile=False) if compiled else None
        timed = trial(config, Path(scratch) / "timed", data, counts=not compiled)
        for row in rows(config, counted or timed, timed):
            print(row)


def trial(config: dict[str, Any], folder: Path, data: Any, compile: bool = True, counts: bool = True) -> Any:
    """The trial of a few steps, after its end.

    Args:
        config: of the run.
        folder: of its own.
        data: those of the run.
        compile: whether a network that is to be compiled is; without, one step is taken, and no time.
        counts: whether the first step is counted.
    """
    from lightning_gen.callbacks.trial import Trial

    module = {key: value for key, value in config["module"].items() if key != "compile" or compile}
    steps = (WARM, STEPS, SECONDS) if compile else (1, 0, 0.0)
    watch = Trial(counts, *steps)
    watch.session = rehearsal({**config, "module": module}, folder, data)
    rehearse(watch.session, watch)
    return watch


def rehearse(session: Session, watch: Any) -> None:
    """Train until the callback `watch` stops it."""
    session.trainer.callbacks.append(watch)
    session.fit()


def rehearsal(config: dict[str, Any], folder: Path, data: Any = None) -> Session:
    """A session that trains without callbacks but `quality`, and leaves nothing in its folder.

    Args:
        config: of the run.
        folder: of its own.
        data: those of the run; None: it reads them.
    """

    class Rehearsal(Session):
        """A session that leaves nothing in its folder."""

        def begin(self) -> None:
            self.begun = True

    changed = {"stage": "fit", "logger": None, "callbacks": {}, "fresh": False}
    trainer = {**config["trainer"], "enable_checkpointing": False, "enable_progress_bar": False}
    trainer |= {"profiler": None, "enable_model_summary": False}
    trainer |= {"limit_val_batches": 0, "fast_dev_run": False, "min_steps": None, "min_epochs": None}
    return refusing(Rehearsal, {**config, **changed, "trainer": trainer}, RunFolder(folder), data)


def rows(config: dict[str, Any], counted: Any, timed: Any) -> list[str]:
    """The lines of the estimate."""
    from lightning_gen.runs.disk import checkpoint_bytes, weights_bytes

    session = timed.session
    module, quality = session.module, [call for call in session.trainer.callbacks if hasattr(call, "features")]
    size = sum(p.numel() for p in module.model.parameters())
    batch, each = session.data.batch_size, median(timed.seconds)
    n, block = (quality[0].n, quality[0].block) if quality else (config["n"], None)
    work, call = module.work(n, size=block), step_of_sampling(module, n, block)
    checkpoint, files = checkpoint_bytes(Path("."), module), kept(config, session)
    disk = checkpoint * (files + 1) + weights_bytes(module, "model.")
    steps = "an unknown number of" if timed.steps is None else f"{timed.steps:,}"
    whole = "" if timed.steps is None else f": {duration(timed.steps * each)}"
    return [
        f"network      {size:,} parameters; {scaled(counted.operations)}operations of products in a step",
        f"activations  {scaled(counted.activations)}B for a batch of {batch}, kept for the backward pass",
        f"memory       {scaled(timed.memory)}B at the peak of these steps, {timed.memory_of}",
        f"training     {steps} steps of {each:.3g} s (median of {len(timed.seconds)}){whole}",
        f"sampling     {n:,} samples, {work:,} sampler steps of {call:.3g} s: {duration(work * call)}; their features, "
        "likelihood and pictures come on top",
        f"disk         {scaled(disk)}B: {files} checkpoints of {scaled(checkpoint)}B, one in writing, an export",
    ]


def kept(config: dict[str, Any], session: Any) -> int:
    """How many checkpoints the run keeps."""
    node = (config.get("callbacks") or {}).get("checkpoints")
    return len(build(node, "callbacks.checkpoints").names(session.trainer)) if node else 0


def step_of_sampling(module: Any, n: int, block: int | None) -> float:
    """Seconds of one step of the sampler for a block, the median of those of half a second."""
    ticks = [time.perf_counter()]

    class Enough(Exception):
        """The clock has seen enough."""

    def tick() -> None:
        ticks.append(time.perf_counter())
        if len(ticks) > STEPS + 1 and ticks[-1] - ticks[1] > SAMPLED:
            raise Enough

    try:
        for _ in module.blocks(n, size=block, progress=tick):
            pass
    except Enough:
        pass
    spans = [after - before for before, after in zip(ticks, ticks[1:], strict=False)]
    return median(spans[1:] or spans)


def scaled(count: float) -> str:
    """A number with three digits and a metric prefix."""
    for prefix in ("", "k", "M", "G", "T"):
        if count < 1000 or prefix == "T":
            return f"{count:.3g} {prefix}"
        count /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """Seconds in words."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"
