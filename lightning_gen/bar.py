"""The progress bar of everything that takes long, and a split that moves one."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tqdm import tqdm

TERMINAL, FILE = 0.1, 30.0  # seconds between refreshes; a log file is not a screen
LABEL = 30  # characters, so that the bar itself has room in 80 columns
FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


def bar(
    what: str,
    total: int | None,
    unit: str = "image",
    start: int = 0,
    shown: bool = True,
    leave: bool = True,
) -> tqdm:
    """The project's bar: rate, time left, at most ten refreshes a second on a terminal and two a minute in a file.

    `what` is at most LABEL characters long; of a longer one the end is left out, which … shows.
    """
    screen = sys.stderr.isatty()
    every = TERMINAL if screen else FILE
    return tqdm(
        desc=what if len(what) <= LABEL else what[: LABEL - 1] + "…",
        total=total,
        initial=start,
        unit=unit,
        mininterval=every,
        delay=0.0 if leave else every,  # what is over at once is not worth a line
        position=None if screen else 0,  # a file has no line above
        dynamic_ncols=True,
        leave=leave,
        disable=not shown,
        file=sys.stderr,
        bar_format=FORMAT if total else None,
    )


class Counted:
    """A split whose `stream` tells `update` how many rows it has given; the rest is the split's own."""

    def __init__(self, split: Any, update: Callable[[int], Any]) -> None:
        self.split, self.update = split, update

    def __len__(self) -> int:
        return len(self.split)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.split, name)

    def stream(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The rows of each batch of indices, in that order."""
        for rows in self.split.stream(batches):
            yield rows
            self.update(len(rows))
