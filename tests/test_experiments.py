"""Every experiment composes, and takes two steps with tiny overrides; every other choice of a group composes too."""

from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import yaml

import run as entry
from lightning_gen.config.compose import launch
from lightning_gen.config.faults import check
from lightning_gen.config.instantiate import build

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "experiments"
EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
SHAPES = {"mnist": (28, 28), "cifar": (32, 32, 3)}
FAMILIES = {
    name: yaml.safe_load((CONFIGS / f"experiment/{name}.yaml").read_text()).get("module", {}).get("_target_")
    for name in EXPERIMENTS
}
SMALL = [name for name in EXPERIMENTS if not any(word in name for word in SHAPES)]
# The first of each family; one that takes its family from another experiment is not among them.
QUICK = {FAMILIES[name]: name for name in reversed(SMALL) if FAMILIES[name]}.values()


def composed(*words):
    """The resolved config of a command line."""
    seen = []
    launch(lambda config, folder: seen.append(config), CONFIGS, words)
    return seen[0]


@pytest.mark.parametrize(
    "name",
    # my_images needs pictures: tests/test_estimate.py
    [pytest.param(x, marks=[] if x in QUICK else [pytest.mark.slow]) for x in EXPERIMENTS if x != "my_images"],
)
def test_an_experiment_takes_two_steps_and_is_measured(name, tmp_path):
    words = ["trainer=cpu", "data.batch_size=8", "trainer.max_steps=2", "quality=pixels", "quality.n=16", "logger=none"]
    words += ["callbacks.pictures.n=2", "callbacks.pictures.strip=1", "module.compile=false", f"run={tmp_path / 'r'}"]
    words.append("callbacks.curves=null")  # a third of the time
    page = composed(f"experiment={name}")
    module, net, likelihood = page["module"], page["net"] or {}, page["callbacks"]["likelihood"]
    if "n" in page["data"]:  # points
        words += ["callbacks.pictures.points=20", "data.n=64", "data.val_size=8", "data.test_size=32"]
    if "width" in net:
        words.append("net.width=16")
    elif "heads" in net or "kernel" in net:  # PixelCNN and the Transformer
        words += ["net.channels=8", "net.depth=2"]
    elif "Glow" in net.get("_target_", ""):
        words += ["net.channels=8", "net.steps=1"]
    elif net:
        words += ["net.channels=8"] + ["net.blocks=1"] * ("blocks" in net) + ["net.groups=4"] * ("groups" in net)
    if "hidden" in module:
        words.append("module.hidden=8")
    if page["callbacks"].get("straightness"):
        words += ["callbacks.straightness.n=2", "callbacks.straightness.steps=2"]
    if page["callbacks"].get("health"):
        words += ["callbacks.health.chains=4", "callbacks.health.length=4", "callbacks.health.long=2"]
    if "chains" in module.get("loss", {}):
        words += ["module.loss.chains=32", "module.loss.sampler.steps=2"]
    if likelihood:
        words.append("callbacks.likelihood.n=2")
        if "AnnealedImportance" in likelihood["_target_"]:
            words += ["callbacks.likelihood.schedule=3", "callbacks.likelihood.burn=2", "callbacks.likelihood.chains=4"]
    if "steps" in page["module"]:
        words.append("module.steps=3")
    if likelihood and "Flow" in likelihood["_target_"]:
        words.append(
            "callbacks.likelihood.flow={_target_: lightning_gen.likelihood.ODELikelihood, solver: euler, steps: 2}"
        )
    if page["sampler"]["_target_"].endswith("AnnealedLangevin"):
        words += ["module.noise_levels=3", "sampler.steps_each=1"]
    elif "predictor" in page["sampler"]:
        words.append("sampler.predictor.steps=2")
    elif "steps" in page["sampler"]:
        words.append("sampler.steps=2")
    for word, shape in SHAPES.items():
        if word in name:
            generator = np.random.default_rng(0)
            arrays = {f"x_{split}": generator.integers(0, 256, (40, *shape), np.uint8) for split in ("train", "test")}
            labels = {f"y_{split}": np.arange(40) % 10 for split in ("train", "test")}
            np.savez(tmp_path / "data.npz", **arrays, **labels)
            words += ["data=npz", f"data.path={tmp_path / 'data.npz'}", "data.val_size=8"]
    if "run" in page["data"]:  # of a VAE
        quick = ["trainer=cpu", "trainer.max_steps=1", "data.batch_size=8", "quality=none", "logger=none"]
        vae = [
            *quick,
            "callbacks.likelihood=null",
            "callbacks.pictures=null",
            "callbacks.curves=null",
            f"run={tmp_path / 'vae'}",
        ]
        assert entry.main(["experiment=vae_digits", *vae]) == 0
        words.append(f"data.run={tmp_path / 'vae'}")
    assert entry.main([f"experiment={name}", *words]) == 0
    assert (tmp_path / "r" / "report.html").is_file()
    stored = yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())
    latent = "run" in page["data"]
    assert not net or stored["net"]["shape"] == ([16] if latent else stored["module"]["shape"])
    assert '"fid/' in (tmp_path / "r" / "metrics.json").read_text()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_names_its_paper_first(name):
    first, second = (CONFIGS / "experiment" / f"{name}.yaml").read_text().splitlines()[:2]
    assert first == "# @package _global_"
    assert second.startswith("# ") and "https://" in second


