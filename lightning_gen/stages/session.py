"""The objects of one run, from its config, and the frame in which a stage uses them."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_gen.config.fixed import config_hash
from lightning_gen.config.instantiate import Maker, build, build_module, complete, fault, import_extensions
from lightning_gen.errors import TRACEBACK, NonFinite, Unreadable, chain
from lightning_gen.runs.devices import check_accelerator, place, processes
from lightning_gen.runs.folder import RunFolder
from lightning_gen.runs.load import give_weights, start_from
from lightning_gen.stages.compress import compress, decompress
from lightning_gen.stages.edit import edit
from lightning_gen.stages.evaluate import evaluate
from lightning_gen.stages.fit import fit
from lightning_gen.stages.loggers import build_loggers, describe
from lightning_gen.stages.objective import check_objective
from lightning_gen.stages.quiet import adapted
from lightning_gen.stages.sample import sample
from lightning_gen.stages.watched import environment, watched

Config = dict[str, Any]
# What numbers depend on, but for the weights.
MEASURED = ("data", "net", "module", "sampler", "trainer", "callbacks", "quality", "seed")
PROFILE = "profile"
OTHER_CONFIG = "{folder} holds a run of another config; fresh=true starts anew beside it, run=NAME elsewhere"


class Session:
    """The objects of one run, all made and checked before any work."""

    fit, evaluate, sample, edit, compress, decompress = fit, evaluate, sample, edit, compress, decompress

    def __init__(self, config: Config, folder: RunFolder, data: Any = None) -> None:
        self.config, self.folder, self.fitting = config, folder, config["stage"] == "fit"
        # Somebody else's samples in the place of a module.
        self.theirs = bool(config.get("samples")) and config["stage"] == "evaluate"
        make = Maker()
        make(import_extensions, config)
        self.data = make(build, config["data"], "data") if data is None else data
        complete_ = not self.fitting or (self.data is not None and make.succeeds(complete, config, self.data))
        if self.fitting and not make.faults and (differences := folder.differences(config)):
            make.faults += [OTHER_CONFIG.format(folder=folder.path), *differences]
        if self.theirs:
            self.module = make(given_samples, config, folder, self.data)
        else:  # without what the data know, a network has faults that are not the user's
            self.module = make(build_module, config) if complete_ else None
        self.loggers = make(build_loggers, config, folder) or []
        callbacks = self.callbacks(make)
        started = make(processes, config["trainer"])
        if self.module is not None and not self.theirs:
            make(self.module.check_label, config.get("label"))
            make(check_shardable, config, self.module)
        check_machine(self, make, callbacks)
        make.finish()
        self.trainer = self.build_trainer(started, callbacks)
        check_precision(self.trainer, config["trainer"])
        # Before any weights are read: Lightning converts after it has read a checkpoint, which rounds it to float32.
        self.trainer.precision_plugin.convert_module(self.module)
        self.resume_from = folder.newest() if self.fitting else None
        if not self.theirs:
            read_weights(self)

    def callbacks(self, make: Maker) -> list[Any]:
        """The callbacks of the config, its quality among them."""
        from lightning_gen.callbacks import Evaluation, Resume

        nodes = {f"callbacks.{name}": node for name, node in (self.config.get("callbacks") or {}).items()}
        nodes["quality"] = self.config.get("quality")
        if self.theirs and nodes["quality"]:
            nodes["quality"] = {**nodes["quality"], "_target_": "lightning_gen.callbacks.GivenQuality"}
        return [
            Resume(),
            # Somebody else's samples are not drawn, so that there is nothing to keep.
            Evaluation(None if self.theirs else {key: self.config.get(key) for key in MEASURED}),
            *(make(build, node, path) for path, node in nodes.items() if node),
        ]

    def build_trainer(self, started: Config, callbacks: list[Any]) -> Any:
        """Lightning's trainer, without the configured loggers, which would write before a run that is refused is.

        `started` is its config, with the processes that torchrun or srun started.
        """
        from lightning_gen.callbacks import RecordLogger
        from lightning_gen.stages.checkpoint_io import AtomicCheckpointIO

        return adapted(
            build(
                {key: value for key, value in started.items() if key not in ("strategy", "profiler")},
                "trainer",
                strategy=strategy(started),
                profiler=profiler(started, self.folder),
                default_root_dir=str(self.folder.path),
                callbacks=callbacks,
                logger=RecordLogger(self.folder.path),
                plugins=[AtomicCheckpointIO(), environment()],
                inference_mode=False,
                use_distributed_sampler=False,
            )
        )

    def begin(self) -> None:
        """Everything has been checked and set up: from here on there is a run, and its config stands."""
        introduce(self)
        self.begun = True

    def start(self, call: Callable, *args: Any, **kwargs: Any) -> None:
        """Run the trainer; what callbacks and data refuse before the first batch is the user's input too."""
        from pytorch_lightning.callbacks import LambdaCallback

        self.begun = False
        watch = LambdaCallback(
            on_train_start=lambda *_: self.begin(),
            on_test_start=lambda *_: self.begin(),
            on_exception=lambda trainer, module, error: forget_data(self, error),
        )
        self.trainer.callbacks.insert(0, watch)
        try:
            watched(self.trainer, self.config["trainer"], call, *args, **kwargs)
        except Exception as error:
            if self.begun or isinstance(error, NonFinite) or os.environ.get(TRACEBACK):
                raise
            raise fault(error) from error
        finally:
            self.trainer.callbacks.remove(watch)


