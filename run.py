#!/usr/bin/env python
"""The one entry point: python run.py experiment=ddpm_cifar; README.md says what else it takes.

Exit codes: 0 done, 2 wrong input or config, 75 stopped so that the same command resumes, 1 anything else.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning_gen.build import Config, ConfigError, build, build_module, launch
from lightning_gen.result import NonFinite, Stopped
from lightning_gen.run_folder import RunFolder

CONFIGS = Path(__file__).resolve().parent / "experiments"


def main(argv: Sequence[str]) -> int:
    """Run what the command line asks for; the exit code."""
    try:
        launch(job, CONFIGS, argv)
    except ConfigError as error:
        print(*(f"error: {fault}" for fault in error.faults), sep="\n", file=sys.stderr)
        return 2
    except (NonFinite, Stopped) as stop:
        print(f"{'stopped' if isinstance(stop, Stopped) else 'error'}: {stop}", file=sys.stderr)
        return 75 if isinstance(stop, Stopped) else 1
    return 0


def job(config: Config, folder: RunFolder) -> None:
    """One job of a sweep, or the only one: fit (then evaluate), evaluate, sample or export."""
    if config["fresh"]:
        folder = refusing(folder.fresh)
    if config["stage"] == "export":
        return export(config, folder)
    quieten()
    session = refusing(Session, config, folder)
    if config["stage"] == "sample":
        return session.sample()
    if config["stage"] == "fit":
        session.fit()
    session.evaluate()


def refusing(call: Callable, *args: Any, **kwargs: Any) -> Any:
    """The call's result; what it finds wrong with the user's input, before any work, becomes a ConfigError."""
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    try:
        return call(*args, **kwargs)
    except (ValueError, TypeError, FileNotFoundError, MisconfigurationException) as error:
        if os.environ.get("LIGHTNING_GEN_TRACEBACK"):
            raise
        raise fault(error) from error


def fault(error: Exception) -> ConfigError:
    """An exception's message as one sentence."""
    return ConfigError([" ".join(str(error).split())])


class Session:
    """The objects of one run, all made and checked before any work."""

    def __init__(self, config: Config, folder: RunFolder) -> None:
        from callbacks.checkpoints import AtomicCheckpointIO
        from callbacks.record import RecordLogger, Resume

        self.config, self.folder, fitting = config, folder, config["stage"] == "fit"
        self.data = build(config["data"])
        if fitting:
            complete(config, self.data)
            differences = folder.differences(config)
            if differences:
                found = (
                    f"{folder.path} holds a run of another config; fresh=true starts anew beside it, run=NAME elsewhere"
                )
                raise ConfigError([found, *differences])
        self.module = build_module(config)
        self.resuming = fitting and folder.last.is_file()
        if config["init"] and not self.resuming:
            self.start_from(Path(config["init"]))
        elif not fitting:
            self.module.load_state_dict(folder.weights())
            self.module.trained_steps = 0 if folder.exported.is_file() else folder.checkpoint()["global_step"]
        logger = config.get("logger")
        place = {"folder": str(folder.path)} if logger and logger["_target_"].startswith("callbacks.") else {}
        loggers = [build(logger, **place)] if logger else []
        nodes = {**(config.get("callbacks") or {}), "quality": config.get("quality")}
        self.trainer = build(
            {**config["trainer"], **processes(config["trainer"])},
            default_root_dir=str(folder.path),
            callbacks=[Resume(), *(build(node) for node in nodes.values() if node)],
            logger=[RecordLogger(folder.path), *loggers],
            plugins=[AtomicCheckpointIO()],
            inference_mode=False,
            use_distributed_sampler=False,
        )

    def start_from(self, path: Path) -> None:
        """Take the averaged weights of another run, checkpoint or export into the raw and the averaged model."""
        other = RunFolder.of(path)
        other.config()
        weights = {key.split(".", 1)[1]: value for key, value in averaged(other.weights(path)).items()}
        for model in (self.module.model, self.module.averaged):
            try:
                model.load_state_dict(weights)
            except RuntimeError as error:
                raise ValueError(f"init={path} does not fit this network: {str(error).splitlines()[1]}") from None

    def fit(self) -> None:
        """Train from the start, or from last.ckpt where there is one."""
        last = self.folder.last if self.resuming else None
        self.start(self.trainer.fit, self.module, datamodule=self.data, ckpt_path=last, weights_only=True)

    def begin(self) -> None:
        """Everything has been checked and set up: from here on there is a run, and its config stands."""
        self.begun = True
        if self.config["stage"] == "fit" and self.trainer.is_global_zero and self.trainer.training:
            self.folder.store(self.config)
            parameters = sum(p.numel() for p in self.module.model.parameters())
            print(
                f"{self.folder.path}: {type(self.module).__name__} with {parameters:,} parameters on {self.data.name}"
            )

    def evaluate(self) -> None:
        """Let the callbacks measure and draw, then show what came out and where it lies."""
        self.start(self.trainer.test, self.module, datamodule=self.data, verbose=False, weights_only=True)
        if self.trainer.is_global_zero:
            from callbacks.record import read_metrics
            from callbacks.report import closing_table, write_report

            metrics = self.folder.path / "metrics.json"
            if metrics.is_file():
                print(closing_table(read_metrics(metrics)))
            write_report(self.folder.path)
            print("written:", *sorted(listing(self.folder.path)), sep="\n  ")

    def start(self, call: Callable, *args: Any, **kwargs: Any) -> None:
        """Run the trainer; what callbacks and data refuse before the first batch is the user's input too."""
        from pytorch_lightning.callbacks import LambdaCallback

        self.begun = False
        watch = LambdaCallback(on_train_start=lambda *_: self.begin(), on_test_start=lambda *_: self.begin())
        self.trainer.callbacks.insert(0, watch)
        try:
            call(*args, **kwargs)
        except (ValueError, TypeError, FileNotFoundError) as error:
            if self.begun or os.environ.get("LIGHTNING_GEN_TRACEBACK"):
                raise
            raise fault(error) from error
        finally:
            self.trainer.callbacks.remove(watch)

    def sample(self) -> None:
        """Draw n samples with progress, and write grid and archive."""
        import torch

        from callbacks.drawing import check_finite, save_samples, to_uint8
        from callbacks.progress import bar

        module, n = self.module.to(self.trainer.strategy.root_device), self.config["n"]
        seed, sampler = self.config["seed"], module.sampler
        with bar("sampling", module.work(n), "step") as shown:
            x = torch.cat([x for _, x in module.blocks(n, seed, progress=shown.update)])
        check_finite(x, "samples")
        images = to_uint8(module.decode(x)) if module.value_range is not None else x.cpu().numpy()
        name = f"{type(sampler).__name__.lower()}-seed{seed}-n{n}"
        print("written:", *save_samples(self.folder.path, name, images, seed, str(sampler.describe())), sep="\n  ")


