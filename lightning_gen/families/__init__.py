"""Families: LightningModules, each a combination of model, process and loss from a paper."""

from lightning_gen.families.adversarial_ebm import AdversarialEBM
from lightning_gen.families.autoregressive import Autoregressive
from lightning_gen.families.base import GenerativeModule
from lightning_gen.families.ddpm import DDPM
from lightning_gen.families.drl import DRL
from lightning_gen.families.ebm import EBM
from lightning_gen.families.edm import EDM
from lightning_gen.families.flow import Flow
from lightning_gen.families.flow_matching import FlowMatching
from lightning_gen.families.gan import GAN
from lightning_gen.families.ncsn import NCSN
from lightning_gen.families.rbm import RBM, GaussianBernoulliRBM
from lightning_gen.families.score_matching import ScoreMatching
from lightning_gen.families.sde import ScoreSDE
from lightning_gen.families.vae import VAE

__all__ = [
    "DDPM",
    "DRL",
    "EBM",
    "EDM",
    "GAN",
    "NCSN",
    "RBM",
    "VAE",
    "AdversarialEBM",
    "Autoregressive",
    "FlowMatching",
    "Flow",
    "GaussianBernoulliRBM",
    "GenerativeModule",
    "ScoreMatching",
    "ScoreSDE",
]
