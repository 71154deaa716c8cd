"""A comparison as one HTML page and as Markdown, from its tables and pictures alone."""

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from lightning_gen.results.curves import COLOURS
from lightning_gen.results.report import STYLE
from lightning_gen.results.tables import Block, Cell, Row, Run, Table

TITLE = "Comparison"
LEGEND = (
    "best: better than every other number of its class by more than two combined standard errors",
    "tied: within two combined standard errors of the best value",
    "leads: the best value, but an error is not known, so it may be chance",
    "a, b, …: other protocols within one column, never ranked with each other",
)
MARKS = {"best": "best", "tie": "tied", "leads": "leads"}
MORE = """
body { max-width: 76rem; }
td, th { white-space: nowrap; padding-right: 1.4rem; } td.name, th.name { white-space: normal; min-width: 9rem; }
th { vertical-align: bottom; } h2 + p.about { margin: -.3rem 0 .6rem; }
tr.block th { color: var(--text); font-weight: 600; padding-top: 1rem; white-space: normal; }
tr.real td { color: var(--soft); font-style: italic; }
td.best { font-weight: 700; } td.leads { text-decoration: underline dotted; text-underline-offset: .25em; }
.tag { font-size: .72rem; font-weight: 500; font-style: normal; color: var(--soft); border: 1px solid var(--line);
  border-radius: 999px; padding: 0 .45em; margin-left: .4em; display: inline-block; line-height: 1.5; }
td.best .tag { color: #ffffff; background: #2f7d53; border-color: #2f7d53; }
sup { color: var(--soft); margin-left: .15em; }
.who { display: inline-flex; align-items: baseline; white-space: nowrap; } .who wbr { display: none; }
.chip { flex: none; width: .7em; height: .7em; border-radius: 50%; margin-right: .5em; }
.label { color: var(--soft); margin-left: .5em; font-size: .85rem; }
ul.notes { color: var(--soft); font-size: .9rem; padding-left: 1.1rem; margin: .5rem 0 0; }
ul.notes li.unlike { color: var(--text); }
.grids { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); }
.grids img { width: 100%; image-rendering: pixelated; }
code { font-size: .85em; }
@media (max-width: 40rem) {
  table { display: table; width: 100%; } thead { display: table-header-group; } tbody { display: table-row-group; }
  tr { display: table-row; padding: 0; } td, th { display: table-cell; padding: .35rem 1rem .35rem 0; }
  td, th { border-bottom: 1px solid var(--line); } td:empty { display: table-cell; }
  td:first-child { font-weight: 400; position: sticky; left: 0; background: var(--ground); }
  td.name { min-width: 7rem; max-width: 9.5rem; } .who { white-space: normal; } .who wbr { display: inline; } }
"""


