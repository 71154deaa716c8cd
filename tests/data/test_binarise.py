"""Binarised images: by a threshold, once for all, or anew for every epoch and rank."""

import itertools

import pytest
import torch

from lightning_gen.data import Digits
from lightning_gen.data.loader import TrainLoader, binarised
from lightning_gen.data.split import Split
from tests.data.sets import ready


def digits(**options):
    return ready(Digits(**{"value_range": (0.0, 1.0), **options}))


@pytest.mark.parametrize("binarise", ["fixed", "threshold", "stochastic"])
def test_what_is_measured_is_the_same_for_every_seed(binarise):
    first, second = digits(binarise=binarise), digits(binarise=binarise, seed=9)
    for name in ("train", "val", "test"):
        assert set(first.split(name).images(slice(None)).unique().tolist()) == {0, 255}
        assert first.split(name).fingerprint() == second.split(name).fingerprint()
        assert torch.equal(first.split(name).labels(slice(None)), digits().split(name).labels(slice(None)))


def test_a_split_is_the_same_where_training_images_are_drawn_once_and_in_each_epoch():
    once, anew = digits(binarise="fixed"), digits(binarise="stochastic")
    for name in ("train", "val", "test"):
        assert once.split(name).fingerprint() == anew.split(name).fingerprint()


def test_a_threshold_is_at_one_half():
    grey, found = digits().split("test").images(slice(None)), digits(binarise="threshold").split("test")
    assert torch.equal(found.images(slice(None)) == 255, grey > 127)


def test_a_binarised_pixel_is_white_with_the_probability_of_its_intensity():
    grey = torch.arange(256, dtype=torch.uint8).repeat(20000, 1)
    mean = binarised(grey, torch.Generator().manual_seed(0)).double().mean(0) / 255
    p = torch.arange(256) / 255
    assert ((mean - p).abs() <= 4.5 * (p * (1 - p) / 20000).sqrt()).all()
    assert mean[0] == 0 and mean[255] == 1


def test_fixed_pixels_are_drawn_once():
    grey, data = digits().split("train").images(slice(None)).double() / 255, digits(binarise="fixed")
    drawn = data.split("train").images(slice(None)).double() / 255
    z = (drawn - grey).sum() / (grey * (1 - grey)).sum().sqrt()
    assert abs(float(z)) < 4
    batches = [
        {int(i): x for b in [*data.train_dataloader()] for i, x in zip(b["index"], b["x"], strict=True)}
        for _ in range(2)
    ]
    shared = batches[0].keys() & batches[1].keys()
    assert len(shared) > 1000 and all(torch.equal(batches[0][i], batches[1][i]) for i in shared)


def test_stochastic_pixels_are_drawn_anew_in_each_epoch_and_again_by_a_resume():
    data = digits(binarise="stochastic", batch_size=100)
    loader = data.train_dataloader()
    first, second = ({int(i): x for b in [*loader] for i, x in zip(b["index"], b["x"], strict=True)} for _ in range(2))
    shared = first.keys() & second.keys()
    assert len(shared) > 1000 and not any(torch.equal(first[i], second[i]) for i in shared)
    mean = torch.stack([first[i] for i in shared]).mean()
    grey = data.encode(digits().split("train").images(torch.tensor(sorted(shared)))).mean()
    assert abs(float(mean - grey)) < 0.01
    whole = [b["x"] for b in data.train_dataloader()]
    again = data.train_dataloader()
    again.load_state_dict({"epoch": 0, "batch": 5, "batch_size": 100, "samples": 1300})
    assert all(torch.equal(a, b["x"]) for a, b in zip(whole[5:], again, strict=True))


def endless(loader):
    while True:
        yield from loader


@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_stopped_between_two_batches_goes_on_with_the_same_pixels(rank):
    """Through the end of an epoch, on each rank, by the state that the stopped loader gave."""
    split = digits().split("train")

    def loader():
        return TrainLoader(split, lambda x: x, 100, rank, 2, seed=3, flip=True, binarise=True)

    whole = [*itertools.islice(endless(loader()), 30)]
    stopped = loader()
    batches = endless(stopped)
    first, state = [*itertools.islice(batches, 5)], stopped.state_dict()
    again = loader()
    again.load_state_dict(state)
    for a, b in zip(whole, [*first, *itertools.islice(endless(again), 25)], strict=True):
        assert torch.equal(a["index"], b["index"]) and torch.equal(a["x"], b["x"])
    assert set(whole[0]["x"].unique().tolist()) == {0, 255}


def test_another_seed_draws_other_pixels():
    """Sample by sample: the seed moves their order, too."""
    first, second = (
        {int(i): x for b in loader for i, x in zip(b["index"], b["x"], strict=True)}
        for loader in (digits(binarise="stochastic", seed=seed).train_dataloader() for seed in (0, 1))
    )
    shared = first.keys() & second.keys()
    assert len(shared) > 1000 and not any(torch.equal(first[i], second[i]) for i in shared)


def test_what_is_measured_comes_fixed_from_its_loader_in_every_pass():
    data = digits(binarise="stochastic", batch_size=100)
    for loader, name in ((data.val_dataloader(), "val"), (data.test_dataloader(), "test")):
        first, second = (torch.cat([batch["x"] for batch in loader]) for _ in range(2))
        assert torch.equal(first, second)
        assert torch.equal(first, data.encode(digits(binarise="fixed").split(name).images(slice(None))))


def test_ranks_draw_pixels_of_their_own():
    split = Split(torch.full((8, 1, 4, 4), 128, dtype=torch.uint8))
    a, b = (next(iter(TrainLoader(split, lambda x: x, 8, rank, 2, binarise=True)))["x"] for rank in (0, 1))
    assert a.shape == b.shape and not torch.equal(a, b)


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="binarise is 'dynamic'"):
        Digits(binarise="dynamic")
