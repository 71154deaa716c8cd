"""Laws of data sets: range, splits, fingerprint, and the order of the batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_gen.check.law import Broken, Laws, Skipped, no_more
from lightning_gen.data import GenerativeData, Split

NAMES = ("train", "val", "test")
MOST = 4096  # rows of a split that are encoded
SHARED = 0.01  # of a split that may stand in another: pictures without anything in them are alike
LAWS = Laws()


class Subject:
    """A data set that is read.

    Args:
        make: builds the data set.
        takes: the names of the constructor's arguments.
        given: those that the person gives.
    """

    def __init__(self, make: Callable[..., GenerativeData], takes: Sequence[str], given: Mapping[str, Any]) -> None:
        self.make, self.takes, self.given, self.reads = make, takes, given, 0
        self.data = self.ready()

    def said(self) -> str:
        """What is looked at, in words."""
        return f"the data set {type(self.data).__name__}: {self.data.introduced()}"

    def ready(self, **options: Any) -> GenerativeData:
        """A data set of these arguments, read; the global generators stand elsewhere each time."""
        self.reads += 1
        torch.manual_seed(self.reads)
        data = self.make(**options)
        data.prepare_data()
        data.setup()
        return data

    @cached_property
    def splits(self) -> dict[str, Split]:
        """Name -> split; Broken for one that `load` does not give."""
        return {name: self.split(name) for name in NAMES}

    def split(self, name: str) -> Split:
        """One split; Broken where `load` does not give it."""
        try:
            return self.data.split(name)
        except ValueError:
            raise Broken(f"load() gives no {name}") from None

    def rows(self, name: str) -> Tensor:
        """Rows of a split as they are stored, the first ones of a large one."""
        return self.splits[name].take(torch.arange(min(MOST, len(self.splits[name]))))


Epoch = list[tuple[list[int], int]]


def epoch(loader: Any, most: int | None = None) -> Epoch:
    """Indices and a hash of x of each batch, to the end of the epoch, or of the first ones."""
    found: Epoch = []
    for batch in loader:
        found.append((batch["index"].tolist(), hash(batch["x"].cpu().contiguous().numpy().tobytes())))
        if len(found) == most:
            break
    return found


@LAWS.law("splits", "train, val and test of one shape", "networks are built for that shape", first=True)
def look_splits(subject: Subject) -> str:
    """Splits of one shape, images of 8 bits or points."""
    for name, split in subject.splits.items():
        if len(split) and tuple(split.shape) != tuple(subject.data.shape):
            raise Broken(f"rows of {name} are {tuple(split.shape)}, and shape is {tuple(subject.data.shape)}")
    if not len(subject.splits["train"]):
        raise Broken("train is empty")
    dtype = str(subject.rows("train").dtype).removeprefix("torch.")
    return ", ".join(f"{name} {len(split):,}" for name, split in subject.splits.items()) + (
        f" rows of {tuple(subject.data.shape)}, {dtype}"
    )


@LAWS.law("range", "x in value_range, labels below classes", "samples are clipped and decoded by it")
def look_range(subject: Subject) -> str:
    """x in model space is float32, finite, in value_range; labels are classes."""
    data, seen = subject.data, [torch.inf, -torch.inf]
    for name in NAMES:
        if not len(subject.splits[name]):
            continue
        x = data.encode(subject.rows(name))
        if x.dtype != torch.float32 or not x.isfinite().all():
            raise Broken(
                f"encode gives {x.dtype}{'' if x.isfinite().all() else ', not finite'}, expected finite float32"
            )
        seen = [min(seen[0], float(x.min())), max(seen[1], float(x.max()))]
        label = subject.splits[name].labels(slice(None))
        if (label is None) != (data.classes is None):
            raise Broken(f"{name} has {'no ' * (label is None)}labels, and classes is {data.classes}")
        if label is not None and len(label) and not (int(label.min()) >= 0 and int(label.max()) < data.classes):
            raise Broken(
                f"labels of {name} go from {int(label.min())} to {int(label.max())}, classes is {data.classes}"
            )
    told = f"x from {seen[0]:.4g} to {seen[1]:.4g}"
    if data.value_range is None:
        return f"{told}, no range is promised"
    low, high = data.value_range
    if seen[0] < low - 1e-6 or seen[1] > high + 1e-6:
        raise Broken(f"{told}, and value_range is [{low:g}, {high:g}]")
    if seen[1] - seen[0] < 0.25 * (high - low):
        raise Broken(f"{told}, a small part of value_range [{low:g}, {high:g}]: as if it was scaled twice")
    return f"{told}, in value_range [{low:g}, {high:g}]" + (f", {data.classes} classes" if data.classes else "")


@LAWS.law("disjoint", "no row in two splits", "held-out numbers would praise a model that copies")
def look_disjoint(subject: Subject) -> str:
    """Hardly a row of one split stands in another."""
    found = {name: {hash(row.tobytes()) for row in numpy_rows(subject.splits[name])} for name in NAMES}
    worst, told = 0.0, []
    for one, other in (("val", "train"), ("test", "train"), ("test", "val")):
        if not found[one] or not found[other]:
            continue
        both = len(found[one] & found[other])
        worst = max(worst, both / len(found[one]))
        told.append(f"{both:,} of {len(found[one]):,} in {one} are in {other}")
    if not told:
        raise Skipped("there is one split alone")
    no_more(worst, SHARED, "; ".join(told))
    return "; ".join(told)


def numpy_rows(split: Split) -> Iterator[Any]:
    """The rows of a split, each an array."""
    for indices in torch.arange(len(split)).split(1024):
        yield from split.take(indices).contiguous().numpy()


@LAWS.law("fingerprint", "the same whenever the data are read", "no run could be resumed")
def look_fingerprint(subject: Subject) -> str:
    """The same data have the same fingerprint, others another."""
    first, second = subject.data, subject.ready()
    for name in NAMES:
        if first.split(name).fingerprint() != second.split(name).fingerprint():
            raise Broken(f"{name}, read twice, has two fingerprints: something random does not come from the seed")
    if first.identity() != second.identity():
        raise Broken(f"read twice, identity() is {first.identity()} and {second.identity()}")
    known = [first.split(name).fingerprint() for name in NAMES if len(first.split(name))]
    if len({*known}) < len(known):
        raise Broken("two splits have one fingerprint")
    return f"read twice, train has the fingerprint {known[0]}"


@LAWS.law("decode", "decode is the inverse of encode", "pictures and features would be of other images")
def look_decode(subject: Subject) -> str:
    """decode gives back the images in [0, 1], or the points."""
    rows = subject.rows("train")
    images = rows.float() / 255 if rows.dtype == torch.uint8 else rows
    decoded = subject.data.decode(subject.data.encode(rows))
    if decoded.shape != images.shape:
        raise Broken(f"decode(encode(rows)) is {tuple(decoded.shape)} of rows {tuple(images.shape)}")
    error = float((decoded - images).abs().max())
    no_more(error, 2e-6 * max(1.0, float(images.abs().max())), f"decode(encode(image)) is off by {error:.2g}")
    return f"decode(encode(image)) is the image within {error:.1g}"


@LAWS.law("batches", "full batches of x, index and label, each row once", "the training reads them by name")
def look_batches(subject: Subject) -> str:
    """Batches are dicts of x, index and label, full, each row once in an epoch."""
    data, seen = subject.data, []
    for batch in data.train_dataloader():
        if missing := {"x", "index", *(["label"] if data.classes else [])} - {*batch}:
            raise Broken(f"a batch has {', '.join(batch)}, and no {', '.join(sorted(missing))}")
        if tuple(batch["x"].shape) != (len(batch["index"]), *data.shape):
            raise Broken(f"x of a batch is {tuple(batch['x'].shape)}, with {len(batch['index'])} indices")
        fixed = not data.flip and data.binarise != "stochastic"
        if fixed and not torch.equal(batch["x"], data.encode(data.split("train").take(batch["index"]))):
            raise Broken("x of a batch is not encode of the rows that index names")
        seen += batch["index"].tolist()
    if len({*seen}) < len(seen):
        raise Broken(f"{len(seen) - len({*seen})} rows come twice in an epoch")
    full = len(data.split("train")) // data.batch_size * data.batch_size
    if len(seen) != full:
        raise Broken(f"{len(seen):,} rows in an epoch, expected {full:,} in full batches of {data.batch_size}")
    if seen == sorted(seen) and len(seen) > 1:
        raise Broken("the order of training is that of the split")
    return f"{full // data.batch_size} batches of {data.batch_size}, each row once, shuffled"


@LAWS.law("workers", "the same items with 0 and 2 workers", "numbers would depend on the machine")
def look_workers(subject: Subject) -> str:
    """The same batches with 0 and 2 workers."""
    if "workers" in subject.given:
        raise Skipped("workers is given: leave it out, and 0 and 2 are compared")
    if "workers" in subject.takes:
        # Workers read no images that are kept in memory.
        streamed = {"memory_limit": 0} if "memory_limit" in subject.takes else {}
        made = [epoch(subject.ready(workers=n, **streamed).train_dataloader()) for n in (0, 2)]
    elif isinstance(subject.data.train_dataloader(), DataLoader):
        made = [epoch(with_workers(subject.ready().train_dataloader(), n)) for n in (0, 2)]
    else:
        raise Skipped("its loader has no workers, and the constructor no argument of that name")
    if made[0] != made[1]:
        raise Broken("the batches with 0 and with 2 workers differ")
    return f"the same {len(made[0])} batches with 0 and with 2 workers"


def with_workers(loader: DataLoader, workers: int) -> DataLoader:
    """The same loader with so many workers."""
    return DataLoader(
        loader.dataset,
        batch_sampler=loader.batch_sampler,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
        num_workers=workers,
    )


@LAWS.law("resume", "the order after a resume", "a resumed run would see some rows twice, others never")
def look_resume(subject: Subject) -> str:
    """A loader that continues from a state gives what the uninterrupted one gives, in the next epoch too."""
    loader, other = subject.data.train_dataloader(), subject.ready()
    if not hasattr(loader, "state_dict"):
        raise Broken(f"{type(loader).__name__} has no state_dict, by which it would continue within an epoch")
    first, second = epoch(loader), epoch(loader)
    length = len(first)
    for stop in sorted({1, length // 2, length} - {0}):
        stopped, resumed = subject.data.train_dataloader(), other.train_dataloader()
        part = epoch(stopped, stop if stop < length else None)
        resumed.load_state_dict(stopped.state_dict())
        if part != first[:stop]:
            raise Broken("two loaders with one seed have two orders")
        if epoch(resumed) != (first[stop:] if stop < length else second):
            raise Broken(f"resumed after batch {stop} of {length} the batches are others")
    if length > 1 and [rows for rows, _ in first] == [rows for rows, _ in second]:
        raise Broken("the second epoch has the order of the first")
    return f"resumed after batch 1, {length // 2} and {length} of {length}, the batches are those of one that went on"
