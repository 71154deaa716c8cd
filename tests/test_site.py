"""The navigation of the site names every page of docs/ once, and an experiment's page has what docs/ say of it."""

import importlib.util
import re
from pathlib import Path

import pytest
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


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("site_of_docs", ROOT / "docs/site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_numbers_of_a_recipe_in_full_come_first_and_say_what_they_are(site):
    full, equal, beside_peers, settings = site.measured("edm_digits")
    assert "The demo in full" in full.splitlines()[0] and "2,000 steps" in full
    assert "| EDM (`edm_digits`) |" in equal and "in five minutes" in equal and "(`ddpm_digits`)" not in equal
    assert "denoising-diffusion-pytorch" in beside_peers and settings.count("(`edm_digits`)") == 4
    told = re.findall(r"\d\.\d\d ± \d\.\d\d", (ROOT / "README.md").read_text())
    assert len(told) == 2 and all(number in full for number in told)
    speed = [piece.splitlines()[0].endswith("Sampling:") for piece in site.measured("made_digits")]
    assert speed == [False, True, False]  # of variants of the experiment


def test_a_paragraph_on_a_run_brings_the_table_below_it(site):
    (found,) = site.measured("flow_matching_rings")
    assert "4,000 steps" in found and found.count("\n| ") >= 4
    assert site.measured("no_such_experiment") == []
