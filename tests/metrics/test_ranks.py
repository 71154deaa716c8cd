"""Two processes find what one finds, also when one of them has nothing."""

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lightning_gen.metrics import FrechetStatistics
from lightning_gen.metrics.gather import gather_blocks, gather_problems
from tests.metrics.reference_metrics import cloud


def _rank(rank: int, port: int, folder: Path) -> None:
    """What one of two processes finds, written to its file."""
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found, x = {}, cloud(60, 5, 1)
    for name, share in (("uneven", (x[:50], x[50:])[rank]), ("empty", (x, x[:0])[rank])):
        statistics, reduced, all_reduce = FrechetStatistics(5, shift=x[0]), [], dist.all_reduce
        dist.all_reduce = lambda *a, r=reduced, f=all_reduce, **k: r.append(1) or f(*a, **k)
        statistics.update(share)
        found[name] = statistics.compute()
        dist.all_reduce = all_reduce
        found[f"{name} reductions"] = len(reduced)
    rows = torch.arange(22.0).reshape(11, 2)
    for n, size in ((11, 3), (2, 3), (6, 3), (11, 11), (11, 1)):
        mine = torch.cat([torch.empty(0, 2), *rows[:n].split(size)[rank::2]])
        found[f"gather {n} {size}"] = gather_blocks(mine, n, size, rank, 2)
    found["problem"] = gather_problems("rank 1 has NaN" if rank == 1 else None, 2)
    found["no problem"] = gather_problems(None, 2)
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()  # else the first to leave tears the other's connection
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_rank, (port, folder), nprocs=2, start_method="fork")  # forked: the imports are paid for
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", ["uneven", "empty"])
def test_statistics_of_two_ranks_are_those_of_one(found, name):
    x = cloud(60, 5, 1)
    for rank in (0, 1):
        mean, cov = found[rank][name]
        torch.testing.assert_close(mean, x.mean(0), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(cov, torch.cov(x.T), rtol=1e-12, atol=1e-13)
        assert found[rank][f"{name} reductions"] == 1


@pytest.mark.parametrize(("n", "size"), [(11, 3), (2, 3), (6, 3), (11, 11), (11, 1)])
def test_rows_come_together_in_the_order_of_one_process(found, n, size):
    for rank in (0, 1):
        assert torch.equal(found[rank][f"gather {n} {size}"], torch.arange(22.0).reshape(11, 2)[:n])


def test_one_ranks_problem_stops_all(found):
    assert [found[rank]["problem"] for rank in (0, 1)] == ["rank 1 has NaN"] * 2
    assert [found[rank]["no problem"] for rank in (0, 1)] == [None] * 2


def test_a_wrong_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="4 of 7.*3"):
        gather_blocks(torch.zeros(3, 2), 7, 4, 0, 2)
