"""What a chapter is made of: sections with a claim, a measurement, a figure and a verdict; how they are kept and shown.

A page holds no digit that was typed: its text has {name} where a stored number goes. Beside the numbers of a section
stand the hash of the code that measured them, of the code that drew the figure, seconds of CPU, and versions.
"""

import json
import math
import platform
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.notes.source import code
from lightning_gen.results.pictures.figures import light_frame, new_figure, pixels
from lightning_gen.results.tables import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/notes"
WIDTH, DPI, COLOURS = 5.0, 130, 64  # of a figure: inches, as wide as a phone shows well
Numbers = dict[str, Any]
F64 = {"dtype": torch.float64}


@dataclass(frozen=True)
class Section:
    """A claim of the notes, and what became of it.

    Args:
        name: of its figure, and of its word after --only.
        title: of the page's section.
        claim: of the notes, in words of ours.
        text: what was measured, Markdown with {name} for a number.
        verdict: of the claim.
        why: the verdict's sentence.
        measure: the numbers: values, lists, {"value": ..., "error": ...}, or dictionaries of these.
        draw: the figure from the numbers alone.
        proof: whether the numbers say what the verdict says.
        height: of the figure, inches.
        alt: what the figure shows.
        erratum: whether docs/errata.md has a row of it.
        tiny: arguments of `measure` that make it a matter of seconds, for tests.
        minutes: that a long section takes, which `make notes-full` measures; 0 for a quick one.
    """

    name: str
    title: str
    claim: str
    text: str
    verdict: Literal["holds", "holds with a condition", "fails"]
    why: str
    measure: Callable[..., Numbers]
    draw: Callable[["Figure", Numbers], None]
    proof: Callable[[Numbers], bool]
    alt: str
    height: float = 3.2
    erratum: bool = False
    tiny: Mapping[str, Any] = field(default_factory=dict)
    minutes: float = 0

    @property
    def command(self) -> str:
        """Of the two, the one that measures it."""
        return "make notes-full" if self.minutes else "make notes"

    def codes(self) -> dict[str, str]:
        """The hashes of the code that measures and of the code that draws."""
        return {"measured_by": code(self.measure), "drawn_by": code(self.draw)}


@dataclass(frozen=True)
class Chapter:
    """A page.

    Args:
        name: of its files.
        title: of the page.
        intro: its first paragraph.
        sections: in the order of the notes.
    """

    name: str
    title: str
    intro: str
    sections: tuple[Section, ...]

    @property
    def page(self) -> Path:
        """docs/notes/<name>.md."""
        return FOLDER / f"{self.name}.md"

    @property
    def file(self) -> Path:
        """docs/notes/<name>.json."""
        return FOLDER / f"{self.name}.json"

    def stored(self) -> dict[str, Numbers]:
        """What is stored of each section that was measured."""
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    def rendered(self) -> str:
        """The page, from what is stored."""
        stored, parts = self.stored(), [f"# {self.title}", self.intro, self.sources()]
        parts += [rendered(section, stored[section.name]) for section in self.sections]
        return "\n\n".join(parts) + "\n"

    def sources(self) -> str:
        """Which command measured which numbers of the page, and how long the long ones took."""
        stored = self.stored()
        long = [f"*{each.title}* ({duration([stored[each.name]])})" for each in self.sections if each.minutes]
        first = "The numbers of this page are measured anew by `make notes`"
        return f"{first}, those of {', '.join(long)} by `make notes-full`." if long else f"{first}."


def duration(entries: list[Numbers]) -> str:
    """The time of entries, in words."""
    cpu, clock = (sum(each[key] for each in entries) for key in ("cpu_seconds", "seconds"))
    return f"{cpu:.0f} s of one core, {clock:.0f} s by the clock"


def measured(section: Section) -> Numbers:
    """The entry of a section, measured now."""
    torch.manual_seed(0)
    since = time.process_time(), time.perf_counter()
    numbers = rounded(section.measure())
    cpu, wall = (
        round(clock() - begun, 1) for clock, begun in zip((time.process_time, time.perf_counter), since, strict=True)
    )
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return {"numbers": numbers, "cpu_seconds": cpu, "seconds": wall, "versions": versions, **section.codes()}


