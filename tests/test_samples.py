"""Somebody else's samples, measured without a model: what a run's own are worth, and refusals before any number."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
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


def test_its_folder_is_compared_with_a_run_and_evaluated_again(own, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("theirs.npy", images(100, (1, 8, 8)) / 127.5 - 1)
    assert entry.main(["stage=evaluate", "samples=theirs.npy", *FAST]) == 0
    said = capsys.readouterr().out
    assert "theirs.npy: its array, float64 (100, 1, 8, 8) from -1 to 1: images N×C×H×W in [-1, 1]" in said
    first = metrics("outputs/theirs")
    assert entry.main(["stage=evaluate", "run=outputs/theirs", "quality.n=90"]) == 0
    assert metrics("outputs/theirs") == first
    assert (Path("outputs/theirs") / "metrics-before.json").is_file()
    assert yaml.safe_load(Path("outputs/theirs/config.yaml").read_text())["samples"] == "theirs.npy"
    assert entry.main(["stage=compare", f"runs=[{own[0]},outputs/theirs]", "logger=none"]) == 0
    numbers = json.loads(Path("outputs/compare/comparison.json").read_text())["numbers"]
    ranked = [row for row in numbers if row["name"] == "fid/digits"]
    assert sorted((row["weights"], row["rank"], row["class"]) for row in ranked if row["weights"] != "held-out") == [
        ("ema", "best" if ranked[0]["value"] < ranked[1]["value"] else "", ""),
        ("samples", "best" if ranked[1]["value"] < ranked[0]["value"] else "", ""),
    ]


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


def saved(path, rows):
    """The array in a file of its kind; in an .npz and a .pt under a name that nobody has agreed upon, with labels."""
    labels = np.arange(len(rows))
    if path.suffix == ".npz":
        np.savez(path, faces=rows, labels=labels)
    elif path.suffix == ".npy":
        np.save(path, rows)
    else:
        tensor = torch.from_numpy(rows)
        torch.save(tensor if path.suffix == ".pt" else {"x": tensor, "y": torch.from_numpy(labels), "n": 3}, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt", ".pth"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 6)], ids=["grey", "colour"])
def test_every_layout_and_range_of_the_same_images_is_the_same(shape, suffix, tmp_path):
    """N×C×H×W, N×H×W×C and N×H×W in 8 bits, [0, 1] and [-1, 1] have one fingerprint; what was understood is said."""
    rows = images(7, shape)
    rows[0].flat[:2] = 0, 255  # all ranges are reached
    layouts = {"N×C×H×W": rows, "N×H×W×C": rows.transpose(0, 2, 3, 1)}
    if shape[0] == 1:
        layouts["N×H×W"] = rows[:, 0]
    for layout, array in layouts.items():
        zero_one = array.astype(np.float32) / 255
        ranges = {"0 to 255": array, "[0, 1]": zero_one.astype(np.float64), "[-1, 1]": 2 * zero_one - 1}
        for value_range, values in ranges.items():
            given = GivenSamples(saved(tmp_path / f"x{suffix}", values), shape)
            assert (given.rows.numpy() == rows).all(), (layout, value_range)
            assert given.understood.endswith(f"images {layout} in {value_range}")
            assert str(values.shape) in given.understood and str(values.dtype) in given.understood


def test_half_precision_and_points_are_read_from_tensors(tmp_path):
    x = torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)
    for dtype in (torch.bfloat16, torch.float16):
        torch.save(x.to(dtype), tmp_path / "x.pt")
        expected = ((x.to(dtype).float() + 1) / 2 * 255).round().byte()
        assert torch.equal(GivenSamples(str(tmp_path / "x.pt"), (1, 8, 8)).rows, expected)
    torch.save(points := torch.randn(9, 2), tmp_path / "p.pt")
    assert torch.equal(GivenSamples(str(tmp_path / "p.pt"), (2,)).rows, points)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (images(4, (3, 3, 3)), "N×C×H×W or N×H×W×C"),
        (images(4, (3, 3, 3)) % 2, "0 and 255"),
        (images(4, (3, 3, 3)) / 255.0 - 0.02, r"-0\.02 .*\[0, 1\].*\[-1, 1\]"),
        (images(4, (3, 3, 3)).astype(np.float32), "from .* to 255.*floats"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(rows, sentence, tmp_path):
    shape = (3, 3, 3) if "or N" in sentence else (1, 3, 9)
    rows = rows if "or N" in sentence else rows.reshape(4, 3, 9)
    with pytest.raises(ValueError, match=sentence):
        GivenSamples(saved(tmp_path / "x.npy", rows), shape)


def bad(path, **arrays):
    np.savez(path, **arrays)


CASES = {
    "missing": (lambda p: None, "x.npz"),
    "size": (
        lambda p: bad(p, arr_0=images(9, (9, 8, 1))),
        r"arr_0 uint8 \(9, 9, 8, 1\).*digits.*\(N, 1, 8, 8\) or \(N, 8, 8, 1\) or \(N, 8, 8\)",
    ),
    "range": (
        lambda p: bad(p, arr_0=images(9).astype(np.float32) / 100 - 1.5),
        "float32.*-1.5 to 1.05.*uint8",
    ),
    "int": (lambda p: bad(p, arr_0=images(9).astype(np.int64) * 2), "int64"),
    "nan": (lambda p: bad(p, arr_0=np.where(images(9) > 250, np.nan, 1.0)), "of 9 .*not finite"),
    "text": (lambda p: bad(p, arr_0=np.array(["a", "b"])), "numbers"),
    "one": (lambda p: bad(p, arr_0=images(1)), " 1 .*2"),
    "few": (lambda p: bad(p, arr_0=images(40)), "40.*quality.n.*90.*quality.n=40"),
    "two": (lambda p: bad(p, faces=images(9), masks=images(9)), "2 arrays.*digits.*faces, masks"),
    "nothing": (lambda p: bad(p), "no array"),
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
    assert "90 samples for quality" in told and "2/2 [" in told and "step/s]" in told
    assert "features of the train split" in told and "/1300 [" in told and "image/s]" in told
