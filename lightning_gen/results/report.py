"""report.html: one self-contained page, made from the run folder alone; and the terminal's closing table."""

import base64
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from lightning_gen.results.curves import CURVES, series
from lightning_gen.results.sampler_table import SAMPLERS, html, number
from lightning_gen.results.store import METRICS, RECORD, read_record, write_atomically
from lightning_gen.runs.folder import read_metrics

REPORT = "report.html"
HELD_OUT = "held-out"
Row = tuple[str, str, str, str, str, str, str, Mapping[str, Any]]
HEAD = ("metric", "value", "held-out data", "unit", "kind", "N", "flags")

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
    grid, strip = _newest(folder, "grid"), _newest(folder, "strip")
    film = _newest(folder, "trajectory", "gif")
    parts = [
        f"<h1>{escape(folder.resolve().name)}</h1>",
        f'<p class="about">{escape(_summary(lines) or "Nothing is recorded yet.")}</p>',
        _section("Metrics", _table(metrics)),
        _section(
            "Samples",
            _side_by_side(
                _figure(grid, "Samples"),
                _figure(strip, "Left to right: noise to sample"),
                _figure(_newest(folder, "neighbours"), "Left a sample, then the training images nearest to it"),
            ),
        ),
        _section(
            "Score field", _figure(_newest(folder, "field"), "True and learned score, and their difference", "wide")
        ),
        _section(
            "Samplers",
            _figure(folder / f"{SAMPLERS}.png", "FID and KID over network evaluations a sample", "wide") + html(folder),
        ),
        _section("From noise to samples", _side_by_side(_figure(film, "The sampler at work"))),
        _section("Curves", _figure(folder / CURVES, "Losses and metrics over optimizer steps", "wide")),
        _section("Last values", _last(lines)),
        _section("Config", _text(folder / "config.yaml")),
        _section("Files", _files(folder)),
    ]
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # whatever a name or a config holds, the page loads and runs nothing
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(folder.resolve().name)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )
    return write_atomically(folder / REPORT, page.encode())


def closing_table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """metrics.json as a plain text table: value and error, the same for held-out data, unit, kind, N, flags."""
    if not metrics:
        return "no metrics"
    body = [row[:7] for row in _rows(metrics)]
    keep = [i for i in range(7) if any(row[i] for row in body)]
    table = [[row[i] for i in keep] for row in (HEAD, *body)]
    widths = [max(len(row[i]) for row in table) for i in range(len(keep))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _count(entry: Mapping[str, Any]) -> Any:
    """How many samples a number was measured on, "" if it does not say."""
    protocol = entry.get("protocol") or {}
    return next((protocol[key] for key in ("n", "N") if key in protocol), "")


def _flags(entry: Mapping[str, Any] | None) -> list[str]:
    """What a number's protocol says is doubtful about it."""
    return list(((entry or {}).get("protocol") or {}).get("flags", ()))


def _rows(metrics: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row per metric; beside it the held-out data's, where they are as many samples: another N has another bias."""
    partner = {}
    for name, entry in metrics.items():
        held = f"{name.rpartition('/')[0]}/{HELD_OUT}"
        if name != held and held in metrics and _count(metrics[held]) == _count(entry):
            partner[name] = held
    rows = []
    for name, entry in sorted(metrics.items()):
        if name in partner.values():
            continue
        held = metrics.get(partner.get(name))
        protocol = entry.get("protocol") or {}
        count = _count(entry)
        rows.append(
            (
                name,
                number(entry["value"], entry.get("error")),
                "" if held is None else number(held["value"], held.get("error")),
                entry.get("unit") or "",
                entry.get("kind") or "",
                f"{count:,}" if isinstance(count, int) else str(count),
                "; ".join([*(own := _flags(entry)), *(f"held-out data: {x}" for x in _flags(held) if x not in own)]),
                {**protocol, **(entry.get("observed") or {})},
            )
        )
    return rows


def _table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    if not metrics:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title in (*HEAD, "protocol"))
    body = []
    for name, *cells, protocol in _rows(metrics):
        row = f"<td>{escape(name)}</td>"
        for title, cell in zip(HEAD[1:], cells, strict=True):
            kind = ' class="number"' if title in ("value", "held-out data", "N") else ""
            row += f'<td{kind} data-head="{escape(title)}">{escape(cell)}</td>' if cell else "<td></td>"
        told = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(_short(v))}</dd>" for k, v in protocol.items())
        row += f"<td><details><summary>how</summary><dl>{told}</dl></details></td>" if told else "<td></td>"
        body.append(f"<tr>{row}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _summary(lines: list[dict[str, Any]]) -> str:
    """Steps, epochs, time at work (gaps above ten minutes between two values are pauses), speed."""
    if not lines:
        return ""
    times = sorted(line["time"] for line in lines)
    worked = sum(later - sooner for sooner, later in zip(times, times[1:], strict=False) if later - sooner < 600)
    minutes, seconds = divmod(round(worked), 60)
    hours, minutes = divmod(minutes, 60)
    took = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    said = [f"{lines[-1]['step']:,} optimizer steps", f"{max(line['epoch'] for line in lines) + 1:,} epochs", took]
    speeds = sorted(line["value"] for line in lines if line["name"] == "speed/images_per_s")
    if speeds:
        said.append(f"{speeds[len(speeds) // 2]:,.0f} images/s")
    return ", ".join(said)


def _last(lines: list[dict[str, Any]]) -> str:
    if not lines:
        return ""
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(number(float(values[-1])))} at step {int(steps[-1]):,}</dd>"
        for name, (steps, values) in sorted(series(lines).items())
        if not name.endswith("/error")
    )
    return f"<details><summary>{len(lines):,} recorded values</summary><dl>{rows}</dl></details>"


def _newest(folder: Path, kind: str, ending: str = "png") -> Path | None:
    """The picture of the most steps; where none is named by its step, the one written last."""
    found = list((folder / "samples").glob(f"{kind}-*.{ending}"))
    numbered = [path for path in found if re.fullmatch(rf"{kind}-\d+", path.stem)]
    return max(numbered, default=None) or max(found, key=lambda path: path.stat().st_mtime, default=None)


def _side_by_side(*figures: str) -> str:
    return f'<div class="pair">{"".join(figures)}</div>' if any(figures) else ""


def _figure(path: Path | None, caption: str, kind: str = "") -> str:
    if path is None or not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    told = escape(f"{caption} ({path.name})")
    image = f'<img alt="{escape(caption)}" src="data:image/{path.suffix[1:]};base64,{data}">'
    return f'<figure><div class="{kind}">{image}</div><figcaption>{told}</figcaption></figure>'


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    return f"<details><summary>{escape(path.name)}</summary><pre>{escape(path.read_text())}</pre></details>"


def _files(folder: Path) -> str:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".") and p.name != REPORT)
    own = [p.relative_to(folder) for p in paths if "wandb" not in p.relative_to(folder).parts]
    rows = "".join(f"<dt>{escape(str(p))}</dt><dd>{(folder / p).stat().st_size / 1024:,.0f} KiB</dd>" for p in own)
    return f"<details><summary>{len(own):,} files</summary><dl>{rows}</dl></details>" if own else ""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>" if content else ""
