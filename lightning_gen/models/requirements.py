"""The requirements of samplers, losses and estimators, and the one comparison with a model's capabilities."""

import inspect
from collections.abc import Sequence
from typing import ClassVar, get_args

from lightning_gen.models.base import Model
from lightning_gen.models.score import Scored
from lightning_gen.models.support import Support, SupportKind


class Requires:
    """Base of samplers, losses and estimators: the capabilities that they need, and the supports that they work on."""

    role: ClassVar[str] = "sampler"  # in messages
    needs: ClassVar[tuple[type, ...]] = ()
    supports: ClassVar[tuple[str, ...]] = get_args(SupportKind)

    def check(self, model: Model) -> None:
        """TypeError, with one sentence, for a model without a needed capability or support."""
        if reason := why_unfit(type(self), model):
            raise TypeError(reason)


def wrong_declaration(component: type[Requires]) -> str | None:
    """What is wrong with the `needs` and `supports` of a class, which may be somebody else's; None for nothing."""
    needs, supports, known = component.needs, component.supports, Requires.supports
    if not (isinstance(needs, tuple) and all(isinstance(need, type) for need in needs)):
        return f"needs is {needs!r}, expected a tuple of classes"
    if not (isinstance(supports, tuple) and {*supports} <= {*known}):
        return f"supports is {supports!r}, expected a tuple of {', '.join(known)}"
    return None


def classes(model: Model) -> set[type]:
    """The classes of a model, its capabilities among them; a score exists over real numbers only."""
    real = model.support.kind == "real"
    return {each for each in type(model).__mro__ if real or not issubclass(each, Scored)}


def capabilities(model: Model) -> set[type]:
    """The capabilities of a model."""
    return {each for each in classes(model) if "title" in vars(each)}


def fits(component: type[Requires], model: Model) -> bool:
    """Whether the model has all capabilities that the component needs, over a support that it works on."""
    return all(has(model, need) for need in component.needs) and model.support.kind in component.supports


def has(model: Model, need: type) -> bool:
    """Whether a model has a capability, or is of a class that is none."""
    return need in classes(model)


def why_unfit(component: type[Requires], model: Model, others: Sequence[type[Requires]] | None = None) -> str | None:
    """One sentence: what the component needs, what the model has, what would fit; None where the model fits.

    Args:
        component: a class of samplers, losses, ...
        model: the model.
        others: what may stand in its place; null for all of its role.
    """
    if wrong := wrong_declaration(component):
        return f"{component.__name__}.{wrong}"
    if fits(component, model):
        return None
    needed = " and ".join(title(need) for need in component.needs) or "a model"
    if set(component.supports) < set(Requires.supports):
        needed += f" over {' or '.join(str(Support(kind)) for kind in component.supports)}"
    own = sorted(title(each) for each in capabilities(model))
    root = [each for each in component.__mro__ if issubclass(each, Requires)][-2]  # Sampler, Loss, ...
    others = concrete(root) if others is None else others
    others = [other for other in others if other.role == component.role and not wrong_declaration(other)]
    fitting = sorted({other.__name__ for other in others if fits(other, model)})
    remedy = f"choose {' or '.join(fitting)}" if fitting else f"no {component.role} fits this model"
    return (
        f"{component.role} {component.__name__} needs {needed}, and {type(model).__name__}, over {model.support}, has "
        f"{', '.join(own) or 'none'}: {remedy}"
    )


def title(need: type) -> str:
    """A needed class in words: the title of a capability, or else the class name."""
    return vars(need).get("title", f"a model of class {need.__name__}")


def concrete(root: type[Requires]) -> set[type[Requires]]:
    """Every public subclass of `root` without abstract methods."""
    below = {each for child in root.__subclasses__() for each in {child, *concrete(child)}}
    return {each for each in below if not inspect.isabstract(each) and not each.__name__.startswith("_")}
