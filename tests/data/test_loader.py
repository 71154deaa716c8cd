"""Order, ranks, flips, range and position of the batches."""

import itertools
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from lightning_gen.data import Digits, OrderedLoader, Split, TrainLoader
from lightning_gen.data.base import hold_out


def numbered(count: int, labels: bool = True) -> Split:
    """Images whose left column holds the index and whose right column its complement, labels the index."""
    index = torch.arange(count)
    images = torch.stack([index, 255 - index], dim=-1).to(torch.uint8)[:, None, None, :].expand(-1, 3, 4, 2)
    return Split(images.contiguous(), index if labels else None)


def plain(images):
    return images.float()


train = partial(TrainLoader, encode=plain, batch_size=12)


def indices(loader) -> list[list[int]]:
    return [batch["index"].tolist() for batch in loader]


def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    loader = train(numbered(60), seed=3)
    first, second = indices(loader), indices(loader)
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(60))
    assert first != second
    assert indices(train(numbered(60), seed=3, epoch=1)) == second
    assert indices(train(numbered(60), seed=4)) != first


def test_the_last_incomplete_batch_is_dropped():
    loader = train(numbered(59))
    seen = indices(loader)
    assert len(seen) == len(loader) == 4
    assert all(len(batch) == 12 for batch in seen)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_share_the_batches_of_one_process(world):
    alone = indices(train(numbered(60), seed=1))
    ranks = [indices(train(numbered(60), rank=rank, world=world, seed=1)) for rank in range(world)]
    assert [sum(parts, []) for parts in zip(*ranks, strict=True)] == alone


@pytest.mark.parametrize(("count", "size", "world"), [*itertools.product([1, 2, 13, 24, 25], [4, 12], [1, 2, 3])])
def test_evaluation_takes_every_row_once_over_all_ranks(count, size, world):
    loaders = [OrderedLoader(numbered(count), plain, size, rank, world) for rank in range(world)]
    batches = [indices(loader) for loader in loaders]
    assert [len(loader) for loader in loaders] == [len(rank) for rank in batches]
    assert all(all(batch) or 0 in batch for rank in batches for batch in rank)
    assert sorted(sum(sum(batches, []), [])) == list(range(count))


def test_x_and_label_belong_to_the_index():
    for batch in [*train(numbered(60)), *OrderedLoader(numbered(60), plain, 7)]:
        assert torch.equal(batch["x"][:, 0, 0, 0].long(), batch["index"])
        assert torch.equal(batch["label"], batch["index"])
    assert set(next(iter(train(numbered(60, labels=False))))) == {"x", "index"}


def flips(**options) -> torch.Tensor:
    """Whether each image of an epoch was mirrored, in the order seen, (batches, batch)."""
    found = []
    for batch in train(numbered(240), flip=True, **options):
        x, straight = batch["x"], batch["index"].float()[:, None, None]
        mirrored = x[:, :, :, 1] == straight
        assert torch.equal(mirrored | (x[:, :, :, 0] == straight), torch.ones_like(mirrored))
        assert torch.equal(x.sum(-1), torch.full_like(x.sum(-1), 255.0))
        found.append(mirrored[:, 0, 0].long())
    return torch.stack(found)


def test_half_of_the_images_are_mirrored_anew_each_epoch():
    first, second = flips(seed=0), flips(seed=0, epoch=1)
    assert torch.equal(first, flips(seed=0))
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])
    mirrored = torch.cat([flips(seed=seed) for seed in range(10)]).sum()
    assert abs(mirrored - 1200) <= 4 * 600**0.5


def test_ranks_do_not_share_their_flips():
    first, second = (flips(rank=rank, world=2) for rank in range(2))
    assert first.shape == second.shape == (20, 6) and not torch.equal(first, second)


def test_iterating_does_not_move_the_global_generator():
    before = torch.get_rng_state()
    list(train(numbered(60), flip=True)), list(OrderedLoader(numbered(60), plain, 7))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("stop", range(11))
@pytest.mark.parametrize("world", [1, 3])
def test_a_loader_goes_on_where_its_state_was_saved(stop, world):
    whole = indices(itertools.islice(itertools.chain.from_iterable(train(numbered(60), epoch=e) for e in range(3)), 15))
    loader = train(numbered(60))
    seen = indices(itertools.islice(itertools.chain.from_iterable([loader] * 3), stop))
    loaders = [train(numbered(60), rank=rank, world=world) for rank in range(world)]
    rest = []
    for other in loaders:
        other.load_state_dict(loader.state_dict())
        rest.append(indices(itertools.islice(itertools.chain.from_iterable([other] * 4), 15 - stop)))
    assert seen + [sum(parts, []) for parts in zip(*rest, strict=True)] == whole


