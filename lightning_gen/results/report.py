"""report.html: one self-contained page, made from the run folder alone; and the terminal's closing table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_gen.results.curves import CURVES, series
from lightning_gen.results.metrics_table import first_rows, metrics_table
from lightning_gen.results.page import Picture, render
from lightning_gen.results.result import is_error
from lightning_gen.results.sampler_table import SAMPLERS, notes, tables
from lightning_gen.results.store import METRICS, RECORD, newest_picture, read_record, write_atomically
from lightning_gen.results.tables import number, text
from lightning_gen.runs.metrics_file import read_metrics

REPORT = "report.html"


def write_report(folder: str | Path) -> Path:
    """Write <folder>/report.html from the files that the folder holds; what is missing is left out."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a run folder; give the folder that `run=` named")
    metrics = read_metrics(folder / METRICS) if (folder / METRICS).exists() else {}
    lines = read_record(folder / RECORD) if (folder / RECORD).exists() else []
    budgets, config = folder / f"{SAMPLERS}.json", folder / "config.yaml"
    samplers = json.loads(budgets.read_text()) if budgets.exists() else {}
    table = metrics_table(metrics)

    def newest(kind: str, caption: str, ending: str = "png") -> list[Picture]:
        return _pictures(newest_picture(folder, kind, ending), caption)

    page = render(
        "report.html",
        title=folder.resolve().name,
        about=_summary(lines) or "Nothing is recorded yet.",
        samples=[*newest("grid", "Samples"), *newest("strip", "Left to right: noise to sample")],
        first=first_rows(table),
        metrics=table if metrics else None,
        neighbours=newest("neighbours", "Left a sample, then the training images nearest to it"),
        field=newest("field", "True and learned score, and their difference"),
        budgets=_pictures(folder / f"{SAMPLERS}.png", "FID and KID over network evaluations a sample"),
        samplers=tables(samplers) if samplers else [],
        sampler_notes=notes(samplers) if samplers else [],
        film=newest("trajectory", "The sampler at work", "gif"),
        curves=_pictures(folder / CURVES, "Losses and metrics over optimizer steps"),
        recorded=f"{len(lines):,}",
        last=_last(lines),
        config=config.read_text() if config.exists() else "",
        files=_files(folder),
    )
    return write_atomically(folder / REPORT, page.encode())


def closing_table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """metrics.json as a plain text table."""
    return text(metrics_table(metrics)) if metrics else "no metrics"


def _summary(lines: list[dict[str, Any]]) -> str:
    """Steps, epochs, time at work (gaps above ten minutes between two values are pauses), speed."""
    if not lines:
        return ""
    times = sorted(line["time"] for line in lines)
    worked = sum(later - sooner for sooner, later in zip(times, times[1:], strict=False) if later - sooner < 600)
    minutes, seconds = divmod(round(worked), 60)
    hours, minutes = divmod(minutes, 60)
    took = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    parts = [f"{lines[-1]['step']:,} optimizer steps", f"{max(line['epoch'] for line in lines) + 1:,} epochs", took]
    speeds = sorted(line["value"] for line in lines if line["name"] == "speed/images_per_s")
    if speeds:
        parts.append(f"{speeds[len(speeds) // 2]:,.0f} images/s")
    return ", ".join(parts)


def _last(lines: list[dict[str, Any]]) -> dict[str, str]:
    """The last value of each recorded number, and its step."""
    return {
        name: f"{number(float(values[-1]))} at step {int(steps[-1]):,}"
        for name, (steps, values) in sorted(series(lines).items())
        if not is_error(name)
    }


def _pictures(path: Path | None, caption: str) -> list[Picture]:
    """A picture's file, none where it is missing."""
    if path is None or not path.exists():
        return []
    return [Picture("", path.read_bytes(), f"{caption} ({path.name})", caption, path.suffix[1:])]


def _files(folder: Path) -> dict[str, str]:
    """The size of each file, but for hidden ones, those of W&B and the report itself."""
    paths = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.name != REPORT)
    own = [p for p in paths if "wandb" not in p.parts and not any(part[0] == "." for part in p.parts)]
    return {str(p): f"{(folder / p).stat().st_size / 1024:,.0f} KiB" for p in own}
