"""The one table of likelihoods: -log p in nats and bits/dim, never ranked across unlike kinds or unlike data."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lightning_gen.results.ranking import LIKELIHOODS, Entry, classes, differences, is_likelihood, judged, protocol
from lightning_gen.results.sampler_table import number
from lightning_gen.results.tables import Block, Cell, Row, Run, Table, spoken

OPPOSITE = {"lower bound": "upper bound", "upper bound": "lower bound"}


def likelihood(runs: Sequence[Run]) -> list[Table]:
    """One table of -log p in nats and bits/dim, a block for each class that can be ranked; none where there is none."""
    rows = [row for run in runs for row in _likelihoods(run)]
    if not rows:
        return []
    verdicts = judged(row.entry for row in rows)
    several = len(classes(row.entry for row in rows)) > 1
    table = Table(
        "Likelihood",
        "−log p of a held-out sample: less is better. A lower bound of log p is an upper one of −log p.",
        ["nats", "bits/dim", "kind"],
        [],
    )
    for part in classes(row.entry for row in rows):
        lines = []
        for nats, bits, entry in (row for row in rows if row.entry in part):
            told = "" if not entry.protocol.get("of") else f", of an {entry.protocol['of']}"
            # The mark stands once, at the number that was measured.
            marked = Cell(number(*(bits or nats)), replace(verdicts[entry], group=""), entry)
            plain = None if nats is None or not bits else number(*nats)
            lines.append(
                Row(
                    entry.run,
                    f"{entry.label} by {entry.protocol['method']}",
                    [plain, marked] if bits else [marked, None],
                )
            )
            lines[-1].cells.append(entry.kind + told)
        table.blocks.append(Block(_told(part[0]), lines))
    if several:
        unequal = differences(protocol(part[0]) for part in classes(row.entry for row in rows))
        table.notes.append(
            f"The blocks are not ranked with each other: they differ in {', '.join(spoken(key) for key in unequal)}."
        )
    if any(len(part) == 1 for part in classes(row.entry for row in rows)):
        table.notes.append("A number alone in its block has nothing of its kind to be ranked with.")
    return [table]


@dataclass
class _Likelihood:
    """(value, error) in nats and in bits/dim, None where there is none, and the entry that is ranked."""

    nats: tuple[float, float | None] | None
    bits: tuple[float, float | None] | None
    entry: Entry

    def __iter__(self) -> Iterator:
        return iter((self.nats, self.bits, self.entry))


def _likelihoods(run: Run) -> list[_Likelihood]:
    """-log p of every method, each once, whether written in nats, in bits/dim or in both."""
    parts: dict[str, dict[str, Entry]] = {}
    for entry in run.entries:
        words = entry.quantity.split("/")
        if not is_likelihood(entry):
            continue
        word = next(word for word in LIKELIHOODS if word in words)
        method = "/".join(part for part in words if part != word)
        sign = -1 if word == "log_likelihood" else 1
        own = dict(entry.protocol) | {"method": method, "conditional": entry.protocol.get("conditional", False)}
        own.setdefault("binarisation", (run.config.get("data") or {}).get("binarise") or "none")
        if own["binarisation"] != "none":
            own.setdefault("levels", 2)  # which the nats need not say
        if own.get("dequantisation") == "uniform" and "levels" not in own:
            own["space"] = f"density in {(run.config.get('data') or {}).get('value_range', 'model space')}"
        kind = OPPOSITE.get(entry.kind, entry.kind) if sign < 0 else entry.kind
        # 0.0 and not -0.0
        turned = replace(entry, quantity="-log p", value=sign * entry.value + 0.0, kind=kind, protocol=own)
        place = repr((method, entry.label, {k: v for k, v in protocol(turned).items() if k != "unit"}))
        parts.setdefault(place, {})[entry.unit] = turned
    return [_both(found, run.dimension) for found in parts.values()]


def _both(found: Mapping[str, Entry], d: int | None) -> _Likelihood:
    """Each unit from the other where a sample's bits are defined: of values that are counted, not of densities."""
    nats, bits = ((found[u].value, found[u].error) if u in found else None for u in ("nats", "bits/dim"))
    first = found.get("bits/dim") or found["nats"]
    discrete = "levels" in first.protocol
    if d and discrete and nats is None:
        nats = tuple(None if x is None else x * d * math.log(2) for x in bits)
    if d and discrete and bits is None:
        bits = tuple(None if x is None else x / d / math.log(2) for x in nats)
    value, unit = (bits, "bits/dim") if bits else (nats, "nats")
    return _Likelihood(nats, bits, replace(first, value=value[0], error=value[1], unit=unit))


def _told(entry: Entry) -> str:
    """What a block of likelihoods has in common."""
    said = protocol(entry)
    kind = said["kind"] if "of" not in said or said["of"].startswith("(") else f"{said['kind']} of an {said['of']}"
    words = [kind, f"N = {entry.n:,}" if entry.n else "N is not said", f"{said['split']} split of data {said['data']}"]
    words += [f"{key} {said[key]}" for key in ("binarisation", "dequantisation")]
    words += [str(said["space"])] * (not str(said["space"]).startswith("("))
    return " · ".join([*words, *["given the label"] * bool(said["conditional"])])
