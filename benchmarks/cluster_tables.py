"""The tables of docs/scaling.md: each from the counted and measured parts, by the simulation of a step."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from benchmarks.cluster_simulation import COPIES, UPDATE, Machine, Network, Step, ddp, fsdp, smallest_batch
from benchmarks.table import line, number

# By the data sheet, but R, which was measured, and base, near and far by NCCL's own model, src/graph/tuning.cc.
H200 = Machine(790e12, 4.8e12, room=141e9, link=450e9, between=50e9, base=8.4e-6, near=3.4e-6, far=14e-6, half=True)
PEAK, SINGLE = 989e12, 67e12  # operations a second by the data sheet: bfloat16, dense, and float32
LAUNCH = 5e-6  # seconds of an operator that is launched one by one: assumed
RANKS = (1, 8, 64, 512)
BATCH, PIXELS, IMAGES = 128, 3 * 32 * 32, 50_000  # of ddpm_cifar, bytes of an image, and of a FID
Parts = dict[str, Any]


def fitted(points: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Base in seconds and rate in bytes a second of (bytes, seconds), by least squares of relative errors."""
    weights = [1 / seconds**2 for _, seconds in points]
    x, y = (fmean((p[i] for p in points), weights) for i in (0, 1))
    slope = fmean(((a - x) * (b - y) for a, b in points), weights) / fmean(((a - x) ** 2 for a, _ in points), weights)
    return max(0.0, y - slope * x), 1 / slope


