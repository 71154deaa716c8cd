#!/usr/bin/env python
"""The one entry point: python run.py experiment=ddpm_cifar; README.md says what else it takes.

Exit codes: 0 done, 2 wrong input or config, 75 stopped so that the same command resumes, 1 anything else.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning_gen.config.compose import (
    Config,
    ConfigError,
    build,
    build_module,
    family,
    fault,
    launch,
    refusing,
    start_from,
)
from lightning_gen.errors import NonFinite, Stopped
from lightning_gen.runs.devices import processes, quieten
from lightning_gen.runs.folder import RunFolder

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
    """One job of a sweep, or the only one: fit (then evaluate), evaluate, sample, export or compare."""
    if config["stage"] == "compare":
        return compare(config, folder)
    if config["fresh"]:
        folder = refusing(folder.fresh)
    if config["stage"] == "export":
        return written(refusing(folder.export).files())
    quieten()
    session = refusing(Session, config, folder)
    if config["stage"] == "sample":
        return session.sample()
    if config["stage"] == "fit":
        session.fit()
    session.evaluate()


def compare(config: Config, folder: RunFolder) -> None:
    """Write one page over the runs, and mirror its numbers to the logger."""
    quieten()
    from lightning_gen.results.compare import Comparison

    logger = refusing(build_logger, config, folder)
    found = refusing(Comparison, [Path(run) for run in config["runs"]])
    written(found.write(folder.path))
    for mirror in logger:
        found.log([mirror])
        if hasattr(mirror, "close"):
            mirror.close()
        else:
            mirror.finalize("success")


def build_logger(config: Config, folder: RunFolder) -> list[Any]:
    """The configured logger, in a list; none where there is none. Ours write into the run folder."""
    logger = config.get("logger")
    place = {"folder": str(folder.path)} if logger and logger["_target_"].startswith("lightning_gen.callbacks.") else {}
    return [build(logger, **place)] if logger else []


class Session:
    """The objects of one run, all made and checked before any work."""

    def __init__(self, config: Config, folder: RunFolder) -> None:
        from lightning_gen.callbacks.checkpoints import AtomicCheckpointIO
        from lightning_gen.callbacks.loggers.record import RecordLogger, Resume

        self.config, self.folder, fitting = config, folder, config["stage"] == "fit"
        faults: list[str] = []

        def make(call: Callable, *args: Any, **kwargs: Any) -> Any:
            """What is wrong with one part must not hide what is wrong with the next."""
            try:
                return refusing(call, *args, **kwargs)
            except ConfigError as error:
                faults.extend(error.faults)

        self.data = make(build, config["data"])
        if fitting and self.data is not None:
            make(complete, config, self.data)
            differences = folder.differences(config)
            found = f"{folder.path} holds a run of another config; fresh=true starts anew beside it, run=NAME elsewhere"
            faults += [found, *differences] if differences and not faults else []
        self.theirs = bool(config.get("samples"))
        self.module = make(given_samples, config, folder, self.data) if self.theirs else make(build_module, config)
        loggers = [RecordLogger(folder.path), *(make(build_logger, config, folder) or [])]
        nodes = {**(config.get("callbacks") or {}), "quality": config.get("quality")}
        if self.theirs and nodes["quality"]:
            nodes["quality"] = {**nodes["quality"], "_target_": "lightning_gen.callbacks.GivenQuality"}
        callbacks = [Resume(), *(make(build, node) for node in nodes.values() if node)]
        started = make(processes, config["trainer"])
        if self.module is not None and not self.theirs:
            make(self.module.check_label, config.get("label"))
        if faults:
            raise ConfigError(faults)
        self.trainer = build(
            {**config["trainer"], **started},
            default_root_dir=str(folder.path),
            callbacks=callbacks,
            logger=loggers,
            plugins=[AtomicCheckpointIO()],
            inference_mode=False,
            use_distributed_sampler=False,
        )
        self.resuming = fitting and folder.last.is_file()
        if config["init"] and not self.resuming:
            start_from(self.module, Path(config["init"]))
        elif not fitting and not self.theirs:
            self.module.load_state_dict(folder.weights())
            self.module.trained_steps = 0 if folder.exported.is_file() else folder.checkpoint()["global_step"]

    def fit(self) -> None:
        """Train from the start, or from last.ckpt where there is one."""
        self.start(
            self.trainer.fit,
            self.module,
            datamodule=self.data,
            ckpt_path=self.folder.last if self.resuming else None,
            weights_only=True,
        )

    def begin(self) -> None:
        """Everything has been checked and set up: from here on there is a run, and its config stands."""
        self.begun = True
        if self.trainer.testing and self.trainer.is_global_zero:
            self.folder.set_metrics_aside()
            if self.theirs:
                self.folder.store(self.config)
                from lightning_gen.results.drawing import draw_given

                draw_given(self.folder.path, self.module.rows, self.data)
        elif self.trainer.is_global_zero:
            self.folder.store(self.config)
            size = f"{sum(p.numel() for p in self.module.model.parameters()):,} parameters"
            print(f"{self.folder.path}: {type(self.module).__name__} with {size} on {self.data.name}")

    def evaluate(self) -> None:
        """Let the callbacks measure and draw, then show what came out and where it lies."""
        self.start(self.trainer.test, self.module, datamodule=self.data, verbose=False, weights_only=True)
        if self.trainer.is_global_zero:
            from lightning_gen.results.report import closing_table, write_report
            from lightning_gen.runs.folder import read_metrics

            if self.folder.metrics.is_file():
                print(closing_table(read_metrics(self.folder.metrics)))
            write_report(self.folder.path)
            written(self.folder.files())

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

        from lightning_gen.bar import bar
        from lightning_gen.results.drawing import check_finite, save_samples, to_uint8

        module, n, seed = self.module.to(self.trainer.strategy.root_device), self.config["n"], self.config["seed"]
        label = self.config.get("label")
        with self.trainer.precision_plugin.forward_context(), bar("sampling", module.work(n), "step") as shown:
            x = torch.cat([x for _, x in module.blocks(n, seed, progress=shown.update, label=label)])
        check_finite(x, "samples")
        images = to_uint8(module.decode(x)) if module.value_range is not None else x.cpu().numpy()
        name = f"{type(module.sampler).__name__.lower()}-seed{seed}-n{n}" + ("" if label is None else f"-label{label}")
        written(save_samples(self.folder.path, name, images, seed, str(module.sampler.describe())))


def given_samples(config: Config, folder: RunFolder, data: Any) -> Any:
    """The samples in the place of a module; the config keeps what they are measured by, and no model."""
    from lightning_gen.families.given_samples import GivenSamples

    if data is None:  # which is said already
        return None
    if folder.last.is_file() or folder.exported.is_file():
        raise ValueError(f"{folder.path} holds a model, whose numbers are of its own samples: name another by run=")
    if not config.get("quality"):
        raise ValueError("samples are measured by quality, and there is none: name one, as quality=digits")
    config |= {"net": None, "module": {}, "sampler": {}}
    config["callbacks"] = {"progress": {"_target_": "lightning_gen.callbacks.Progress"}}
    return GivenSamples(config["samples"], data.shape, data.name)


def written(files: Iterable[Path]) -> None:
    """Say where everything lies."""
    print("written:", *files, sep="\n  ")


def complete(config: Config, data: Any) -> None:
    """Write into the config what the data know, so that the stored one builds the network without them."""
    shape, value_range = list(data.shape), data.value_range
    for node in (config.get("net"), config["module"]):
        if node:
            node["shape"] = shape
    config["module"]["value_range"] = None if value_range is None else list(value_range)
    classes = config["module"].get("classes")
    if classes is not None and classes != data.classes:
        raise ValueError(
            f"module.classes is {classes}, {data.name} has {data.classes} classes: write {data.classes or 'null'}"
        )
    config["module"] |= family(config).fitted(config["module"], data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
