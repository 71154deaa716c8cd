"""Networks (x, t, label) -> like x, or one number. They are independent of noise levels and losses."""

from lightning_gen.nets.adversaries import DCGAN, GeneratorCritic, MLPAdversaries, ResNetGAN
from lightning_gen.nets.autoencoder import Autoencoder, ConvAutoencoder, EncoderDecoder, MLPAutoencoder
from lightning_gen.nets.causal import Causal
from lightning_gen.nets.flows import MAF, NICE, NSF, Glow, MixtureFlow, RealNVP
from lightning_gen.nets.made import MADE
from lightning_gen.nets.mlp import MLP
from lightning_gen.nets.ncsnpp import NCSNpp
from lightning_gen.nets.pixelcnn import PixelCNN
from lightning_gen.nets.resnet import ResNetEnergy
from lightning_gen.nets.transformer import CausalTransformer
from lightning_gen.nets.unet import UNet

__all__ = [
    "MADE",
    "DCGAN",
    "MAF",
    "MLP",
    "NICE",
    "NSF",
    "Autoencoder",
    "Causal",
    "CausalTransformer",
    "ConvAutoencoder",
    "EncoderDecoder",
    "GeneratorCritic",
    "MLPAdversaries",
    "MLPAutoencoder",
    "MixtureFlow",
    "Glow",
    "NCSNpp",
    "PixelCNN",
    "RealNVP",
    "ResNetEnergy",
    "ResNetGAN",
    "UNet",
]