def predictions(run: dict[str, Any], measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds of a step of one and of two ranks by its measured parts, and of its CPU by counts."""
    network = Network.of(run["network"], run["bytes"])
    base, link = fitted(run["ranks"]["2"]["reduce"])
    taken = min(1.0, run["ranks"]["2"]["busy"])
    machine = Machine(measured["products"], measured["memory"], node=2, link=link, base=base, taken=taken)
    found = []
    for n in (1, 2):
        got, counted = run["ranks"][str(n)], network.step(run["batch"], machine, copies=n > 1)
        pieces = [(got["backward"] * work / network.backward, 4.0 * size) for size, work in network.buckets]
        copies = COPIES * (n > 1) * network.parameters / machine.memory
        parts = got["loop"] + ddp(Step(got["forward"], pieces, got["update"] + copies), n, machine)
        transfer = sum(machine.all_reduce(size, n) for _, size in pieces)
        counts = counted.alone + machine.taken * transfer
        found.append({"n": n, "transfer": transfer, "parts": parts, "counts": counts})
    return found


def networks(parts: Parts) -> list[Network]:
    """ddpm_cifar's network, and those with 2, 4, 8 and 16 times its channels."""
    return [Network.of(counts, parts["counted"]["bytes"]) for counts in parts["counted"]["networks"]]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; numbers with three digits."""
    cells = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in rows]
    return "\n".join([line(head), "|---" * len(head) + "|", *map(line, cells)])


def percent(value: float, digits: int = 0) -> str:
    """Of a part of 1."""
    return f"{100 * value:.{digits}f} %"


def scaled(value: float, unit: str) -> str:
    """In 10^9."""
    return f"{value / 1e9:.3g} G{unit}"


def size(p: float) -> str:
    """P in words."""
    return f"{p / 1e6:.1f} M" if p < 1e9 else f"{p / 1e9:.2f} G"


def errors(parts: Parts) -> str:
    """Measured and predicted steps on the CPU, and the largest errors."""
    rows, largest = [], [0.0, 0.0]
    for run in parts["measured"]["runs"]:
        for made in predictions(run, parts["measured"]):
            got, cells = run["ranks"][str(made["n"])], []
            for i, (key, true) in enumerate((("parts", "step"), ("counts", "cpu"))):
                error = made[key] / got[true] - 1
                largest[i] = max(largest[i], abs(error))
                cells += [f"{got[true]:.3g}", f"{made[key]:.3g} ({100 * error:+.0f} %)"]
            low, high = got["quartiles"]
            cells[0] += f" ({low:.3g} to {high:.3g})"
            what = f"{size(run['network']['parameters'])}, {run['batch']}"
            rows.append([what, made["n"], f"{got['load']:.1f}", f"{made['transfer']:.2g}", *cells])
    rows.append(["largest error", "", "", "", "", percent(largest[0]), "", percent(largest[1])])
    head = ["P, images of a rank", "ranks", "load", "all-reduce, s", "step (quartiles), s", "by parts, s"]
    return table([*head, "its CPU, s", "by counts, s"], rows)


def machine(parts: Parts) -> str:
    """What is taken of the GPU and of the CPU here."""
    cpu, run = parts["measured"], parts["measured"]["runs"][-1]["ranks"]["2"]
    base, link = fitted(run["reduce"])
    both, sheet = f"{H200.link / 5e8:.0f} GB/s NVLink in both directions", "data sheet"
    rows = [
        ["R, products", f"{H200.products / 1e12:.0f} TFLOP/s", "bfloat16, measured", scaled(cpu["products"], "FLOP/s")],
        ["R by the data sheet", f"{PEAK / 1e12:.0f} TFLOP/s", "bfloat16, dense", ""],
        ["R in float32", f"{SINGLE / 1e12:.0f} TFLOP/s", sheet, ""],
        ["M, memory", f"{H200.memory / 1e12} TB/s", sheet, scaled(cpu["memory"], "B/s")],
        ["room", f"{H200.room / 1e9:.0f} GB", sheet, ""],
        ["B within a node", f"{H200.link / 1e9:.0f} GB/s", f"{sheet}: {both}", scaled(link, "B/s")],
        ["B between nodes, a GPU", f"{H200.between / 1e9:.0f} GB/s", f"{sheet}: InfiniBand of 400 Gb/s", ""],
        ["least time of a collective", f"{1e6 * H200.base:.1f} µs", "NCCL", f"{1e6 * base:,.0f} µs"],
        ["τ, a step within a node", f"{1e6 * H200.near:.1f} µs", "NCCL", ""],
        ["τ, a step between nodes", f"{1e6 * H200.far:.1f} µs", "NCCL", ""],
        ["processor's part that a collective takes", "0 %", "assumed", percent(run["busy"])],
        ["an operator, where it counts", f"{1e6 * LAUNCH:.0f} µs", "assumed", ""],
    ]
    return table(["what", "H200 in nodes of 8", "from", f"a core of {cpu['cpu']}, gloo, measured"], rows)


def step_bytes(parts: Parts) -> str:
    """Bytes of a step of a rank, GB."""
    found = [networks(parts)[i] for i in (0, 2)]

    def row(what: str, value: Callable[[Network], float]) -> list[object]:
        return [what, *(f"{value(network) / 1e9:,.3g}" for network in found)]

    def per_parameter(what: str, count: float, formula: str = "") -> list[object]:
        return row(f"{what}, {formula or count} P", lambda net: count * net.parameters)

    rows = [
        per_parameter("held: weights", 4),
        per_parameter("held: gradients", 4),
        per_parameter("held: Adam's two moments", 8),
        per_parameter("held: the average", 4),
        per_parameter("held: DDP's buckets", 4),
        per_parameter("held: weights cast to bfloat16", 2),
        row(f"held: activations of {BATCH} images, A b", lambda net: BATCH * net.kept / 2),
        row("moved: forward and backward, Q b + 12 P", lambda net: BATCH * net.moved / 2 + 12 * net.parameters),
        per_parameter("moved: clipping, Adam, average", UPDATE),
        per_parameter("moved: into buckets and back", COPIES),
        *(per_parameter(f"sent by a rank of {n}", 8 * (n - 1) / n, "2 (n − 1)/n · 4") for n in RANKS[1:]),
    ]
    return table(["GB", *(f"P = {size(network.parameters)}" for network in found)], rows)


def steps(parts: Parts) -> str:
    """DDP at ddpm_cifar's batch for each rank."""
    rows = []
    for network in (networks(parts)[i] for i in (0, 2)):
        alone = network.step(BATCH, H200).alone
        for n in RANKS:
            step = network.step(BATCH, H200, copies=n > 1)
            seconds, transfer = ddp(step, n, H200), sum(H200.all_reduce(one, n) for _, one in step.pieces)
            rest = seconds - step.alone
            shares = [percent(rest / seconds, 1), percent(alone / seconds, 1)]
            times = [f"{1e3 * one:.2f}" for one in (seconds, transfer, rest)]
            rows.append([size(network.parameters), n, n * BATCH / seconds, *times, *shares])
    head = ["P", "n", "images/s", "step, ms", "all-reduce, ms", "not hidden, ms", "of the step", "efficiency"]
    return table(head, rows)


def batches(parts: Parts) -> str:
    """The smallest batch of a rank with 90 %."""
    half = replace(H200, link=H200.link / 2, between=H200.between / 2)
    slow = replace(H200, products=0.4 * H200.products, memory=0.4 * H200.memory)
    cases = [*((n, H200) for n in RANKS[1:]), (512, half), (512, slow)]
    rows = [[size(net.parameters), *(smallest_batch(net, n, gpu) for n, gpu in cases)] for net in networks(parts)[:4]]
    return table(["P", "n = 8", "64", "512", "512, B halved", "512, GPU at 40 %"], rows)


def fixed_batch(parts: Parts) -> str:
    """ddpm_cifar by the batch of all ranks."""
    network = networks(parts)[0]

    def rate(total: int, n: int) -> str:
        if total < n:
            return "–"
        gpus = (H200, replace(H200, launch=LAUNCH))
        found = [total / ddp(network.step(total / n, gpu, copies=n > 1), n, gpu) for gpu in gpus]
        return f"{number(found[0])} ({number(found[1])})"

    rows = [[f"{total:,}", *(rate(total, n) for n in RANKS)] for total in (128, 512, 2048, 8192)]
    return table(["batch of all ranks", *(f"n = {n}" for n in RANKS)], rows)


def recipes(parts: Parts) -> str:
    """Seconds of an all-reduce over those of the products."""
    rows = []
    for name, got in parts["counted"]["recipes"].items():
        alone = BATCH * got["operations"] / H200.products
        transfer = [H200.all_reduce(4 * got["parameters"], n) for n in RANKS[1:]]
        shares = [percent(one / alone) for one in transfer]
        rows.append([f"`{name}`", got["parameters"] / 1e6, got["operations"] / 1e9, *shares])
    return table(["experiment", "P, 10⁶", "10⁹ operations an image", *(f"n = {n}" for n in RANKS[1:])], rows)


def storage(parts: Parts) -> str:
    """What the data must give."""
    network, images = networks(parts)[0], parts["measured"]["images"]
    rows = []
    for n in RANKS:
        rate = n * BATCH / ddp(network.step(BATCH, H200, copies=n > 1), n, H200)
        rows.append([n, rate, rate * PIXELS / 1e9, rate / n / images["memory"], rate / n / images["folder"]])
    return table(["n", "images/s", "GB/s at 3,072 bytes", "cores a GPU, from memory", "cores a GPU, from JPEG"], rows)


def fid(parts: Parts) -> str:
    """Seconds of a FID of 50,000 images."""
    network, inception = networks(parts)[0], parts["counted"]["inception"]
    rows = []
    for n in RANKS:
        each = IMAGES / n
        call = network.step(each, replace(H200, launch=LAUNCH)).forward
        drawn = [1000 * call, 50 * call]
        features = each * (inception["operations"] / SINGLE + inception["moved"] / H200.memory)
        rest = features + parts["measured"]["frechet"]
        rows.append([n, *drawn, features, parts["measured"]["frechet"], *(rest + one for one in drawn)])
    head = ["n", "1,000 steps, s", "50 steps, s", "Inception, s", "Fréchet step, s"]
    return table([*head, "whole, 1,000 steps, s", "whole, 50, s"], rows)


def memory(parts: Parts) -> str:
    """GB of a rank."""
    rows = []
    for network in networks(parts):
        kinds = [(8, False), *((n, True) for n in RANKS[1:])]
        fixed = [f"{network.bytes(0, n, sharded) / 1e9:,.3g}" for n, sharded in kinds]
        most = [network.largest(H200, n, sharded) for n, sharded in kinds]
        images = network.bytes(1, 8) - network.bytes(0, 8)
        room = [f"{most[i]:,}" for i in (0, 1, 3)]
        rows.append([size(network.parameters), *fixed, f"{images / 1e6:,.3g}", *room])
    head = ["P", "DDP, GB", "FSDP 8, GB", "64", "512", "an image, MB", "most images: DDP", "FSDP 8", "512"]
    return table(head, rows)


def throughput(network: Network, n: int, sharded: bool) -> float:
    """Images a second of a rank with the batch of the recipe, or the most that has room; 0 where none has."""
    batch = min(BATCH, network.largest(H200, n, sharded))
    step = network.step(batch, H200, "units" if sharded else "buckets", copies=not sharded)
    return batch / (fsdp if sharded else ddp)(step, n, H200)


def break_even(network: Network, n: int) -> float:
    """Parameters from which on FSDP makes more images a second than DDP."""
    low, high = 1.0, 1e3
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        wide = network.scaled(middle)
        low, high = (low, middle) if throughput(wide, n, True) > throughput(wide, n, False) else (middle, high)
    return network.parameters * high


def sharding(parts: Parts) -> str:
    """Images a second of a rank, DDP and FSDP."""
    found = networks(parts)
    rows: list[list[object]] = [
        [size(net.parameters), *(throughput(net, n, sharded) for n in RANKS[1:] for sharded in (False, True))]
        for net in found
    ]
    even = [f"{break_even(found[0], n) / 1e9:.2f} G" for n in RANKS[1:]]
    rows.append(["FSDP is faster from P =", *(cell for one in even for cell in ("", one))])
    return table(["P", *(f"{kind}, n = {n}" for n in RANKS[1:] for kind in ("DDP", "FSDP"))], rows)


TABLES: dict[str, Callable[[Parts], str]] = {
    "machine": machine,
    "errors": errors,
    "bytes": step_bytes,
    "steps": steps,
    "batches": batches,
    "fixed-batch": fixed_batch,
    "recipes": recipes,
    "storage": storage,
    "fid": fid,
    "memory": memory,
    "sharding": sharding,
}
