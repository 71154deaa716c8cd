"""`lightning-gen check TARGET`: the laws that a class, a config or a run has to keep, one line each."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from lightning_gen.config.allow import allowing, used
from lightning_gen.config.command_line.named import node, trusting
from lightning_gen.config.command_line.words import CONFIGS, HELP, NAME, SWEEP, split
from lightning_gen.config.compose import key_of, launch
from lightning_gen.config.faults import check as config_faults
from lightning_gen.config.instantiate import Maker, build, build_module, complete, import_extensions, refusing
from lightning_gen.config.stored import page_fault
from lightning_gen.errors import ConfigError
from lightning_gen.runs.folder import RunFolder

USAGE = """lightning-gen check TARGET [KEY=VALUE ...] [--allow PACKAGE] [--config-dir FOLDER]
Looks at the laws that our own classes keep, on the CPU, one line each: PASS, FAIL with what was seen and why it
matters, or skipped with the reason. Exit code 0, 1 where a law does not hold, 2 where there is nothing to look at.

TARGET is one of
  mypkg.MyNet             a network, data set, sampler, loss, metric or family; KEY=VALUE are its arguments
  fid                     a metric by its name
  configs/net/mine.yaml   a class with the arguments of a file, or an experiment of yours
  experiment=NAME ...     a config, as the command of a training names it
  outputs/NAME            a run, an export or a checkpoint
