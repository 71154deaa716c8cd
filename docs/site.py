"""What mkdocs adds to the pages of docs/: README.md as the first page, changelog, notebooks, experiments, reference.

An experiment's page has the head of its file, its command, and the rows of the tables in docs/ that measure it. A link
to a file of the code goes to the page of its docstrings.
"""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

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


def measured(name: str) -> list[str]:
    """The tables of docs/ that name an experiment, cut to its rows, each under a link to its page."""
    found = []
    for page in sorted(DOCS.glob("*.md")):
        for table in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.MULTILINE):
            rows = table.splitlines()
            own = [row for row in rows[2:] if re.search(rf"`{name}`", row.split("|")[1])]
            if own:
                link = f"From [{page.stem}](../{page.name}):"
                found.append("\n".join([link, "", *(rows[:2] + own), ""]))
    return found


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


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are written here."""
    pages = {
        "index.md": relinked((ROOT / "README.md").read_text(), ROOT / "README.md"),
        "changelog.md": relinked((ROOT / "CHANGELOG.md").read_text(), ROOT / "CHANGELOG.md"),
        **{f"notebooks/{path.stem}.md": notebook_page(path) for path in sorted(DOCS.glob("notebooks/*.ipynb"))},
        **{f"experiments/{name}.md": experiment_page(name, path) for name, path in experiments().items()},
        **{f"reference/{room}.md": reference_page(room, title) for room, title in ROOMS.items()},
    }
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


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Mend the links of a page of docs/ that leave it."""
    source = DOCS / page.file.src_uri
    return relinked(markdown, source, page.file.src_uri.count("/")) if source.is_file() else markdown
