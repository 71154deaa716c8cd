"""Data: images a second of one core, from memory with flips, and from a folder beside Pillow and its decoder alone."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image

from benchmarks.table import Row, at_least
from benchmarks.timing import Run
from lightning_gen.data import Folder
from lightning_gen.data.loader import TrainLoader
from lightning_gen.data.split import Split


def images(n: int, size: int) -> torch.Tensor:
    """Smooth random images, uint8, (n, 3, size, size)."""
    coarse = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return (255 * torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")).byte()


def memory(run: Run) -> Iterator[Row]:
    """Images of 3x32x32 in memory with flips, against torch's DataLoader."""
    n, batch = run.pick(20_000, 64), run.pick(128, 8)
    x = images(n, 32)
    loader = TrainLoader(Split(x), lambda rows: rows.float() / 127.5 - 1, batch, flip=True)
    mirror = torch.Generator().manual_seed(0)

    class Set(torch.utils.data.Dataset):
        """Each image as torchvision's pipelines make it."""

        def __len__(self) -> int:
            return n

        def __getitem__(self, index: int) -> torch.Tensor:
            row = x[index].float() / 127.5 - 1
            return row.flip(-1) if torch.rand((), generator=mirror) < 0.5 else row

    theirs = torch.utils.data.DataLoader(Set(), batch, shuffle=True, drop_last=True)
    order = torch.randperm(n).split(batch)

    def scaled(rows: torch.Tensor) -> torch.Tensor:
        return rows.float().mul_(1 / 127.5).sub_(1)

    yield run.row(
        "images of 3x32x32 in memory, flipped, as float32 batches",
        lambda: [None for _ in loader],
        {"torch's DataLoader": lambda: [None for _ in theirs]},
        ("one gather and one scaling", lambda: [scaled(x.index_select(0, i)) for i in order]),
        at_least(100_000, "ours"),
        "a second",
        n,
    )


def folder(run: Run) -> Iterator[Row]:
    """JPEG files of 3x64x64 in a folder as tensors, beside Pillow's images of them."""
    n, size = run.pick(2000, 16), 64
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for i, image in enumerate(images(n, size)):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / f"{i:05d}.jpg", quality=90)
        files = sorted(root.iterdir())
        data = Folder(str(root), size=size, batch_size=8, val_size=4, test_size=4, workers=0, memory_limit=0)
        data.setup()
        split = data.split("train")
        indices = torch.arange(len(split)).split(8)

        def pillow() -> None:
            for file in files[: len(split)]:
                with Image.open(file) as image:
                    image.convert("RGB").load()

        def decoder() -> None:
            for file in files[: len(split)]:
                Image.frombytes("RGB", (size, size), file.read_bytes(), "jpeg", "RGB", "")

        yield run.row(
            f"JPEG files of 3x{size}x{size} in a folder, read by one process",
            lambda: [None for _ in split.stream(indices)],
            {"Pillow's open, convert and load": pillow},
            ("the file's bytes and the decoder alone", decoder),
            at_least(0.9),
            "a second",
            len(split),
        )


CASES = (memory, folder)
LONG = ()
