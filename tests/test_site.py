"""The navigation of the site names every page of docs/ once."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = {"index.md", "changelog.md"}  # by docs/site.py


def pages(nav):
    """The pages of a navigation, in order."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from pages(below)


def test_the_navigation_names_every_page_once():
    docs = ROOT / "docs"
    named = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    written = WRITTEN | {f"notebooks/{path.stem}.md" for path in docs.glob("notebooks/*.ipynb")}
    assert sorted(named) == sorted({path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} | written)
