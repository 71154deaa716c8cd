"""Data sets that torchvision downloads, once and whole."""

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen.data.base import GenerativeData, partition
from lightning_gen.data.split import Split
from lightning_gen.options import Natural


class VisionData(GenerativeData):
    """A data set of torchvision.datasets.

    Args:
        root: folder of torchvision's data sets.
        val_size: training images that are held out, the same for every seed.
        download: download the data set where it is missing.
    """

    source: str
    folder: str
    classes = 10
    total: int
    pad = 0

    def __init__(self, root: str = "data", *, val_size: Natural = 0, download: bool = True, **options: Any) -> None:
        super().__init__(**options)
        if val_size >= self.total:
            raise ValueError(
                f"{type(self).__name__}.val_size is {val_size}, expected 0 to {self.total - 1}: leave training data"
            )
        self.root, self.val_size, self.download = Path(root), val_size, download

    def prepare_data(self) -> None:
        """Download the set where it is missing, in one process (Lightning); FileNotFoundError where that cannot be."""
        self.check_files()
        if not self._present():
            self._fetch(self.root / self.folder)

    def check_files(self) -> None:
        """FileNotFoundError for a damaged set, and for a missing one that is not to be downloaded."""
        if self._present():
            return
        target = self.root / self.folder
        if target.exists():
            raise FileNotFoundError(f"{target} is incomplete or damaged: delete that folder and run again")
        if not self.download:
            raise FileNotFoundError(
                f"{self.source} is not in {self.root} and download is false: copy it there, or set data.download=true, "
                "and data.root to a folder for it"
            )

    def check_source(self) -> None:
        """What `check_files` raises; FileNotFoundError, too, where the set is to be downloaded and nobody answers."""
        self.check_files()
        if not self._present() and (reason := unreachable(self.addresses())):
            raise FileNotFoundError(
                f"{self.source} is not in {self.root} and {reason}: connect to the network, or copy "
                f"{self.root / self.folder} from a machine that has it"
            )

    def addresses(self) -> list[str]:
        """Where torchvision downloads the set from, the one or the other."""
        from torchvision import datasets

        kind = getattr(datasets, self.source)
        return getattr(kind, "mirrors", None) or [kind.url]

    def _fetch(self, target: Path) -> None:
        """Download beside the target, then rename: an interrupted or concurrent run leaves no incomplete set."""
        made = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            self._download(target)
        finally:
            for folder in made:
                with contextlib.suppress(OSError):  # it holds the set
                    folder.rmdir()

    def _download(self, target: Path) -> None:
        from torchvision import datasets

        with tempfile.TemporaryDirectory(dir=self.root, prefix=f".{self.folder}-") as partial:
            try:
                getattr(datasets, self.source)(partial, download=True)
            except Exception as error:
                raise FileNotFoundError(
                    f"{self.source} is not in {self.root} and its download failed ({error}): connect to the network, "
                    f"or copy {target} from a machine that has it"
                ) from error
            try:
                os.rename(Path(partial) / self.folder, target)
            except OSError:
                # Another process was first, here or on a host that shares the folder.
                if not self._present():
                    raise

    def _open(self, train: bool) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.source)(self.root, train=train, download=False)

    def _present(self) -> bool:
        """Whether all files can be read: where one is missing or damaged, torchvision raises what its reader does."""
        try:
            self._open(train=True), self._open(train=False)
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:  # the system refuses it, whatever it holds
                raise
            return False
        return True

    def _read(self, train: bool) -> tuple[Tensor, Tensor]:
        """Images (n, C, H, W) and labels (n,) of the official split."""
        dataset = self._open(train)
        images = torch.as_tensor(dataset.data)
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        return F.pad(images, (self.pad,) * 4), torch.as_tensor(dataset.targets)

    def load(self) -> Mapping[str, Split]:
        """The official test split; the official training split less the held-out images."""
        training = partition(Split(*self._read(train=True)), self.name, val_size=self.val_size)
        return training | {"test": Split(*self._read(train=False))}


def unreachable(addresses: Sequence[str]) -> str | None:
    """Why none of the addresses answers within seconds, None where one does."""
    reason = None
    for address in addresses:
        try:
            urlopen(Request(address, method="HEAD"), timeout=5).close()
        except HTTPError:  # that file or method it has not, but it answers
            return None
        except OSError as error:
            reason = f"{address} does not answer ({getattr(error, 'reason', error)})"
        else:
            return None
    return reason


class MNIST(VisionData):
    """60,000 + 10,000 handwritten digits of 28x28 pixels.

    MNIST (LeCun, Cortes & Burges, 1998), http://yann.lecun.com/exdb/mnist

    Args:
        pad: black pixels added on every side; 2 gives 32x32, which a U-Net of four levels can halve three times.
    """

    name = "mnist"
    source = "MNIST"
    folder = "MNIST"
    total = 60_000

    def __init__(self, root: str = "data", *, val_size: Natural = 5_000, pad: Natural = 0, **options: Any) -> None:
        super().__init__(root, val_size=val_size, **options)
        self.pad, self._shape = pad, (1, 28 + 2 * pad, 28 + 2 * pad)


class FashionMNIST(MNIST):
    """60,000 + 10,000 images of clothes, in MNIST's format.

    Fashion-MNIST (Xiao, Rasul & Vollgraf, 2017), https://arxiv.org/abs/1708.07747
    """

    name = "fashion_mnist"
    source = "FashionMNIST"
    folder = "FashionMNIST"


class CIFAR10(VisionData):
    """50,000 + 10,000 colour photographs of 32x32 pixels. No validation split by default: the papers train on all.

    CIFAR-10 (Krizhevsky, 2009), https://www.cs.toronto.edu/~kriz/cifar.html
    """

    name = "cifar10"
    source = "CIFAR10"
    folder = "cifar-10-batches-py"
    total = 50_000
    _shape = (3, 32, 32)

    def __init__(self, root: str = "data", **options: Any) -> None:
        super().__init__(root, binarise=None, **options)
