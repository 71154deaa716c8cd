"""The book of the notes: its pages hold stored numbers alone, which the present code measured."""

import ast
import re

import pytest
import yaml
from PIL import Image

from benchmarks.notes.book import FOLDER, ROOT, anchor, contents, rendered
from benchmarks.notes.chapters import CHAPTERS
from benchmarks.notes.densities.oracles import ORACLES
from benchmarks.notes.diffusion.trained import TRAINED_STRIPS
from benchmarks.notes.source import collect

SECTIONS = [(chapter, section) for chapter in CHAPTERS for section in chapter.sections]
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
each_section = pytest.mark.parametrize(("chapter", "section"), SECTIONS, ids=[section.name for _, section in SECTIONS])
MEASURE_AGAIN = "docs/notes is older than the code of '{0}': python benchmarks/notes --only {0}"


def typed_digits(text):
    """The digits of a text that are neither in code, nor a placeholder, nor a year of a citation, nor an address."""
    return re.findall(r"\d", re.sub(r"`[^`]*`|\{[^}]*\}|\(\w[^()]*, \d{4}\)|\]\([^)]*\)", "", text))


@each_chapter
def test_a_page_is_what_its_numbers_render(chapter):
    assert chapter.page.read_text() == chapter.rendered(), "python benchmarks/notes --stale writes the pages"
    assert set(chapter.stored()) == {section.name for section in chapter.sections}


def test_the_first_page_lists_the_sections():
    assert (FOLDER / "index.md").read_text() == contents(CHAPTERS)


@each_section
def test_numbers_and_figure_are_those_of_the_present_code(chapter, section):
    entry = chapter.stored()[section.name]
    assert {key: entry[key] for key in section.codes()} == section.codes(), MEASURE_AGAIN.format(section.name)


def test_the_hash_covers_what_a_measurement_names_in_other_modules_and_dictionaries_of_functions():
    found = {}
    collect(ORACLES.measure, found)
    names = {name.rpartition(".")[2]: name for name in found}
    assert names["annealed"] == "benchmarks.notes.densities.partition.annealed"
    assert {"constants", "WithConstant", "kernel_density"} <= names.keys()
    assert "Exponential([0.6])" in found[names["LAWS"]], "a law could change, and its numbers would stay"


def test_the_hash_covers_the_recipe_that_a_measurement_trains():
    found = {}
    collect(TRAINED_STRIPS.measure, found)
    net = (ROOT / "experiments/net/unet_digits.yaml").read_text()
    assert net in ast.literal_eval(found["benchmarks.notes.diffusion.trained.RECIPE"])


@each_section
def test_the_numbers_show_the_verdict(chapter, section):
    assert section.proof(chapter.stored()[section.name]["numbers"])


@each_section
def test_the_text_has_no_digit_that_was_typed(chapter, section):
    for text in (section.title, section.claim, section.text, section.why, section.alt, chapter.intro):
        assert not typed_digits(text), text
    assert "{" in section.text


@each_section
def test_the_figure_is_small_and_named(chapter, section):
    path = FOLDER / f"{section.name}.png"
    assert path.stat().st_size < 60_000
    with Image.open(path) as image:
        assert image.width <= 700
    assert f"]({path.name})" in chapter.page.read_text() and len(section.alt) > 20


def test_there_is_no_other_file():
    names = [f"{chapter.name}.{kind}" for chapter in CHAPTERS for kind in ("md", "json")]
    names += [f"{section.name}.png" for _, section in SECTIONS] + ["index.md"]
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(names) and len(set(names)) == len(names)


def test_the_navigation_has_the_pages_in_their_order():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    (pages,) = [entry["The notes, run"] for entry in nav if isinstance(entry, dict) and "The notes, run" in entry]
    assert pages == ["notes/index.md", *(f"notes/{chapter.name}.md" for chapter in CHAPTERS)]


@each_section
def test_a_measurement_runs_and_fills_the_text(chapter, section):
    """At the sizes of `tiny`, where the numbers need not show the verdict."""
    entry = {"numbers": section.measure(**section.tiny)}
    assert set(entry["numbers"]) == set(chapter.stored()[section.name]["numbers"])
    if not section.tiny:
        assert section.proof(entry["numbers"])
    assert anchor(section.title) and rendered(section, entry).count("\n\n") >= 5
