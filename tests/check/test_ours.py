"""Our own classes keep the laws; what a command says of a target, its exit codes, and the page that lists the laws."""

import re
from pathlib import Path

import pytest
import yaml

import run as entry
from lightning_gen.check import KINDS, laws_of
from lightning_gen.config.command_line.named import node
from lightning_gen.metrics.registry import metrics
from lightning_gen.stages.check import merged
from lightning_gen.stages.rehearsed import LAWS, Subject
from tests.extensions import EXTENSION, on_path

ROOT = Path(__file__).resolve().parents[2]
SMALL = {  # cheap settings
    "nets.MLP": "width=16",
    "nets.UNet": "channels=8 multipliers=[1,2] blocks=1 attention=[4] groups=4",
    "nets.NCSNpp": "shape=[1,8,8] channels=8 multipliers=[1,2] blocks=1 attention=[4]",
    "nets.ResNetEnergy": "channels=8 multipliers=[1,2] blocks=1",
    "nets.MLPAutoencoder": "width=16 latent=3",
    "nets.ConvAutoencoder": "channels=4 latent=3",
    "nets.MLPAdversaries": "width=16",
    "nets.DCGAN": "channels=4 latent=3",
    "nets.ResNetGAN": "channels=4 critic_channels=4 doublings=1 halvings=1 blocks=1 latent=3",
    "nets.MADE": "shape=[1,4,4] width=16 orderings=2",
    "nets.PixelCNN": "shape=[1,4,4] channels=4 depth=2 hidden=8",
    "nets.CausalTransformer": "shape=[1,4,4] channels=8 depth=1 heads=2",
    "nets.RealNVP": "width=8 couplings=2",
    "nets.NICE": "width=8 couplings=2",
    "nets.Glow": "channels=8 steps=1 scales=2",
    "nets.MAF": "shape=[2] width=8",
    "nets.NSF": "shape=[2] width=8",
    "nets.MixtureFlow": "shape=[2] width=8",
    "data.Digits": "binarise=stochastic",
    "data.Moons": "n=600 val_size=60 test_size=60",
    "data.Rings": "n=600 val_size=60 test_size=60",
    "data.Gaussians": "n=600 val_size=60 test_size=60",
    "data.Checkerboard": "n=600 val_size=60 test_size=60",
    "data.Patches": "n=600 val_size=60 test_size=60",
    "samplers.Ancestral": "steps=100",
    "samplers.DDIM": "",
    "samplers.DPMSolver": "steps=20",
    "samplers.EDMHeun": "steps=30",
    "samplers.EulerMaruyama": "steps=300",
    "samplers.Exact": "",
    "samplers.FlowODE": "steps=30",
    "samplers.Gibbs": "steps=20",
    "samplers.GibbsLangevin": "steps=20 inner=100 step_size=0.02",
    "samplers.HMC": "steps=20",
    "samplers.Langevin": "steps=200 step_size=0.005",
    "samplers.AnnealedLangevin": "steps_each=100 step_rule=v1_code epsilon=7.2e-5",
    "samplers.Latent": "",
    "samplers.MALA": "steps=100 step_size=0.05",
    "samplers.PredictorCorrector": "predictor._target_=lightning_gen.samplers.Ancestral predictor.steps=100 snr=0.05",
    "samplers.Prior": "",
    "samplers.ProbabilityFlow": "steps=20",
    "samplers.RK45": "rtol=1e-3 atol=1e-3 points=5",
    "samplers.Sequential": "",
    "samplers.TiltedLangevin": "",
    "losses.ContrastiveDivergence": "sampler._target_=lightning_gen.samplers.Langevin sampler.steps=5 "
    "sampler.step_size=0.01",
    "losses.RBMContrastiveDivergence": "sampler._target_=lightning_gen.samplers.Gibbs sampler.steps=2",
    "losses.DenoisingScoreMatching": "times._target_=lightning_gen.losses.uniform",
    "losses.FlowMatching": "times._target_=lightning_gen.losses.uniform",
    "losses.ExactScoreMatching": "",
    "losses.SlicedScoreMatching": "",
    "losses.NCE": "std=1.0",
    "losses.NegativeLogLikelihood": "",
    "losses.ELBO": "",
    "losses.IWAE": "samples=3",
    "losses.Minimax": "",
    "losses.NonSaturating": "",
    "losses.Wasserstein": "",
    "losses.Hinge": "",
    "losses.LeastSquares": "",
    "losses.Relativistic": "",
    "losses.FDivergence": "divergence=kl",
    "losses.RecoveryLikelihood": "sampler._target_=lightning_gen.samplers.TiltedLangevin",
}
LONG = ("nets.NCSNpp", "samplers.AnnealedLangevin", "samplers.EulerMaruyama", "samplers.PredictorCorrector")
LONG += ("samplers.RK45", "samplers.Ancestral", "nets.UNet")
SLOW = ("experiment=vae_digits", "experiment=gan_digits", "experiment=rbm_digits", "experiment=glow_digits")
SLOW += ("experiment=made_digits", "experiment=ebm_digits", "experiment=ncsn_digits", "experiment=flow_matching_digits")


