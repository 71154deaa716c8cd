"""What the documents say can be typed, opened and found."""

import json
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

import lightning_gen
import run as entry
from lightning_gen import families, models
from lightning_gen.config.root import CHANGES, KEYS
from lightning_gen.results.result import Result
from lightning_gen.stages import array, command

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What a person types in the first hour, in the order in which a later command uses the folders of those before it.
TYPED = [ROOT / name for name in ("README.md", "docs/tutorial/demo.md", "docs/data.md", "docs/command-line.md")]
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
RUN_FOLDER = ROOT / "docs/run-folder.md"
PAGES = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]  # which names what is gone, too
CONFIGS = sorted((ROOT / "experiments").rglob("*.yaml"))
ENTRY_POINTS = {"lightning_gen.extensions"}  # a group of packaging metadata, no module
CAPABILITIES = sorted(name for name in models.__all__ if "title" in vars(getattr(models, name)))
GROUPS = {folder.name for folder in (ROOT / "experiments").iterdir() if folder.is_dir()}


def commands(page):
    """The words after run.py of each such line in blocks, but those that print and end, as check, or need a sweeper."""
    text = "\n".join(FENCED.findall(page.read_text())).replace("\\\n", " ")
    lines = re.findall(r"^(?:python|torchrun)\b.* ?run\.py.*", text, re.MULTILINE)
    lines = [shlex.split(line, comments=True) for line in lines]
    words = [line[line.index("run.py") + 1 :] for line in lines]
    ending = {"--help", "hydra/sweeper=optuna", "check"}
    return [each for each in words if not ending & {*each}]


def inline(page):
    """The pieces of code in the page's text."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", FENCED.sub("", page.read_text()))


def table(page, head):
    """The names in the first column of the page's table whose head begins with `head`."""
    rows = page.read_text().split(f"\n| {head} |")[1].split("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


@pytest.mark.parametrize("page", TYPED, ids=lambda path: path.stem)
def test_every_command_composes_without_faults(page, tmp_path, monkeypatch, capsys):
    """After the demo, in the page's order: later stages, and init=, find the folders of the lines before them."""
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
    assert commands(page)
    for words in [[], *commands(page)]:
        assert entry.main(words) == 0, (words, capsys.readouterr().err)
    if page.stem == "command-line":
        assert set(seen) == {"sample", "edit", "evaluate", "export", "compress", "compare"}


def test_every_key_that_the_text_names_is_a_key():
    pages = {*TYPED, *(ROOT / f"docs/{name}.md" for name in ("families", "numbers", "run-folder", "samplers", "code"))}
    texts = [text for page in pages for text in inline(page)]
    assert len(texts) > 300
    for text in texts:
        for key in re.findall(r"(?:^|\s)([a-z_]+)(?:\.[a-z_.]+)?=", text):
            assert key in {*KEYS, *GROUPS, array.KEY, "key", "group", "hydra"}, text


@pytest.mark.parametrize(("group", "page"), [("data", "data"), ("quality", "numbers"), ("sampler", "samplers")])
def test_the_tables_name_every_choice(group, page):
    choices = sorted(file.stem for file in (ROOT / "experiments" / group).glob("*.yaml"))
    assert sorted(table(ROOT / f"docs/{page}.md", f"`{group}=`")) == choices


def test_what_may_change_between_two_starts_is_what_the_code_lets_change():
    sentence = re.search(r"refused with the list of differences; only ([^.]*) may change", RUN_FOLDER.read_text())[1]
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


@pytest.mark.parametrize("name", CAPABILITIES)
def test_a_capability_s_row_names_what_a_class_with_it_must_define(name):
    capability = getattr(models, name)
    row = re.search(rf"^\| `{name}`.*", (ROOT / "docs/extending.md").read_text(), re.MULTILINE)[0]
    defines = re.findall(r"`(\w+)\(", row.split("|")[2])
    inherited = set().union(*(getattr(base, "__abstractmethods__", set()) for base in capability.__bases__))
    assert set(defines) >= capability.__abstractmethods__ - inherited
    assert all(hasattr(capability, member) for member in re.findall(r"`(\w+)\(", row))


def test_the_changelog_knows_the_version():
    assert lightning_gen.__version__ in (ROOT / "CHANGELOG.md").read_text()


ABBREVIATION = re.compile(r"\b[A-Z][A-Za-z]*[A-Z][A-Za-z0-9]*\b")
COMMON = {"CHANGELOG", "CONTRIBUTING", "CPU", "CUDA", "GB", "GPU", "HTML", "JPEG", "LICENSE", "MIT", "PNG", "PyTorch"}
COMMON |= {"README", "TAB", "WebP", "ID"}


def test_every_abbreviation_of_the_readme_is_in_the_glossary():
    """Or a class of ours, or a word of every computer."""
    glossary = (ROOT / "docs/glossary.md").read_text()
    rows = [row.split("|")[1] for row in glossary.splitlines() if row.startswith("|")][2:]
    known = COMMON | {word for row in rows for word in re.findall(r"\w+", row)} | {*families.__all__}
    text = re.sub(r"`[^`\n]*`|\]\([^)]*\)", " ", FENCED.sub("", (ROOT / "README.md").read_text()))
    assert not set(ABBREVIATION.findall(text)) - known
    assert rows == sorted(rows, key=str.casefold)


def test_the_readme_is_short_and_begins_without_formulas():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    assert not re.search(r"[∇σβαεθ∝]|\|\|", text[: text.index("make demo")])
