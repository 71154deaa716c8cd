"""Answers: each is one way to answer a question about a model, and says which capabilities it needs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from lightning_gen.models import Model, Requires, capabilities, fits
from lightning_gen.models.requirements import title
from lightning_gen.models.support import Support
from lightning_gen.options import Checked


class Answer(Checked, Requires, ABC):
    """One way to answer a question; it holds options alone, no model."""

    role = "answer"
    name: str  # a word or two, as docs/asking.md and pictures have it

    @abstractmethod
    def __call__(self, model: Model, *args: Any) -> Any:
        """The answer for a model that passes `check`."""


def first_fit(verb: str, answers: Sequence[Requires], model: Model) -> Requires:
    """The first answer that the model fits; TypeError or ValueError, in one sentence, where none does."""
    able = [answer for answer in answers if fits(type(answer), model)]
    if not able:
        raise TypeError(f"{verb} {why_none(answers, model)}")
    reasons = []
    for answer in able:
        try:
            answer.check(model)
        except (TypeError, ValueError) as error:
            reasons.append(f"{type(answer).__name__}: {error}")
        else:
            return answer
    raise ValueError(f"{verb} has no answer for this {type(model).__name__}: {'; '.join(reasons)}")


def why_none(answers: Sequence[Requires], model: Model) -> str:
    """What one of the answers would need, and what the model has."""
    needed = " or ".join(dict.fromkeys(wanted(answer) for answer in answers))
    own = ", ".join(sorted(title(each) for each in capabilities(model))) or "none"
    return (
        f"needs {needed}, and {type(model).__name__}, over {model.support}, has {own}: ask another model, or another "
        "question"
    )


def wanted(answer: Requires) -> str:
    """The needs of an answer in words."""
    needs = " and ".join(title(need) for need in answer.needs)
    if set(answer.supports) == set(Requires.supports):
        return needs
    return f"{needs} over {' or '.join(str(Support(kind)) for kind in answer.supports)}"
