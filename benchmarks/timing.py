"""Times and counts as rows of the table: interleaved rounds, in CPU time on one thread."""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.table import Goal, Row, number
from lightning_gen import heap

ROOT = Path(__file__).resolve().parents[1]
Call = Callable[[], object]
Clock = Callable[[], float]
Build = Callable[[], Call]  # can be pickled
Timer = Callable[[int], float]  # how often a call is made in a row -> its seconds
# unit: (value of s seconds for n items, whether less is better)
UNITS: dict[str, tuple[Callable[[float, float], float], bool]] = {
    "s": (lambda s, n: s / n, True),
    "ms": (lambda s, n: 1e3 * s / n, True),
    "us": (lambda s, n: 1e6 * s / n, True),
    "a second": (lambda s, n: n / s, False),
}
ENOUGH = 0.02  # seconds that one timing lasts at least


@contextmanager
def one_thread(keep: bool = True) -> Iterator[None]:
    """Within it torch, numpy and scipy have one thread. With `keep` freed memory stays in the process, as in our
    command: page faults, which depend on earlier frees, make ratios of the same code differ by a fifth."""
    threads = torch.get_num_threads()
    if keep:
        heap.keep()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def cpu_clock() -> float:
    """CPU seconds of this process, and of the processes that it started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def cpu(call: Call, times: int = 1, clock: Clock = cpu_clock) -> float:
    """Seconds by a clock, of CPU by default, for each of `times` calls."""
    start = clock()
    for _ in range(times):
        call()
    return (clock() - start) / times


def answer(build: Build, ours: bool, times: Connection) -> None:
    """In a process of its own: say that the call is built, and time as many as are asked for, until none is."""
    with one_thread(ours):
        call = build()
        times.send(None)
        while often := times.recv():
            times.send(cpu(call, often))


@contextmanager
def apart(build: Build, ours: bool) -> Iterator[Timer]:
    """Time a call in a new process that builds it: the memory of our command where it is ours, else the library's."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=answer, args=(build, ours, there), daemon=True)
    process.start()
    there.close()  # so that its end is an EOFError here

    def timer(times: int) -> float:
        here.send(times)
        return here.recv()

    try:
        here.recv()  # it is built: none is timed while another builds
        yield timer
    finally:
        process.kill()
        process.join()


