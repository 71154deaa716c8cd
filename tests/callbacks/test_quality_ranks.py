"""One, two and four processes find the same features byte for byte and the same numbers, whoever has work."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lightning_gen.callbacks.quality import Quality
from lightning_gen.data import Digits
from lightning_gen.errors import NonFinite
from lightning_gen.metrics.registry import metrics
from tests.callbacks.quality_parts import Noisy, Projection
from tests.callbacks.trainers import trainer
from tests.processes import free_port, place

WORLDS = (1, 2, 4)
METRICS = tuple(metrics())
CASES = {"whole": (192, METRICS), "uneven": (150, METRICS), "one block": (50, METRICS), "two": (2, ("fid",))}


class Watched(Quality):
    """Writes down what every rank has gathered."""

    def drawn(self, runner, module, *args, **options):
        """Features and logits, to a file."""
        found = super().drawn(runner, module, *args, **options)
        torch.save([found.features, found.logits], f"{runner.default_root_dir}-{runner.global_rank}.pt")
        return found


def _rank(rank: int, world: int, port: int, folder: Path) -> None:
    """What one of `world` processes measures."""
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    os.environ.update(place(rank, world, port))
    options = {"devices": world, "strategy": "ddp"}
    for name, (n, chosen) in CASES.items():
        quality = Watched(Projection(), n, chosen, kid_subsets=5, kid_subset_size=40, cache=str(folder / "cache"))
        trainer(folder / name, quality, **options).test(Noisy(), datamodule=Digits(), verbose=False)
    quality = Quality(Projection(), n=150, cache=str(folder / "cache"))
    try:
        trainer(folder / "nan", quality, **options).test(Noisy(bad_block=2), datamodule=Digits(), verbose=False)
    except NonFinite as error:
        (folder / f"stopped-{rank}").write_text(str(error))
    dist.barrier()  # else the first to leave tears the others' connection
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {}
    for world in WORLDS:
        found[world] = tmp_path_factory.mktemp(f"world-{world}")
        mp.start_processes(_rank, (world, free_port(), found[world]), nprocs=world, start_method="fork")
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("world", WORLDS[1:])
def test_any_number_of_processes_measures_the_same_images(folders, world, name):
    one = torch.load(f"{folders[1] / name}-0.pt", weights_only=True)
    assert [len(x) for x in one] == [CASES[name][0]] * 2
    for rank in range(world):
        for mine, theirs in zip(torch.load(f"{folders[world] / name}-{rank}.pt", weights_only=True), one, strict=True):
            assert mine.numpy().tobytes() == theirs.numpy().tobytes()
    alone, together = (json.loads((folders[w] / name / "metrics.json").read_text()) for w in (1, world))
    assert alone.keys() == together.keys() and {key.split("/")[0] for key in alone} >= set(CASES[name][1])
    for key, entry in alone.items():
        assert together[key]["value"] == pytest.approx(entry["value"], rel=1e-10), key
        assert together[key]["error"] == pytest.approx(entry["error"], rel=1e-10), key
        assert together[key]["protocol"] == entry["protocol"]
        assert together[key]["protocol_hash"] == entry["protocol_hash"]


@pytest.mark.parametrize("world", WORLDS)
def test_what_one_rank_finds_stops_all_without_a_number(folders, world):
    messages = {(folders[world] / f"stopped-{rank}").read_text() for rank in range(world)}
    assert messages == {f"samples of block 2 are not finite at step 0, rank {2 % world}: the model has diverged"}
    assert not (folders[world] / "nan" / "metrics.json").exists()


def test_two_images_are_computed_and_flagged(folders):
    entry = json.loads((folders[1] / "two" / "metrics.json").read_text())["fid/projection/ema"]
    assert entry["protocol"]["flags"] == ["fewer images (2) than dimensions (6)"] and entry["protocol"]["n"] == 2


def test_one_image_is_refused_before_any_process_waits():
    with pytest.raises(ValueError, match="quality.n is 1: fid need 2"):
        Quality(Projection(), n=1, metrics=["fid"])
