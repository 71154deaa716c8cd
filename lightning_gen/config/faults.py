"""Everything that is wrong with a composed config, found without a heavy import."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from lightning_gen.config import signatures
from lightning_gen.config.allow import allow_list, declared, needed_faults
from lightning_gen.config.annotations import decide
from lightning_gen.config.root import MISSING, NODES, OPTIMISED, PLACES, ROOT, RUN, SAMPLES, TEXTS, TRAINER, read_by
from lightning_gen.config.source import Parameter, annotation, locate, source
from lightning_gen.options import Kind, value_and_type

# What the classes of these nodes derive from.
BASES = {"data": "lightning_gen.data.GenerativeData", "module": "lightning_gen.families.GenerativeModule"}
# What the builder itself passes to the node's constructor, so that no YAML has to.
GIVEN = {
    "net": {"shape", "classes", "levels"},
    "module": {"net", "sampler", "shape", "value_range", "seed"},
    "trainer": {
        *("default_root_dir", "callbacks", "logger", "plugins", "inference_mode", "use_distributed_sampler"),
        "timeout",  # of runs.devices, which checks it
    },
}


def check(config: Mapping[str, Any], experiment: str = "NAME") -> list[str]:
    """All faults of a composed config that need no heavy import: keys, types, names, missing values."""
    if "experiment" in config:  # what it says is missing for this reason alone
        first = "its first line `# @package _global_`, without which Hydra ignores it"
        return [f"the file of experiment={experiment} lacks {first}: add it"]
    faults = needed_faults(config, "the config")
    faults += nameless(config)
    faults += signatures.arguments(config, "", set(), "the config", parameters())
    faults += foreign(config)
    faults += empty(config)
    faults += impatient(config)
    rest = dict(config)
    if isinstance(trainer := config.get("trainer"), Mapping):
        ours = {key: value for key, value in trainer.items() if key in TRAINER}
        faults += signatures.arguments(ours, "trainer.", set(), "the trainer", numbers())
        faults += durations(trainer)
        faults += crossed(trainer)
        owned = GIVEN["trainer"] - {"timeout"}
        faults += [f"trainer.{key} is set by this program: remove it" for key in trainer if key in owned]
        rest["trainer"] = {key: value for key, value in trainer.items() if key not in {*TRAINER, *owned}}
    # What the config needs and nobody allows is said once, above; its other faults are found all the same.
    faults += signatures.check(rest, GIVEN, [*allow_list(), *(f"{package}.*" for package in declared(config))])
    return [*faults, *files(config)]


def foreign(config: Mapping[str, Any]) -> Iterator[str]:
    """A fault for data and a family that are none of ours, as Lightning's own classes, which a run could not use."""
    for key, base in BASES.items():
        node = config.get(key)
        ours = not isinstance(node, Mapping) or "_target_" not in node or decide(node, Kind("object", locate(base)[1]))
        if not ours:
            yield f"{key}._target_ is {node['_target_']}, expected a {base}: derive yours from it, or name another"


def parameters() -> tuple[Parameter, ...]:
    """The root keys as the arguments of a function."""
    here = source(__name__)
    return tuple(
        Parameter(key.name, "KEYWORD_ONLY", key.default == MISSING, annotation(key.type), False, here) for key in ROOT
    )


def numbers() -> tuple[Parameter, ...]:
    """The numbers of the trainer as the arguments of a function."""
    here = source(__name__)
    return tuple(Parameter(key, "KEYWORD_ONLY", False, annotation(kind), False, here) for key, kind in TRAINER.items())


def empty(config: Mapping[str, Any]) -> Iterator[str]:
    """A fault for each name of a file or folder that is empty, which would be the working folder, or no name at all."""
    for path in (*TEXTS, *PLACES):
        value: Any = config
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value == "":
            yield f"{path} is empty, expected a file or folder: write {path}=NAME, or leave it out"


def files(config: Mapping[str, Any]) -> Iterator[str]:
    """A fault for files of images that the stage does not read, or for one that it needs."""
    stage, samples, file = (config.get(key) for key in ("stage", "samples", "file"))
    if samples and stage not in ("evaluate", "compress"):
        yield f"samples={samples} is for stage=evaluate and stage=compress, and stage is {stage}: remove it"
    if stage == "decompress" and file is None:
        yield "file is null, expected the file that stage=decompress reads: write file=RUN/compressed/test.bits"
    if stage != "decompress" and file:
        yield f"file={file} is for stage=decompress, and stage is {stage}: remove it, or write stage=decompress"


def crossed(trainer: Mapping[str, Any]) -> Iterator[str]:
    """A fault for each least number of steps or epochs above the greatest one, which ends the run all the same."""
    for unit in ("steps", "epochs"):
        least, most = (trainer.get(f"{bound}_{unit}") for bound in ("min", "max"))
        if isinstance(least, int) and isinstance(most, int) and least > most >= 1:
            told = f"trainer.min_{unit} is {least}, expected at most trainer.max_{unit}, {most}"
            yield f"{told}: write a smaller one, or raise trainer.max_{unit}"


def impatient(config: Mapping[str, Any]) -> Iterator[str]:
    """A fault for each EarlyStopping with a patience below 0, which Lightning takes for 1."""
    callbacks = config.get("callbacks")
    for name, node in callbacks.items() if isinstance(callbacks, Mapping) else ():
        patience = node.get("patience") if isinstance(node, Mapping) else None
        early = patience is not None and str(node.get("_target_")).endswith(".EarlyStopping")
        if early and isinstance(patience, int) and patience < 0:
            yield f"callbacks.{name}.patience is {patience}, expected at least 0: write how many validations may pass"