def median_and_spread(ours: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of the medians, and the smallest and largest ratio of a round."""
    ratios = [a / b for a, b in zip(ours, others, strict=True)]
    return statistics.median(ours) / statistics.median(others), min(ratios), max(ratios)


def same(what: str, a: Tensor, b: Tensor, tolerance: float = 1e-4) -> None:
    """ValueError where two results differ by more than a part of the largest: there is nothing to compare."""
    error = float((a - b).abs().max() / b.abs().max())
    if not error <= tolerance:
        raise ValueError(f"{what}: ours and the peer's differ by {error:.2g} of the largest, expected {tolerance:g}")


@cache
def matrix_rate() -> float:
    """Floating-point operations a second of a float32 matrix product on one thread, 1024 x 1024, the best of nine."""
    a, b = torch.randn(2, 1024, 1024)
    return 2 * 1024**3 / min(cpu(lambda: a @ b) for _ in range(9))


def shares(call: Call, most: int = 4) -> str:
    """Where the time of a call goes: the operators of PyTorch with the largest time of their own."""
    times = max(1, min(50, round(0.1 / max(cpu(call), 1e-6))))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(times):
            call()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)[:most]
    total = sum(event.self_cpu_time_total for event in profiler.key_averages()) or 1
    parts = [f"{event.key.removeprefix('aten::')} {100 * event.self_cpu_time_total / total:.0f} %" for event in events]
    return f"of the operators' time {', '.join(parts)}"


@dataclass
class Run:
    """How long to measure.

    Args:
        seconds: of CPU for the rounds of one row.
        least, most: rounds of a row, whatever they take.
        tiny: the smallest sizes, one round: whether it runs, not how fast.
    """

    seconds: float = 5.0
    least: int = 3
    most: int = 41
    tiny: bool = False

    def pick(self, full: int, tiny: int) -> int:
        """The size."""
        return tiny if self.tiny else full

    def rounds(self, calls: Mapping[str, Call], clock: Clock = cpu_clock) -> dict[str, list[float]]:
        """Seconds a call of each in every round."""
        return self.timed({name: partial(cpu, call, clock=clock) for name, call in calls.items()})

    def programs(self, builds: Mapping[str, Build]) -> dict[str, list[float]]:
        """The same of calls that are built in a process each, as their users run them; ours is under ''."""
        with ExitStack() as stack:
            return self.timed({name: stack.enter_context(apart(build, name == "")) for name, build in builds.items()})

    def timed(self, timers: Mapping[str, Timer]) -> dict[str, list[float]]:
        """Seconds by each in every round, in turn; the order rotates, since one warms the next one's caches.

        Calls before the rounds say how many make a timing, and how many rounds there are.
        """
        first = {name: timer(1) for name, timer in timers.items()}
        if self.tiny:
            return {name: [max(seconds, 1e-9)] for name, seconds in first.items()}
        once = {name: timer(1) if first[name] < 0.1 else first[name] for name, timer in timers.items()}
        times = {name: max(1, round(ENOUGH / max(seconds, 1e-6))) for name, seconds in once.items()}
        number = round(self.seconds / sum(times[name] * once[name] for name in timers))
        number, names = min(self.most, max(self.least, number)), list(timers)
        slow = sum(first.values()) > self.seconds  # then no caches matter, and the first calls are a round
        found = {name: [seconds] if slow else [] for name, seconds in first.items()}
        for index in range(number - slow):
            turn = index % len(names)
            for name in names[turn:] + names[:turn]:
                found[name].append(timers[name](times[name]))
        return found

    def row(
        self,
        what: str,
        ours: Call,
        peers: Mapping[str, Call] | None = None,
        limit: tuple[str, Call | float] | None = None,
        goal: Goal | None = None,
        unit: str = "ms",
        per: float = 1,
        reason: str | None = None,
        clock: Clock = cpu_clock,
        programs: Mapping[str, Build] | None = None,
    ) -> Row:
        """Measure ours, the peers and the limit in turn.

        Args:
            what: is measured.
            ours: our call.
            peers: name -> a call of the same work.
            limit: what no implementation can do without: its name, and a call or its CPU seconds.
            goal: of one figure of the row.
            unit: a key of UNITS.
            per: items (steps, images) of a call.
            reason: why a goal is missed that peer or limit would hold; None: the operators that take the time.
            clock: what the time is of.
            programs: the same calls, to be built and timed in a process each.
        """
        peers = dict(peers or {})
        calls: dict[str, Call] = {"": ours, **peers}
        if limit is not None and callable(limit[1]):
            calls[limit[0]] = limit[1]
        seconds = self.programs(programs) if programs else self.rounds(calls, clock)
        if limit is not None and not callable(limit[1]):
            seconds[limit[0]] = [limit[1]] * len(seconds[""])
        if reason is None and self.tiny:
            reason = "tiny sizes"
        return row(what, seconds, list(peers), limit and limit[0], goal, unit, per, reason or (lambda: shares(ours)))


def row(
    what: str,
    seconds: Mapping[str, Sequence[float]],
    peers: Sequence[str] = (),
    limit: str | None = None,
    goal: Goal | None = None,
    unit: str = "ms",
    per: float = 1,
    reason: str | Callable[[], str] = "",
) -> Row:
    """The row of seconds by name, ours under ''; `reason` is asked for only where the goal is missed, and neither the
    limit nor the peer misses it too."""
    convert, less = UNITS[unit]
    values = {name: [convert(s, per) for s in found] for name, found in seconds.items()}
    medians = {name: statistics.median(found) for name, found in values.items()}
    best = (min if less else max)(peers, key=medians.__getitem__) if peers else None
    made = Row(
        what,
        f"{unit}" if less else f"{unit}, more is better",
        medians[""],
        best,
        best and medians[best],
        best and median_and_spread(values[""], values[best]),
        limit,
        limit and medians[limit],
        limit and median_and_spread(values[""], values[limit]),
        goal,
        rounds=len(values[""]),
        own=None if best or limit else (medians[""], min(values[""]), max(values[""])),
    )
    if made.held() is not False:
        return made
    other = others_miss(medians, best, limit, goal)
    return made.because(other or (reason if isinstance(reason, str) else reason()))


def others_miss(medians: Mapping[str, float], peer: str | None, limit: str | None, goal: Goal | None) -> str:
    """Who misses the goal too: of ours the peer, else the limit; of a ratio to one the other; '' where nobody does."""
    if goal is None:
        return ""
    base, other = {"ours": (None, peer or limit), "peer": (peer, limit), "limit": (limit, peer)}[goal.figure]
    if other is None:
        return ""
    value = medians[other] / (1 if base is None else medians[base])
    return "" if goal.held(value) else f"also by {other}, at {number(value) if base is None else f'{value:.2f}'}"
