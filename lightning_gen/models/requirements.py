"""What a sampler, a loss or an estimator needs of a model, and the one function that compares."""

import inspect
from typing import Any, ClassVar

from torch import nn

from lightning_gen.models.base import Model, Scored, Support


class Requires:
    """Base of samplers, losses and estimators: the capabilities that they need, the supports that they work on."""

    role: ClassVar[str] = "sampler"  # in messages
    needs: ClassVar[tuple[type, ...]] = ()
    supports: ClassVar[tuple[str, ...]] = ("real", "binary", "levels")

    def check(self, model: Model) -> None:
        """Raise TypeError, one sentence, for a model that does not have what is needed."""
        if reason := why_unfit(type(self), model):
            raise TypeError(reason)


def capabilities(model: Model) -> set[type]:
    """What can be asked of the model; a score exists over real numbers alone."""
    real = model.support.kind == "real"
    return {each for each in type(model).__mro__ if "title" in vars(each) and (real or not issubclass(each, Scored))}


def fits(asker: type[Requires], model: Model) -> bool:
    """Whether the model has what `asker` needs, over a support that it works on."""
    return all(has(model, need) for need in asker.needs) and model.support.kind in asker.supports


def has(model: Model, need: type) -> bool:
    """Whether a model has a capability, or is of a class that has no title."""
    return need in capabilities(model) if "title" in vars(need) else isinstance(model, need)


def why_unfit(asker: type[Requires], model: Model) -> str | None:
    """One sentence: what `asker` needs, what the model has, what would fit. None where the model fits."""
    if fits(asker, model):
        return None
    needed = " and ".join(title(need) for need in asker.needs) or "a model"
    if len(asker.supports) < 3:
        needed += f" over {' or '.join(str(Support(kind)) for kind in asker.supports)}"
    own = sorted(title(each) for each in capabilities(model))
    root = [each for each in asker.__mro__ if issubclass(each, Requires)][-2]  # Sampler, Loss, ...
    others = sorted({other.__name__ for other in concrete(root) if other.role == asker.role and fits(other, model)})
    remedy = f"choose {' or '.join(others)}" if others else f"no {asker.role} fits this model"
    return (
        f"{asker.role} {asker.__name__} needs {needed}, and {type(model).__name__}, over {model.support}, has "
        f"{', '.join(own) or 'none'}: {remedy}"
    )


def title(need: type) -> str:
    """A needed class in words: a capability's title, else its name."""
    return vars(need).get("title", f"a model of class {need.__name__}")


def concrete(root: type[Requires]) -> set[type[Requires]]:
    """Every public class below `root` that can be built."""
    below = {each for child in root.__subclasses__() for each in {child, *concrete(child)}}
    return {each for each in below if not inspect.isabstract(each) and not each.__name__.startswith("_")}


def declared(net: nn.Module, trait: str) -> Any:
    """What a network declares of itself (classes, growth, middle); None for one that says nothing."""
    return getattr(net, trait, None)
