"""docs/which-family.md: what each family gives, and what it took and reached in the tables of docs/results.md."""

import re
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.recipes.page import evaluations, line, of_seeds, rows, shown
from benchmarks.recipes.record import load
from benchmarks.recipes.tables import ROOT, Table, recipe, tables, value
from lightning_gen import models
from lightning_gen.results.result import Name

PAGE = ROOT / "docs" / "which-family.md"
# The model of a family, whose capabilities say what can be asked of it.
MODELS: dict[str, type[models.Model]] = {
    "DDPM": models.Denoiser,
    "EDM": models.Denoiser,
    "NCSN": models.Denoiser,
    "ScoreSDE": models.Denoiser,
    "FlowMatching": models.VelocityNetwork,
    "VAE": models.VAE,
    "Flow": models.Flow,
    "Autoregressive": models.Autoregressive,
    "GAN": models.Generator,
    "EBM": models.EnergyNetwork,
    "AdversarialEBM": models.GeneratedEnergy,
    "DRL": models.RecoveryEnergy,
    "RBM": models.RBM,
    "GaussianBernoulliRBM": models.GaussianBernoulliRBM,
}
SHOWN = ("FID", "precision", "recall", "coverage")
FAR, FEW = 10.0, 0.5  # times the best FID; a share of the data near which there is a sample


def model_of(table: Table, row: str) -> type[models.Model]:
    """The class of a row's model."""
    experiment = value(list(table.rows[row]), "experiment=")
    return MODELS[recipe(experiment or "")["module"]["_target_"].rpartition(".")[2]]


def density(model: type) -> str:
    """How log p(x) is known."""
    if issubclass(model, models.Normalised):
        return "exact"
    if issubclass(model, models.Encoded):
        return "lower bound"
    if issubclass(model, models.Energy):
        return "but for Z"
    return "bound; by the ODE" if issubclass(model, models.Scored) else "–"


def latent(model: type) -> str:
    """Its latent variables."""
    if issubclass(model, models.LatentVariables):
        return "z"
    return "h" if issubclass(model, models.Conditionals) else "–"


def families() -> str:
    """The table of all families on the digits."""
    table = tables()["digits"]
    stored = load(table)
    head = ["family", "log p(x)", "score", "latent", *SHOWN, "evaluations a sample", "minutes", "seeds"]
    lines = [line(head), line("---" for _ in head)]
    for row, entries in rows(table, stored).items():
        model = model_of(table, row)
        given = [density(model), "yes" if issubclass(model, models.Scored) else "–", latent(model)]
        known = [e["minutes"] for e in entries if e["minutes"] is not None]
        took = [
            of_seeds(f"{calls:.4g}" for e in entries for calls in evaluations(e, stored)) or "–",
            f"{statistics.mean(known):.1f}" if known else "–",
        ]
        reached = [shown(table, column, entries) for column in SHOWN]
        lines.append(line([row, *given, *reached, *took, str(len(entries))]))
    return "\n".join(lines)


def mean(entries: list[dict[str, Any]], table: Table, column: str) -> float | None:
    """The mean over the seeds of a column's number."""
    found = [
        x["value"]
        for e in entries
        for key, x in e["numbers"].items()
        if Name.parse(key).subject in table.columns[column]
    ]
    return statistics.mean(found) if found else None


def failures() -> str:
    """Who is far from the best, and who leaves out much of the data."""
    table = tables()["digits"]
    trained = {row: entries for row, entries in rows(table, load(table)).items() if entries}

    def below(column: str) -> Iterator[tuple[str, float]]:
        for row, entries in trained.items():
            if (found := mean(entries, table, column)) is not None:
                yield row, found

    distances, covered = dict(below("FID")), dict(below("coverage"))
    best = min(distances, key=distances.__getitem__, default=None)
    if best is None:
        return "Nothing is measured yet."
    far = [row for row, found in distances.items() if found > FAR * distances[best]]
    few = [row for row, found in covered.items() if found < FEW]
    return "\n".join(
        [
            f"- The least FID is that of {best}. More than {FAR:g} times as large: {'; '.join(far) or 'none'}.",
            f"- No sample is near more than {100 * (1 - FEW):g} % of the digits: {'; '.join(few) or 'of none'}.",
        ]
    )


PARTS: dict[str, Callable[[], str]] = {"families": families, "failures": failures}


def render(text: str) -> str:
    """The page with what is read from docs/results/*.json, each part between <!-- part: NAME --> and <!-- end -->."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}\n{PARTS[found[2]]()}\n{found[3]}"

    return re.sub(r"(<!-- part: (\w+) -->)\n.*?(<!-- end -->)", part, text, flags=re.DOTALL)


def write() -> None:
    """Write its parts anew."""
    PAGE.write_text(render(PAGE.read_text()))