OPTIONS = {
    folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
    for folder in sorted(CONFIGS.iterdir())
    if folder.is_dir() and folder.name != "experiment"
}
# Each option once, one of every group at a time.
TOGETHER = [dict(zip(OPTIONS, row, strict=True)) for row in zip_longest(*OPTIONS.values())]
OF_FILES = ("npz", "folder", "dsprites", "hf", "webdataset")


@pytest.mark.parametrize("options", TOGETHER, ids=lambda options: "-".join(filter(None, options.values())))
def test_every_option_of_every_group_has_no_fault(options):
    words = [f"{group}={option}" for group, option in options.items() if option]
    words += ["data.path=somewhere"] if options["data"] in OF_FILES else []
    words += ["data.run=somewhere"] if options["data"] == "latent" else []
    # Those for a trained model; the experiment sets options of what they lack.
    words += ["callbacks.likelihood=null"] if options["callbacks"] in ("kde", "representations", "solvers") else []
    assert check(composed(*words)) == []


@pytest.mark.parametrize(
    "name", ["ddpm_digits", *(pytest.param(x, marks=pytest.mark.slow) for x in ("cfg_digits", "ncsn_mnist"))]
)
@pytest.mark.parametrize("sampler", sorted(path.stem for path in (CONFIGS / "sampler").glob("*.yaml")))
def test_a_sampler_is_swapped_by_one_word(name, sampler):
    """What the experiment says of its own sampler is not said of another."""
    alone = yaml.safe_load((CONFIGS / "sampler" / f"{sampler}.yaml").read_text())
    assert composed(f"experiment={name}", f"sampler={sampler}")["sampler"] == alone


def test_a_swapped_sampler_takes_options_beside_its_own():
    alone = yaml.safe_load((CONFIGS / "sampler" / "heun.yaml").read_text())
    assert composed("experiment=ddpm_digits", "sampler=heun", "sampler.steps=7")["sampler"] == alone | {"steps": 7}


def test_the_cifar_experiment_is_the_papers_to_the_letter():
    """Ho et al. (2020), section 4 and appendix B."""
    config = composed("experiment=ddpm_cifar")
    module, net = config["module"], config["net"]
    assert (module["steps"], module["schedule"], module["ema_decay"]) == (1000, "linear", 0.9999)
    assert module.get("ema_warmup", False) is False
    assert module["optimizer"]["_target_"] == "torch.optim.Adam"
    assert (module["optimizer"]["lr"], module["scheduler"]["total_iters"]) == (2e-4, 5000)
    assert (config["trainer"]["max_steps"], config["trainer"]["gradient_clip_val"]) == (800_000, 1.0)
    assert (config["data"]["batch_size"], config["data"]["flip"], config["data"]["val_size"]) == (128, True, 0)
    assert (config["sampler"]["_target_"], config["sampler"]["steps"]) == ("lightning_gen.samplers.Ancestral", None)
    assert (config["quality"]["n"], config["quality"].get("reference", "train")) == (50_000, "train")
    assert config["quality"]["features"] == {"_target_": "lightning_gen.metrics.InceptionFeatures"}
    network = build(net, shape=[3, 32, 32])
    assert sum(p.numel() for p in network.parameters()) == 35_746_307
    assert net["dropout"] == 0.1
