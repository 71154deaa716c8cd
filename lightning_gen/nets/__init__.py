"""Networks (x, t, label) -> like x. They know neither noise levels nor losses."""

from lightning_gen.nets.mlp import MLP
from lightning_gen.nets.ncsnpp import NCSNpp
from lightning_gen.nets.unet import UNet

__all__ = ["MLP", "NCSNpp", "UNet"]
