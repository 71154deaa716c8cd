"""Laws that a class has to keep: each is looked at by running the class, and says what was seen and why it matters."""

import os
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from lightning_gen.errors import TRACEBACK, ConfigError, first_line

Verdict = Literal["PASS", "FAIL", "skipped"]


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
    look: Callable[[Any], str]
    first: bool = False


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
        if os.environ.get(TRACEBACK):
            raise
        told = (
            "; ".join(error.faults)
            if isinstance(error, ConfigError)
            else f"{type(error).__name__}: {first_line(error)}"
        )
        return Seen(law.name, "FAIL", f"it raises {told}: {law.why}")


def some(values: Sequence[Any], most: int = 3) -> str:
    """The first values, and how many there are beside them."""
    rest = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + rest


def no_more(value: float, limit: float, told: str) -> None:
    """Broken, with what is told, for a value that is not at most the limit."""
    if not value <= limit:
        raise Broken(told)


def requirements(component: Any, tried: str) -> str:
    """What a sampler or a loss needs and supports, in words, and what it is tried on; Broken for other declarations."""
    needs, supports = type(component).needs, type(component).supports
    if not (isinstance(needs, tuple) and all(isinstance(need, type) for need in needs)):
        raise Broken(f"needs is {needs!r}, expected a tuple of classes")
    if not (isinstance(supports, tuple) and set(supports) <= {"real", "binary", "levels"}):
        raise Broken(f"supports is {supports!r}, expected a tuple of real, binary, levels")
    words = ", ".join(need.__name__ for need in needs) or "no capability"
    return f"it needs {words} over {' or '.join(supports)}; {tried}"
