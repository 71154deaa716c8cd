"""stage=estimate: operations and bytes are exact counts, files the very ones of the run, and nothing is left behind."""

import json
import re

import numpy
import pytest
import torch
from PIL import Image
from torch import nn

from lightning_gen.data import Folder
from lightning_gen.families.cost import Activations, Products
from tests.test_run import BARE, command


def test_products_are_counted_forward_and_back():
    net, x = nn.Linear(7, 5), torch.randn(3, 7, requires_grad=True)
    with Products() as products:
        loss = net(x).square().sum()
        assert products.total == 2 * 3 * 7 * 5
        loss.backward()
    assert products.total == 3 * 2 * 3 * 7 * 5  # the slopes in the weights and in x


def test_bytes_are_those_that_wait_at_the_peak():
    net, x = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 2)), torch.randn(3, 7)
    with Activations(list(net.parameters())) as kept:
        loss = net(x).sum()
    whole = 4 * (3 * 7 + 3 * 5)  # x, and the hidden layer, which two layers share
    assert kept.peak == whole
    loss.backward()
    del loss
    with kept:
        for _ in range(3):
            net(x).sum().backward()
    assert kept.peak == whole


def lines(text):
    return {line.split()[0]: line for line in text.splitlines() if re.match(r"[a-z]+  ", line)}


def number(line, words):
    value, prefix = re.search(rf"([\d.]+) ([kMGT]?){words}", line).groups()
    return float(value) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[prefix]


def test_an_estimate_leaves_nothing_and_names_the_size_of_the_run_s_files(tmp_path, capsys):
    run = ("trainer.max_steps=4", f"run={tmp_path / 'run'}", "callbacks.checkpoints.keep_every_n_steps=2")
    assert command(*BARE, "stage=estimate", *run) == 0
    said = lines(capsys.readouterr().out)
    assert list(said) == ["network", "activations", "memory", "training", "sampling", "disk"]
    assert not (tmp_path / "run").exists()
    assert command(*BARE, *run) == 0
    files = [path.stat().st_size for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt")]
    assert f"{len(files) + 1} checkpoints" in said["disk"]  # last-1.ckpt is there from the second save on
    assert number(said["disk"], r"B, one in writing") == pytest.approx(max(files), rel=0.15)
    assert " 4 steps of " in said["training"]


def test_an_estimate_ends_before_the_least_number_of_steps_and_takes_a_default_batch(capsys):
    endless = ("trainer.max_steps=1000000", "trainer.min_steps=1000000", "~data.batch_size")
    assert command(*BARE, "stage=estimate", *endless) == 0
    assert "for a batch of 128" in capsys.readouterr().out


def pictures(folder, count):
    """Random pictures of about 12x10 pixels."""
    folder.mkdir()
    for number in range(count):
        pixels = numpy.random.default_rng(number).integers(0, 256, (9 + number % 3, 12, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


# As my_images, but for the network of the features, which takes seconds an image.
QUICK = ("quality.features={_target_: lightning_gen.metrics.PixelFeatures}", "quality.metrics=[fid,kid,coverage]")
QUICK += (
    "quality.n=12",
    "quality.block=12",
    "sampler.steps=2",
    "logger=none",
    "callbacks.pictures=null",
    "callbacks.curves=null",
)
QUICK += ("callbacks.likelihood=null", "trainer=cpu", "trainer.max_steps=2")


@pytest.mark.parametrize(("count", "left_out"), [(20, True), (60, False)])
def test_few_pictures_are_measured_by_what_they_suffice_for(count, left_out, tmp_path, capsys, monkeypatch):
    """And the pictures are read once, for the estimate and the run."""
    read = []
    monkeypatch.setattr(Folder, "load", lambda self, load=Folder.load: read.append(self) or load(self))
    folder, run = pictures(tmp_path / "mine", count), tmp_path / "run"
    assert command("experiment=my_images", f"data.path={folder}", f"run={run}", *QUICK) == 0
    said, measured = capsys.readouterr().out, json.loads((run / "metrics.json").read_text())
    line = "quality.held_out=false: the test split has 2 images, and held-out numbers need 6"
    assert said.count(line) == left_out and len(read) == 1
    assert "fid/pixels/ema" in measured and ("fid/pixels/held-out" in measured) != left_out
    assert command("stage=evaluate", f"run={run}") == 0
    assert capsys.readouterr().out.count(line) == left_out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("data.test_size=4",), "6 samples or more in the train split, mine has 3: .*quality=none"),
        (
            ("data.test_size=1", "callbacks.likelihood.n=2"),
            "likelihood has 1 of the 1 samples of the test split.*data.test_size",
        ),
        (("data.test_size=0",), "the test split of mine is empty"),
    ],
)
def test_too_few_pictures_are_refused_before_the_estimate_and_leave_no_folder(words, sentence, tmp_path, capsys):
    folder, run = pictures(tmp_path / "mine", 7), tmp_path / "new" / "run"
    quick = [word for word in QUICK if word.partition("=")[0] not in words[-1]]
    assert command("experiment=my_images", f"data.path={folder}", f"run={run}", *quick, *words) == 2
    said = capsys.readouterr()
    assert "a few steps" not in said.out and said.err.count("error: ") == 1 and re.search(sentence, said.err)
    assert not (tmp_path / "new").exists()


def test_an_estimate_alone_says_what_is_chosen(tmp_path, capsys):
    words = ("experiment=my_images", f"data.path={pictures(tmp_path / 'mine', 20)}", "stage=estimate")
    assert command(*words, *QUICK) == 0
    said = capsys.readouterr().out
    assert "data.size=8 data.mode=RGB" in said and "quality.held_out=false" in said and "training     2 steps" in said


def test_pictures_of_any_size_are_learned_by_one_command_that_says_what_it_chose(tmp_path, capsys):
    pictures(tmp_path / "mine", 20)
    bare = [word for word in BARE if word.startswith(("quality", "callbacks", "trainer"))]
    words = ("experiment=my_images", f"data.path={tmp_path / 'mine'}", f"run={tmp_path / 'run'}", *bare)
    assert command(*words, "trainer.max_steps=2") == 0
    said = capsys.readouterr().out
    assert "20 colour pictures of 12x9 to 12x11 pixels" in said
    assert "data.size=8 data.mode=RGB data.batch_size=4 data.fit=crop" in said
    assert said.index("training     2 steps") < said.index("DDPM with")
    assert command(*words, "trainer.max_steps=3") == 0  # the same choices: the run goes on, and is not estimated anew
    assert "training     " not in capsys.readouterr().out
