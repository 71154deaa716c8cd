"""A diffusion in the latent space of a VAE: encoded on the way in, decoded on the way out, one run with its VAE."""

import shutil
from functools import partial

import pytest
import torch

import run as entry
from lightning_gen import load, models
from lightning_gen.families import DDPM, EBM, FlowMatching, ScoreSDE
from lightning_gen.families.latent_data import LatentData
from lightning_gen.losses import ExactScoreMatching
from lightning_gen.nets import MLP
from lightning_gen.randomness import UNIT, Numbered
from lightning_gen.samplers import Ancestral, EulerMaruyama, FlowODE
from tests.likelihood.linear import Linear, rows

ADAM = partial(torch.optim.Adam, lr=1e-3)
SMALL = ["trainer=cpu", "trainer.max_steps=2", "net.width=16", "data.batch_size=8", "quality=none", "logger=none"]
SMALL += ["callbacks.pictures=null", "callbacks.curves=null"]
FAMILIES = {
    DDPM: {"steps": 4, "sampler": Ancestral()},
    ScoreSDE: {"sampler": EulerMaruyama(4)},
    FlowMatching: {"sampler": FlowODE(4)},
}


def module(family, **options):
    torch.manual_seed(0)
    autoencoder = models.VAE(Linear(), "gaussian", 0.6)
    return family(MLP((3,), 16, 1), ADAM, shape=(5,), autoencoder=autoencoder, **FAMILIES[family], **options).float()


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_the_decoders_means_of_the_diffusions(family):
    latent = module(family)
    source = Numbered(3, "sample", 0, 4)
    start = source.draw(lambda each: latent.sampler.start(latent.averaged, (UNIT, 3), each))
    (*_, z) = latent.sampler.trajectory(latent.averaged.eval(), start, source)
    with torch.no_grad():
        expected = z @ latent.autoencoder.net.W.T + latent.autoencoder.net.m
    torch.testing.assert_close(latent.sample(4, seed=3, size=4), expected)
    (*_, last) = latent.trajectory(4, seed=3)
    torch.testing.assert_close(last, expected)
    assert latent.model_shape == (3,) and latent.shape == (5,)


def test_a_batch_is_encoded_by_draws_of_the_posterior():
    latent, n = module(DDPM), 20_000
    x = rows(1).float().expand(n, -1)
    z = latent.encoded({"x": x, "label": 7}, torch.Generator().manual_seed(0))
    mean, log_variance = (each[0] for each in latent.autoencoder.posterior(x))
    assert z["label"] == 7 and not z["x"].requires_grad
    assert ((z["x"].mean(0) - mean).abs() < 4 * (0.5 * log_variance).exp() / n**0.5).all()
    assert ((z["x"].var(0) / log_variance.exp() - 1).abs() < 4 * (2 / n) ** 0.5).all()


def test_a_block_is_as_large_as_decoding_it_allows():
    latent = module(DDPM)
    assert latent.block_size(10**6) == 64 * (2**13 // (64 * 5))  # a sample has 5 values, its code 3


def test_the_autoencoder_is_no_part_of_what_is_trained_or_averaged():
    latent = module(DDPM)
    frozen = {id(p) for p in latent.autoencoder.parameters()}
    assert frozen and not frozen & {id(p) for player in latent.players() for p in player.parameters}
    assert not any(p.requires_grad for p in latent.autoencoder.parameters())
    assert not any("W" in key for key in latent.ema.state_dict())


def test_only_a_diffusion_has_an_autoencoder():
    with pytest.raises(TypeError, match=r"module.autoencoder.*EnergyNetwork.*DDPM"):
        EBM(MLP((3,), 16, 1), ExactScoreMatching(), ADAM, autoencoder=models.VAE(Linear(), "gaussian"))


def vae_run(folder, seed=0):
    words = ["experiment=vae_digits", *SMALL, "callbacks.likelihood=null", f"run={folder}", f"seed={seed}"]
    assert entry.main(words) == 0


def latent_run(vae, folder, *words):
    base = ["experiment=latent_ddpm_digits", *SMALL, "module.steps=3", "callbacks.likelihood.n=4"]
    return entry.main([*base, f"data.run={vae}", f"run={folder}", *words])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A VAE's run of two steps, and a DDPM's of its latent variables."""
    folder = tmp_path_factory.mktemp("runs")
    vae_run(folder / "vae")
    assert latent_run(folder / "vae", folder / "ddpm") == 0
    return folder


def test_a_run_holds_its_autoencoder_and_is_measured_by_the_bound(runs, tmp_path):
    folder = tmp_path / "ddpm"
    shutil.copytree(runs / "ddpm", folder)
    numbers = (folder / "metrics.json").read_text()
    assert all(f"elbo/{part}/ema" in numbers for part in ("log_likelihood", "bits_per_dim", "prior"))
    assert entry.main(["stage=export", f"run={folder}"]) == 0
    module, exported = load(folder), load(folder / "export")
    assert module.sample(3).shape == (3, 1, 8, 8)
    assert torch.equal(exported.sample(3), module.sample(3))
    theirs = load(runs / "vae").averaged.state_dict()
    assert all(torch.equal(theirs[key], value) for key, value in module.autoencoder.state_dict().items())


def test_what_is_no_vaes_run_is_refused_in_a_sentence(runs, tmp_path, capsys):
    shutil.copytree(runs / "vae", tmp_path / "damaged")
    for file in (tmp_path / "damaged" / "checkpoints").iterdir():
        file.write_bytes(file.read_bytes()[:1000])
    wrong = [(tmp_path / "nowhere", "nowhere"), (runs / "ddpm", "a run of DDPM"), (tmp_path / "damaged", "damaged")]
    for path, found in wrong:
        capsys.readouterr()
        assert latent_run(path, tmp_path / "r") == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(errors) == 1 and "data.run" in errors[0] and found in errors[0], errors


def test_what_gives_images_to_a_model_of_latent_variables_is_refused(runs, tmp_path, capsys):
    likelihood = "callbacks.likelihood={_target_: lightning_gen.callbacks.Likelihood, n: 4}"
    assert latent_run(runs / "vae", tmp_path / "r", "callbacks.likelihood=null", likelihood) == 2
    assert "LatentLikelihood" in capsys.readouterr().err
    assert latent_run(runs / "vae", tmp_path / "r", "sampler.clip=[-1.0,1.0]") == 2
    assert "sampler.clip" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_resumes_with_a_moved_vae_and_with_no_other(runs, tmp_path, capsys):
    vae, run = tmp_path / "vae", tmp_path / "run"
    shutil.copytree(runs / "vae", vae)
    shutil.copytree(runs / "ddpm", run)
    assert latent_run(vae, run, "trainer.max_steps=3") == 0, "a moved VAE is the same"
    vae_run(tmp_path / "other", seed=1)
    capsys.readouterr()
    assert latent_run(tmp_path / "other", run, "trainer.max_steps=4") == 2
    assert f"data.run is {tmp_path / 'other'}, an autoencoder of the digest" in capsys.readouterr().err


def test_other_images_and_another_autoencoder_are_told_apart(runs):
    data = LatentData(str(runs / "vae"))
    data.setup()
    identity = data.identity()
    for other, words in (("0 encoded by 1", "training data"), (identity[:-1] + "x", f"data.run is {runs / 'vae'}")):
        said = data.changed(identity, other)
        assert words in said and said.endswith(other.rpartition(" ")[2] if "data.run" in words else other)
