"""Laws that a class has to keep: each is looked at by running the class, and says what was seen and why it matters."""

import os
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from lightning_gen.errors import TRACEBACK, sentence

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
    """

    name: str
    says: str
    why: str
    look: Callable[[Any], str]


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
    """What is seen of each law, in order; where the first one does not hold, nothing can be seen of the others.

    Args:
        laws: the laws, the first a condition of the others.
        subject: what they are about.
        leave_out: names of laws that are not looked at.
    """
    stands = True
    for law in laws:
        if law.name in leave_out:
            continue
        if not stands:
            yield Seen(law.name, "skipped", f"after {laws[0].name} fails")
            continue
        seen = look(law, subject)
        stands = seen.verdict != "FAIL" or law is not laws[0]
        yield seen


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
        return Seen(law.name, "FAIL", f"it raises {type(error).__name__}, {sentence(error)}: {law.why}")


def some(values: Sequence[Any], most: int = 3) -> str:
    """The first values, and how many there are beside them."""
    rest = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + rest


def no_more(value: float, limit: float, told: str) -> None:
    """Broken, with what is told, for a value that is not at most the limit."""
    if not value <= limit:
        raise Broken(told)
