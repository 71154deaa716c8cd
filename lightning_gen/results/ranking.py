"""Which numbers may be ranked together, and which of them is the best beyond its error."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_gen.results.result import HELD_OUT, Name, name_of

# What a comparison is about, what chance decides, what came out beside the number: none of it makes numbers unlike.
SUBJECT = ("sampler", "evaluations", "guidance", "weights", "step", "images", "images_fingerprint", "source", "given")
CHANCE = ("seed", "block")
OUTCOME = (
    "bias",
    "features_accuracy",
    "ess",
    "acceptance",
    "kid_subset_size_asked",
    "variance_share_of_draws",
    "machine",
    "ranks",
    "error_by",
    "flags",
)
# Named where they differ, but in nobody's way: sums differ in their last digits.
NOTED = ("torch", "versions", "precision", "device", "lightning_gen")
# How somebody else rounded to the same 8 bits nobody knows: ranked, and said.
ROUNDINGS = ("round(255 clamp(x, 0, 1))", "8 bits, as given")
# Of likelihoods everything else says how a number was found, not of what: it is named, and what must agree is this.
LIKELIHOOD = ("data", "split", "n", "binarisation", "dequantisation", "levels", "space", "conditional", "of")
ABSENT = "(not said)"
LOG_P = "-log p"  # as every likelihood is compared


@dataclass(frozen=True, eq=False)
class Entry:
    """One number of one run."""

    run: int
    name: Name
    value: float
    error: float | None
    kind: str
    unit: str
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many samples it was measured on, 0 if it does not say."""
        n = count(self.protocol)
        return n if isinstance(n, int) else 0

    @property
    def real(self) -> bool:
        """Whether it is of real data, in the place of samples."""
        return self.name.weights == HELD_OUT


@dataclass(frozen=True)
class Verdict:
    """What may be said of a number beside those of its class: best, tie, leads, "" (worse), or unranked and why.

    best: lower (or higher) than each other by more than two combined standard errors. tie: within two of the best one.
    leads: the best value, where an error is not known, so that nobody knows whether by chance. class: a, b, ... where
    a quantity has several classes, which are not ranked with each other.
    """

    mark: str = ""
    group: str = ""
    why: str = ""


def entries(run: int, metrics: Mapping[str, Mapping[str, Any]]) -> list[Entry]:
    """The numbers of a metrics.json."""
    return [
        Entry(
            run,
            name_of(text, entry),
            entry["value"],
            entry["error"],
            entry.get("kind") or "estimate",
            entry.get("unit") or "",
            dict(entry.get("protocol") or {}),
        )
        for text, entry in metrics.items()
    ]


def count(protocol: Mapping[str, Any]) -> Any:
    """How many samples a number was measured on, 0 if its protocol does not say."""
    return next((protocol[key] for key in ("n", "N") if key in protocol), 0)


def protocol(entry: Entry) -> dict[str, Any]:
    """What must agree between numbers that are ranked together: kind, unit, and how they were measured."""
    if entry.name.quantity == LOG_P:
        agreed = {key: entry.protocol.get(key, ABSENT) for key in LIKELIHOOD}
    else:
        ignored = (*SUBJECT, *CHANCE, *OUTCOME, *NOTED)
        agreed = {k: v for k, v in entry.protocol.items() if k not in ignored and not k.startswith("std_")}
        if agreed.get("quantisation") in ROUNDINGS:
            agreed["quantisation"] = "8 bits"
    return {"kind": entry.kind, "unit": entry.unit, **agreed}


def differences(protocols: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Key -> the value of each protocol, for the keys in which they are not all equal."""
    protocols = list(protocols)
    keys = dict.fromkeys(key for protocol in protocols for key in protocol)
    columns = {key: [protocol.get(key, ABSENT) for protocol in protocols] for key in keys}
    return {key: values for key, values in columns.items() if len({_key(value) for value in values}) > 1}


def classes(numbers: Iterable[Entry]) -> list[list[Entry]]:
    """Numbers of one quantity, parted by what must agree; in order of appearance."""
    parts: dict[str, list[Entry]] = {}
    for entry in numbers:
        parts.setdefault(_key(protocol(entry)), []).append(entry)
    return list(parts.values())


def is_likelihood(entry: Entry) -> bool:
    """Whether it is a likelihood of data, in nats or bits/dim; a partition function or a part of a bound is none."""
    return entry.unit in ("nats", "bits/dim") and entry.name.about.likelihood


def verdicts(numbers: Iterable[Entry]) -> dict[Entry, Verdict]:
    """The verdict on each number of one quantity; real data are a level beside them and take no part."""
    numbers = list(numbers)
    known = {entry: Verdict(why="real data") for entry in numbers}
    parts = classes([entry for entry in numbers if not entry.real])
    for index, part in enumerate(parts):
        group = _letter(index) if len(parts) > 1 else ""
        for entry, verdict in zip(part, _ranked(part, len(parts) > 1), strict=True):
            known[entry] = replace(verdict, group=group)
    return known


def worse_by(entry: Entry, other: Entry) -> float | None:
    """By how many combined standard errors `entry` is worse than `other`; None where an error is not known."""
    gap = entry.name.about.sign * (other.value - entry.value)
    errors = [_error(entry), _error(other)]
    if None in errors:
        return None
    spread = math.hypot(*errors)
    return gap / spread if spread > 0 else math.copysign(math.inf, gap) if gap else 0.0


def _ranked(part: list[Entry], several: bool) -> list[Verdict]:
    if len(part) == 1:
        return [Verdict(why="no other number has its protocol" if several else "no other run has it")]
    if not part[0].name.about.sign:
        return [Verdict(why="neither more nor less of it is better")] * len(part)
    finite = [entry for entry in part if math.isfinite(entry.value)]
    if not finite:
        return [Verdict(why="not finite")] * len(part)
    best = max(finite, key=lambda entry: entry.name.about.sign * entry.value)
    away = [worse_by(entry, best) for entry in part]
    gaps = [gap for entry, gap in zip(part, away, strict=True) if entry is not best]
    first = Verdict("tie" if any(map(_close, gaps)) else "leads" if None in gaps else "best")
    return [first if entry is best else _behind(entry, gap) for entry, gap in zip(part, away, strict=True)]


def _behind(entry: Entry, gap: float | None) -> Verdict:
    """The verdict on one that is not the best, so many combined errors behind it."""
    if not math.isfinite(entry.value):
        return Verdict(why="not finite")
    return Verdict("tie" if _close(gap) else "")


def _close(gap: float | None) -> bool:
    return gap is not None and gap <= 2


def _error(entry: Entry) -> float | None:
    if entry.error is None:
        return 0.0 if entry.kind == "exact" else None
    return entry.error if math.isfinite(entry.error) else None


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _letter(index: int) -> str:
    """a to z, then a1 to z1, ..."""
    return "abcdefghijklmnopqrstuvwxyz"[index % 26] + (str(index // 26) if index >= 26 else "")
