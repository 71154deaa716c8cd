"""docs/tutorial as a person follows it: the files of each page are written, its commands run, with few steps."""

import re
import shutil
import subprocess
from pathlib import Path

import yaml

import run as entry
from tests.extensions import EXTENSION, on_path
from tests.test_site import ROOT, pages

NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
PAGES = [name for name in pages(NAV) if name.startswith("tutorial/")]
FILE = re.compile(r'^```\w+\n--8<-- "docs/tutorial/([\w./]+)"\n```', re.MULTILINE)
QUICK = {
    "fit": ["trainer.max_steps=5", "data.n=64", "data.batch_size=16", "quality.n=16", "logger=none"],
    "evaluate": ["quality.n=16"],
    "sample": [],
    "compare": ["logger=none"],
}


def files(page):
    """The files that a page has, as they are."""
    return FILE.findall((ROOT / "docs" / page).read_text())


def test_each_file_is_on_one_page():
    named = [name for page in PAGES for name in files(page)]
    kept = (path for path in EXTENSION.rglob("*.*") if path.suffix in (".py", ".yaml", ".toml"))
    assert sorted(named) == sorted(path.relative_to(EXTENSION).as_posix() for path in kept)


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
            for name in files(page):
                assert Path(name).parent.is_dir(), name  # which a page tells to make
                shutil.copy(EXTENSION / name, name)
            for words in (line.split()[1:] for line in commands if line.startswith("lightning-gen")):
                stage = next((word.removeprefix("stage=") for word in words if word.startswith("stage=")), "fit")
                stages.append(stage)
                assert entry.main([*words, *QUICK[stage]]) == 0, (words, capsys.readouterr().err)
    assert sorted(stages) == ["compare", "evaluate", "fit", "fit", "fit", "sample", "sample"]
    assert "radius_gap/polar/held-out" in Path("outputs/spirals/metrics.json").read_text()
    assert "spirals/weight_norm" in Path("outputs/spirals/record.jsonl").read_text()
