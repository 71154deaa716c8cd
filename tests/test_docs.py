"""What the documents say can be typed, opened and found."""

import ast
import json
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

import lightning_gen
import run as entry
from lightning_gen.config.root import CHANGES, KEYS
from lightning_gen.results.result import Result
from lightning_gen.stages import array, command

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
INLINE = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE))
PAGES = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]  # which names what is gone, too
CONFIGS = sorted((ROOT / "experiments").rglob("*.yaml"))
ENTRY_POINTS = {"lightning_gen.extensions"}  # a group of packaging metadata, no module
GROUPS = {folder.name for folder in (ROOT / "experiments").iterdir() if folder.is_dir()}


def commands():
    """The words after run.py, of every such line of the README's blocks."""
    lines = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines() if "run.py" in line]
    assert all(line[0] in ("python", "torchrun") for line in lines), lines
    return [line[line.index("run.py") + 1 :] for line in lines]


def table(head):
    """The names in the first column of the table whose head begins with `head`."""
    rows = README.split(f"\n| {head} |")[1].split("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_every_command_composes_without_faults(tmp_path, monkeypatch, capsys):
    """In the README's order: a later stage, and init=, find the folders that the lines before have left."""
    monkeypatch.chdir(tmp_path)
    seen = []

    def job(config, folder):
        assert not config["init"] or Path(config["init"]).is_dir(), config["init"]
        folder.store(config) if config["stage"] == "fit" else seen.append(config["stage"])
        if config["stage"] == "fit":
            folder.metrics.write_text(json.dumps({"n": Result(1.0, "exact").as_dict()}))
        if config["stage"] == "export":
            (folder.path / "export").mkdir()

    monkeypatch.setattr(command, "job", job)
    assert len(commands()) >= 10
    for words in commands():
        assert entry.main(words) == 0, (words, capsys.readouterr().err)
    assert set(seen) == {"sample", "edit", "evaluate", "export", "compress", "compare"}


def test_every_key_that_the_text_names_is_a_key():
    assert len(INLINE) > 50
    for text in INLINE:
        for key in re.findall(r"(?:^|\s)([a-z_]+)(?:\.[a-z_.]+)?=", text):
            assert key in {*KEYS, *GROUPS, array.KEY, "key", "group"}, text


@pytest.mark.parametrize("group", ["data", "quality"])
def test_the_tables_name_every_choice(group):
    assert sorted(table(f"`{group}=`")) == sorted(file.stem for file in (ROOT / "experiments" / group).glob("*.yaml"))


def test_what_may_change_between_two_starts_is_what_the_code_lets_change():
    sentence = re.search(r"refused with the list of differences; only ([^.]*) may change", README)[1]
    assert set(re.findall(r"`(\w+)`", sentence)) == set(CHANGES) - {"run"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_path_exists(page):
    top = {path.name for path in ROOT.iterdir()} - {"outputs", "data", "wandb"}
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for path in re.findall(r"(?<!`)`([\w.*-]+(?:/[\w.*-]*)+)`(?!`)", text):
        if path.split("/")[0] in top:
            assert any(ROOT.glob(path)), path


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS], ids=lambda path: path.name)
def test_every_dotted_name_is_one_of_the_package(page):
    for name in set(re.findall(r"\blightning_gen(?:\.[A-Za-z_]\w*)+", page.read_text())) - ENTRY_POINTS:
        assert pkgutil.resolve_name(name) is not None, name


def test_every_name_in_code_is_a_name_of_the_source():
    """CamelCase words of the pages, which may be classes of this package or a few of others."""
    source = "\n".join(
        path.read_text() for path in [*ROOT.glob("lightning_gen/**/*.py"), *ROOT.glob("callbacks/**/*.py")]
    )
    for page in PAGES:
        for text in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text()):
            for name in re.findall(r"(?<![\w./])[A-Z]\w*[a-z][A-Z]\w+", text):
                assert re.search(rf"\b{name}\b", source), f"{page.name}: {name}"


@pytest.mark.parametrize("name", ["capabilities", "check", "compression", "energies", "flows", "quality", "training"])
def test_python_of_the_pages_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / f"{name}.md").read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), {})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_resolves(document):
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if not target.startswith(("https://", "http://")):
            assert (document.parent / target).exists(), target


def test_every_proof_of_the_errata_exists():
    text = (ROOT / "docs" / "errata.md").read_text()
    rows = [row for row in text.splitlines() if row.startswith("|")][2:]
    assert len(rows) >= 8
    for row in rows:
        proof = re.search(r"\[`([\w/.]+)::(test_\w+)`\]", row)
        assert proof, f"this row names no test: {row}"
        tree = ast.parse((ROOT / proof[1]).read_text())
        assert proof[2] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, proof[0]


def test_the_changelog_knows_the_version():
    assert lightning_gen.__version__ in (ROOT / "CHANGELOG.md").read_text()
