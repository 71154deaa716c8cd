"""docs/tutorial as a person follows it: the files that its pages show are written, its commands run, with few steps."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

import run as entry
from tests.extensions import EXTENSION, on_path
from tests.test_site import ROOT, pages

NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
PAGES = [name for name in pages(NAV) if name.startswith("tutorial/")]
# A link to a file, its last words before a block, which has the file's text.
FILE = re.compile(r"\[[^]]*\]\(([\w./]+\.(?:py|yaml|toml))\):\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
QUICK = {
    "fit": ["trainer.max_steps=5", "data.n=64", "data.batch_size=16", "quality.n=16", "logger=none"],
    "evaluate": ["quality.n=16"],
    "sample": [],
    "compare": ["logger=none"],
}


def files(page):
    """Name -> text of the files that a page shows."""
    return dict(FILE.findall((ROOT / "docs" / page).read_text()))


def test_each_file_is_on_one_page_as_it_is():
    shown = [each for page in PAGES for each in files(page).items()]
    kept = (path for path in EXTENSION.rglob("*.*") if path.suffix in (".py", ".yaml", ".toml"))
    assert sorted(shown) == sorted((path.relative_to(EXTENSION).as_posix(), path.read_text()) for path in kept)


@pytest.mark.slow  # tests/test_extension.py runs the finished package
def test_each_page_works_with_what_the_pages_before_it_wrote(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stages = []
    with on_path(tmp_path, "spirals"):
        for page in PAGES:
            text = (ROOT / "docs" / page).read_text()
            commands = re.findall(r"^(?:lightning-gen|mkdir|touch) .*$", text, re.MULTILINE)
            for line in commands:
                if not line.startswith("lightning-gen"):
                    subprocess.run(line, shell=True, check=True)
            for name, content in files(page).items():
                assert Path(name).parent.is_dir(), name  # which a page tells to make
                Path(name).write_text(content)
            for words in (line.split()[1:] for line in commands if line.startswith("lightning-gen")):
                stage = next((word.removeprefix("stage=") for word in words if word.startswith("stage=")), "fit")
                stages.append(stage)
                assert entry.main([*words, *QUICK[stage]]) == 0, (words, capsys.readouterr().err)
    assert sorted(stages) == ["compare", "evaluate", "fit", "fit", "fit", "sample", "sample"]
    assert "radius_gap/polar/held-out" in Path("outputs/spirals/metrics.json").read_text()
    assert "spirals/weight_norm" in Path("outputs/spirals/record.jsonl").read_text()
