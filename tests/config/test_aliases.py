"""Dotted names of before: all resolve, and a run folder that uses them is read, resumed, measured, exported, loaded."""

import shutil

import pytest
import torch
import yaml

import lightning_gen
import run as entry
from lightning_gen.config.aliases import ALIASES, present, renamed
from lightning_gen.config.allow import permitted
from tests.test_run import TINY

# Every target of the experiments at the last commit before the modules moved into rooms, and of code that stores them.
BEFORE = """
callbacks: AnnealedImportance ChainHealth Checkpoints Curves EnergyPictures FlowLikelihood GivenQuality
    ImportanceLikelihood KernelDensityLikelihood Likelihood Pictures Progress Quality Representations SamplerTable
    ScoreField TensorBoard Throughput Wandb
lightning_gen.data: CIFAR10 Checkerboard DSprites Digits FashionMNIST Folder Gaussians MNIST Moons Npz Patches Rings
    Shapes
lightning_gen.families: DDPM EBM EDM GaussianBernoulliRBM NCSN RBM ScoreMatching ScoreSDE VAE
lightning_gen.likelihood: Flow
lightning_gen.losses: ContrastiveDivergence NCE
lightning_gen.metrics: ClassifierFeatures InceptionFeatures PixelFeatures
lightning_gen.nets: ConvAutoencoder MLP MLPAutoencoder NCSNpp ResNetEnergy UNet
lightning_gen.representations: Bottleneck
lightning_gen.samplers: Ancestral AnnealedLangevin DDIM DPMSolver EDMHeun EulerMaruyama Gibbs GibbsLangevin HMC Langevin
    Latent MALA PredictorCorrector ProbabilityFlow RK45
pytorch_lightning: Trainer
torch.optim: Adam SGD
torch.optim.lr_scheduler: CosineAnnealingLR LinearLR
"""
ROWS = [line.split(":") for line in BEFORE.replace("\n    ", " ").strip().splitlines()]
TARGETS = [f"{module}.{name}" for module, names in ROWS for name in names.split()]
QUICK = ("callbacks.likelihood=null", "callbacks.pictures=null", "callbacks.curves=null", "quality.n=20", "logger=none")


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_of_before_can_be_built(target):
    assert permitted(present(target))


def test_every_alias_leads_somewhere_and_none_hides_a_present_name():
    assert all(permitted(name) for name in ALIASES.values())
    assert not [name for name in ALIASES if permitted(name)]


def as_before(config):
    """The config as it was stored then: by former names, and without the keys of today."""
    former = {f"lightning_gen.callbacks.{name}": f"callbacks.{name}" for name in dict(ROWS)["callbacks"].split()}
    if isinstance(config, list):
        return [as_before(value) for value in config]
    if not isinstance(config, dict):
        return former.get(config, config) if isinstance(config, str) else config
    return {key: as_before(value) for key, value in config.items() if key != "extensions"}


@pytest.mark.slow
def test_a_run_of_before_is_read_resumed_measured_exported_and_loaded(tmp_path):
    run, old = tmp_path / "run", tmp_path / "old"
    words = [word for word in TINY if not word.startswith(("callbacks.", "quality.", "logger"))] + [*QUICK]
    assert entry.main([*words, "trainer.max_steps=2", f"run={run}"]) == 0
    assert entry.main(["stage=export", f"run={run}"]) == 0
    shutil.copytree(run, old)
    for folder in (old, old / "export"):
        config = as_before(yaml.safe_load((folder / "config.yaml").read_text()))
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        assert "target_: callbacks.Quality" in (folder / "config.yaml").read_text()
    for source in (old / "export", old, old / "checkpoints" / "last.ckpt"):
        assert torch.equal(lightning_gen.load(source).sample(2), lightning_gen.load(run).sample(2))
    for folder in (old, old / "export"):
        assert entry.main(["stage=sample", f"run={folder}", "n=2"]) == 0
        assert entry.main(["stage=evaluate", f"run={folder}", *QUICK[2:3]]) == 0
    assert (
        entry.main(["stage=compare", f"runs=[{old},{old / 'export'}]", f"run={tmp_path / 'page'}", "logger=none"]) == 0
    )
    assert entry.main(["stage=export", f"run={old}"]) == 0
    assert entry.main([*words, "trainer.max_steps=3", f"run={old}"]) == 0
    assert torch.load(old / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3


def test_renaming_goes_into_lists_and_leaves_values_alone():
    config = {"a": [{"_target_": "callbacks.Quality", "name": "callbacks.Quality"}]}
    renamed_ = {"a": [{"_target_": "lightning_gen.callbacks.Quality", "name": "callbacks.Quality"}]}
    assert renamed(config) == renamed_
    folder = {"_target_": "lightning_gen.data.Folder", "size": 8}
    assert renamed({"data": folder | {"crop": False}}) == {"data": folder | {"fit": None}}
