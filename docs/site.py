"""What mkdocs adds to the pages of docs/: README.md as the first page, changelog, notebooks, experiments, reference.

An experiment's page has the head of its file, its command, and what the pages of docs/ have measured of it. A link to a
file of the code goes to the page of its docstrings.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
ROOMS = {
    "families": "Families",
    "models": "Models",
    "nets": "Networks",
    "losses": "Losses",
    "samplers": "Samplers",
    "likelihood": "Likelihoods",
    "data": "Data",
    "metrics": "Metrics",
    "representations": "Representations",
    "questions": "Questions to a model",
    "results": "Results",
    "callbacks": "Callbacks",
    "process": "Processes",
    "options": "Options",
}
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#)([^)\s#]+)(#[^)]*)?\)")


def experiments() -> dict[str, Path]:
    """Name -> file."""
    return {path.stem: path for path in sorted((ROOT / "experiments/experiment").glob("*.yaml"))}


def head(path: Path) -> str:
    """The comment that an experiment begins with."""
    lines = path.read_text().splitlines()[1:]
    comment = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.removeprefix("#").strip() for line in comment)


def places() -> Iterator[tuple[Path, str, list[str]]]:
    """Each section of the pages of docs/: page, heading, and paragraphs and tables in order."""
    for page in sorted(DOCS.glob("*.md")):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for section in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
            heading, _, body = section.partition("\n")
            yield page, heading, [block.strip() for block in re.split(r"\n{2,}", body) if block.strip()]


def measured(name: str) -> list[str]:
    """What docs/ have measured of an experiment, each piece under a link to its page and with what it says of itself.

    Paragraphs on its runs in full come first, which give a number of steps after its name; then tables with rows of it
    as it is; then those of its variants.
    """
    in_full, as_it_is, variants = [], [], []
    subject = re.compile(rf"`(experiment=)?{name}`( in full)?, \d")
    for page, heading, blocks in places():
        source = f"From [{page.stem}](../{page.name}), {heading}:"
        for before, block, after in zip(["", *blocks], blocks, [*blocks[1:], ""], strict=False):
            if block.startswith("|"):
                title, rule, *rows = block.splitlines()
                own = [row for row in rows if f"`{name}`" in row.split("|")[1]]
                kept = as_it_is if any(row.startswith(f"| `{name}` |") for row in own) else variants
                pieces = [before, "\n".join([title, rule, *own])] if own else []
            else:
                kept = in_full
                pieces = [block, *([after] if after.startswith("|") else [])] if subject.search(block) else []
            if pieces:
                kept.append("\n\n".join([source, *(relinked(piece, page, depth=1) for piece in pieces)]) + "\n")
    return in_full + as_it_is + variants


def experiment_page(name: str, path: Path) -> str:
    """Paper, command, numbers, and the file."""
    tables = "\n".join(measured(name)) or "No page of this documentation has a number of it."
    command = f"python run.py experiment={name}"
    source = path.read_text().partition("\n")[2]
    return (
        f"# {name}\n\n{head(path)}\n\n```\n{command}\n```\n\n## Measured\n\n{tables}\n\n"
        f"## The file\n\n```yaml\n{source}```\n"
    )


def notebook_page(path: Path) -> str:
    """The cells of a notebook, code as code, under a link to the file."""
    texts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        texts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    return "\n\n".join([texts[0], f"The notebook: [{path.name}]({path.name})", *texts[1:]]) + "\n"


def reference_page(room: str, title: str) -> str:
    """The docstrings of a room's public classes and functions."""
    submodules = room in ("callbacks", "results")  # whose __init__ imports its names late, or none
    return f"# {title}\n\n::: lightning_gen.{room}\n    options: {{show_submodules: {submodules}, heading_level: 2}}\n"


def target_of(link: str, page: Path) -> str | None:
    """Where a link of a page outside of the site goes within it; None for nowhere."""
    path = (page.parent / link).resolve()
    if not path.is_relative_to(ROOT):
        return None
    inside = path.relative_to(ROOT)
    if inside.parts[:1] == ("docs",):
        return "/".join(inside.parts[1:]).replace(".ipynb", ".md")
    if inside.parts[:2] == ("experiments", "experiment") and inside.suffix == ".yaml":
        return f"experiments/{inside.stem}.md"
    room = Path(inside.parts[1]).stem if inside.parts[:1] == ("lightning_gen",) and len(inside.parts) > 1 else ""
    if room in ROOMS:
        return f"reference/{room}.md"
    return {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}.get(str(inside))


def relinked(text: str, source: Path, depth: int = 0) -> str:
    """The text with links that work in the site; a link to a file that has no page is its text."""

    def replace(match: re.Match) -> str:
        words, link, anchor = match.group(1), match.group(2), match.group(3) or ""
        target = target_of(link, source)
        return f"[{words}]({'../' * depth}{target}{anchor})" if target else words

    text = re.sub(r"!\[([^\]]*)\]\(docs/", r"![\1](", text)
    return LINK.sub(replace, text)


def on_files(files: "Files", config: Any) -> "Files":
    """Add the pages that are written here."""
    pages = {
        "index.md": relinked((ROOT / "README.md").read_text(), ROOT / "README.md"),
        "changelog.md": relinked((ROOT / "CHANGELOG.md").read_text(), ROOT / "CHANGELOG.md"),
        **{f"notebooks/{path.stem}.md": notebook_page(path) for path in sorted(DOCS.glob("notebooks/*.ipynb"))},
        **{f"experiments/{name}.md": experiment_page(name, path) for name, path in experiments().items()},
        **{f"reference/{room}.md": reference_page(room, title) for room, title in ROOMS.items()},
    }
    from mkdocs.structure.files import File

    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_config(config: Any) -> Any:
    """Put the written pages into the navigation."""
    config.nav += [
        {"Experiments": [f"experiments/{name}.md" for name in experiments()]},
        {"Reference": [f"reference/{room}.md" for room in ROOMS]},
    ]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: "Files") -> str:
    """Mend the links of a page of docs/ that leave it."""
    source = DOCS / page.file.src_uri
    return relinked(markdown, source, page.file.src_uri.count("/")) if source.is_file() else markdown
