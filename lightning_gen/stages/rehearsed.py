"""Laws of a whole config, of a family and of a run: a few steps on the CPU, in a folder that is thrown away."""

import contextlib
import io
import shutil
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning_gen.check.law import Broken, Laws, Skipped
from lightning_gen.config.instantiate import refusing
from lightning_gen.errors import ConfigError
from lightning_gen.runs.folder import RunFolder
from lightning_gen.stages.quiet import quieten

STEPS, AT = 4, 2  # optimizer steps, and where a second training takes over
BATCH = 16  # samples of a step, at most
DRAWN, SAMPLER_STEPS = 4, 8
CHECKPOINTS = {"_target_": "lightning_gen.callbacks.Checkpoints", "keep_every_n_steps": 1}
LAWS = Laws()


class Subject:
    """A config that is tried, from its beginning or from a run's newest checkpoint.

    Args:
        config: a checked one.
        scratch: a folder that is thrown away.
        run: the run, whose checkpoint is copied; None for a config.
    """

    def __init__(self, config: Mapping[str, Any], scratch: Path, run: RunFolder | None = None) -> None:
        self.scratch, self.run = scratch, run
        self.begin, start = 0, None
        if run is not None and not run.exported.is_file():
            start = run.named or run.newest() or run.last
            self.begin = run.trained()[0]
        self.config = rehearsal(config, self.begin, start is None)
        self.start = start

    def said(self) -> str:
        """What is looked at, in words."""
        family = str(self.config["module"]["_target_"]).rpartition(".")[2]
        if self.run is not None:
            return f"the run {self.run.named or self.run.path}: {family}" + f" at step {self.begin:,}" * (
                self.begin > 0
            )
        data = str(self.config["data"]["_target_"]).rpartition(".")[2]
        size = self.config["data"].get("batch_size")
        samples = f" of {size} samples" if isinstance(size, int) else ""  # else the data choose it
        return f"a config of {family} on {data}, {STEPS} steps{samples}"

    def folder(self, name: str, checkpoint: Path | None) -> RunFolder:
        """A folder of a training that goes on from a checkpoint."""
        folder = RunFolder(self.scratch / name)
        if checkpoint is not None:
            folder.last.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkpoint, folder.last)
        return folder

    def session(self, folder: RunFolder) -> Any:
        """The objects of a training in a folder."""
        from lightning_gen.stages.session import Session

        quieten()
        with silence():
            return refusing(Session, deepcopy(self.config), folder)  # which writes into it

    @cached_property
    def whole(self) -> Any:
        """A session that has not begun."""
        return self.session(self.folder("whole", self.start))

    def fit(self, session: Any) -> None:
        """Train to the end."""
        with silence():
            session.fit()

    @cached_property
    def trained(self) -> RunFolder:
        """The folder of the training that was not interrupted."""
        self.fit(self.whole)
        return self.whole.folder

    def loaded(self, folder: RunFolder) -> Any:
        """The module of a folder, as lightning_gen.load gives it."""
        from lightning_gen.runs.load import load

        return load(folder.named or folder.path, allow=self.config.get("extensions") or ())

    def samples(self, module: Any) -> Any:
        """A few samples of a module, by a few steps of its sampler."""
        sampler = module.sampler
        if sampler is not None and isinstance(sampler.steps, int):
            sampler = sampler.with_steps(min(sampler.steps, SAMPLER_STEPS))
        return module.sample(DRAWN, sampler=sampler, size=DRAWN)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Without what a training says, and Lightning's warnings: the lines of the laws are the report."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rehearsal(config: Mapping[str, Any], begin: int, small: bool) -> dict[str, Any]:
    """The config of a few steps on the CPU, in small batches unless a checkpoint counts larger ones."""
    data, module = dict(config["data"]), dict(config["module"])
    if small and isinstance(data.get("batch_size"), int):
        data["batch_size"] = min(data["batch_size"], BATCH)
    module.pop("compile", None)
    trainer = {
        "_target_": "pytorch_lightning.Trainer",
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": begin + STEPS,
        "max_epochs": -1,
        "log_every_n_steps": 1,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "gradient_clip_val": config["trainer"].get("gradient_clip_val"),
    }
    changed = {"stage": "fit", "logger": None, "callbacks": {"checkpoints": CHECKPOINTS}, "quality": None}
    changed |= {"fresh": False, "optimize": None, "run": None, "data": data, "module": module, "trainer": trainer}
    return {**config, **changed}