def seen(target, words="", leave_out=()):
    return list(laws_of(node(target, words.split()), leave_out)[1])


def faults(rows):
    return [each.line() for each in rows if each.verdict == "FAIL"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in SMALL])
def test_our_classes_keep_the_laws(name):
    rows = seen(f"lightning_gen.{name}", SMALL[name], ("compile",))
    assert faults(rows) == [] and any(each.verdict == "PASS" for each in rows)


@pytest.mark.parametrize("name", sorted({metric.function: name for name, metric in metrics().items()}.values()))
def test_our_metrics_keep_the_laws(name):
    assert faults(seen(name)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SMALL if name.startswith("nets.")])
def test_our_networks_are_captured_by_compile(name):
    assert faults(seen(f"lightning_gen.{name}", SMALL[name])) == []


@pytest.mark.slow
@pytest.mark.parametrize("word", SLOW)
def test_our_experiments_keep_the_laws(word, capsys):
    assert entry.main(["check", word]) == 0, capsys.readouterr().out


def test_every_class_of_ours_is_looked_at():
    from lightning_gen import data, losses, nets, samplers
    from lightning_gen.models.requirements import concrete

    own = {
        f"samplers.{each.__name__}"
        for each in concrete(samplers.Sampler)
        if each.__module__.startswith("lightning_gen.sa")
    }
    own |= {
        f"losses.{each.__name__}" for each in concrete(losses.Loss) if each.__module__.startswith("lightning_gen.lo")
    }
    bases = {"Autoencoder", "Causal", "EncoderDecoder", "GeneratorCritic"}
    own |= {f"nets.{name}" for name in nets.__all__ if name not in bases}
    of_files = {"CIFAR10", "MNIST", "FashionMNIST", "Npz", "Folder", "DSprites", "Factored", "Shapes"}
    of_files |= {"HuggingFace", "WebDataset"}
    of_files |= {name for name in data.__all__ if not issubclass(getattr(data, name), data.GenerativeData)}
    own |= {f"data.{name}" for name in data.__all__ if name not in {*of_files, "GenerativeData"}}
    assert own <= {*SMALL}, own - {*SMALL}


