"""Models that experiments of this package train, by the command that README.md names."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from benchmarks.notes.book import ROOT
from lightning_gen import load
from lightning_gen.families import GenerativeModule
from lightning_gen.stages import main

BARE = ("stage=fit", "quality=none", "logger=none", *(f"callbacks.{name}=null" for name in ("likelihood", "pictures")))


def text(*names: str) -> str:
    """Configs of experiments/, such as net/unet_digits: numbers measured by them are older than they if these change."""
    return "\n".join((ROOT / f"experiments/{name}.yaml").read_text() for name in names)


def trained(experiment: str, *words: str) -> GenerativeModule:
    """The module that `python run.py experiment=NAME WORD ...` trains, in a folder that is deleted; RuntimeError if not."""
    with TemporaryDirectory() as folder:
        with redirect_stdout(StringIO()) as told:
            code = main([f"experiment={experiment}", *BARE, *words, f"run={folder}/run"])
        if code:
            raise RuntimeError(f"experiment={experiment} ended with {code}: {told.getvalue()}")
        return load(Path(folder) / "run")


def as_images(module: GenerativeModule, x: Tensor) -> Tensor:
    """Samples x (n, C, H, W) in model space as uint8 images, which features take."""
    return module.decode(x).clamp(0, 1).mul(255).round().byte()
