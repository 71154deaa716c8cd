"""From the command line to objects: compose, check everything at once, instantiate behind the allow list, load.

The one place that imports hydra. What is wrong in a config is found here, before any heavy import.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning_gen.config import signatures
from lightning_gen.config.aliases import renamed
from lightning_gen.config.annotations import choose
from lightning_gen.config.root import KEYS, NODES, STAGES, misplaced, quoted, replaced, swept
from lightning_gen.runs.folder import RunFolder, averaged, comparison_faults, samples_fault

Config = dict[str, Any]

# What the builder itself passes to the node's constructor, so that no YAML has to.
GIVEN = {
    "net": {"shape"},
    "module": {"net", "sampler", "shape", "value_range", "seed"},
    "trainer": {"default_root_dir", "callbacks", "logger", "plugins", "inference_mode", "use_distributed_sampler"},
}


class ConfigError(Exception):
    """Everything that is wrong with what the user wrote, a sentence each."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class Leave(BaseException):
    """Carries a job's exception past Hydra, which would print a report of its own."""


def launch(task: Callable[[Config, RunFolder], None], configs: Path, argv: Sequence[str]) -> None:
    """Compose the config that argv asks for (each of them, in a sweep), check it, and hand it to `task`.

    Raises ConfigError with all faults of the command line, or of the config.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    asked = [word for word in argv if not word.startswith("-") and "=" in word or word.startswith("~")]
    flags = [word for word in argv if word not in asked]
    primary, overrides, name, early = "config", asked, "", []
    # Completion, --help and --cfg show what Hydra has; only a run is rewritten and checked.
    running = not {word for word in flags if word.startswith("-")} - {"-m", "--multirun"}
    if running:
        primary, overrides, name, early = command_line(asked, configs)
        early += [
            f"{word} is no KEY=VALUE: write one, or one of Hydra's flags (--help)" for word in flags if word[0] != "-"
        ]
        flags = [word for word in flags if word[0] == "-"]

    def job(composed: DictConfig) -> None:
        try:
            one(composed)
        except Exception as error:
            raise Leave from error

    def one(composed: DictConfig) -> None:
        if "oc.env" in OmegaConf.to_yaml(composed):
            raise ConfigError(
                ["the config reads an environment value (oc.env), and configs are stored: write the value"]
            )
        config = renamed(OmegaConf.to_container(composed, resolve=True))
        hydra_config = HydraConfig.get()
        run = config.get("run") or name or f"outputs/{hydra_config.runtime.choices['experiment']}"
        if not config.get("run") and {"-m", "--multirun"} & set(flags):
            run = "-".join([run, *swept(hydra_config.overrides.task)])
        faults = [*early, *check(config)]
        if faults:
            raise ConfigError(faults)
        task(config, RunFolder(Path(run)))

    # Hydra leaves a file in a sweep's folder; ours are the run folders.
    scratch = TemporaryDirectory()
    quiet = ["hydra.run.dir=.", "hydra.output_subdir=null", f"hydra.sweep.dir={scratch.name}", "hydra.sweep.subdir=."]
    quiet += ["hydra/job_logging=none", "hydra/hydra_logging=none"]
    # Hydra's own reporter exits 1 with half a traceback; with this it lets the exception through to us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    before, sys.argv = sys.argv, [sys.argv[0], *flags, *overrides, *(quiet if running else [])]
    try:
        hydra.main(config_path=str(configs.resolve()), config_name=primary, version_base="1.3")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
        raise ConfigError([*early, " ".join(str(cause).split())]) from None
    except Leave as leave:
        raise leave.__cause__ from None
    finally:
        sys.argv = before
        scratch.cleanup()


def command_line(asked: Sequence[str], configs: Path) -> tuple[str, list[str], str, list[str]]:
    """The primary config's name, the overrides for Hydra, the run folder's default name, and the faults so far.

    A value is set whether its YAML names the key or not (the signatures know the right keys), and for the stages
    that need a run, the run folder's config.yaml is the base, in which a named group replaces its node. The name is
    empty where the chosen experiment gives it.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    faults, values, groups, words = [], {}, {}, []
    options = {
        path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in configs.iterdir() if path.is_dir()
    }
    for word in map(quoted, asked):
        try:
            override = OverridesParser.create().parse_overrides([word])[0]
        except OverrideParseException as error:
            faults.append(f"{word} cannot be read: {' '.join(str(error).split())}")
            continue
        key, plain = override.key_or_group, word.lstrip("+~")
        chosen = (
            [str(v) for v in override.sweep_string_iterator()] if override.is_sweep_override() else [override.value()]
        )
        if key.startswith("hydra"):
            words.append(word)
        elif key.split(".")[0] not in KEYS and key not in options:
            faults.append(f"{key} is no key of the config: {choose(key.split('.')[0], [*KEYS, 'experiment'])}")
        elif key == "runs" and override.is_sweep_override():
            listed = quoted(f"runs=[{word.partition('=')[2]}]")
            faults.append(f"{word} is a sweep: write {listed}")
            words.append(f"++{listed}")
        elif key in options and not isinstance(chosen[0], (dict, list)):
            wrong = [str(choice) for choice in chosen if choice is not None and str(choice) not in options[key]]
            faults += [f"{key}={choice} does not exist: {choose(choice, options[key])}" for choice in wrong]
            if not wrong:
                groups[key] = plain
        else:
            values[key] = chosen[0]
            words.append(word if word.startswith("~") else f"++{plain}")
    stage = values.get("stage", "fit")
    faults += misplaced(stage, values, [*values, *groups])
    experiment = groups.get("experiment", "experiment=ddpm_digits").split("=", 1)[1]
    alone = replaced(configs, experiment, groups["sampler"].split("=", 1)[1]) if "sampler" in groups else []
    page = ("config", [*groups.values(), *alone, *words])
    if stage == "compare":
        return *page, "outputs/compare", faults
    if stage == "evaluate" and values.get("samples"):
        return *page, f"outputs/{Path(str(values['samples'])).name.removesuffix('.npz')}", faults
    if stage == "fit" or stage not in STAGES:
        return *page, "", faults
    name = str(values.get("run") or f"outputs/{experiment}")
    try:
        stored = RunFolder(Path(name)).config()
    except FileNotFoundError as error:
        return "config", [], name, [*faults, str(error)]
    groups.pop("experiment", None)
    defaults = [{group: word.split("=", 1)[1].split(",")[0]} for group, word in groups.items()]
    node = {key: value for key, value in stored.items() if key not in groups}
    ConfigStore.instance().store(name="stored", node={"defaults": [*defaults, "_self_"], **node})
    return "stored", [*groups.values(), *words], name, faults