def test_a_run_its_export_and_its_checkpoint_are_looked_at(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["experiment=sde_vp_digits", "data=moons", "data.n=128", "net=mlp", "net.width=16", "quality=none"]
    words += ["sampler=ddim", "sampler.steps=4", "sampler.clip=null", "logger=none", "callbacks.likelihood=null"]
    words += ["callbacks.pictures=null", "callbacks.curves=null", "trainer=cpu", "trainer.max_steps=3", f"run={run}"]
    assert entry.main(words) == 0
    before = sorted(path.name for path in run.rglob("*"))
    assert entry.main(["stage=export", f"run={run}"]) == 0
    for path in (run, run / "checkpoints" / "last.ckpt", run / "export", run / "config.yaml"):
        capsys.readouterr()
        assert entry.main(["check", str(path)]) == 0, capsys.readouterr().out
        out = capsys.readouterr().out
        assert "at step 3" in out or path == run / "export"
    assert {*before} <= {path.name for path in run.rglob("*")}
    (run / "checkpoints" / "last.ckpt").write_bytes(b"torn")
    for other in (run / "checkpoints").glob("last-*"):
        other.unlink()
    assert entry.main(["check", str(run)]) == 2


def test_files_of_somebody_else_are_looked_at(capsys):
    with on_path(EXTENSION, "spirals"):
        assert entry.main(["check", str(EXTENSION / "configs/experiment/spirals.yaml"), "--allow", "spirals"]) == 0
        assert entry.main(["check", str(EXTENSION / "configs/data/spiral.yaml"), "n=64", "batch_size=16"]) == 0
        assert entry.main(["check", "radius_gap", "--allow", "spirals"]) in (0, 1)
        assert entry.main(["check", "spirals.losses.PseudoHuber"]) == 0
        # It draws from E[x_0 | x_t] where a consistency model would be asked: too narrow for any number of steps.
        assert entry.main(["check", str(EXTENSION / "configs/sampler/restart.yaml")]) == 1
    assert "FAIL    gaussian" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ([], "check"),
        (["no_such_package.Net"], "no_such_package"),
        (["lightning_gen.models.Denoiser"], "expected a data set"),
        (["lightning_gen.nets.MPL"], "MLP?"),
        (["lightning_gen.nets.MLP", "widht=3"], "width?"),
        (["lightning_gen.nets.MLP", "width=many"], "'many'"),
        (["lightning_gen.nets.MLP", "width=1", "width.x=2"], "width.x=2"),
        (["torch.load"], "torch.load"),
        (["fidd"], "did you mean fid?"),
        (["nothing"], "write PACKAGE.NAME"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["nowhere/run"], "nowhere/run"),
        (["experiment=nothing"], "nothing"),
        (["stage=sample", "experiment=ddpm_digits"], "stage=sample"),
        (["--stage=evaluate", "experiment=ddpm_digits"], "stage=evaluate"),
        (["-m", "experiment=ddpm_digits", "seed=1,2"], "-m"),
        (["lightning_gen.nets.MLP", "-m"], "-m"),
        (["lightning_gen.nets.MLP", "--allow"], "--allow"),
        (["lightning_gen.nets.MLP", "--config-dir", str(EXTENSION / "configs")], "--config-dir"),
        (["lightning_gen.nets.MLP", "--config-name", "config"], "--config-name"),
        (["fid", "--config-name=config"], "--config-name=config"),
        (["lightning_gen.nets.MLP", "32"], "32"),
    ],
)
def test_what_cannot_be_looked_at_is_one_sentence(words, word, capsys):
    assert entry.main(["check", *words]) == 2
    error = capsys.readouterr().err
    assert word in error and error.count("error: ") == 1 and "Traceback" not in error


@pytest.mark.parametrize(("size", "told"), [(8, "4 steps of 8 samples"), ("auto", "4 steps")])
def test_a_config_says_how_much_is_trained(size, told, tmp_path):
    config = {"module": {"_target_": "a.Family"}, "data": {"_target_": "a.Data", "batch_size": size}, "trainer": {}}
    assert Subject(config, tmp_path).said() == f"a config of Family on Data, {told}"


def test_arguments_of_the_words_come_before_those_of_the_file():
    file = {"width": 8, "net": {"a": 1, "b": 2}, "sampler": {"a": 1}}
    assert merged(file, {"net": {"b": 3}, "sampler": None}) == {"width": 8, "net": {"a": 1, "b": 3}, "sampler": None}


def test_the_page_lists_the_laws():
    page = (ROOT / "docs" / "check.md").read_text()
    rows = {}
    for title, table in re.findall(r"^## (.+?)\n.*?^((?:\|[^\n]*\n)+)", page, re.MULTILINE | re.DOTALL):
        cells = [[cell.strip() for cell in row.strip("|\n").split("|")] for row in table.splitlines()[2:]]
        rows[title.lower()] = [(name.strip("`"), says) for name, says, *_ in cells]
    known = {kind.name: kind.laws for kind in KINDS} | {"config": LAWS}
    for name, laws in known.items():
        found = rows[next(title for title in rows if title.split(", ")[0] == f"a {name}".replace("a a", "an a"))]
        assert found == [(law.name, law.says) for law in laws], name


def test_usage(capsys):
    assert entry.main(["check", "--help"]) == 0
    assert "lightning-gen check TARGET" in capsys.readouterr().out
    assert "check" in yaml.safe_load((ROOT / "experiments" / "config.yaml").read_text())["hydra"]["help"]["header"]