def rounded(value: Any) -> Any:
    """Numbers with seven digits, lists and dictionaries of them, as JSON keeps them."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    if isinstance(value, Tensor | np.ndarray):
        return rounded(value.tolist())
    return float(f"{value:.7g}") if isinstance(value, float) else value


def mean(values: Tensor) -> Numbers:
    """The mean of independent values, (n,), with its standard error."""
    values = values.double()
    return {"value": float(values.mean()), "error": float(values.std() / math.sqrt(len(values)))}


class Shown(float):
    """A number as the page shows it: four digits by default, a real minus, powers of ten raised."""

    def __format__(self, style: str) -> str:
        return readable(float.__format__(self, style) if style else number(self))


class Measured(dict):
    """A value and its error as the page shows them: two digits of the error by default."""

    def __format__(self, style: str) -> str:
        value, error = self["value"], self["error"]
        return readable(f"{value:{style}} ± {error:{style}}" if style else number(value, error))


def readable(text: str) -> str:
    """-1.2e-05 as −1.2·10⁻⁵."""
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    text = re.sub(r"e([+-]\d+)", lambda found: "·10" + str(int(found[1])).translate(raised), text)
    return re.sub(r"^-", "−", text)


def shown(value: Any) -> Any:
    """Numbers as the page shows them, in lists and dictionaries."""
    if isinstance(value, dict):
        each = {key: shown(one) for key, one in value.items()}
        return Measured(each) if set(value) == {"value", "error"} else each
    if isinstance(value, list):
        return [shown(each) for each in value]
    return Shown(value) if isinstance(value, float) else value


def rendered(section: Section, entry: Numbers) -> str:
    """The section of the page."""
    numbers = shown(entry["numbers"])
    erratum = " See the [errata](../errata.md)." if section.erratum else ""
    return "\n\n".join(
        [
            f"## {section.title}",
            f"**The notes:** {section.claim}",
            f"![{section.alt}]({section.name}.png)",
            section.text.strip().format_map(numbers),
            f"**The claim {section.verdict}.** {section.why.format_map(numbers)}{erratum}",
            f"```\npython benchmarks/notes --only {section.name}\n```",
        ]
    )


def contents(chapters: tuple[Chapter, ...]) -> str:
    """The first page: each section with its verdict and its command."""
    rows = ["| section | the claim | numbers by |", "|---|---|---|"]
    for chapter in chapters:
        rows.append(f"| **[{chapter.title}]({chapter.name}.md)** | | |")
        for section in chapter.sections:
            link = f"[{section.title}]({chapter.name}.md#{anchor(section.title)})"
            rows.append(f"| {link} | {section.verdict} | `{section.command}` |")
    entries = [each for chapter in chapters for each in chapter.stored().items()]
    long = {section.name for chapter in chapters for section in chapter.sections if section.minutes}
    return CONTENTS.format(long=duration([each for name, each in entries if name in long])) + "\n".join(rows) + "\n"


def anchor(title: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title.encode("ascii", "ignore").decode())).strip("-").lower()


CONTENTS = """# The lecture notes, run

The models of this package follow lecture notes of 2023, *Generative Models*, which are not in this repository. Here are the notes' claims in their order, in words of ours, each with an experiment of ours: what
was measured, a figure, and whether the claim holds. Where the notes have a wrong formula, the [errata](../errata.md) have the right one.

Every number on these pages is read from the JSON file beside the page, which a command wrote, and every section ends with the command that measures it and
draws its figure. `make notes` measures the quick sections anew, in minutes; `make notes-full` measures the long ones, which train, and goes on where it was stopped: it last took {long},
beside other work. All seeds are fixed. Errors after ± are standard errors over what the section repeats: draws, chains, sets or seeds.

"""


def panels(figure: "Figure", rows: int = 1, columns: int = 1) -> list:
    """Axes in the style of the book, row by row."""
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for each in axes:
        light_frame(each)
        each.tick_params(labelsize=10)
    return axes


def picture(section: Section, numbers: Numbers) -> Path:
    """Draw the figure into docs/notes, in few colours, so that it is small."""
    from matplotlib import rc_context

    path = FOLDER / f"{section.name}.png"
    with rc_context({"font.size": 11, "legend.fontsize": 10, "legend.frameon": False, "axes.titlesize": 11}):
        figure = new_figure(WIDTH, section.height, DPI)
        section.draw(figure, numbers)
        Image.fromarray(pixels(figure)).quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    return path
