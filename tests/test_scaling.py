"""The simulation of a training on many ranks: its laws, its counts, and the page that it wrote."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch
from torch import distributed

from benchmarks import cluster, cluster_tables
from benchmarks.cluster_parts import FIRST, FURTHER, bytes_of, closed, measured, network, pieces, units
from benchmarks.cluster_simulation import COPIES, HELD, Machine, Network, Step, ddp, efficiency, fsdp, smallest_batch
from benchmarks.counting import saved_bytes
from benchmarks.parts.network import Ours, node
from benchmarks.timing import Run
from lightning_gen.config.instantiate import build
from lightning_gen.families.cost import Products

MACHINE = Machine(1e12, 1e11, node=4, link=2e10, between=1e9, base=1e-5, near=1e-6, far=1e-5)
FREE = Machine(1e12, 1e11)  # links without cost


def random_step(seed):
    draw = random.Random(seed)
    parts = [(draw.expovariate(1e3), draw.expovariate(1e-7)) for _ in range(draw.randint(1, 9))]
    return Step(draw.expovariate(1e3), parts, draw.expovariate(1e4))


@pytest.fixture(scope="module")
def parts():
    return json.loads(cluster.PARTS.read_text())


@pytest.mark.parametrize("simulated", [ddp, fsdp])
def test_one_rank_sends_nothing(simulated):
    step = random_step(0)
    assert MACHINE.all_reduce(1e9, 1) == MACHINE.ring(1e9, 1, 1) == 0
    assert simulated(step, 1, MACHINE) == pytest.approx(step.alone)


def test_links_without_cost_leave_the_bare_step():
    step = random_step(1)
    for n in (2, 8, 512):
        assert ddp(step, n, FREE) == pytest.approx(step.alone)
        assert fsdp(step, n, FREE) == pytest.approx(step.alone - step.update * (n - 1) / n)


def test_one_bucket_hides_nothing():
    step = Step(1.0, [(2.0, 1e9)], 0.5)
    assert ddp(step, 8, MACHINE) == pytest.approx(3.5 + MACHINE.all_reduce(1e9, 8))


def test_two_buckets_by_hand():
    """The first is sent while the second is computed, which takes as long again; a busy processor is a slower one."""
    machine, size = replace(FREE, link=1.0, node=8), 1.0  # an all-reduce of two ranks takes 1 s
    step = Step(1.0, [(1.0, size), (3.0, size)], 0.0)
    assert ddp(step, 2, machine) == pytest.approx(6)  # 1, 2, 5, and the second's transfer
    assert ddp(step, 2, replace(machine, taken=0.5)) == pytest.approx(6.5)  # half a second's work is lost in the first
    short = Step(1.0, [(1.0, size), (0.25, size)], 0.0)
    assert ddp(short, 2, machine) == pytest.approx(4)  # the second waits for the links
    assert ddp(short, 2, replace(machine, taken=0.5)) == pytest.approx(4)


def test_two_units_by_hand():
    """Gathers of 1 s before computing, one ahead; scatters after."""
    machine = replace(FREE, link=0.5, node=8)  # a pass of two ranks over a byte takes 1 s
    step = Step(2.0, [(3.0, 1.0), (3.0, 1.0)], 0.0)
    # forward: gather 0-1, compute 1-2, gather 1-2, compute 2-3; backward: gather 2-3, compute 3-6, gather 3-4,
    # scatter 6-7, compute 6-9, scatter 9-10
    assert fsdp(step, 2, machine) == pytest.approx(10)


def test_a_ring_sends_what_it_must():
    machine = replace(MACHINE, base=0.0, near=0.0, far=0.0)
    for n in (2, 4):
        assert machine.ring(1e9, n, 2) * machine.link == pytest.approx(2 * (n - 1) / n * 1e9)
    for n in (8, 64):  # four rings through a node, each over its own adapter
        assert machine.ring(1e9, n, 2) * 4 * machine.between == pytest.approx(2 * (n - 1) / n * 1e9)
    waiting = replace(FREE, node=4, near=1.0, far=100.0)
    assert waiting.ring(1.0, 4, 2) == 6 and waiting.ring(1.0, 16, 1) == 12 + 300
    assert waiting.all_reduce(1.0, 16) == 2 * (3 + 2 * 100)  # the tree has fewer steps between nodes


def test_more_ranks_take_longer():
    for seed in range(20):
        step = random_step(seed)
        for simulated in (ddp, lambda step, n, machine: fsdp(replace(step, update=0.0), n, machine)):
            seconds = [simulated(step, 2**k, MACHINE) for k in range(10)]
            assert seconds == sorted(seconds)


@pytest.mark.parametrize("taken", [0.0, 0.3, 1.0])
def test_a_step_is_between_its_longest_part_and_the_sum(taken):
    machine = replace(MACHINE, taken=taken)
    for seed in range(50):
        step = random_step(seed)
        transfer = sum(machine.all_reduce(size, 8) for _, size in step.pieces)
        found, least = ddp(step, 8, machine), max(step.alone, step.forward + step.pieces[0][0] + transfer + step.update)
        assert least * (1 - 1e-9) <= found <= (step.alone + transfer) * (1 + 1e-9)
        if taken == 1:
            assert found == pytest.approx(step.alone + transfer)  # nothing is hidden by a processor that is busy
        gathered = sum(machine.ring(size, 8, 1) for _, size in step.pieces)
        alone = step.alone - step.update * 7 / 8
        assert max(alone, 3 * gathered) * (1 - 1e-9) <= fsdp(step, 8, machine) <= alone + 3 * gathered + 1e-9


def test_buckets_are_those_of_ddp():
    draw = random.Random(0)
    sizes = [draw.choice([100, 10_000, 300_000, 4_000_000, 9_000_000]) for _ in range(200)]
    tensors = [torch.empty(size // 4) for size in sizes]
    theirs, _ = distributed._compute_bucket_assignment_by_size(tensors, [FIRST, FURTHER])
    assert distributed._DEFAULT_FIRST_BUCKET_BYTES == FIRST
    bucket = {index: k for k, group in enumerate(theirs) for index in group}
    assert [bucket[index] for index in range(len(sizes))] == closed(sizes)


def test_pieces_end_with_their_last_parameter():
    assert pieces([("a", 1, 10), ("b", 2, 15), ("b", 3, 20), ("a", 4, 50)]) == [(5, 20), (5, 30)]


def test_shapes_alone_give_the_network_s_counts():
    found, net = network(32), build(node("unet_cifar", (3, 32, 32), channels=32))
    size = sum(p.numel() for p in net.parameters())
    assert found["parameters"] == size
    for kind in ("buckets", "units"):
        assert sum(count for count, _ in found[kind]) == size
        assert sum(work for _, work in found[kind]) == found["backward"]
    assert len(found["units"]) == 1 + len({*units(net).values()})
    with Products() as work:
        net(torch.randn(1, 3, 32, 32), torch.tensor([500.0]))
    assert found["forward"] == work.total
    # The time embedding, in the unit that is left, waits for the gradients of all blocks; the first convolution too.
    assert found["units"][-1][0] == size - sum(p.numel() for p in units(net))


def test_bytes_grow_with_the_channels():
    one, two = bytes_of(32), bytes_of(64)
    for key in ("moved_forward", "moved", "kept"):
        assert two[key] / one[key] == pytest.approx(2, rel=0.03), key
    assert one["operators"] == two["operators"]


def test_autocast_halves_what_is_kept_and_keeps_the_cast_weights():
    net = build(node("unet_cifar", (3, 32, 32), channels=16, groups=8))

    def kept(batch):
        with torch.autocast("cpu", torch.bfloat16):
            return saved_bytes(lambda: net(torch.randn(batch, 3, 32, 32), torch.full((batch,), 5.0)), net.parameters())

    full = [
        saved_bytes(lambda b=b: net(torch.randn(b, 3, 32, 32), torch.full((b,), 5.0)), net.parameters()) for b in (1, 2)
    ]
    assert (kept(2) - kept(1)) / (full[1] - full[0]) == pytest.approx(0.5, rel=0.05)
    products = sum(p.numel() for p in net.parameters() if p.ndim > 1)
    assert 2 * kept(1) - kept(2) == pytest.approx(2 * products, rel=0.05)


def test_a_rank_holds_twenty_bytes_a_parameter():
    one = Ours(build(node("unet_digits", (1, 8, 8))))
    one.step(torch.randn(2, 1, 8, 8))
    held = [tensor for p in one.parameters for tensor in (p, p.grad, *one.optimizer.state[p].values()) if tensor.ndim]
    held += [p for p in one.module.ema.parameters()]
    assert sum(tensor.nbytes for tensor in held) == pytest.approx(
        HELD * sum(p.numel() for p in one.parameters), rel=1e-3
    )


def test_a_line_is_fitted():
    points = [(size, 0.001 + size / 2e9) for size in (2**12, 2**20, 2**25)]
    assert cluster_tables.fitted(points) == (pytest.approx(0.001), pytest.approx(2e9))


def test_the_smallest_batch_is_the_smallest(parts):
    one = cluster_tables.networks(parts)[0]
    batch = smallest_batch(one, 64, cluster_tables.H200)
    assert efficiency(one, batch, 64, cluster_tables.H200) >= 0.9 > efficiency(one, batch - 1, 64, cluster_tables.H200)


def test_the_most_images_have_room(parts):
    for one in cluster_tables.networks(parts)[:4]:
        for n, sharded in ((8, False), (64, True)):
            most = one.largest(cluster_tables.H200, n, sharded)
            assert one.bytes(most, n, sharded) <= cluster_tables.H200.room < one.bytes(most + 1, n, sharded)


def test_a_scaled_network_is_near_the_counted_one(parts):
    one, two = cluster_tables.networks(parts)[:2]
    made = one.scaled(two.parameters / one.parameters)
    for key in ("forward", "backward", "moved", "kept"):
        assert getattr(made, key) == pytest.approx(getattr(two, key), rel=0.02), key


def test_fsdp_is_faster_from_the_break_even_on(parts):
    one = cluster_tables.networks(parts)[0]
    factor = cluster_tables.break_even(one, 512) / one.parameters
    for grown, faster in ((0.97, False), (1.03, True)):
        wide = one.scaled(grown * factor)
        assert (cluster_tables.throughput(wide, 512, True) > cluster_tables.throughput(wide, 512, False)) is faster


def test_a_step_of_one_rank_is_its_arithmetic_and_its_bytes():
    counts = {"parameters": 10, "forward": 100, "backward": 200, "buckets": [(10, 200)], "units": [(10, 200)]}
    one = Network(**counts, moved_forward=40, moved=100, kept=8, operators_forward=3, operators=9)
    step = one.step(2, Machine(10.0, 5.0))
    assert step.forward == pytest.approx(20 + 16) and step.pieces[0] == (pytest.approx(40 + 24), 40.0)
    assert one.step(2, Machine(math.inf, math.inf, launch=2.0)).alone == 18
    half = one.step(2, Machine(10.0, 5.0, half=True))
    assert half.forward == pytest.approx(20 + 8 + 12) and half.pieces[0][0] == pytest.approx(40 + 12 + 12)
    copied = one.step(2, Machine(10.0, 5.0), copies=True)
    assert copied.update - step.update == pytest.approx(COPIES * 10 / 5)


def test_the_page_has_what_the_command_writes(parts):
    page = cluster.PAGE.read_text()
    assert page.count("<!-- table: ") == len(cluster_tables.TABLES) == page.count("<!-- end -->")
    assert cluster.written(page, parts) == page


def test_the_stored_counts_are_those_of_the_network(parts):
    assert json.loads(json.dumps(network(128))) == parts["counted"]["networks"][0]


@pytest.mark.slow
def test_the_parts_are_measured():
    found = measured(Run(tiny=True), rounds=1)
    for prediction in cluster_tables.predictions(found["runs"][0], found):
        assert min(prediction[key] for key in ("parts", "counts")) > 0