def read_weights(session: Session) -> None:
    """Those of `init`, or of the run that is evaluated or sampled; a run that is resumed reads its own later."""
    if session.config["init"] and session.resume_from is None:
        start_from(session.module, Path(session.config["init"]))
    elif not session.fitting:
        try:
            give_weights(session.module, session.folder)
        except ValueError as error:
            changed = [
                each for each in session.folder.differences(session.config) if each.startswith(("net.", "module."))
            ]
            if not changed:
                raise
            told = f"{', '.join(changed)}, and the weights of {session.folder.path} do not fit: leave it out"
            raise ValueError(told) from error
        session.module.trained_steps, session.module.trained_epoch = session.folder.trained()


def check_machine(session: Session, make: Maker, callbacks: list[Any]) -> None:
    """What this machine does not have: a device, weights of features and, where anything is wrong at all, the data.

    With all else in order the data are looked at as they are read.
    """
    make(check_accelerator, session.config["trainer"])
    if session.config["stage"] not in ("fit", "evaluate"):
        return
    for callback in callbacks:
        make(getattr(callback, "check_files", lambda: None))
    if make.faults and session.data is not None:
        make(session.data.check_source)


def strategy(started: Config) -> Any:
    """The strategy of the trainer's config: Lightning's name of it, or ours for weights in shards."""
    from lightning_gen.stages.fully_sharded import FullyShardedStrategy

    name = started.get("strategy", "auto")
    return FullyShardedStrategy() if name == "fsdp" else name


def profiler(started: Config, folder: RunFolder) -> Any:
    """The profiler of the trainer's config: Lightning's name of it, or PyTorch's with its files in the run folder."""
    from pytorch_lightning.profilers import PyTorchProfiler

    name = started.get("profiler")
    return PyTorchProfiler(folder.path / PROFILE, "operators", row_limit=40) if name == "pytorch" else name


def check_shardable(config: Config, module: Any) -> None:
    """ValueError for a family that cannot be trained with its weights in shards, where they are to be."""
    from lightning_gen.families.shardable import why_unshardable

    sharded = config["stage"] == "fit" and config["trainer"].get("strategy") == "fsdp"
    if sharded and (reason := why_unshardable(module)) is not None:
        raise ValueError(f"trainer.strategy is fsdp, but {reason}")


