"""Networks (x, t, label) -> like x, or one number. They are independent of noise levels and losses."""

from lightning_gen.nets.autoencoder import Autoencoder, ConvAutoencoder, EncoderDecoder, MLPAutoencoder
from lightning_gen.nets.flows import MAF, NICE, NSF, Glow, RealNVP
from lightning_gen.nets.mlp import MLP
from lightning_gen.nets.ncsnpp import NCSNpp
from lightning_gen.nets.resnet import ResNetEnergy
from lightning_gen.nets.unet import UNet

__all__ = [
    "MAF",
    "MLP",
    "NICE",
    "NSF",
    "Autoencoder",
    "ConvAutoencoder",
    "EncoderDecoder",
    "MLPAutoencoder",
    "Glow",
    "NCSNpp",
    "RealNVP",
    "ResNetEnergy",
    "UNet",
]
