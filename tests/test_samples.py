"""Somebody else's samples, measured without a model: what a run's own are worth, and refusals before any number."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import run as entry
from lightning_gen.families.given_samples import GivenSamples
from tests.processes import ROOT, two
from tests.results.compare_parts import QUALITY
from tests.test_run import TINY

FAST = ("quality.n=90", "logger=none")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run, measured on 90 samples, and the archive of the same 90."""
    folder = tmp_path_factory.mktemp("own") / "run"
    words = (*TINY, "quality.n=90", "trainer.max_steps=3", "callbacks.likelihood=null", f"run={folder}")
    assert entry.main(list(words)) == 0
    assert entry.main(["stage=sample", f"run={folder}", "n=90", "seed=0"]) == 0
    return folder, folder / "samples" / "samples-ddim-seed0-n90.npz"


def metrics(folder):
    return json.loads((Path(folder) / "metrics.json").read_text())


def images(n=12, shape=(8, 8, 1), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def folder_of(path, rows):
    """The same images as PNG files."""
    path.mkdir(parents=True, exist_ok=True)
    for place, row in enumerate(rows):
        Image.fromarray(row[..., 0] if row.shape[-1] == 1 else row).save(path / f"{place:03}.png")
    return path


def test_a_runs_own_samples_are_worth_what_the_run_says(own, tmp_path, monkeypatch):
    """Its archive, the same as PNG files, and the same as guided-diffusion writes it: the run's numbers, to the bit."""
    monkeypatch.chdir(tmp_path)
    folder, archive = own
    rows = np.load(archive)["images"]
    np.savez("theirs.npz", arr_0=rows)
    folder_of(Path("pngs"), rows)
    expected = {k.replace("/ema", "/samples"): (v["value"], v["error"]) for k, v in metrics(folder).items()}
    assert any(name.startswith("fid/") for name in expected)
    told = {}
    for source in (archive, "theirs.npz", "pngs"):
        assert entry.main(["stage=evaluate", f"samples={source}", f"run=out/{Path(source).stem}", *FAST]) == 0
        found = metrics(f"out/{Path(source).stem}")
        assert {k: (v["value"], v["error"]) for k, v in found.items()} == expected
        told[Path(source).stem] = found["fid/digits/samples"]["protocol"]
    ours, npz, pngs = told[archive.stem], told["theirs"], told["pngs"]
    assert len({p["images_fingerprint"] for p in told.values()}) == 1, "one content, one hash"
    assert "DDIM" in ours["sampler"] and npz["sampler"] == pngs["sampler"] == "unknown"
    assert {p["weights"] for p in told.values()} == {p["evaluations"] for p in told.values()} == {"unknown"}
    assert all("somebody else's" in p["source"] and p["n"] == p["given"] == 90 for p in told.values())
    assert ours["quantisation"] == QUALITY["quantisation"] != npz["quantisation"]
    page = (Path("out/pngs") / "report.html").read_text()
    assert "fid/digits/samples" in page and "grid-given.png" in page


@pytest.mark.slow  # tests/test_ddp.py says the same of a model's samples
def test_two_processes_measure_the_same_samples(own, tmp_path):
    words = ("stage=evaluate", f"samples={own[1]}", *FAST, "quality.block=16")
    assert entry.main([*words, f"run={tmp_path / 'one'}"]) == 0
    two(str(ROOT / "run.py"), *words, f"run={tmp_path / 'two'}", "trainer=ddp_cpu", "trainer.devices=2")
    alone, both = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert alone.keys() == both.keys() and "fid/digits/samples" in both
    for name, row in alone.items():
        assert both[name]["value"] == pytest.approx(row["value"], rel=1e-10), name
        assert both[name]["protocol"] == row["protocol"]


def test_its_folder_is_compared_with_a_run_and_evaluated_again(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("theirs.npz", arr_0=images(100))
    assert entry.main(["stage=evaluate", "samples=theirs.npz", *FAST]) == 0
    first = metrics("outputs/theirs")
    assert entry.main(["stage=evaluate", "run=outputs/theirs", "quality.n=90"]) == 0
    assert metrics("outputs/theirs") == first
    assert (Path("outputs/theirs") / "metrics-before.json").is_file()
    assert yaml.safe_load(Path("outputs/theirs/config.yaml").read_text())["samples"] == "theirs.npz"
    assert entry.main(["stage=compare", f"runs=[{own[0]},outputs/theirs]", "logger=none"]) == 0
    numbers = json.loads(Path("outputs/compare/comparison.json").read_text())["numbers"]
    ranked = [row for row in numbers if row["name"] == "fid/digits"]
    assert sorted((row["weights"], row["rank"], row["class"]) for row in ranked if row["weights"] != "held-out") == [
        ("ema", "best" if ranked[0]["value"] < ranked[1]["value"] else "", ""),
        ("samples", "best" if ranked[1]["value"] < ranked[0]["value"] else "", ""),
    ]
    text = Path("outputs/compare/comparison.md").read_text()
    assert "quantisation" in text


def test_images_compressed_with_loss_are_said_to_be(tmp_path):
    for place, row in enumerate(images(3)):
        Image.fromarray(row[..., 0]).save(tmp_path / f"{place}.jpg")
    assert "with loss" in GivenSamples(str(tmp_path), (1, 8, 8)).about()["quantisation"]


def test_the_first_n_are_measured_in_their_order(tmp_path):
    rows = images(70)
    given = GivenSamples(str(folder_of(tmp_path / "x", rows)), (1, 8, 8))
    found = [block.numpy() for _, block in given.blocks(67, size=64)]
    assert [len(block) for block in found] == [64, 3]
    assert (np.concatenate(found)[:, 0] == rows[:67, :, :, 0]).all()
    parts = [list(given.blocks(67, size=64, rank=rank, world=2)) for rank in range(2)]
    assert [[start for start, _ in part] for part in parts] == [[0], [64]]
    np.savez(tmp_path / "flat.npz", arr_0=rows[..., 0])
    assert (
        GivenSamples(str(tmp_path / "flat.npz"), (1, 8, 8)).about()["images_fingerprint"]
        == given.about()["images_fingerprint"]
    )


def test_colours_and_points_keep_their_values(tmp_path):
    rows = images(4, (5, 6, 3))
    np.savez(tmp_path / "c.npz", arr_0=rows, arr_1=np.arange(4))
    assert (GivenSamples(str(tmp_path / "c.npz"), (3, 5, 6)).rows.permute(0, 2, 3, 1).numpy() == rows).all()
    points = np.random.default_rng(0).normal(size=(9, 2))
    np.savez(tmp_path / "p.npz", points=points)
    assert np.allclose(GivenSamples(str(tmp_path / "p.npz"), (2,)).rows.numpy(), points)


def bad(path, **arrays):
    np.savez(path, **arrays)


CASES = {
    "missing": (lambda p: None, "x.npz"),
    "channels first": (
        lambda p: bad(p, arr_0=images(9).transpose(0, 3, 1, 2)),
        r"\(9, 1, 8, 8\).*\(N, 8, 8, 1\)",
    ),
    "size": (lambda p: bad(p, arr_0=images(9, (9, 8, 1))), r"\(9, 9, 8, 1\).*digits"),
    "float": (lambda p: bad(p, arr_0=images(9) / 255.0), "float64.*0 to 1.*uint8"),
    "range": (
        lambda p: bad(p, arr_0=images(9).astype(np.float32) / 100 - 1.5),
        "float32.*-1.5 to 1.05.*uint8",
    ),
    "int": (lambda p: bad(p, arr_0=images(9).astype(np.int64) * 2), "int64"),
    "nan": (lambda p: bad(p, arr_0=np.where(images(9) > 250, np.nan, 1.0)), "of 9 .*not finite"),
    "text": (lambda p: bad(p, arr_0=np.array(["a", "b"])), "numbers"),
    "one": (lambda p: bad(p, arr_0=images(1)), " 1 .*2"),
    "few": (lambda p: bad(p, arr_0=images(40)), "40.*quality.n.*90.*quality.n=40"),
    "keys": (lambda p: bad(p, faces=images(9)), "faces.*images, points, arr_0"),
    "pickle": (lambda p: bad(p, arr_0=np.array([{}, {}], dtype=object)), "x.npz.*.npz"),
    "torn": (lambda p: p.write_bytes(archive_of(images(50))[:900]), "x.npz.*.npz"),
}


def archive_of(rows):
    buffer = io.BytesIO()
    np.savez(buffer, arr_0=rows)
    return buffer.getvalue()


def refused(words, sentence, capsys):
    """Exit code 2, one sentence, and no metric."""
    assert entry.main(["stage=evaluate", "run=out", *words, *FAST]) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and re.search(sentence, lines[0]), error
    assert "Traceback" not in error and not Path("out/metrics.json").exists()


@pytest.mark.parametrize(("make", "sentence"), CASES.values(), ids=CASES)
def test_an_archive_that_cannot_be_measured_is_one_sentence_and_no_metric(
    make, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    make(Path("x.npz"))
    refused(["samples=x.npz"], sentence, capsys)


FOLDERS = {
    "empty": ({}, "PNG, JPEG or WebP"),
    "damaged": ({"a.png": b"no picture"}, "a.png.*damaged"),
    "other": ({"a.gif": b""}, "a.gif.*PNG, JPEG or WebP"),
    "size": ({"a.png": (8, 9, 1)}, "a.png.*9x8.*digits.*8x8"),
    "colour": ({"a.png": (8, 8, 3)}, "a.png.*RGB.*digits.*8x8.*L"),
    "one": ({"a.png": (8, 8, 1)}, " 1 "),
}


@pytest.mark.parametrize(("files", "sentence"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_cannot_be_measured_is_one_sentence_and_no_metric(files, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    for name, content in files.items():
        if isinstance(content, bytes):
            Path("x", name).write_bytes(content)
        else:
            folder_of(Path("x"), images(1, content))
            Path("x/000.png").rename(Path("x", name))
    refused(["samples=x"], sentence, capsys)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sampler=ddim"], "sampler "),
        (["callbacks.likelihood.n=4"], "callbacks "),
        (["stage=sample"], "stage=evaluate.*stage.*sample"),
        (["quality=none"], "samples.*quality"),
    ],
)
def test_what_would_do_nothing_is_refused(words, sentence, own, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fast = ("logger=none",) if words == ["quality=none"] else FAST
    stage = [] if "stage" in words[0] else ["stage=evaluate"]
    run = f"run={own[0]}" if "stage" in words[0] else "run=out"
    assert entry.main([*stage, f"samples={own[1]}", run, *words, *fast]) == 2
    error = capsys.readouterr().err
    assert re.search(sentence, error) and error.count("error: ") == 1


def test_a_trained_runs_numbers_are_not_overwritten(own, capsys):
    before = metrics(own[0])
    assert entry.main(["stage=evaluate", f"samples={own[1]}", f"run={own[0]}", *FAST]) == 2
    assert "run=" in capsys.readouterr().err
    assert metrics(own[0]) == before


def test_there_is_a_bar_with_rate_and_end(own, tmp_path, monkeypatch, capsys):
    for name in ("TERMINAL", "FILE"):  # else a bar that is over at once is not worth a line
        monkeypatch.setattr(f"lightning_gen.bar.{name}", 0.0)
    words = ["stage=evaluate", f"samples={own[1]}", f"run={tmp_path / 'out'}", f"quality.cache={tmp_path}", *FAST]
    assert entry.main(words) == 0
    told = capsys.readouterr().err
    assert "90 samples for fid" in told and "2/2 [" in told and "step/s]" in told
    assert "features of the train split" in told and "/1300 [" in told and "image/s]" in told
