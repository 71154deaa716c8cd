"""Rows that ranks made block by block, brought together in the order of one process."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather_blocks(rows: Tensor, n: int, size: int, rank: int, world: int) -> Tensor:
    """(n, d) on every rank, from this rank's rows: its blocks rank, rank + world, ... of `size` rows, the last cut.

    One all-gather; a rank without blocks brings (0, d).
    """
    blocks = torch.arange(n).split(size)
    indices = [torch.cat([torch.empty(0, dtype=torch.int64), *blocks[r::world]]) for r in range(world)]
    if len(rows) != len(indices[rank]):
        raise ValueError(f"rank {rank} of {world} should bring {len(indices[rank])} of {n} rows, it brings {len(rows)}")
    if world == 1:
        return rows
    longest = max(map(len, indices))
    padded = torch.cat([rows, rows.new_zeros(longest - len(rows), rows.shape[1])])
    gathered = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(gathered, padded)
    whole = rows.new_empty(n, rows.shape[1])
    for index, part in zip(indices, gathered, strict=True):
        whole[index.to(whole.device)] = part[: len(index)]
    return whole


def gather_problems(problem: str | None, world: int) -> str | None:
    """The first rank's problem on every rank, so that all stop together and none waits for one that has stopped."""
    if world == 1:
        return problem
    problems: list[str | None] = [None] * world
    dist.all_gather_object(problems, problem)
    return next((each for each in problems if each is not None), None)