def introduce(session: Session) -> None:
    """Compare the training data with the run's, write what stands in its folder from the first step, say what runs."""
    from lightning_gen.caching import cache_folder

    check_objective(session.config.get("optimize"), session.trainer, session.module)
    folder, trainer, data = session.folder, session.trainer, session.data
    training = session.fitting and not trainer.testing
    if training:
        check_limits(data, session.config["trainer"])
    identity = data.identity(cache_folder()) if training else None
    if training:
        folder.check_data(identity, data)
    if trainer.fast_dev_run:
        return
    trainer.loggers = [trainer.loggers[0], *session.loggers]
    if not trainer.is_global_zero:
        return
    if session.theirs or not trainer.testing:
        folder.store(session.config)
    if training:
        measured = {"threads": folder.threads, "compiled": folder.compiled}
        chosen = {key: value for key, value in measured.items() if value is not None}
        folder.identify(config=config_hash(session.config), data=identity, **chosen)
    describe(session)
    if session.theirs:
        from lightning_gen.results.drawing import draw_given

        print(session.module.understood)
        draw_given(folder.path, session.module.rows, data)
    elif not trainer.testing:
        size = sum(p.numel() for p in session.module.model.parameters())
        print(f"{folder.path}: {type(session.module).__name__} with {size:,} parameters on {introduced(session)}")
    for line in left_out(session) if not session.fitting else ():
        print(line)


def begins(session: Session) -> bool:
    """Whether a training of one process begins, so that a few steps may be tried before it."""
    resumes = session.resume_from is not None or session.trainer.fast_dev_run
    return session.fitting and not resumes and place().world == 1


def check_data(session: Session) -> None:
    """ValueError for data that the run's start would refuse, with its callbacks, before a few steps are tried."""
    from lightning_gen.callbacks.measuring import measuring

    session.data.prepare_data()
    session.data.setup("fit")
    for callback in measuring(session.trainer.callbacks):
        callback.check_data(session.data)


def introduced(session: Session) -> str:
    """The data in words, what is chosen for them, and what callbacks leave out for their size."""
    return "\n".join([session.data.introduced(), *left_out(session)])


def left_out(session: Session) -> list[str]:
    """What callbacks leave out for the size of the data, a line each."""
    from lightning_gen.callbacks.measuring import measuring

    return [callback.left_out for callback in measuring(session.trainer.callbacks) if callback.left_out]


def check_precision(trainer: Any, asked: Config) -> None:
    """ValueError where Lightning computes in bfloat16 in the place of the half precision that is asked for."""
    if str(asked.get("precision")) in ("16", "16-mixed") and trainer.precision != "16-mixed":
        raise ValueError(
            f"trainer.precision is {asked['precision']}, which needs a GPU, and the trainer runs on the "
            f"{trainer.strategy.root_device.type}: write trainer.precision=bf16-mixed or 32"
        )


def forget_data(session: Session, error: BaseException) -> None:
    """The mended data are those of a run that a damaged file has ended: no step has used it."""
    damaged = any(isinstance(cause, Unreadable) for cause in chain(error))
    if session.begun and session.fitting and damaged and session.folder.identity():
        session.folder.identify(data=None)


def check_limits(data: Any, trainer: Config) -> None:
    """ValueError for a share of the validation or test split that is less than one batch, before the training."""
    for name in ("val", "test"):
        # Lightning takes it for the validation split too, and leaves out limit_val_batches.
        key = "overfit_batches" if name == "val" and trainer.get("overfit_batches") else f"limit_{name}_batches"
        share, batches = trainer.get(key), -(-len(data.split(name)) // data.batch_size)
        if isinstance(share, float) and 0 < share * batches < 1:
            raise ValueError(
                f"trainer.{key} is {share}, less than one of the {batches} batches of the {name} split: "
                f"write {math.ceil(1000 / batches) / 1000:g} or more, or a whole number"
            )


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
