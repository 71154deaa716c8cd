"""The root keys of every config, and all that is known of each: the one list of them."""

from typing import Any, NamedTuple

RUN = ("fit", "estimate", "evaluate", "sample", "edit", "export", "compress", "decompress")  # the stages of one run
STAGES = (*RUN, "compare")
SAMPLES = "samples"  # stage=evaluate of somebody else's samples, which has no model
ARRAYS = (".npz", ".npy", ".pt", ".pth")  # files of samples
FORMATS = ("lightning_gen", "diffusers")  # what stage=export writes
OPTIMISED = ("fit", "evaluate")  # the stages that measure the number that a sweep optimises
EDITS = ("inpaint", "interpolate", "mode")  # what stage=edit draws
MISSING = "???"  # Hydra's word for a value that has to be given


class Key(NamedTuple):
    """One root key.

    Args:
        name: as it stands in a config.
        type: its annotation.
        default: its value where nobody says another; MISSING: it has to be given.
        stages: which read it.
        changes: whether it may differ between two starts of one run.
        personal: whether it names a place of writing or an act of who starts the stage, so that a stored config,
            which may be somebody else's, does not decide it.
        identity: whether it says what the run is, rather than what it is called and how it was started.
    """

    name: str
    type: str
    default: Any = None
    stages: tuple[str, ...] = RUN
    changes: bool = False
    personal: bool = False
    identity: bool = True


ROOT = (
    Key("data", "dict", MISSING, (*RUN, SAMPLES)),
    Key("net", "dict | None"),
    Key("module", "dict", MISSING),
    Key("sampler", "dict", MISSING, ("fit", "estimate", "evaluate", "sample", "export")),
    Key("trainer", "dict", MISSING, (*RUN, SAMPLES), changes=True, personal=True),
    Key("callbacks", "dict | None"),
    Key("quality", "dict | None", None, (*RUN, SAMPLES)),
    Key("logger", "dict | None", None, (*RUN, SAMPLES, "compare"), changes=True, personal=True, identity=False),
    Key("stage", f"Literal{list(STAGES)}", "fit", (*RUN, SAMPLES, "compare"), True, True, False),
    Key("run", "str | None", None, (*RUN, SAMPLES, "compare"), True, True, False),
    Key("seed", "Annotated[int, Ge(0)]", 0, (*RUN, SAMPLES)),
    Key("n", "Annotated[int, Ge(1)]", 64, changes=True, identity=False),
    Key("label", "int | None", changes=True, identity=False),
    Key("edit", f"Literal{list(EDITS)}", EDITS[0], ("edit",), True, True, False),
    Key("init", "str | None", personal=True),
    Key("runs", "list[str] | None", None, ("compare",), personal=True, identity=False),
    Key("samples", "str | None", None, (SAMPLES, "compress"), identity=False),
    Key("optimize", "str | None", None, OPTIMISED, True, True, False),
    Key("split", 'Literal["train", "val", "test"]', "test", ("compress",), True, True, False),
    Key("file", "str | None", None, ("decompress",), True, True, False),
    Key("format", f"Literal{list(FORMATS)}", FORMATS[0], ("export",), True, True, False),
    Key("fresh", "bool", False, changes=True, personal=True, identity=False),
    Key("extensions", "list[str] | None", None, (*RUN, SAMPLES)),
)
KEYS = tuple(key.name for key in ROOT)
NODES = tuple(key.name for key in ROOT if key.type.startswith("dict"))
DEFAULTS = {key.name: key.default for key in ROOT if key.name not in NODES}
TEXTS = tuple(key.name for key in ROOT if key.type == "str | None")
CHANGES = tuple(key.name for key in ROOT if key.changes)
PERSONAL = tuple(key.name for key in ROOT if key.personal)
IDENTITY = tuple(key.name for key in ROOT if key.identity)


def read_by(stage: str) -> tuple[str, ...]:
    """The keys that a stage reads."""
    return tuple(key.name for key in ROOT if stage in key.stages)


# Of the nodes, what a resumed run may change: where data and caches are and how they are read, but not the data's
# content; and whether networks are compiled, which needs a compiler that another machine may lack.
FREE = (
    "data.root",
    "data.path",
    "data.run",
    "data.download",
    "data.workers",
    "quality.cache",
    "quality.extractor.cache",
    "module.compile",
)

PLACES = tuple(key for key in FREE if key not in ("data.download", "data.workers", "module.compile"))

# How data are measured where neither quality nor experiment is named; a user's test split may be too small a baseline.
MEASURED = {
    "folder": ("quality=pixels", "quality.held_out=false"),
    "hf": ("quality=pixels", "quality.held_out=false"),
    "npz": ("quality=pixels", "quality.held_out=false"),
    "patches": ("quality=efficientnet",),
    "webdataset": ("quality=pixels", "quality.held_out=false"),
}

# What a run can mean of the numbers that Lightning's Trainer takes, as annotations of these keys of the node trainer.
SHARE = "Annotated[int, Ge({0})] | Annotated[float, {1}(0), Le(1)] | None"  # of the batches: a number, or a fraction
TRAINER = {
    "gradient_clip_val": "Annotated[float, Ge(0), Lt(inf)] | None",
    "accumulate_grad_batches": "Annotated[int, Ge(1)]",
    "log_every_n_steps": "Annotated[int, Ge(1)]",
    "check_val_every_n_epoch": "Annotated[int, Ge(1)] | None",
    "max_steps": "Annotated[int, Ge(1)] | Literal[-1]",
    "max_epochs": "Annotated[int, Ge(1)] | Literal[-1] | None",
    "min_steps": "Annotated[int, Ge(0)] | None",
    "min_epochs": "Annotated[int, Ge(0)] | None",
    "limit_train_batches": SHARE.format(1, "Gt"),
    "limit_test_batches": SHARE.format(1, "Gt"),
    "limit_predict_batches": SHARE.format(1, "Gt"),
    "limit_val_batches": SHARE.format(0, "Ge"),
    "overfit_batches": SHARE.format(0, "Ge"),
    "val_check_interval": SHARE.format(1, "Gt") + " | str | dict",
    "num_sanity_val_steps": "Annotated[int, Ge(0)] | Literal[-1] | None",
    "reload_dataloaders_every_n_epochs": "Annotated[int, Ge(0)]",
    "fast_dev_run": "bool | Annotated[int, Ge(0)]",
    "profiler": 'Literal["simple", "advanced", "pytorch"] | None',
    "gradient_clip_algorithm": 'Literal["norm", "value"] | None',
    "num_nodes": "Annotated[int, Ge(1)]",
}