def durations(trainer: Mapping[str, Any]) -> Iterator[str]:
    """A fault for each time of the trainer that is none."""
    for key in ("max_time", "val_check_interval"):
        value = trainer.get(key)
        if isinstance(value, str):
            known = re.fullmatch(r"\d+(:\d\d){3}", value.strip()) and re.search("[1-9]", value)
        elif isinstance(value, Mapping):
            known = _seconds(value) > 0
        else:
            known = True  # none, or what the annotation judges
        if not known:
            yield f"trainer.{key} is {value!r}, expected DD:HH:MM:SS, more than 0: write 00:12:00:00 for twelve hours"


def _seconds(parts: Mapping[str, Any]) -> float:
    """The seconds of {hours: 12} and its like, 0 for what is no time."""
    try:
        return timedelta(**parts).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return 0


def own(faults: list[str], config: Any) -> list[str]:
    """The faults, but of a value that the unresolved config takes from another key, ${seed}, where that key has one."""
    taken = {path: key for path, key in references(config) if any(fault.startswith(f"{key} is ") for fault in faults)}
    return [fault for fault in faults if fault.split(" is ")[0] not in taken]


def references(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, key) of each value that is ${key}."""
    if isinstance(value, Mapping | list):
        for key, child in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from references(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, str) and (found := re.fullmatch(r"\$\{([\w.]+)\}", value)):
        yield path, found[1]


def nameless(config: Mapping[str, Any]) -> list[str]:
    """A fault for each node that has options, as quality=none quality.n=5 leaves them, and nothing that takes them."""
    named = {"callbacks", *(["logger"] if several_loggers(config.get("logger")) else [])}
    nodes = {key: config.get(key) for key in NODES if key not in named}
    for key in sorted(named):
        if isinstance(config.get(key), Mapping):
            nodes |= {f"{key}.{name}": node for name, node in config[key].items()}
    faults = [
        f"{path}.{next(iter(node))} is given, and {path} names no class that takes it: name one, or write {path}=null"
        for path, node in nodes.items()
        if isinstance(node, Mapping) and node and "_target_" not in node
    ]
    return faults + [
        f"{path} is {value_and_type(node)}, expected a mapping with _target_ or null: write null to leave it out"
        for path, node in nodes.items()
        if "." in path and node is not None and not isinstance(node, Mapping)
    ]


def several_loggers(logger: Any) -> bool:
    """Whether a config's node holds loggers by their names, as logger=[wandb,tensorboard] gives it, rather than one."""
    return (
        isinstance(logger, Mapping)
        and "_target_" not in logger
        and any(isinstance(x, Mapping) for x in logger.values())
    )


def resolvers(value: Any, path: str = "") -> Iterator[str]:
    """A fault for each value that calls a resolver, as ${oc.env:X} does: a config is stored, what surrounds it is not.

    ${seed}, the value of another key, is all that a config may ask for.
    """
    from omegaconf.errors import OmegaConfBaseException
    from omegaconf.grammar_parser import OmegaConfGrammarParser, parse

    def called(tree: Any) -> bool:
        resolver = isinstance(tree, OmegaConfGrammarParser.InterpolationResolverContext)
        return resolver or any(map(called, getattr(tree, "children", None) or ()))

    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from resolvers(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, str) and "${" in value:
        try:
            if called(parse(value)):
                told = "which asks a resolver as oc.env, and a config may ask other keys alone, as ${seed}"
                yield f"{path} is {value!r}, {told}: write the value"
        except OmegaConfBaseException as error:
            yield f"{path} is {value!r}, which cannot be read: {' '.join(str(error).split())}"


def misplaced(stage: str, values: dict[str, Any], given: Sequence[str]) -> list[str]:
    """A fault for each key that the stage would not read, and for what it needs and has not."""
    named = list(dict.fromkeys(key.split(".")[0] for key in given))
    if stage == "compare":
        keys = read_by(stage)
        return [f"stage=compare reads {', '.join(keys)}, not {key}: remove it" for key in named if key not in keys]
    owners = {"runs": "compare", "edit": "edit", "split": "compress", "format": "export"}
    faults = [
        f"{key} is read by stage={owner} alone: add stage={owner}"
        for key, owner in owners.items()
        if key in named and stage != owner
    ]
    if "sampler" in named and stage in RUN and "sampler" not in read_by(stage):
        key = next(key for key in given if key.split(".")[0] == "sampler")
        faults.append(f"{key} is given with stage={stage}, which draws by no sampler of the config: remove it")
    if "optimize" in named and stage not in OPTIMISED:
        faults.append(
            f"optimize is a number that stage=fit and stage=evaluate measure, and stage is {stage}: remove it"
        )
    if values.get("samples") is None or stage != "evaluate":
        if values.get("fresh") is True and stage in RUN[1:]:
            faults.append(f"fresh is True with stage={stage}, and starts a new run by stage=fit alone: remove it")
        return faults
    told = f"samples={values['samples']} is measured without a model"
    known = {*read_by(SAMPLES), "experiment", "runs"}
    return faults + [f"{told}, {key} would do nothing: remove it" for key in named if key not in known]