def page(title: str, runs: Sequence[Run], tables: Sequence[Table], pictures: Sequence["Picture"], about: str) -> str:
    """The HTML page: nothing is loaded, nothing runs."""
    shown = {key: [p for p in pictures if p.place == key] for key in ("samples", "samplers", "curves")}
    grids = "".join(_figure(p) for p in shown["samples"])
    parts = [
        f'<h1>{escape(title)}</h1>\n<p class="about">{escape(about)}</p>',
        _section("Runs", _table(tables[0], runs)),
        *(_section(table.title, _table(table, runs)) for table in tables[1:-1]),
        _section("How to read the numbers", _notes(LEGEND)),
        _section("Samples", f'<div class="grids">{grids}</div>' if grids else ""),
        _section("Samplers by network evaluations", "".join(_figure(p, "wide") for p in shown["samplers"])),
        _section("Curves", "".join(_figure(p, "wide") for p in shown["curves"])),
        _section(tables[-1].title, _folded(_table(tables[-1], runs)) if tables[-1].blocks else ""),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}{MORE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def markdown(
    title: str, runs: Sequence[Run], tables: Sequence[Table], pictures: Mapping[str, "Picture"], about: str
) -> str:
    """The same as Markdown; `pictures` are files beside it, by their names."""
    lines = [f"# {title}", "", _plain(about), ""]
    for table in tables:
        if not table.blocks:
            continue
        lines += [f"## {_plain(table.title)}", "", *([_plain(table.about), ""] if table.about else [])]
        for block in table.blocks:
            lines += [f"**{_plain(block.title)}**", ""] if block.title else []
            lines += [f"| {' | '.join(['', *map(_plain, table.columns)])} |", "|---" * (len(table.columns) + 1) + "|"]
            lines += [f"| {' | '.join([_who(row, runs), *map(_marked, row.cells)])} |" for row in block.rows] + [""]
        lines += [*(f"- {_plain(note)}" for note in table.notes), *([""] if table.notes else [])]
    lines += ["## How to read the numbers", "", *(f"- {line}" for line in LEGEND), ""]
    for name, picture in pictures.items():
        lines += [f"![{_plain(picture.caption)}]({name})", ""]
    return "\n".join(lines)


class Picture:
    """A PNG, where it stands (samples, samplers, curves), and what it shows."""

    def __init__(self, place: str, data: bytes, caption: str) -> None:
        self.place, self.data, self.caption = place, data, caption


def _table(table: Table, runs: Sequence[Run]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in table.columns)
    body = "".join(_block(block, len(table.columns), runs) for block in table.blocks)
    about = f'<p class="about">{escape(table.about)}</p>' if table.about else ""
    return (
        f'{about}<div class="wide"><table><thead><tr><th class="name"></th>{head}</tr></thead><tbody>{body}</tbody>'
        f"</table></div>{_notes(table.notes)}"
    )


def _block(block: Block, columns: int, runs: Sequence[Run]) -> str:
    head = f'<tr class="block"><th colspan="{columns + 1}">{escape(block.title)}</th></tr>' if block.title else ""
    return head + "".join(_row(row, runs) for row in block.rows)


def _row(row: Row, runs: Sequence[Run]) -> str:
    cells = "".join(_cell(found) for found in row.cells)
    if row.run is None:
        kind = ' class="real"' if row.label.startswith("real data") else ""
        return f'<tr{kind}><td class="name">{escape(row.label)}</td>{cells}</tr>'
    chip = f'<span class="chip" style="background:{COLOURS[row.run % len(COLOURS)]}"></span>'
    label = f'<span class="label">{escape(row.label)}</span>' if row.label else ""
    name = re.sub("([_/-])", r"\1<wbr>", escape(runs[row.run].name))
    return f'<tr><td class="name"><span class="who">{chip}<span>{name}{label}</span></span></td>{cells}</tr>'


def _cell(found: Cell | str | None) -> str:
    if not isinstance(found, Cell):
        return f'<td class="number">{escape(found or "")}</td>'
    mark, group, why = found.verdict.mark, found.verdict.group, found.verdict.why
    tag = f'<span class="tag">{MARKS[mark]}</span>' if mark else ""
    told = f' title="not ranked: {escape(why)}"' if why else ""
    letter = f"<sup>{group}</sup>" if group else ""
    return f'<td class="number {mark}"{told}>{escape(found.text)}{letter}{tag}</td>'


def _who(row: Row, runs: Sequence[Run]) -> str:
    return _plain(row.label if row.run is None else f"{runs[row.run].name} {row.label}".strip())


def _marked(found: Cell | str | None) -> str:
    if not isinstance(found, Cell):
        return _plain(found or "")
    text, mark = _plain(found.text), found.verdict.mark
    text = f"**{text}**" if mark == "best" else text
    letter = f"<sup>{found.verdict.group}</sup>" if found.verdict.group else ""
    return text + letter + (f" ({MARKS[mark]})" if mark else "")


def _plain(text: str) -> str:
    """Text that Markdown takes as it is."""
    return "".join(f"\\{c}" if c in "|*_`[]<>\\" else c for c in text.replace("\n", " "))


def _figure(picture: Picture, kind: str = "") -> str:
    data = base64.b64encode(picture.data).decode()
    image = f'<img alt="{escape(picture.caption)}" src="data:image/png;base64,{data}">'
    return f'<figure><div class="{kind}">{image}</div><figcaption>{escape(picture.caption)}</figcaption></figure>'


def _notes(notes: Sequence[str]) -> str:
    rows = "".join(f"<li{' class=unlike' if 'ot ranked' in note else ''}>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes">{rows}</ul>' if rows else ""


def _folded(content: str) -> str:
    return f"<details><summary>show</summary>{content}</details>"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>" if content else ""


def names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many of the last parts as tell them apart."""
    whole = [path.resolve().parts for path in paths]
    length = 1
    while len({parts[-length:] for parts in whole}) < len(whole):
        length += 1
    return ["/".join(parts[-length:]) for parts in whole]
