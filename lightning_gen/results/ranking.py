"""Which numbers may be ranked together, and which of them is the best beyond its error."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

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
LOWER = ("fid", "fid_inf", "kid", "relative_error", "mse", "memorised", "-log p", "nll", "bits_per_dim", "loss")
HIGHER = (
    "is",
    "sharpness",
    "diversity",
    "precision",
    "recall",
    "density",
    "coverage",
    "psnr",
    "ssim",
    "log_likelihood",
)
HIGHER += ("homogeneity", "completeness", "v_measure", "probe_accuracy", "mig", "sap", "modularity")
HIGHER += ("beta_vae_score", "factor_vae_score", "dci_disentanglement", "dci_completeness", "dci_informativeness")
LIKELIHOODS = ("log_likelihood", "nll", "bits_per_dim")
HELD_OUT = "held-out"
LABELS = ("ema", "raw", "samples")  # which weights, or somebody else's
ABSENT = "(not said)"


@dataclass(frozen=True, eq=False)
class Entry:
    """One number of one run: `quantity` is its name without the weights, `label` the weights (ema, raw, held-out)."""

    run: int
    quantity: str
    label: str
    value: float
    error: float | None
    kind: str
    unit: str
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """The metric's own word: fid of fid/digits."""
        return self.quantity.split("/")[0]

    @property
    def n(self) -> int:
        """How many samples it was measured on, 0 if it does not say."""
        found = next((self.protocol[key] for key in ("n", "N") if key in self.protocol), 0)
        return found if isinstance(found, int) else 0

    @property
    def weights(self) -> str:
        """The label without its number of samples: ema of ema-n360."""
        head, _, tail = self.label.rpartition("-n")
        return head if head and tail.isdigit() else self.label


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
    found = []
    for name, entry in metrics.items():
        quantity, _, label = name.rpartition("/")
        if label.partition("-n")[0] not in LABELS and label != HELD_OUT:
            quantity, label = name, ""
        protocol = dict(entry.get("protocol") or {})
        kind, unit = entry.get("kind") or "estimate", entry.get("unit") or ""
        found.append(Entry(run, quantity, label, entry["value"], entry["error"], kind, unit, protocol))
    return found


def protocol(entry: Entry) -> dict[str, Any]:
    """What must agree between numbers that are ranked together: kind, unit, and how they were measured."""
    if entry.quantity == "-log p":
        kept = {key: entry.protocol.get(key, ABSENT) for key in LIKELIHOOD}
    else:
        ignored = (*SUBJECT, *CHANCE, *OUTCOME, *NOTED)
        kept = {k: v for k, v in entry.protocol.items() if k not in ignored and not k.startswith("std_")}
        if kept.get("quantisation") in ROUNDINGS:
            kept["quantisation"] = "8 bits"
    return {"kind": entry.kind, "unit": entry.unit, **kept}


def differences(protocols: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Key -> the value of each protocol, for the keys in which they are not all equal."""
    protocols = list(protocols)
    keys = dict.fromkeys(key for found in protocols for key in found)
    columns = {key: [found.get(key, ABSENT) for found in protocols] for key in keys}
    return {key: values for key, values in columns.items() if len({_key(value) for value in values}) > 1}


def classes(found: Iterable[Entry]) -> list[list[Entry]]:
    """Numbers of one quantity, parted by what must agree; in order of appearance."""
    parts: dict[str, list[Entry]] = {}
    for entry in found:
        parts.setdefault(_key(protocol(entry)), []).append(entry)
    return list(parts.values())


def direction(name: str) -> int:
    """-1 where less of a number of that name is better, 1 where more is, 0 where nobody says."""
    words = name.split("/")
    return -1 if set(words) & set(LOWER) else 1 if set(words) & set(HIGHER) else 0


def is_likelihood(entry: Entry) -> bool:
    """Whether it is a likelihood of data, in nats or bits/dim; a partition function or a part of a bound is none."""
    return entry.unit in ("nats", "bits/dim") and bool(set(entry.quantity.split("/")) & set(LIKELIHOODS))


def judged(found: Iterable[Entry]) -> dict[Entry, Verdict]:
    """The verdict on each number of one quantity; real data are a level beside them and take no part."""
    found = list(found)
    verdicts = {entry: Verdict(why="real data") for entry in found}
    parts = classes([entry for entry in found if entry.label != HELD_OUT])
    for place, part in enumerate(parts):
        group = _letter(place) if len(parts) > 1 else ""
        for entry, verdict in zip(part, _ranked(part, len(parts) > 1), strict=True):
            verdicts[entry] = replace(verdict, group=group)
    return verdicts


def worse_by(entry: Entry, other: Entry) -> float | None:
    """By how many combined standard errors `entry` is worse than `other`; None where an error is not known."""
    gap = direction(entry.quantity) * (other.value - entry.value)
    errors = [_error(entry), _error(other)]
    if None in errors:
        return None
    spread = math.hypot(*errors)
    return gap / spread if spread > 0 else math.copysign(math.inf, gap) if gap else 0.0


def _ranked(part: list[Entry], several: bool) -> list[Verdict]:
    if len(part) == 1:
        return [Verdict(why="no other number has its protocol" if several else "no other run has it")]
    if not direction(part[0].quantity):
        return [Verdict(why="neither more nor less of it is better")] * len(part)
    finite = [entry for entry in part if math.isfinite(entry.value)]
    if not finite:
        return [Verdict(why="not finite")] * len(part)
    best = max(finite, key=lambda entry: direction(entry.quantity) * entry.value)
    away = [worse_by(entry, best) for entry in part]
    others = [gap for entry, gap in zip(part, away, strict=True) if entry is not best]
    tied = any(gap is not None and gap <= 2 for gap in others)
    verdicts = []
    for entry, gap in zip(part, away, strict=True):
        if not math.isfinite(entry.value):
            verdicts.append(Verdict(why="not finite"))
        elif entry is best:
            verdicts.append(Verdict("tie" if tied else "leads" if None in others else "best"))
        else:
            verdicts.append(Verdict("tie" if gap is not None and gap <= 2 else ""))
    return verdicts


def _error(entry: Entry) -> float | None:
    if entry.error is None:
        return 0.0 if entry.kind == "exact" else None
    return entry.error if math.isfinite(entry.error) else None


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _letter(place: int) -> str:
    """a to z, then a1 to z1, ..."""
    return "abcdefghijklmnopqrstuvwxyz"[place % 26] + (str(place // 26) if place >= 26 else "")
