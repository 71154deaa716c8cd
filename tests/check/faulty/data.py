"""Data sets with one fault each."""

from io import BytesIO

import torch
from PIL import Image
from torch.utils.data import get_worker_info

from lightning_gen.data import GenerativeData, Split, TrainLoader
from lightning_gen.data.images import Images, Part
from lightning_gen.options import Count, Natural
from lightning_gen.randomness import generator


class Good(GenerativeData):
    """Random grey images."""

    name, classes, _shape = "noise", 3, (1, 4, 4)

    def __init__(self, batch_size: Count = 8, seed: Natural = 0):
        super().__init__(batch_size, seed)

    def load(self):
        return {name: self.drawn(generator(0, name), name) for name in ("train", "val", "test")}

    def drawn(self, source, name):
        n = 40 if name == "train" else 20
        images = torch.randint(256, (n, *self._shape), generator=source, dtype=torch.uint8)
        return Split(images, torch.arange(n) % 3)


class Splits(Good):
    def load(self):
        return {**super().load(), "test": Split(torch.zeros(5, 1, 5, 5, dtype=torch.uint8))}


class Range(Good):
    """Scaled twice, and back."""

    def encode(self, images):
        return 2 * super().encode(images) - 1

    def decode(self, x):
        return super().decode((x + 1) / 2)


class Disjoint(Good):
    def load(self):
        splits = super().load()
        return {**splits, "val": splits["train"].subset(torch.arange(10))}


class Fingerprint(Good):
    def drawn(self, source, name):
        return super().drawn(None if name == "test" else source, name)


class Decode(Good):
    def decode(self, x):
        return 255 * super().decode(x)


class Batches(Good):
    """Rows that are not those of the index."""

    def train_dataloader(self):
        return TrainLoader(self.split("train"), lambda rows: self.encode(rows).flip(0), self.batch_size, seed=self.seed)


class Workers(Good):
    def __init__(self, batch_size: Count = 8, seed: Natural = 0, workers: Natural = 0):
        super().__init__(batch_size, seed + workers)


class Picture:
    """A PNG that only the main process finds as it is.

    Args:
        image: uint8 (H, W).
    """

    def __init__(self, image):
        self.image = image

    def open(self, mode):
        stream = BytesIO()
        Image.fromarray((self.image if get_worker_info() is None else 255 - self.image).numpy()).save(stream, "PNG")
        stream.seek(0)
        return stream

    def __fspath__(self):
        return __file__


class Pictures(Images):
    """Images that fit in memory, where workers read none, and that workers change elsewhere."""

    name = "pictures"

    def __init__(self, batch_size: Count = 8, workers: Natural = 2, memory_limit: Natural = 2**20):
        super().__init__(batch_size=batch_size, workers=workers, memory_limit=memory_limit)

    def parts(self):
        rows = {name: split.images(slice(None)) for name, split in Good().load().items()}
        return {name: Part([Picture(image[0]) for image in images], None) for name, images in rows.items()}


class Forgetful(TrainLoader):
    """A loader that resumes at the beginning of its epoch."""

    def load_state_dict(self, state):
        super().load_state_dict({**state, "batch": 0})


class Resume(Good):
    def train_dataloader(self):
        return Forgetful(self.split("train"), self.encode, self.batch_size, seed=self.seed)
