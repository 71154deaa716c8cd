"""report.html: one self-contained page, made from the run folder alone; and the terminal's closing table."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lightning_gen.results.curves import CURVES, series
from lightning_gen.results.ranking import count
from lightning_gen.results.result import Name, is_error, name_of
from lightning_gen.results.sampler_table import SAMPLERS
from lightning_gen.results.sampler_table import html as samplers_html
from lightning_gen.results.store import METRICS, RECORD, newest_picture, read_record, write_atomically
from lightning_gen.results.tables import Block, Cell, Row, Table, html, number, text
from lightning_gen.runs.folder import read_metrics

REPORT = "report.html"
COLUMNS = ["value", "held-out data", "unit", "kind", "N", "flags"]

STYLE = """
:root { color-scheme: light dark;
  --ground: #fbfbfa; --text: #1d1f21; --soft: #62666a; --line: #dcdcd8; --card: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #17181a; --text: #e6e6e3; --soft: #9a9d9f; --line: #35373a; --card: #1f2123; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.2rem 1rem 3rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: .4rem 0 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
p.about { color: var(--soft); margin: .2rem 0 0; }
.wide { overflow-x: auto; } .wide img { min-width: 46rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; font-size: .85rem; } td.number { white-space: nowrap; }
td.best, td.least { font-weight: 700; }
td details { font-size: .85rem; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .85rem; margin-top: .3rem; }
img { max-width: 100%; height: auto; display: block; border-radius: 4px; background: #ffffff; }
.pair { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
details { margin: .2rem 0; } summary { cursor: pointer; color: var(--soft); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 4px; padding: .8rem; overflow-x: auto;
  font-size: .8rem; line-height: 1.4; overflow-wrap: normal; }
dl { margin: .3rem 0; display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; }
dt { color: var(--soft); } dd { margin: 0; }
@media (max-width: 40rem) {
  table, tbody, tr, td { display: block; width: auto; } thead { display: none; }
  tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  td { border: 0; padding: .05rem 0; } td:empty { display: none; } td:first-child { font-weight: 600; }
  td[data-head]::before { content: attr(data-head) " "; color: var(--soft); font-size: .85rem; font-weight: 400; } }
"""


def write_report(folder: str | Path) -> Path:
    """Write <folder>/report.html from the files that the folder holds; what is missing is left out."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a run folder; give the folder that `run=` named")
    metrics = read_metrics(folder / METRICS) if (folder / METRICS).exists() else {}
    lines = read_record(folder / RECORD) if (folder / RECORD).exists() else []

    def newest(kind: str, caption: str, style: str = "", ending: str = "png") -> str:
        return _figure(newest_picture(folder, kind, ending), caption, style)

    samples = _side_by_side(
        newest("grid", "Samples"),
        newest("strip", "Left to right: noise to sample"),
        newest("neighbours", "Left a sample, then the training images nearest to it"),
    )
    budgets = _figure(folder / f"{SAMPLERS}.png", "FID and KID over network evaluations a sample", "wide")
    parts = [
        f"<h1>{escape(folder.resolve().name)}</h1>",
        f'<p class="about">{escape(_summary(lines) or "Nothing is recorded yet.")}</p>',
        section("Metrics", html(metrics_table(metrics), stacked=True) if metrics else ""),
        section("Samples", samples),
        section("Score field", newest("field", "True and learned score, and their difference", "wide")),
        section("Samplers", budgets + samplers_html(folder)),
        section("From noise to samples", _side_by_side(newest("trajectory", "The sampler at work", ending="gif"))),
        section("Curves", _figure(folder / CURVES, "Losses and metrics over optimizer steps", "wide")),
        section("Last values", _last(lines)),
        section("Config", _text(folder / "config.yaml")),
        section("Files", _files(folder)),
    ]
    return write_atomically(folder / REPORT, document(folder.resolve().name, parts, STYLE).encode())


def document(title: str, parts: Sequence[str], style: str) -> str:
    """A whole page of these parts: whatever a name or a config holds, it loads and runs nothing."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def closing_table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """metrics.json as a plain text table: value and error, the same for held-out data, unit, kind, N, flags."""
    return text(metrics_table(metrics)) if metrics else "no metrics"


def metrics_table(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row per metric; beside it the held-out data's, where they are as many samples: another N has another bias."""
    held_out = {key: _held_out(key, name_of(key, entry), metrics) for key, entry in metrics.items()}
    rows = [
        _metric_row(key, metrics[key], metrics.get(held_out[key]))
        for key in sorted(metrics)
        if key not in held_out.values()
    ]
    return Table("Metrics", "", COLUMNS, [Block("", rows)], head="metric")


def _held_out(key: str, name: Name, metrics: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The key of the same number of as many real data, None where there is none."""
    real = str(name.held_out)
    alike = real != key and real in metrics and _count(metrics[real]) == _count(metrics[key])
    return real if alike else None


def _metric_row(key: str, entry: Mapping[str, Any], real: Mapping[str, Any] | None) -> Row:
    n, flags = _count(entry), _flags(entry)
    flags += [f"held-out data: {flag}" for flag in _flags(real or {}) if flag not in flags]
    cells = [
        Cell(entry["value"], entry.get("error")),
        None if real is None else Cell(real["value"], real.get("error")),
        entry.get("unit") or "",
        entry.get("kind") or "",
        f"{n:,}" if isinstance(n, int) else str(n),
        "; ".join(flags),
    ]
    return Row(None, key, cells, details={**(entry.get("protocol") or {}), **(entry.get("observed") or {})})


def _count(entry: Mapping[str, Any]) -> Any:
    """How many samples a number was measured on, "" if it does not say."""
    return count(entry.get("protocol") or {}) or ""


def _flags(entry: Mapping[str, Any]) -> list[str]:
    """What a number's protocol says is doubtful about it."""
    return list((entry.get("protocol") or {}).get("flags", ()))


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


def _last(lines: list[dict[str, Any]]) -> str:
    if not lines:
        return ""
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(number(float(values[-1])))} at step {int(steps[-1]):,}</dd>"
        for name, (steps, values) in sorted(series(lines).items())
        if not is_error(name)
    )
    return f"<details><summary>{len(lines):,} recorded values</summary><dl>{rows}</dl></details>"


def _side_by_side(*figures: str) -> str:
    return f'<div class="pair">{"".join(figures)}</div>' if any(figures) else ""


def _figure(path: Path | None, caption: str, style: str = "") -> str:
    if path is None or not path.exists():
        return ""
    return figure(path.read_bytes(), caption, f"{caption} ({path.name})", style, path.suffix[1:])


def figure(image: bytes, alternative: str, caption: str, style: str = "", kind: str = "png") -> str:
    """An image inside the page, its text for those who cannot see it, and its caption."""
    data = base64.b64encode(image).decode()
    tag = f'<img alt="{escape(alternative)}" src="data:image/{kind};base64,{data}">'
    return f'<figure><div class="{style}">{tag}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    return f"<details><summary>{escape(path.name)}</summary><pre>{escape(path.read_text())}</pre></details>"


def _files(folder: Path) -> str:
    paths = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.name != REPORT)
    own = [p for p in paths if "wandb" not in p.parts and not any(part[0] == "." for part in p.parts)]
    rows = "".join(f"<dt>{escape(str(p))}</dt><dd>{(folder / p).stat().st_size / 1024:,.0f} KiB</dd>" for p in own)
    return f"<details><summary>{len(own):,} files</summary><dl>{rows}</dl></details>" if own else ""


def section(title: str, content: str) -> str:
    """A part of a page under a heading; nothing where there is nothing."""
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>" if content else ""
