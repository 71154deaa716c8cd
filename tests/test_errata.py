"""The errata of the lecture notes by number: each has tests that fail for the notes' form, or the word wording."""

import re

import pytest

from tests.planted import ROOT, planted

PAGE = (ROOT / "docs/errata.md").read_text()
TEST = re.compile(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)")


def rows():
    """Number, the notes' form, the correct one, source and tests of each row of both tables."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_all_36_are_there_in_their_order():
    numbers = [row[0] for row in rows()]
    assert numbers[:36] == [f"E{n}" for n in range(1, 37)] and len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_is_whole_and_names_tests_that_exist(row):
    assert len(row) == 5 and all(row)
    tests = TEST.findall(row[4])
    assert bool(tests) != bool(re.match("wording\\b", row[4]))
    for name, file in tests:
        assert f"\ndef {name}(" in (ROOT / file).read_text()


@pytest.mark.parametrize("row", rows()[:36], ids=lambda row: row[0])
def test_a_row_names_the_tests_that_fail_for_the_planted_errors_of_its_number(row):
    """A row of words has neither."""
    named = {f"{file}::{name}" for name, file in TEST.findall(row[4])}
    assert named == {plant.test for plant in planted() if plant.name.startswith(f"{row[0]}: ")}


def test_every_source_has_its_link():
    sources = {source for row in rows() for source in re.findall(r"\[([^`\]]+)\]", row[3])}
    assert sources == set(re.findall(r"^\[([^\]]+)\]: https://\S+$", PAGE, re.MULTILINE))