def test_set_epoch_keeps_the_position_within_the_epoch_and_resets_it_otherwise():
    loader = train(numbered(60))
    next(iter(loader))
    loader.sampler.set_epoch(0)
    assert loader.state_dict()["batch"] == 1
    loader.sampler.set_epoch(1)
    assert loader.state_dict()["batch"] == 0


def test_a_state_of_another_batch_size_or_data_set_is_refused():
    state = train(numbered(60)).state_dict()
    with pytest.raises(ValueError, match="batch_size is 10, expected 12"):
        train(numbered(60), batch_size=10).load_state_dict(state)
    with pytest.raises(ValueError, match="samples is 61, expected 60"):
        train(numbered(61)).load_state_dict(state)


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), [0.0, 1.0], (-3.0, 5.0), None])
def test_decode_inverts_encode(value_range):
    data = Digits(value_range=value_range)
    grey = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
    x = data.encode(grey)
    assert torch.allclose(data.decode(x), grey / 255, atol=1e-6)
    low, high = value_range or (0.0, 1.0)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (low, high)
    assert data.decode(torch.tensor(high + 1.0)) > 1


def test_encode_refuses_what_is_scaled_already():
    with pytest.raises(TypeError, match="uint8"):
        Digits().encode(torch.rand(2, 1, 8, 8))


def test_held_out_rows_are_the_same_for_every_seed_and_never_kept():
    kept, held = hold_out(100, 30, "x")
    assert sorted(kept.tolist() + held.tolist()) == list(range(100))
    assert torch.equal(held, hold_out(100, 30, "x")[1])
    # Pinned: published numbers hold for this very split, so it may not change with a version either.
    assert hold_out(10, 3, "mnist")[1].tolist() == [2, 3, 4]
    assert held.tolist() != list(range(30)) and held.tolist() != list(range(70, 100))


def attached(data, world: int, overfit: float = 0.0):
    """The data set as a trainer of `world` ranks would have it."""
    data.setup()
    data.trainer = SimpleNamespace(
        global_rank=1,
        world_size=world,
        current_epoch=5,
        overfit_batches=overfit,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    return data


def test_an_attached_data_set_takes_rank_and_epoch_from_the_trainer():
    loader = attached(Digits(batch_size=100), world=4).train_dataloader()
    expected = train(numbered(1300), batch_size=100, rank=1, world=4, epoch=5)
    assert indices(loader) == indices(expected)


def test_impossible_batches_are_refused():
    with pytest.raises(ValueError, match="batch_size is 100, .* 3 ranks.*: set a multiple of 3"):
        attached(Digits(batch_size=100), world=3).train_dataloader()
    with pytest.raises(ValueError, match="batch_size is 1301, .* 1300 .* set data.batch_size <= 1300"):
        attached(Digits(batch_size=1301), world=1).train_dataloader()


def test_under_overfit_batches_every_epoch_begins_with_the_same_batches():
    loader = attached(Digits(batch_size=100), world=2, overfit=3).train_dataloader()
    first, second = indices(loader), indices(loader)
    assert first == second == indices(train(numbered(1300), batch_size=100, rank=1, world=2))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"batch_size": 12.5}, TypeError, r"batch_size is 12\.5"),
        ({"batch_size": True}, TypeError, "batch_size"),
        ({"seed": "one"}, TypeError, "seed"),
        ({"flip": "yes"}, TypeError, "flip is 'yes'"),
        ({"val_size": 1437}, ValueError, "val_size is 1437"),
        ({"val_size": -1}, ValueError, "val_size"),
        ({"value_range": [1.0, -1.0]}, ValueError, r"value_range is \[1\.0, -1\.0\]"),
        ({"value_range": 1.0}, TypeError, "value_range"),
        ({"value_range": "01"}, TypeError, "value_range"),
        ({"value_range": [0.0, float("nan")]}, ValueError, "value_range"),
    ],
)
def test_wrong_arguments_are_refused_at_once(options, error, words):
    with pytest.raises(error, match=words):
        Digits(**options)


def test_fingerprint_is_a_function_of_the_content():
    split = numbered(60)
    assert split.fingerprint() == numbered(60).fingerprint()
    assert len(split.fingerprint()) == 16
    others = [numbered(61), numbered(60, labels=False), Split(split.images(slice(None)).flip(-1), torch.arange(60))]
    assert len({other.fingerprint() for other in [split, *others]}) == 4


def test_a_split_tells_points_from_images():
    assert numbered(5).labels(torch.tensor([4, 1])).tolist() == [4, 1]
    with pytest.raises(TypeError, match="call images"):
        numbered(5).points(slice(2))
    with pytest.raises(TypeError, match="call points"):
        Split(torch.zeros(5, 2)).images(slice(2))
