"""Laws that a class has to keep: each is looked at by running the class, and says what was seen and why it matters."""

import os
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lightning_gen.errors import TRACEBACK, ConfigError, first_line
from lightning_gen.models.requirements import wrong_declaration

Verdict = Literal["PASS", "FAIL", "skipped"]
Look = Callable[[Any], str]


class Broken(Exception):
    """A law does not hold; the message is what was seen."""


class Skipped(Exception):
    """A law says nothing of this class, or cannot be looked at here; the message is the reason."""


class Law(NamedTuple):
    """One law.

    Args:
        name: a word or two, the beginning of its line.
        says: what has to hold, for the documentation.
        why: what goes wrong where it does not, the end of its line.
        look: subject -> what was seen; raises Broken, Skipped, or what the class itself raises.
        first: whether nothing can be seen of the laws after it where it does not hold.
    """

    name: str
    says: str
    why: str
    look: Look
    first: bool = False


class Laws(list[Law]):
    """The laws of a kind of class, in the order in which the functions that look at them are defined."""

    def law(self, name: str, says: str, why: str, first: bool = False) -> Callable[[Look], Look]:
        """A decorator that adds the law at which a function looks; the arguments are those of a `Law`."""

        def add(look: Look) -> Look:
            self.append(Law(name, says, why, look, first))
            return look

        return add


class Seen(NamedTuple):
    """What was seen of a law.

    Args:
        law: its name.
        verdict: whether it holds.
        text: what was seen, and of a law that does not hold why it matters.
    """

    law: str
    verdict: Verdict
    text: str

    def line(self) -> str:
        """One line of the report."""
        return f"{self.verdict:<8}{self.law:<18}{self.text}"


def looked(laws: Sequence[Law], subject: Any, leave_out: Container[str] = ()) -> Iterator[Seen]:
    """What is seen of each law, in order.

    Args:
        laws: the laws.
        subject: what they are about.
        leave_out: names of laws that are not looked at.
    """
    failed = None
    for law in laws:
        if law.name in leave_out:
            continue
        if failed is not None:
            yield Seen(law.name, "skipped", f"since {failed.name} fails")
            continue
        yield (seen := look(law, subject))
        failed = law if law.first and seen.verdict == "FAIL" else None


def look(law: Law, subject: Any) -> Seen:
    """What is seen of one law; whatever the class raises is a law that does not hold."""
    try:
        return Seen(law.name, "PASS", law.look(subject))
    except Skipped as reason:
        return Seen(law.name, "skipped", str(reason))
    except Broken as broken:
        return Seen(law.name, "FAIL", f"{broken}: {law.why}")
    except Exception as error:
        return Seen(law.name, "FAIL", f"{raised(error)}: {law.why}")


def raised(error: Exception) -> str:
    """What a class raises, in words; where TRACEBACK asks for it, the exception itself is raised."""
    if os.environ.get(TRACEBACK):
        raise error
    ours = isinstance(error, ConfigError)
    return f"it raises {'; '.join(error.faults) if ours else f'{type(error).__name__}: {first_line(error)}'}"


def some(values: Sequence[Any], most: int = 3) -> str:
    """The first values, and how many there are beside them."""
    rest = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + rest


def no_more(value: float, limit: float, told: str) -> None:
    """Broken, with what is told, for a value that is not at most the limit."""
    if not value <= limit:
        raise Broken(told)


def decided(draw: Callable[[], Tensor], drawn: str) -> Tensor:
    """What is drawn with a generator of its own, the same whatever the global one is, which stays as it is; or Broken.

    Args:
        draw: draws, each time with a generator in the same state.
        drawn: what, in words.
    """
    found = []
    for seed in (10, 20):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(draw())
        if not torch.equal(before, torch.get_rng_state()):
            raise Broken("it draws from torch's global generator")
    if not torch.equal(*found):
        raise Broken(f"with one generator and other global seeds the {drawn} differ")
    return found[0]


def look_fits(subject: Any) -> str:
    """What the component of a subject needs and supports, and what it is tried on; Broken for other declarations."""
    component = type(subject.component)
    if wrong := wrong_declaration(component):
        raise Broken(wrong)
    words = ", ".join(need.__name__ for need in component.needs) or "no capability"
    return f"it needs {words} over {' or '.join(component.supports)}; {subject.tried()}"


FITS = Law(  # of samplers and losses
    "fits",
    "needs and supports name what it asks of a model",
    "no model could be refused in a sentence",
    look_fits,
    first=True,
)
