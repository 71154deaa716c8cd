"""The one table of likelihoods: -log p in nats and bits/dim, never ranked across unlike kinds or unlike data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lightning_gen.results.compared import Run, words_of
from lightning_gen.results.ranking import (
    LOG_P,
    Entry,
    Verdict,
    classes,
    differences,
    is_likelihood,
    protocol,
    verdicts,
)
from lightning_gen.results.result import Name
from lightning_gen.results.tables import Block, Cell, Row, Table

OPPOSITE = {"lower bound": "upper bound", "upper bound": "lower bound"}
Number = tuple[float, float | None]


@dataclass
class _Likelihood:
    """(value, error) in nats and in bits/dim, None where there is none, and the entry that is ranked."""

    nats: Number | None
    bits: Number | None
    entry: Entry


def likelihood_tables(runs: Sequence[Run]) -> list[Table]:
    """One table of -log p in nats and bits/dim, a block for each class that can be ranked; none where there is none."""
    likelihoods = {likelihood.entry: likelihood for run in runs for likelihood in _likelihoods(run)}
    if not likelihoods:
        return []
    ranked, parts = verdicts(likelihoods), classes(likelihoods)
    table = Table(
        "Likelihood",
        "−log p of a held-out sample: less is better. A lower bound of log p is an upper one of −log p.",
        ["nats", "bits/dim", "kind"],
        [Block(_block_title(part[0]), [_row(likelihoods[e], ranked[e], runs) for e in part]) for part in parts],
    )
    if len(parts) > 1:
        unequal = ", ".join(words_of(key) for key in differences(protocol(part[0]) for part in parts))
        table.unranked.append(f"The blocks are not ranked with each other: they differ in {unequal}.")
    if any(len(part) == 1 for part in parts):
        table.notes.append("A number alone in its block has nothing of its kind to be ranked with.")
    return [table]


def _row(likelihood: _Likelihood, verdict: Verdict, runs: Sequence[Run]) -> Row:
    entry = likelihood.entry
    # The mark stands once, at the number that was measured.
    marked = Cell(*(likelihood.bits or likelihood.nats), "", replace(verdict, group=""), entry)
    cells = [None if likelihood.nats is None else Cell(*likelihood.nats), marked] if likelihood.bits else [marked, None]
    kind = entry.kind + (f", of an {entry.protocol['of']}" if entry.protocol.get("of") else "")
    label = f"{entry.name.label} by {entry.protocol['method']}"
    return Row(entry.run, label, [*cells, kind], runs[entry.run].name)


def _likelihoods(run: Run) -> list[_Likelihood]:
    """-log p of every method, each once, whether written in nats, in bits/dim or in both."""
    parts: dict[str, dict[str, Entry]] = {}
    for entry in filter(is_likelihood, run.entries):
        turned = _minus_log_p(entry, run.config)
        agreed = {key: value for key, value in protocol(turned).items() if key != "unit"}
        parts.setdefault(repr((turned.protocol["method"], turned.name.label, agreed)), {})[entry.unit] = turned
    return [_both(part, run.dimension) for part in parts.values()]


def _minus_log_p(entry: Entry, config: Mapping[str, Any]) -> Entry:
    """A likelihood as -log p, with all that must agree in its protocol."""
    data = config.get("data") or {}
    module = config.get("module") or {}  # of latent data it knows the range of what is decoded
    value_range = module.get("value_range", data.get("value_range"))
    own = dict(entry.protocol) | {"method": entry.name.method, "conditional": entry.protocol.get("conditional", False)}
    own.setdefault("binarisation", data.get("binarise") or "none")
    if own["binarisation"] == "stochastic":  # of training batches: a split is binarised once, and alike
        own["binarisation"] = "fixed"
    if own["binarisation"] != "none":
        own.setdefault("levels", 2)  # which the nats need not say
    if own.get("dequantisation") == "uniform" and "levels" not in own:
        own["space"] = f"density in {value_range or 'model space'}"
    name = Name(LOG_P, None, entry.name.weights, None, entry.name.n)
    if entry.name.about.sign < 0:
        return replace(entry, name=name, protocol=own)
    # 0.0 and not -0.0
    return replace(entry, name=name, value=0.0 - entry.value, kind=OPPOSITE.get(entry.kind, entry.kind), protocol=own)


def _both(units: Mapping[str, Entry], d: int | None) -> _Likelihood:
    """Each unit from the other where a sample's bits are defined: of values that are counted, not of densities."""
    nats, bits = ((units[u].value, units[u].error) if u in units else None for u in ("nats", "bits/dim"))
    first = units.get("bits/dim") or units["nats"]
    if d and "levels" in first.protocol:
        nats = _scaled(bits, d * math.log(2)) if nats is None else nats
        bits = _scaled(nats, 1 / d / math.log(2)) if bits is None else bits
    value, unit = (bits, "bits/dim") if bits else (nats, "nats")
    return _Likelihood(nats, bits, replace(first, value=value[0], error=value[1], unit=unit))


def _scaled(number: Number, factor: float) -> Number:
    value, error = number
    return value * factor, None if error is None else error * factor


def _block_title(entry: Entry) -> str:
    """What a block of likelihoods has in common."""
    said = protocol(entry)
    kind = said["kind"] if "of" not in said or said["of"].startswith("(") else f"{said['kind']} of an {said['of']}"
    words = [kind, f"N = {entry.n:,}" if entry.n else "N is not said", f"{said['split']} split of data {said['data']}"]
    words += [f"{key} {said[key]}" for key in ("binarisation", "dequantisation")]
    words += [str(said["space"])] * (not str(said["space"]).startswith("("))
    return " · ".join([*words, *["given the label"] * bool(said["conditional"])])