def check(config: Config) -> list[str]:
    """All faults of a composed config that need no heavy import: keys, types, names, missing values."""
    faults = []
    if "experiment" in config:
        config = {key: value for key, value in config.items() if key != "experiment"}
        faults.append(
            "the experiment's file lacks its first line `# @package _global_`, without which Hydra ignores it"
        )
    faults += signatures.nameless(config, [node for node in NODES if node != "callbacks"])
    faults += signatures.check({"_target_": "lightning_gen.config.root.Root", **config}, given=GIVEN)
    if config.get("samples") and config.get("stage") != "evaluate":
        faults.append(
            f"samples={config['samples']} has no model, and is for stage=evaluate: stage is {config['stage']}"
        )
    elif config.get("samples") and (wrong := samples_fault(config["samples"])):
        faults.append(wrong)
    return faults or (comparison_faults(config["runs"]) if config.get("stage") == "compare" else [])


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


def build(node: Config, **given: Any) -> Any:
    """The object that a node describes; `given` goes to its constructor as it is.

    Raises ConfigError where the node, or one inside it, is not on the allow list or does not fit its constructor.
    """
    from hydra.utils import instantiate

    faults = signatures.check(node, given={"": set(given)})
    if faults:
        raise ConfigError(faults)
    # Partial first: Hydra copies what it is given into a config, and a network is none.
    return instantiate({**node, "_partial_": True}, _convert_="all")(**given)


def family(config: Config) -> type:
    """The class of the config's module."""
    from hydra.utils import get_class

    return get_class(config["module"]["_target_"])


def build_module(config: Config) -> Any:
    """The family of a config in which shape and range stand already: no data set is needed."""
    from lightning_gen.randomness import reseed

    parts, faults = {}, []
    for name in ("net", "sampler"):
        reseed(config["seed"], "init")
        if not config.get(name):  # a machine with hidden units is no network
            continue
        try:
            parts[name] = refusing(build, config[name])
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return build(config["module"], **parts, seed=config["seed"])


def load(path: str | os.PathLike) -> Any:
    """A trained family from a run folder, an exported folder or a checkpoint inside a run folder, in eval mode.

    Only plain tensors are read (safetensors, or a checkpoint with weights_only=True), from local paths.
    Raises FileNotFoundError where there is nothing to load, ConfigError where its config is wrong.
    """
    folder = RunFolder.of(Path(path))
    config = renamed(folder.config())
    faults = check(config)
    if faults:
        raise ConfigError(faults)
    module = build_module(config)
    module.load_state_dict(folder.weights(Path(path)))
    return module.eval()


def start_from(module: Any, path: Path) -> None:
    """Give the module's raw and averaged models the averaged weights of a run, checkpoint or export.

    Raises FileNotFoundError where there is none, ValueError where the networks differ.
    """
    other = RunFolder.of(path)
    other.config()
    weights = {key.split(".", 1)[1]: value for key, value in averaged(other.weights(path)).items()}
    module.started_from = str(path)
    for model in (module.model, module.averaged):
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"init={path} does not fit this network: {str(error).splitlines()[1].strip()}") from None
