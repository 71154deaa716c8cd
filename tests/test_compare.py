"""stage=compare as a user types it: its keys, its refusals in an instant, its files, and W&B's table of the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import run as entry
from lightning_gen.runs.folder import RunFolder
from tests.results.compare_parts import bits, fid, folder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs, the second named as a sweep names it, and the working folder above them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    one = {"fid/digits/ema": fid(5.0, 0.1), "vlb/bits_per_dim/ema": bits(3.0)}
    other = {"fid/digits/ema": fid(6.0, 0.1), "vlb/bits_per_dim/ema": bits(2.0)}
    return folder(Path("outputs/a"), one, losses=5, level=9), folder(
        Path("outputs/b-seed=1"), other, losses=5, level=90
    )


def test_one_command_writes_the_page_and_wandb_has_the_same_table(runs, capsys):
    assert entry.main(["stage=compare", "runs=[outputs/a,outputs/b-seed=1]"]) == 0
    there = Path("outputs/compare")
    told = capsys.readouterr().out
    for name in ("comparison.html", "comparison.md", "comparison.json", "comparison-curves-1.png"):
        assert (there / name).stat().st_size > 0 and str(there / name) in told
    numbers = json.loads((there / "comparison.json").read_text())["numbers"]
    (kept,) = there.glob("wandb/offline-run-*/files/media/table/comparison*.table.json")
    table = json.loads(kept.read_text())
    assert [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] == [
        {key: row[key] for key in table["columns"]} for row in numbers
    ]
    assert {"value", "error", "kind", "rank", "run"} <= set(table["columns"]) and len(table["data"]) == 4
    assert not (there / "config.yaml").exists(), "a comparison is no run"


def test_no_logger_no_mirror_and_run_names_the_folder(runs):
    assert entry.main(["stage=compare", "runs=[outputs/a,outputs/b-seed=1]", "run=pages/one", "logger=none"]) == 0
    assert sorted(path.name for path in Path("pages/one").iterdir())[-1] == "comparison.md"
    assert not list(Path("pages/one").glob("wandb"))


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["runs=[outputs/a]"], ["runs names 1 "]),
        ([], ["runs "]),
        (["runs=[outputs/a,outputs/x]"], ["outputs/x"]),
        (["runs=[outputs/a,outputs/a/]"], ["outputs/a twice"]),
        (["runs=[outputs/a,bare]"], ["stage=evaluate run=bare"]),
        (["runs=[outputs/a,torn]"], ["torn/metrics.json", "evaluate"]),
        (["runs=[outputs/a,other]"], ["other/metrics.json"]),
        (["runs=[outputs/a,empty]"], ["empty/metrics.json"]),
        (["runs=[bare,torn,outputs/x]"], ["bare ", "torn/metrics.json", "outputs/x"]),
        (["runs=outputs/a,bare"], ['runs=["outputs/a","bare"]', "bare "]),
        (["runs=[outputs/a,3]"], ["3"]),
        (["runs=outputs/a"], ["'outputs/a'", "list"]),
        (["runs=[outputs/a,outputs/b-seed=1]", "seed=1"], ["stage=compare", "seed"]),
        (["runs=[outputs/a,outputs/b-seed=1]", "sampler=ddim"], ["sampler"]),
        (["runs=[outputs/a,outputs/b-seed=1]", "quality.n=3"], ["quality"]),
        (["runs=[outputs/a,outputs/b-seed=1]", "stage=fit"], ["stage=compare"]),
    ],
)
def test_wrong_input_is_a_sentence_each_exit_two_and_no_file(runs, words, sentences, capsys):
    for name, text in (("torn", '{"fid": {"value": 1'), ("other", '{"fid": 3}'), ("empty", "{}")):
        Path(name).mkdir()
        Path(name, "metrics.json").write_text(text)
    Path("bare").mkdir()
    assert entry.main(["stage=compare", "logger=none", *words]) == 2
    error = capsys.readouterr().err
    for sentence in sentences:
        assert sentence in error
    assert all(line.startswith("error: ") for line in error.splitlines()), error
    assert len(error.splitlines()) == len(sentences) or len(sentences) == 2, error
    assert not Path("outputs/compare").exists()


def test_refusals_need_no_heavy_import():
    code = (
        "import sys, run\n"
        "assert run.main(['stage=compare', 'runs=[lightning_gen,nowhere]']) == 2\n"
        "heavy = {'torch', 'pytorch_lightning', 'torchmetrics', 'wandb', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_folder_of_before_there_were_these_keys_is_resumed(tmp_path):
    """A root key that is null is one that the run's config need not know."""
    stored = {"seed": 0, "data": {"x": 1}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(stored))
    place = RunFolder(tmp_path)
    assert place.differences(stored | {"runs": None, "samples": None}) == []
    assert place.differences(stored | {"init": "outputs/a"}) == ["init: (absent) -> outputs/a"]
    assert place.differences({"seed": 0, "data": {"x": 1, "y": None}}) == ["data.y: (absent) -> None"]
