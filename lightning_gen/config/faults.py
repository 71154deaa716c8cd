"""Everything that is wrong with a composed config, found without a heavy import."""

from collections.abc import Iterator, Mapping
from typing import Any

from lightning_gen.config import signatures
from lightning_gen.config.allow import allow_list, declared, needed_faults
from lightning_gen.config.root import MISSING, NODES, ROOT, TRAINER
from lightning_gen.config.source import Parameter, annotation, source

# What the builder itself passes to the node's constructor, so that no YAML has to.
GIVEN = {
    "net": {"shape", "classes"},
    "module": {"net", "sampler", "shape", "value_range", "seed"},
    "trainer": {
        *("default_root_dir", "callbacks", "logger", "plugins", "inference_mode", "use_distributed_sampler"),
        "timeout",  # of runs.devices, which checks it
    },
}


def check(config: Mapping[str, Any]) -> list[str]:
    """All faults of a composed config that need no heavy import: keys, types, names, missing values."""
    faults = []
    if "experiment" in config:
        config = {key: value for key, value in config.items() if key != "experiment"}
        faults.append(
            "the experiment's file lacks its first line `# @package _global_`, without which Hydra ignores it"
        )
    faults += needed_faults(config, "the config")
    faults += nameless(config)
    faults += signatures.arguments(config, "", set(), "the config", parameters())
    trainer = {key: value for key, value in (config.get("trainer") or {}).items() if key in TRAINER}
    faults += signatures.arguments(trainer, "trainer.", set(), "the trainer", numbers())
    # What the config needs and nobody allows is said once, above; its other faults are found all the same.
    faults += signatures.check(config, GIVEN, [*allow_list(), *(f"{package}.*" for package in declared(config))])
    if config.get("samples") and config.get("stage") != "evaluate":
        faults.append(
            f"samples={config['samples']} has no model, and is for stage=evaluate: stage is {config['stage']}"
        )
    return faults


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


def nameless(config: Mapping[str, Any]) -> list[str]:
    """A fault for each node that has options, as quality=none quality.n=5 leaves them, and nothing that takes them."""
    return [
        f"{key}.{next(iter(node))} is given, and {key} names no class that takes it: remove it, or choose another {key}"
        for key in NODES
        if key != "callbacks" and isinstance(node := config.get(key), Mapping) and node and "_target_" not in node
    ]


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