def quieten() -> None:
    """Leave out what Lightning says about itself; its warnings stay, but for those that this design makes untrue."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for untrue in (
        ".*in eval mode at the start of training.*",  # the averaged model is, on purpose
        ".*smaller than the logging interval.*",  # steps are counted over epochs
        ".*isinstance.treespec, LeafSpec.*",  # Lightning's own use of torch
        ".*weights_only.*",
    ):
        warnings.filterwarnings("ignore", untrue)


def complete(config: Config, data: Any) -> None:
    """Write into the config what the data know, so that the stored one builds the network without them."""
    shape, value_range = list(data.shape), data.value_range
    config["net"]["shape"] = config["module"]["shape"] = shape
    config["module"]["value_range"] = None if value_range is None else list(value_range)


def processes(trainer: Config) -> Config:
    """Devices and nodes as torchrun or srun started them; refuses what would start processes by itself.

    Lightning's own launcher runs the script anew in each child, which would compose a second config and folder.
    """
    world = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    devices, strategy = trainer.get("devices", "auto"), str(trainer.get("strategy", "auto"))
    distributed = strategy != "auto"
    if world > 1 and not distributed:
        raise ValueError(
            f"started as {world} processes, but trainer.strategy is auto: add trainer=ddp or trainer=ddp_cpu"
        )
    if world == 1 and not distributed and devices != 1:
        raise ValueError(
            f"trainer.devices is {devices}, and one process drives one device: torchrun --nproc-per-node N"
        )
    if world > 1 and "LOCAL_WORLD_SIZE" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return {"devices": local, "num_nodes": world // local}
    return {"devices": 1} if world == 1 else {}


def averaged(weights: dict[str, Any]) -> dict[str, Any]:
    """The averaged model's weights of a module's state dict, as `model.*`; the raw ones where no average is kept."""
    ema = {f"model.{key.removeprefix('ema.')}": value for key, value in weights.items() if key.startswith("ema.")}
    return ema or {key: value for key, value in weights.items() if key.startswith("model.")}


def export(config: Config, folder: RunFolder) -> None:
    """Write <run>/export: the averaged weights as safetensors and config.yaml, which `lightning_gen.load` reads."""
    from safetensors.torch import save_file

    checkpoint = refusing(folder.checkpoint)
    target = RunFolder(folder.path / "export")
    target.store({**config, "stage": "fit", "run": None})
    weights = {key: value.contiguous() for key, value in averaged(checkpoint["state_dict"]).items()}
    save_file(weights, target.exported, {"step": str(checkpoint["global_step"])})
    print("written:", target.path / "config.yaml", target.exported, sep="\n  ")


def listing(folder: Path) -> list[Path]:
    """The files of the run folder that a person opens."""
    kept = [path for path in folder.rglob("*") if path.is_file() and "wandb" not in path.parts]
    return [path for path in kept if path.suffix != ".part"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
