"""Laws that the tests of this package hold, looked at on any class: lightning-gen check mypkg.MyNet."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from lightning_gen.check import adversarial, called, data, loss, metric, network, sampler
from lightning_gen.check.law import Law, Seen, looked
from lightning_gen.config.command_line.named import accepted, imported, trusting
from lightning_gen.config.faults import GIVEN
from lightning_gen.config.instantiate import build
from lightning_gen.config.signatures import check
from lightning_gen.data import GenerativeData
from lightning_gen.errors import ConfigError
from lightning_gen.families import GenerativeModule
from lightning_gen.losses import AdversarialLoss, Loss
from lightning_gen.metrics.features.base import FeatureExtractor
from lightning_gen.metrics.registry import metrics
from lightning_gen.models import Model
from lightning_gen.options import suggestion
from lightning_gen.process import Process
from lightning_gen.samplers import Sampler

__all__ = ["KINDS", "Kind", "Law", "Seen", "kind_of", "laws_of"]


class Kind(NamedTuple):
    """A kind of class.

    Args:
        name: in words.
        fits: whether a class, or a metric's function, is of it.
        subject: what its laws are about, of a `Target`.
        laws: its laws.
    """

    name: str
    fits: Callable[[Any], bool]
    subject: Callable[["Target"], Any]
    laws: Sequence[Law]


class Target(NamedTuple):
    """What is looked at.

    Args:
        thing: the class or function.
        node: _target_ and arguments, as in a config.
    """

    thing: Any
    node: Mapping[str, Any]

    def make(self, **given: Any) -> Any:
        """An object of it, with further arguments."""
        return build(dict(self.node), "", **given)

    def given(self) -> dict[str, Any]:
        """The arguments that the person gives."""
        return {key: value for key, value in self.node.items() if not key.startswith("_")}

    def takes(self) -> tuple[str, ...]:
        """The names of the constructor's arguments."""
        return accepted(self.node)


def _below(*bases: type, but: tuple[type, ...] = ()) -> Callable[[Any], bool]:
    """Whether a class derives from one of the bases, and from none of others."""
    return lambda thing: isinstance(thing, type) and issubclass(thing, bases) and not issubclass(thing, but)


OTHERS = (Model, Process, FeatureExtractor)  # modules that are no networks
KINDS = (
    Kind("data set", _below(GenerativeData), lambda of: data.Subject(of.make, of.takes(), of.given()), data.LAWS),
    Kind("sampler", _below(Sampler), lambda of: sampler.Subject(of.make), sampler.LAWS),
    Kind("loss", _below(Loss), lambda of: loss.Subject(of.make), loss.LAWS),
    Kind("adversarial loss", _below(AdversarialLoss), lambda of: adversarial.Subject(of.make), adversarial.LAWS),
    Kind("metric", metric.registered, lambda of: metric.Subject(of.thing), metric.LAWS),
    Kind(
        "network",
        _below(nn.Module, but=(*OTHERS, GenerativeModule)),
        lambda of: called.Subject(of.make, of.takes(), of.given()),
        network.LAWS,
    ),
)


def kind_of(thing: Any) -> Kind | None:
    """The kind of a class or a metric's function; None for what is of none."""
    return next((kind for kind in KINDS if kind.fits(thing)), None)


def thing_of(name: str) -> Any:
    """The class or function of a dotted name, or of the name by which a metric is registered; ConfigError for none."""
    known = metrics()
    if name in known:
        return known[name].function
    if "." not in name:
        remedy = suggestion(name, known) or "write PACKAGE.NAME, or a path"
        raise ConfigError([f"{name} is no dotted name, no file or folder, and no metric: {remedy}"])
    return imported(name)


def laws_of(node: Mapping[str, Any], leave_out: Container[str] = ()) -> tuple[str, Iterator[Seen]]:
    """What is looked at, in words, and what is seen of each law, one after the other.

    Args:
        node: _target_ and arguments, as in a config.
        leave_out: names of laws that are not looked at.

    Raises ConfigError for what cannot be imported, is of no kind that has laws, or whose arguments do not fit.
    """
    with trusting(node["_target_"]):
        thing = thing_of(node["_target_"])
        kind = kind_of(thing)
        if kind is None:
            raise ConfigError([unknown(node["_target_"], thing)])
        if isinstance(thing, type) and (faults := check(node, {"": GIVEN["net"]})):
            raise ConfigError(faults)
        subject = kind.subject(Target(thing, node))

    def lines() -> Iterator[Seen]:
        with trusting(node["_target_"]):
            yield from looked(kind.laws, subject, leave_out)

    return subject.said(), lines()


def unknown(name: str, thing: Any) -> str:
    """A sentence for what is of no kind that has laws."""
    bases = [base.__name__ for base in getattr(thing, "__bases__", ()) if base is not object]
    found = f"a {' and '.join(bases)}" if bases else "a class" if isinstance(thing, type) else "a function"
    kinds = ", ".join(kind.name for kind in KINDS)
    return f"{name} is {found}, expected a {kinds}, family, config or run: name one of these"
