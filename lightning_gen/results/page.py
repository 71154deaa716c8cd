"""A comparison as one HTML page and as Markdown, from its tables and pictures alone."""

from collections.abc import Mapping, Sequence
from html import escape

from lightning_gen.results.report import STYLE, document, figure, section
from lightning_gen.results.tables import Table, html, html_notes, plain
from lightning_gen.results.tables import markdown as markdown_of

TITLE = "Comparison"
LEGEND = (
    "best: better than every other number of its class by more than two combined standard errors",
    "tied: within two combined standard errors of the best value",
    "leads: the best value, but an error is not known, so it may be chance",
    "a, b, …: other protocols within one column, never ranked with each other",
)
MORE = """
body { max-width: 76rem; }
td, th { white-space: nowrap; padding-right: 1.4rem; } td.name, th.name { white-space: normal; min-width: 9rem; }
th { vertical-align: bottom; } h2 + p.about { margin: -.3rem 0 .6rem; }
tr.block th { color: var(--text); font-weight: 600; padding-top: 1rem; white-space: normal; }
tr.real td { color: var(--soft); font-style: italic; }
td.leads { text-decoration: underline dotted; text-underline-offset: .25em; }
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


class Picture:
    """A PNG, its section (samples, samplers, curves), and what it shows."""

    def __init__(self, section: str, data: bytes, caption: str) -> None:
        self.section, self.data, self.caption = section, data, caption


def page(title: str, tables: Sequence[Table], pictures: Sequence[Picture], about: str) -> str:
    """The HTML page: nothing is loaded, nothing runs."""

    def figures(name: str, style: str = "") -> str:
        return "".join(figure(p.data, p.caption, p.caption, style) for p in pictures if p.section == name)

    grids, configs = figures("samples"), tables[-1]
    folded = f"<details><summary>show</summary>{html(configs)}</details>" if configs.blocks else ""
    parts = [
        f'<h1>{escape(title)}</h1>\n<p class="about">{escape(about)}</p>',
        *(section(table.title, html(table)) for table in tables[:-1]),
        section("How to read the numbers", html_notes(LEGEND)),
        section("Samples", f'<div class="grids">{grids}</div>' if grids else ""),
        section("Samplers by network evaluations", figures("samplers", "wide")),
        section("Curves", figures("curves", "wide")),
        section(configs.title, folded),
    ]
    return document(title, parts, STYLE + MORE)


def markdown(title: str, tables: Sequence[Table], pictures: Mapping[str, Picture], about: str) -> str:
    """The same as Markdown; `pictures` are files beside it, by their names."""
    lines = [f"# {title}", "", plain(about), "", *(line for table in tables for line in markdown_of(table))]
    lines += ["## How to read the numbers", "", *(f"- {line}" for line in LEGEND), ""]
    for name, picture in pictures.items():
        lines += [f"![{plain(picture.caption)}]({name})", ""]
    return "\n".join(lines)
