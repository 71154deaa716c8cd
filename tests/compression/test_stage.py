"""stage=compress and stage=decompress as a user meets them: images back to the bit, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch

import run as entry
from lightning_gen.compression import read_code, write_code
from lightning_gen.results.tables import number

BARE = ("logger=none", "quality=none", "callbacks.likelihood=null", "callbacks.pictures=null", "callbacks.curves=null")


def train(folder, *words):
    """A run of one step."""
    assert entry.main([*words, *BARE, "trainer.max_steps=1", f"run={folder}"]) == 0
    return folder


def made(folder, *words):
    """A tiny MADE of two orderings."""
    return train(folder, "experiment=made_digits", "net.width=8", "net.orderings=2", *words)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has compressed its validation split."""
    folder = made(tmp_path_factory.mktemp("runs") / "one")
    assert entry.main(["stage=compress", f"run={folder}", "split=val"]) == 0
    return folder


def stored(digits, split):
    """A split's images, (N, H, W, C)."""
    return digits.split(split).images(slice(None)).permute(0, 2, 3, 1).numpy()


def test_a_split_comes_back(run, digits):
    folder = run / "compressed"
    assert entry.main(["stage=decompress", f"run={run}", f"file={folder / 'val.bits'}"]) == 0
    with np.load(folder / "val-images.npz") as archive:
        assert np.array_equal(archive["images"], stored(digits, "val"))
    assert (folder / "val-images.png").is_file() and (folder / "val.png").is_file()
    table = (folder / "val.md").read_text()
    assert f"| without its header | {number(len(read_code(folder / 'val.bits')[1]))} |" in table
    assert all(word in table for word in ("gzip", "PNG", "WebP", "log2 p", "17"))


def test_given_images_come_back(run, digits, tmp_path):
    """Also through an export, whose weights are the same."""
    images = stored(digits, "test")[5:8]
    np.savez(tmp_path / "theirs.npz", images=images)
    assert entry.main(["stage=compress", f"run={run}", f"samples={tmp_path / 'theirs.npz'}"]) == 0
    assert entry.main(["stage=export", f"run={run}"]) == 0
    file = run / "compressed" / "theirs.bits"
    assert entry.main(["stage=decompress", f"run={run / 'export'}", f"file={file}"]) == 0
    with np.load(run / "export" / "compressed" / "theirs-images.npz") as archive:
        assert np.array_equal(archive["images"], images)


def refused(words, named, capsys, code=2):
    """The command ends with this code and names these words."""
    capsys.readouterr()
    assert entry.main([*words, "logger=none"]) == code
    told = capsys.readouterr().err
    assert all(word in told for word in named), told


def test_a_value_that_the_model_does_not_know_is_refused(run, digits, tmp_path, capsys):
    images = stored(digits, "test")[:3].copy()
    images[1, 2, 3] = 37
    np.savez(tmp_path / "grey.npz", images=images)
    words = ["stage=compress", f"run={run}", f"samples={tmp_path / 'grey.npz'}"]
    refused(words, ["image 1", "37", "17 levels"], capsys)
    assert not (run / "compressed" / "grey.bits").exists()
    np.savez(tmp_path / "zero.npz", images=images[:0])
    words[-1] = f"samples={tmp_path / 'zero.npz'}"
    refused(words, [f"{words[-1]} holds no image", "another samples="], capsys)


def test_a_file_of_another_model_or_of_other_threads_is_refused(run, tmp_path, capsys):
    file, before = run / "compressed" / "val.bits", torch.get_num_threads()
    header, bits = read_code(file)
    write_code(tmp_path / "another", dataclasses.replace(header, model="0" * 16), bits)
    named = ["another", "model", "0" * 16, header.model]
    refused(["stage=decompress", f"run={run}", f"file={tmp_path / 'another'}"], named, capsys)
    try:
        torch.set_num_threads(before + 1)
        named = [f"threads {before}, expected {before + 1}", f"OMP_NUM_THREADS={before}"]
        refused(["stage=decompress", f"run={run}", f"file={file}"], named, capsys)
    finally:
        torch.set_num_threads(before)


def test_a_damaged_file_or_one_of_other_sums_is_refused(run, tmp_path, capsys):
    file, words = run / "compressed" / "val.bits", ["stage=decompress", f"run={run}"]
    data, (header, bits) = file.read_bytes(), read_code(file)
    (tmp_path / "torn").write_bytes(data[:-4])
    refused([*words, f"file={tmp_path / 'torn'}"], ["torn", "damaged"], capsys)
    write_code(tmp_path / "unlike", dataclasses.replace(header, images="0" * 16), bits)
    refused([*words, f"file={tmp_path / 'unlike'}"], ["unlike", "other images"], capsys, code=1)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["stage=decompress"], ["file is null"]),
        (["stage=decompress", "file="], ["file is empty"]),
        (["stage=decompress", "file=nowhere"], ["file=nowhere cannot be read"]),
        (["stage=compress", "file=x"], ["file=x", "stage=decompress"]),
        (["stage=sample", "samples=x"], ["samples=x", "stage=compress"]),
        (["stage=compress", "split=all"], ["split", "all", "train"]),
        (["stage=compress", "samples=nowhere.npz"], ["nowhere.npz"]),
    ],
)
def test_what_the_command_line_lacks_is_said(words, named, run, capsys):
    refused([*words, f"run={run}"], named, capsys)


@pytest.mark.slow
def test_other_families_are_told_their_bound_or_are_refused(tmp_path, digits, capsys):
    """A flow has a bound and no file, binary images have one bit each, a diffusion has no probability."""
    flow = train(tmp_path / "flow", "experiment=glow_digits")
    assert entry.main(["stage=compress", f"run={flow}"]) == 0
    assert "bound on -log2 p" in capsys.readouterr().out
    assert sorted(path.name for path in (flow / "compressed").iterdir()) == ["test.md", "test.png"]
    images = stored(digits, "test")[:3].copy()
    images[1, 2, 3] = 37
    np.savez(tmp_path / "grey.npz", images=images)
    refused(["stage=compress", f"run={flow}", f"samples={tmp_path / 'grey.npz'}"], ["image 1", "37", "17"], capsys)
    (tmp_path / "any.bits").write_bytes(b"")
    refused(["stage=decompress", f"run={flow}", f"file={tmp_path / 'any.bits'}"], ["Flow", "no code"], capsys)
    binary = made(tmp_path / "binary", "data.binarise=stochastic", "data.value_range=[0,1]")
    assert entry.main(["stage=compress", f"run={binary}"]) == 0
    file = binary / "compressed" / "test.bits"
    assert entry.main(["stage=decompress", f"run={binary}", f"file={file}"]) == 0
    with np.load(binary / "compressed" / "test-images.npz") as archive:
        assert set(np.unique(archive["images"])) == {0, 255} and len(archive["images"]) == 360
    ddpm = train(tmp_path / "ddpm", "experiment=ddpm_digits")
    refused(["stage=compress", f"run={ddpm}"], ["RangeCoder", "Autoregressive", "Denoiser"], capsys)
    points = train(tmp_path / "points", "experiment=realnvp_rings")
    refused(["stage=compress", f"run={points}"], ["Flow", "real numbers"], capsys)
