"""Measure sections, draw their figures, write the pages: python benchmarks/notes [--full | --only SECTION | --stale].

Without words: all quick sections anew, as `make notes`. --full: the long ones whose numbers are older than their code,
one after the other, each stored when it ends; a later call goes on.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import torch  # noqa: E402

from benchmarks.notes.book import FOLDER, Chapter, Section, contents, measured, picture  # noqa: E402
from benchmarks.notes.chapters import CHAPTERS  # noqa: E402

Pair = tuple[Chapter, Section]


def is_stale(chapter: Chapter, section: Section) -> bool:
    """Whether the section's numbers are older than the code that measures them, or are not there."""
    return chapter.stored().get(section.name, {}).get("measured_by") != section.codes()["measured_by"]


def chosen(options: argparse.Namespace) -> list[Pair]:
    """The sections to measure."""
    pairs = [(chapter, section) for chapter in CHAPTERS for section in chapter.sections]
    if options.only:
        unknown = set(options.only) - {section.name for _, section in pairs}
        if unknown:
            names = ", ".join(section.name for _, section in pairs)
            sys.exit(f"error: --only has {', '.join(sorted(unknown))}, expected words of: {names}")
        return [pair for pair in pairs if pair[1].name in options.only]
    if options.full:
        return [pair for pair in pairs if pair[1].minutes and is_stale(*pair)]
    quick = [pair for pair in pairs if not pair[1].minutes]
    return [pair for pair in quick if is_stale(*pair)] if options.stale else quick


def store(chapter: Chapter, section: Section, entry: dict) -> None:
    """Draw the figure, and put the entry into the chapter's file, in the order of the sections."""
    picture(section, entry["numbers"])
    stored = chapter.stored() | {section.name: entry | section.codes()}
    kept = [each.name for each in chapter.sections if each.name in stored]
    chapter.file.write_text("{\n" + ",\n".join(f'"{name}": {json.dumps(stored[name])}' for name in kept) + "\n}\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only", nargs="+", metavar="SECTION", help="these sections alone")
    which.add_argument("--full", action="store_true", help="the long sections that are not measured yet")
    which.add_argument("--stale", action="store_true", help="the quick sections whose code has changed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    pairs = chosen(options)
    for i, (chapter, section) in enumerate(pairs):
        if hours := sum(each.minutes for _, each in pairs[i:]) / 60:
            print(f"{hours:.1f} hours left")
        entry = measured(section)
        store(chapter, section, entry)
        shown = "" if section.proof(entry["numbers"]) else f"; THEY DO NOT SHOW THAT THE CLAIM {section.verdict}"
        print(f"{section.name}: {entry['cpu_seconds']:.0f} s of CPU{shown}", flush=True)
    for chapter in CHAPTERS:
        for section in chapter.sections:
            entry = chapter.stored().get(section.name)
            if entry and entry["drawn_by"] != section.codes()["drawn_by"] and not is_stale(chapter, section):
                store(chapter, section, entry)
        if old := [section.name for section in chapter.sections if is_stale(chapter, section)]:
            print(f"{chapter.page.name} is left as it is: {', '.join(old)} are not measured by the present code")
        else:
            chapter.page.write_text(chapter.rendered())
    (FOLDER / "index.md").write_text(contents(CHAPTERS))


if __name__ == "__main__":
    main()
