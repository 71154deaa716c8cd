"""A step of DDP and of FSDP on n ranks, simulated from its parts: what each rank computes, and what its links take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Machine:
    """A rank and its links.

    Args:
        products: R, operations a second of matrix products and convolutions.
        memory: M, bytes a second between memory and processor, read and written.
        room: bytes of memory.
        node: ranks of a node.
        link: bytes a second that a rank sends to one in its node while it receives as many.
        between: the same to a rank of another node.
        base: seconds that a collective takes at least.
        near, far: seconds of a step of a collective within a node, and between two.
        taken: part of the processor that a collective keeps busy, in [0, 1].
        launch: seconds that an operator takes at least.
        half: whether products are of bfloat16 under autocast: activations of 2 bytes, weights cast in each step.
    """

    products: float
    memory: float
    room: float = math.inf
    node: int = 8
    link: float = math.inf
    between: float = math.inf
    base: float = 0.0
    near: float = 0.0
    far: float = 0.0
    taken: float = 0.0
    launch: float = 0.0
    half: bool = False

    def rate(self, n: int) -> float:
        """B, bytes a second of a ring through n ranks: a node has as many rings as ranks, each with its own adapter."""
        return self.link if n <= self.node else min(self.link, self.between * self.node)

    def ring(self, size: float, n: int, passes: int) -> float:
        """Seconds of `passes` times n - 1 steps in which each rank hands on a 1/n of `size` bytes.

        An all-gather and a reduce-scatter are one pass, an all-reduce is two.
        """
        if n == 1:
            return 0.0
        nodes = math.ceil(n / self.node)
        steps = passes * ((n - nodes) * self.near + (nodes - 1) * self.far)
        return self.base + steps + passes * (n - 1) / n * size / self.rate(n)

    def all_reduce(self, size: float, n: int) -> float:
        """Seconds of the faster of a ring, and of a tree over the nodes, as NCCL has both."""
        steps = (min(n, self.node) - 1) * self.near + math.log2(max(n / self.node, 1)) * self.far
        tree = self.base + 2 * steps + 2 * size / (0.92 * self.rate(n))  # 0.92: NCCL's own model, src/graph/tuning.cc
        return min(self.ring(size, n, 2), tree) if n > 1 else 0.0


@dataclass(frozen=True)
class Step:
    """What a rank computes in a step, seconds.

    Args:
        forward: of the forward pass.
        pieces: (seconds of the backward pass since the piece before, bytes of gradients that are ready then), in order.
        update: of clipping, optimizer and average.
    """

    forward: float
    pieces: Sequence[tuple[float, float]]
    update: float

    @property
    def alone(self) -> float:
        """Seconds of the step of one rank."""
        return self.forward + sum(seconds for seconds, _ in self.pieces) + self.update


def ddp(step: Step, n: int, machine: Machine) -> float:
    """Seconds of a step of n ranks, each with the whole model: a bucket is reduced when it is ready and links are free.

    While the links are busy, the backward pass has the processor but for the part that the reduction takes.
    """
    clock = free = step.forward
    for seconds, size in step.pieces:
        busy = max(0.0, free - clock)
        if seconds >= busy * (1 - machine.taken):
            clock += seconds + busy * machine.taken
        else:
            clock += seconds / (1 - machine.taken)
        free = max(free, clock) + machine.all_reduce(size, n)
    return max(clock, free) + step.update


def fsdp(step: Step, n: int, machine: Machine) -> float:
    """Seconds of a step of n ranks, each with a part of the weights; the pieces are the units.

    A unit's weights are gathered for its forward pass and for its backward pass, while the unit before computes; its
    gradient is scattered after. A unit has that part of the forward pass that it has of the backward pass.
    """
    backward = sum(seconds for seconds, _ in step.pieces)
    forward = [(step.forward * seconds / backward, size, False) for seconds, size in reversed(step.pieces)]
    stages = forward + [(seconds, size, True) for seconds, size in step.pieces]
    clock, free = 0.0, machine.ring(stages[0][1], n, 1)
    ready = free
    for (seconds, size, scatters), after in zip(stages, [*stages[1:], None], strict=True):
        begin = max(clock, ready)
        if after:
            free = ready = max(free, begin) + machine.ring(after[1], n, 1)
        clock = begin + seconds
        if scatters:
            free = max(free, clock) + machine.ring(size, n, 1)
    return max(clock, free) + step.update / n


@dataclass(frozen=True)
class Network:
    """A network's counts, and what a machine makes of them.

    Args:
        parameters: P.
        forward, backward: operations for an image.
        buckets, units: (parameters, operations of the backward pass) of DDP's buckets, of FSDP's units, in order.
        moved_forward, moved: Q, bytes that all but products read and write for an image, forward and in all, float32.
        kept: A, bytes that wait for the backward pass, for an image, float32.
        operators_forward, operators: numbers of them.
    """

    parameters: float
    forward: float
    backward: float
    buckets: Sequence[Sequence[float]]
    units: Sequence[Sequence[float]]
    moved_forward: float
    moved: float
    kept: float
    operators_forward: int
    operators: int

    @classmethod
    def of(cls, counts: dict[str, Any], of_bytes: dict[str, Any]) -> "Network":
        """From what cluster_parts.py counted; the bytes, of a network of other widths, grow with the channels."""
        ratio = counts["channels"] / of_bytes["channels"]
        grown = {key: ratio * of_bytes[key] for key in ("moved_forward", "moved", "kept")}
        equal = {key: of_bytes[key] for key in ("operators_forward", "operators")}
        return cls(**{key: value for key, value in counts.items() if key != "channels"}, **grown, **equal)

    def scaled(self, factor: float) -> "Network":
        """The network with `factor` times the parameters: as many times the operations, its root times the bytes."""
        grown = {key: math.sqrt(factor) * getattr(self, key) for key in ("moved_forward", "moved", "kept")}
        sizes = {key: factor * getattr(self, key) for key in ("parameters", "forward", "backward")}
        pieces = {key: [(factor * a, factor * b) for a, b in getattr(self, key)] for key in ("buckets", "units")}
        return replace(self, **grown, **sizes, **pieces)

    def step(self, batch: float, machine: Machine, kind: str = "buckets", copies: bool = False) -> Step:
        """Seconds of a step with so many images a rank.

        Args:
            batch: b.
            machine: the rank.
            kind: of the pieces.
            copies: whether gradients are copied into buckets and back.
        """
        size, casts = 0.5 if machine.half else 1.0, 6 * self.parameters * machine.half
        there = batch * self.forward / machine.products + (batch * size * self.moved_forward + casts) / machine.memory
        moved = batch * size * (self.moved - self.moved_forward) + casts
        back = batch * self.backward / machine.products + moved / machine.memory
        there = max(there, machine.launch * self.operators_forward)
        back = max(back, machine.launch * (self.operators - self.operators_forward))
        pieces = [(back * work / self.backward, 4.0 * count) for count, work in getattr(self, kind)]
        return Step(there, pieces, (UPDATE + COPIES * copies) * self.parameters / machine.memory)

    def bytes(self, batch: float, n: int = 1, sharded: bool = False, half: bool = True) -> float:
        """Bytes that a rank holds: weights, gradients, moments, average, buckets or two whole units, activations."""
        activations = self.kept * batch / (1 + half)
        if sharded:
            whole = 2 * 8 * max(count for count, _ in self.units)  # two at a time, weights and gradients
            return HELD * self.parameters / n + whole + activations + 2 * half * self.parameters
        return HELD * self.parameters + 4 * self.parameters * (n > 1) + 2 * half * self.parameters + activations

    def largest(self, machine: Machine, n: int, sharded: bool = False) -> int:
        """The most images of a rank; 0 where not even one has room."""
        none, one = (self.bytes(batch, n, sharded, machine.half) for batch in (0, 1))
        return max(0, int((machine.room - none) / (one - none)))


# Bytes a parameter. Held: weight 4, gradient 4, Adam's moments 8, average 4. An update reads the gradient for its norm,
# scales it (8), reads weight, gradient and moments and writes all but the gradient (28), averages (12).
HELD, UPDATE, COPIES = 20, 4 + 8 + 28 + 12, 16


def efficiency(network: Network, batch: float, n: int, machine: Machine) -> float:
    """Images a second of n ranks over n times those of one rank with the same batch."""
    step = network.step(batch, machine, copies=n > 1)
    return network.step(batch, machine).alone / ddp(step, n, machine)


def smallest_batch(network: Network, n: int, machine: Machine, least: float = 0.9) -> int:
    """The fewest images of a rank at which the efficiency is at least `least`."""
    batch = 1
    while efficiency(network, batch, n, machine) < least:
        batch += 1
    return batch