@LAWS.law("composes", "data, network, family and sampler fit together", "no training can begin", first=True)
def look_composes(subject: Subject) -> str:
    """Data, network, family, sampler and loss fit together."""
    if subject.run is not None and subject.start is None:
        module = subject.loaded(subject.run)
    else:
        try:
            module = subject.whole.module
        except ConfigError as error:
            raise Broken("; ".join(error.faults)) from error
    size = sum(p.numel() for p in module.model.parameters())
    sampler = "no sampler" if module.sampler is None else type(module.sampler).__name__
    return f"{type(module).__name__} of {type(module.model).__name__}, {size:,} parameters, {sampler}"


@LAWS.law("step", "finite training steps, which move the weights", "nothing would be learned", first=True)
def look_step(subject: Subject) -> str:
    """Training steps with finite losses, which move the weights."""
    import torch

    from lightning_gen.results.store import read_record

    needs_training(subject)
    before = {name: p.detach().clone() for name, p in subject.whole.module.model.named_parameters()}
    folder = subject.trained
    losses = [row["value"] for row in read_record(folder.path / "record.jsonl") if row["name"] == "train/loss"]
    told = f"{len(losses)} steps, train/loss {', '.join(f'{loss:.4g}' for loss in losses)}"
    if subject.begin == 0 and all(torch.equal(before[n], p) for n, p in subject.whole.module.model.named_parameters()):
        raise Broken(f"{told}, and no weight of the model has changed")
    return told


def needs_training(subject: Subject) -> None:
    """Skipped for an export, which cannot be trained on."""
    if subject.run is not None and subject.start is None:
        raise Skipped("an export holds weights alone: a training starts from it by init=")


@LAWS.law("resume", "a resumed training is the uninterrupted one", "a stopped run could not go on")
def look_resume(subject: Subject) -> str:
    """A training that takes over in the middle ends with the same weights and the same optimizer, bit for bit."""
    needs_training(subject)
    folder, at = subject.trained, subject.begin + AT
    again = subject.session(subject.folder("again", folder.last.with_name(f"step-{at:08d}.ckpt")))
    subject.fit(again)
    one, other = folder.checkpoint(folder.last), again.folder.checkpoint(again.folder.last)
    for key in ("state_dict", "optimizer_states"):
        if (where := unequal(one[key], other[key], key)) is not None:
            raise Broken(f"resumed after step {at}, {where} is another after step {at - AT + STEPS}")
    return f"resumed after step {at}, weights and optimizer are the same after step {at - AT + STEPS}, bit for bit"


def unequal(a: Any, b: Any, path: str) -> str | None:
    """Where two containers of tensors and numbers differ; None where they do not."""
    import torch

    if isinstance(a, torch.Tensor):
        return None if isinstance(b, torch.Tensor) and torch.equal(a, b) else path
    if isinstance(a, dict) and isinstance(b, dict) and {*a} == {*b}:
        return next((found for key in a if (found := unequal(a[key], b[key], f"{path}.{key}"))), None)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next((found for i, (x, y) in pairs if (found := unequal(x, y, f"{path}[{i}]"))), None)
    return None if a == b else path


@LAWS.law("samples", "finite samples of the data's shape", "nothing could be measured")
def look_samples(subject: Subject) -> str:
    """Finite samples of the shape of the data."""
    if subject.run is not None and subject.start is None:
        module = subject.loaded(subject.run)
    else:
        module = subject.trained and subject.whole.module
    x, shape = subject.samples(module), module.shape
    if tuple(x.shape) != (DRAWN, *shape):
        raise Broken(f"{DRAWN} samples are {tuple(x.shape)}, expected {(DRAWN, *shape)}")
    if not x.isfinite().all():
        raise Broken("samples are not finite")
    return f"{DRAWN} samples {tuple(x.shape)} from {float(x.min()):.3g} to {float(x.max()):.3g}"


@LAWS.law("export", "an export draws the same samples", "what is shared would be another model")
def look_export(subject: Subject) -> str:
    """The export is loaded, and draws the same samples as the run."""
    import torch

    needs_training(subject)
    folder = subject.trained
    exported = folder.export()
    ours, theirs = (subject.samples(module) for module in (subject.whole.module, subject.loaded(exported)))
    if not torch.equal(ours.nan_to_num(), theirs.nan_to_num()):
        raise Broken(f"samples of the export differ by {float((ours - theirs).abs().max()):.2g} from those of the run")
    size = exported.exported.stat().st_size
    return f"{size:,} bytes of weights, loaded again: the same samples"
