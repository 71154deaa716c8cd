"""Data sets as LightningDataModules: one class and one YAML each."""

from lightning_gen.data.arrays import Npz
from lightning_gen.data.base import GenerativeData, Split
from lightning_gen.data.digits import Digits
from lightning_gen.data.folder import Folder
from lightning_gen.data.huggingface import HuggingFace
from lightning_gen.data.loader import OrderedLoader, TrainLoader
from lightning_gen.data.patches import Patches
from lightning_gen.data.shapes import DSprites, Factored, Shapes
from lightning_gen.data.tar_shards import WebDataset
from lightning_gen.data.toys import Checkerboard, Gaussians, Moons, Rings
from lightning_gen.data.vision import CIFAR10, MNIST, FashionMNIST

__all__ = [
    "CIFAR10",
    "MNIST",
    "Checkerboard",
    "DSprites",
    "Digits",
    "Factored",
    "FashionMNIST",
    "Folder",
    "Gaussians",
    "GenerativeData",
    "HuggingFace",
    "Moons",
    "Npz",
    "OrderedLoader",
    "Patches",
    "Rings",
    "Shapes",
    "Split",
    "TrainLoader",
    "WebDataset",
]
