"""What a measurement returns: a number never travels without its name, its kind, its error and its protocol."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lightning_gen.metrics.registry import METHODS, QUANTITIES, Quantity, quantity_of

Kind = Literal["exact", "lower bound", "upper bound", "estimate", "KDE"]
HELD_OUT = "held-out"
ERROR = "/error"
LABEL = re.compile(r"(ema|raw|samples|held-out)(?:-n([1-9]\d*))?")
SIDE = re.compile(r"forward|reverse|t=.*")


@dataclass(frozen=True)
class Name:
    """What a number is of; its string is what is published: fid/digits/ema-n360, ais/log_z/forward/raw, energy/gap.

    Args:
        quantity: a metric, fid, or a method and what it measures, ais/log_z
        features: the extractor, or the representation, by which it is measured
        weights: ema, raw, samples (somebody else's), held-out (real data in their place); None where it has none
        side: which of several of that quantity: forward or reverse, t=<time>
        n: of how many samples, where it is not all that were drawn
    """

    quantity: str
    features: str | None = None
    weights: str | None = None
    side: str | None = None
    n: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Name":
        """The name that a published string has; str() of it is that string."""
        words, weights, side, n = text.split("/"), None, None, None
        if len(words) > 1 and (match := LABEL.fullmatch(words[-1])):
            weights, n = match[1], match[2] and int(match[2])
            words.pop()
        if len(words) > 1 and SIDE.fullmatch(words[-1]):
            side = words.pop()
        quantity_of(words[0])  # has the metrics registered
        if len(words) > 1 and words[0] in QUANTITIES and side is None:
            return cls(words[0], "/".join(words[1:]), weights, None, n)
        return cls("/".join(words), None, weights, side, n)

    def __str__(self) -> str:
        label = self.weights and self.weights + (f"-n{self.n}" if self.n else "")
        return "/".join(part for part in (self.quantity, self.features, self.side, label) if part is not None)

    @property
    def subject(self) -> str:
        """The name without the weights: fid/digits, ais/log_z/forward."""
        return str(Name(self.quantity, self.features, None, self.side))

    @property
    def label(self) -> str:
        """The weights and the number of samples: ema-n360, "" where there are none."""
        return str(self)[len(self.subject) + 1 :]

    @property
    def method(self) -> str:
        """How it is measured, without of what: ais/forward of ais/log_likelihood/forward/raw."""
        return "/".join(part for part in (self.quantity.rpartition("/")[0], self.side) if part)

    @property
    def group(self) -> str:
        """The first word: ais of ais/log_z, fid of fid."""
        return self.quantity.partition("/")[0]

    @property
    def about(self) -> Quantity:
        """Its quantity as it is registered: title, unit, which way is better."""
        return quantity_of(self.quantity)

    @property
    def words(self) -> str:
        """What it is of, for tables: FID; log Z, AIS, forward; bits/dim, variational bound."""
        about, method = self.about, self.quantity.rpartition("/")[0]
        parts = [about.title, "" if self.quantity in QUANTITIES else METHODS.get(method, method), self.side]
        return ", ".join(part for part in parts if part)

    @property
    def arrow(self) -> str:
        """Which way is better, "" where neither is."""
        return {-1: "↓", 0: "", 1: "↑"}[self.about.sign]

    @property
    def held_out(self) -> "Name":
        """The same number of real data."""
        return Name(self.quantity, self.features, HELD_OUT, self.side)

    def parts(self) -> dict[str, Any]:
        """Its parts that are there, as metrics.json stores them."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def error_of(name: Name | str) -> str:
    """What the standard error of a number is called among logged values."""
    return f"{name}{ERROR}"


def is_error(name: str) -> bool:
    """Whether a logged value is the standard error of another."""
    return name.endswith(ERROR)


@dataclass(frozen=True)
class Result:
    """A measured number: value in `unit`, standard error or None, its kind, the protocol that gave it, and its name.

    protocol["flags"] says what is doubtful about it. `observed` is what was observed on the way and fixes nothing.
    """

    value: float
    kind: Kind
    error: float | None = None
    unit: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)
    observed: dict[str, Any] = field(default_factory=dict)
    name: Name | None = None

    @classmethod
    def of_mean(
        cls, values: Any, kind: Kind, unit: str = "", protocol: dict[str, Any] | None = None, name: Name | None = None
    ) -> "Result":
        """The mean of a tensor (n,), and its standard error, 0 for n = 1."""
        error = float(values.std()) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return cls(float(values.mean()), kind, error, unit, protocol or {}, name=name)

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, as metrics.json stores them."""
        return {
            **({} if self.name is None else {"name": self.name.parts()}),
            "value": self.value,
            "error": self.error,
            "kind": self.kind,
            "unit": self.unit,
            "protocol": dict(self.protocol),
            "protocol_hash": protocol_hash(self.protocol),
            **({"observed": dict(self.observed)} if self.observed else {}),
        }


def name_of(text: str, entry: Mapping[str, Any]) -> Name:
    """The name of an entry of metrics.json: its own parts, or, in files that have none, those that its key says."""
    return Name(**entry["name"]) if "name" in entry else Name.parse(text)


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """16 hex digits of SHA-256 over a protocol but for its flags: equal protocols, equal hash, in whatever order."""
    content = {key: value for key, value in protocol.items() if key != "flags"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