docs/check.md says what each law is."""


def check(words: Sequence[str]) -> int:
    """Look at what the words name, and print a line for each law; 0, or 1 where one does not hold."""
    if {*HELP} & {*words}:
        print(USAGE)
        return 0
    if not words:
        raise ConfigError(["check names nothing to look at: write lightning-gen check mypkg.MyNet, or --help"])
    target, *rest = words
    if target.startswith("-") or "=" in target:
        return of_config(words)
    path = Path(target).expanduser()
    if path.suffix in (".yaml", ".yml"):
        return of_file(path, rest)
    if path.exists() or "/" in target or path.suffix == ".ckpt":
        return of_run(path, rest)
    return of_class(target, rest)


def of_class(target: str, words: Sequence[str], given: Mapping[str, Any] | None = None) -> int:
    """Look at a class, with the arguments of a file below those of the words, or at a metric."""
    packages, words = own_words(words)
    with trusting(target, packages):
        from lightning_gen.check import laws_of, thing_of
        from lightning_gen.families import GenerativeModule

        import_extensions({"extensions": packages})
        found = merged(given or {}, node(target, words))
        thing = thing_of(target)
        if isinstance(thing, type) and issubclass(thing, GenerativeModule):
            return looked_at(family_config(found))
        return report(*laws_of(found))


def own_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The packages of --allow, and all other words, of a target for which no config is composed."""
    found = refusing(split, words, CONFIGS)
    if found.faults:
        raise ConfigError(found.faults)
    places = [f"--config-dir={folder}" for folder in found.folders[1:]]
    places += [word for word in words if word.partition("=")[0] in NAME]
    return found.allow, [*found.overrides, *found.flags, *places]


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the second first; of mappings key by key."""
    mappings = [key for key in below if isinstance(below[key], Mapping) and isinstance(above.get(key), Mapping)]
    return {**below, **above, **{key: merged(below[key], above[key]) for key in mappings}}


def of_file(path: Path, words: Sequence[str]) -> int:
    """Look at the class of a YAML with its arguments, or at the config of an experiment or a primary one."""
    import yaml

    if not path.is_file():
        raise ConfigError([f"{path} does not exist: name a YAML, as configs/net/mine.yaml"])
    if fault := page_fault(path):
        raise ConfigError([fault])
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if "_target_" in content:
        # What other keys of a config say, as ${seed}, is left to the class.
        own = {key: value for key, value in content.items() if not (isinstance(value, str) and "${" in value)}
        return of_class(str(content["_target_"]), words, own)
    folder = path.resolve().parent
    if path.name == "config.yaml" and not content.get("defaults"):
        return of_run(path.parent, words)
    if folder.name == "experiment":
        ours = folder.parent == CONFIGS.resolve()
        return of_config([*([] if ours else [f"--config-dir={folder.parent}"]), f"experiment={path.stem}", *words])
    return of_config([f"--config-dir={folder}", f"--config-name={path.stem}", *words])


def of_config(words: Sequence[str]) -> int:
    """Look at the config that the words compose."""
    found = refusing(split, words, CONFIGS)
    for word in (*found.overrides, *found.flags):
        if key_of(word) == "stage" or word in SWEEP:
            raise ConfigError([f"{word} is none of check's, which trains one config for a few steps: remove it"])
    codes: list[int] = []

    def task(config: dict[str, Any], path: Path) -> None:
        codes.append(looked_at(config))

    launch(task, CONFIGS, words)
    return max(codes, default=0)


def of_run(path: Path, words: Sequence[str]) -> int:
    """Look at a run, an export or a checkpoint."""
    packages, rest = own_words(words)
    if rest:
        raise ConfigError([f"{rest[0]} is given with a run, whose config stands: remove it"])
    run = RunFolder.of(path)
    with allowing(packages):
        try:
            config = run.config()
        except (FileNotFoundError, ValueError) as error:
            raise ConfigError([str(error)]) from error
        if faults := config_faults(config):
            raise ConfigError([f"{run.configured}: {fault}" for fault in faults])
        return looked_at(config, run)


def looked_at(config: dict[str, Any], run: RunFolder | None = None) -> int:
    """Look at a config or a run in a folder that is thrown away."""
    from lightning_gen.check.law import looked
    from lightning_gen.stages.rehearsed import LAWS, Subject

    with tempfile.TemporaryDirectory() as scratch:
        try:
            subject = Subject(config, Path(scratch), run)
        except (FileNotFoundError, ValueError) as error:
            raise ConfigError([str(error)]) from error
        return report(subject.said(), looked(LAWS, subject))


def report(said: str, seen: Iterable[Any]) -> int:
    """Print what is looked at and each line as it comes, and how many laws hold; the exit code."""
    begin, verdicts = time.perf_counter(), []
    print(said, flush=True)
    for each in seen:
        print(each.line(), flush=True)
        verdicts.append(each)
    failed = [each.law for each in verdicts if each.verdict == "FAIL"]
    counts = [f"{sum(each.verdict == verdict for each in verdicts)} {word}" for verdict, word in COUNTED]
    print(f"{', '.join(counts)} in {time.perf_counter() - begin:.1f} s" + f": {', '.join(failed)}" * bool(failed))
    return 1 if failed else 0


COUNTED = (("PASS", "passed"), ("skipped", "skipped"), ("FAIL", "failed"))


def family_config(node: Mapping[str, Any]) -> dict[str, Any]:
    """A config of a family with data, network and sampler that it takes, where the person names none."""
    from lightning_gen.convert.export import whole_config

    module = {"optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3}, **node}
    parts = {name: module.pop(name, None) for name in ("net", "data", "sampler")}
    refused: list[str] = []
    for data, net in combinations(parts["data"], parts["net"]):
        config = whole_config(net, deepcopy(module), parts["sampler"] or {}, data)
        config["extensions"] = sorted(used(config)) or None
        if faults := config_faults(config):
            refused += faults
            continue
        make = Maker()
        make(complete_with_sampler, config, parts["sampler"] is None)
        if not make.faults:
            return config
        refused += make.faults
    raise ConfigError(list(dict.fromkeys(refused))[:3])


def combinations(data: Any, net: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Data sets and networks that a family may take, the cheapest first."""
    room = "lightning_gen.nets"
    points = {"_target_": "lightning_gen.data.Moons", "batch_size": 16, "seed": 0, "n": 256}
    digits = {"_target_": "lightning_gen.data.Digits", "batch_size": 16, "seed": 0}
    binary = {**digits, "binarise": "fixed", "value_range": [0.0, 1.0]}
    whole = {**digits, "value_range": [0.0, 16.0]}
    sets = [points, digits, binary, whole] if data is None else [data]
    names = ["MLP", "RealNVP", "MLPAutoencoder", "MLPAdversaries", "MADE"]
    nets = [{"_target_": f"{room}.{name}", "width": 32} for name in names] + [None] if net is None else [net]
    yield from ((dict(each), None if one is None else dict(one)) for each in sets for one in nets)


def complete_with_sampler(config: dict[str, Any], choose: bool) -> None:
    """Raise what does not fit; where the person names no sampler, write the first that does into the config."""
    trial = deepcopy(config)
    data = build(trial["data"], "data")
    complete(trial, data)
    module = build_module(trial)
    data.prepare_data()
    data.setup()
    module.check_data(data)
    if not choose:
        return
    for name, options in SAMPLERS.items():
        sampler = {"_target_": f"lightning_gen.samplers.{name}", **options}
        try:
            module.check(build(sampler, "sampler"))
            config["sampler"] = sampler
            return
        except (TypeError, ValueError, AttributeError):
            continue
    raise ValueError(
        f"{type(module).__name__} is accepted by none of {', '.join(SAMPLERS)}: write sampler._target_=..."
    )


SAMPLERS: dict[str, dict[str, Any]] = {
    "DDIM": {"steps": 10},
    "FlowODE": {"steps": 10},
    "Gibbs": {"steps": 5},
    "Sequential": {},
    "Exact": {},
    "Latent": {},
    "Prior": {},
    "TiltedLangevin": {"steps": 2},
    "AnnealedLangevin": {"steps_each": 1},
    "Langevin": {"steps": 10, "t": 0.5},
    "MALA": {"steps": 10},
}
