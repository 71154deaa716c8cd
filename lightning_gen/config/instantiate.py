"""From a config to objects: what the data know is written into it, and its nodes are built behind the allow list."""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

from lightning_gen.config import signatures
from lightning_gen.config.source import signature
from lightning_gen.errors import TRACEBACK, ConfigError, NonFinite, Stopped, sentence

Config = dict[str, Any]


def refusing(call: Callable, *args: Any, **kwargs: Any) -> Any:
    """The call's result; whatever it raises, being before any work, becomes a ConfigError.

    It is decided by the place, not by the exception's type: before the first step all that can be wrong is the input.
    """
    try:
        return call(*args, **kwargs)
    except (ConfigError, NonFinite, Stopped):
        raise
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        raise fault(error) from error


def fault(error: Exception) -> ConfigError:
    """An exception's message as one sentence; a ConfigError as it is."""
    return error if isinstance(error, ConfigError) else ConfigError([sentence(error)])


class Maker:
    """Makes one part after another: what is wrong with one must not hide what is wrong with the next."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def __call__(self, call: Callable, *args: Any, **kwargs: Any) -> Any:
        """The call's result, or None, and its faults are kept."""
        try:
            return refusing(call, *args, **kwargs)
        except ConfigError as error:
            self.faults += error.faults
            return None

    def succeeds(self, call: Callable, *args: Any) -> bool:
        """Whether the call raises nothing."""
        before = len(self.faults)
        self(call, *args)
        return len(self.faults) == before

    def finish(self) -> None:
        """Raise ConfigError with all that is wrong, if anything is."""
        if self.faults:
            raise ConfigError(self.faults)


def build(node: Config, path: str = "", **given: Any) -> Any:
    """The object that the node at `path` of a config describes; `given` goes to its constructor as it is.

    Raises ConfigError where the node, or one inside it, is not on the allow list or does not fit its constructor, or
    where a constructor raises anything.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    faults = signatures.check(node, given={"": set(given)})
    if faults:
        raise ConfigError(faults)
    try:
        # Partial first: Hydra copies what it is given into a config, and a network is none.
        call = instantiate({**node, "_partial_": True}, _convert_="all")
        return call(**given)
    except Exception as error:
        # Hydra wraps what a nested node's constructor raises, and says it in two lines.
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        if os.environ.get(TRACEBACK) or isinstance(cause, ConfigError | NonFinite):
            raise cause from None
        raise ConfigError([with_path(sentence(cause), node, path)]) from cause


def with_path(message: str, node: Any, path: str) -> str:
    """A constructor's message, Quality.n is 0, with the path in the place of the class: quality.n is 0."""
    if not isinstance(node, dict):
        return message
    name = str(node.get("_target_", "")).rpartition(".")[2]
    if name and message.startswith(f"{name}."):
        return f"{path}{message.removeprefix(name)}" if path else message
    for key, child in node.items():
        if (found := with_path(message, child, f"{path}.{key}" if path else key)) != message:
            return found
    # Of a function within, groups is 4: the argument of that name, where one node alone has it.
    word = message.partition(" ")[0]
    alone = not any(isinstance(child, dict) and "_target_" in child for child in node.values())
    return f"{path}.{message}" if path and name and alone and takes(node, word) else message


def import_extensions(config: Config) -> None:
    """Import the packages that a checked config needs: what they register, as metrics, is known before it is named."""
    for package in config.get("extensions") or ():
        import_module(package)


def build_module(config: Config) -> Any:
    """The family of a config in which shape and range stand already: no data set is needed."""
    from lightning_gen.randomness import reseed

    parts, make = {}, Maker()
    for name in ("net", "sampler"):
        reseed(config["seed"], "init")
        if config.get(name):  # an RBM is no network
            parts[name] = make(build, config[name], name)
    make.finish()
    return build(config["module"], "module", **parts, seed=config["seed"])


def complete(config: Config, data: Any) -> None:
    """Write into the config what the data know, so that the stored one builds the network without them.

    Raises ValueError where the config says something else than the data.
    """
    from hydra.utils import get_class

    net, module = config.get("net"), config["module"]
    if chosen := data.chosen():
        config["data"] |= chosen
    shape, value_range = list(data.shape), data.value_range
    inner, samples = shape, f"the samples of {data.name}"  # what the network is of
    if data.autoencoder is not None:
        inner, samples = [data.autoencoder.latent], "the latent variables of data.run"
        _write(config, "module", "autoencoder", dict(data.autoencoder_node), "data.run")
    if net and takes(net, "shape"):
        _write(config, "net", "shape", inner, samples)
        # What the network takes from the shape by itself, the stored config says, too.
        net |= getattr(get_class(net["_target_"]), "fitted", lambda node: {})(net)
    if net and takes(net, "levels"):
        if data.levels is None:
            raise ValueError(
                f"net is {net['_target_']}, for whole numbers, and {data.name} has real values: choose other data, or "
                "another net"
            )
        _write(config, "net", "levels", data.levels, f"the values of {data.name}")
    _write(config, "module", "shape", shape, f"the samples of {data.name}")
    _write(config, "module", "value_range", value_range and list(value_range), f"the values of {data.name}")
    classes = module.get("classes")
    if classes is not None and classes != data.classes:
        raise ValueError(
            f"module.classes is {classes}, {data.name} has {data.classes} classes: write {data.classes or 'null'}"
        )
    if net and takes(net, "classes"):
        # One more than the data have: the last is the label for none.
        _write(config, "net", "classes", None if classes is None else classes + 1, f"module.classes = {classes}")
    elif classes is not None:
        raise ValueError(
            f"module.classes is {classes}, and {(net or module)['_target_']} takes no classes: "
            "name a network that does, or write module.classes=null"
        )
    fitted = get_class(module["_target_"]).fitted(module, data)
    if fitted and data.autoencoder is not None:
        raise ValueError(
            f"module.{next(iter(fitted))} is null, which takes it from the data, and data=latent encodes them: write a "
            "value"
        )
    module |= fitted


def takes(node: Config, name: str) -> bool:
    """Whether the constructor of a node's target has an argument of this name."""
    parameters = signature(node["_target_"])
    return parameters is not None and any(parameter.name == name for parameter in parameters)


def _write(config: Config, node: str, key: str, value: Any, source: str) -> None:
    said = config[node].get(key)
    if said is not None and said != value:
        raise ValueError(f"{node}.{key} is {said}, by {source} it is {value}: remove it, for it follows from them")
    config[node][key] = value
