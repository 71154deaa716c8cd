"""Weights in shards over two processes: the same training, checkpoints and measurements as with whole ones."""

import json
import re
import shutil

import pytest
import torch

import run as entry
from lightning_gen.families import DDPM
from lightning_gen.families.shardable import why_unshardable
from lightning_gen.nets import MLP
from lightning_gen.results.store import read_record
from tests.families.test_recipes import ADAM
from tests.families.two_players import TwoPlayers
from tests.processes import ROOT, free_port, place, torchrun, two
from tests.test_run import BARE

WORDS = (
    *(word for word in BARE if not word.startswith("net.")),
    *("net=mlp", "net.width=16", "net.depth=2", "data.batch_size=32", "callbacks.curves=null"),
    *("trainer.limit_train_batches=3", "trainer.check_val_every_n_epoch=1", "trainer.gradient_clip_val=0.05"),
)
DRAWN = "callbacks.pictures={_target_: lightning_gen.callbacks.Pictures, n: 4, strip: 2, every_n_epochs: 1}"


def tensors(checkpoint, path=""):
    """Path -> tensor of all that a checkpoint holds."""
    if isinstance(checkpoint, torch.Tensor):
        return {path: checkpoint}
    items = checkpoint.items() if isinstance(checkpoint, dict) else enumerate(checkpoint)
    kinds = (dict, list, torch.Tensor)
    return {k: v for key, part in items if isinstance(part, kinds) for k, v in tensors(part, f"{path}/{key}").items()}


def last(folder):
    """The tensors of a run's last checkpoint."""
    return tensors(torch.load(folder / "checkpoints/last.ckpt", weights_only=True))


def assert_same(found, expected, share=1e-6):
    """Equal to this share of the largest number: the squares of the gradient's norm are summed in another order."""
    assert found.keys() == expected.keys() and len(found) > 40
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=share * float(value.abs().max()), msg=key)


def command(folder, trainer, steps, *words):
    """The words of a training by `trainer` until this many steps."""
    return [*WORDS, *words, f"trainer={trainer}_cpu", f"trainer.max_steps={steps}", f"run={folder}"]


def run(folder, *commands):
    """Run commands one after the other in two processes."""
    (folder / "commands.json").write_text(json.dumps(commands))
    two("-m", "tests.shards", str(folder))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of six steps, two epochs: by FSDP, by DDP, and by FSDP in two parts."""
    folder = tmp_path_factory.mktemp("fsdp")

    def fit(name, *options):
        return command(folder / name, *options)

    commands = [fit("fsdp", "fsdp", 6, DRAWN), fit("ddp", "ddp", 6, DRAWN)]
    run(folder, *commands, fit("parts", "fsdp", 4), fit("parts", "fsdp", 6))
    return folder


@pytest.mark.slow
def test_training_is_that_of_ddp(runs):
    assert_same(last(runs / "fsdp"), last(runs / "ddp"))


@pytest.mark.slow
def test_the_record_is_that_of_ddp(runs):
    """Validation too, of which one rank has a batch more than the other."""
    found, expected = (
        {(row["name"], row["step"]): row["value"] for row in read_record(runs / name / "record.jsonl")}
        for name in ("fsdp", "ddp")
    )
    assert found.keys() == expected.keys() and {("val/loss/ema", 3), ("val/loss/ema", 6)} < found.keys()
    for key in found.keys() - {key for key in found if key[0].startswith("time/")}:
        assert found[key] == pytest.approx(expected[key], rel=1e-6), key


@pytest.mark.slow
def test_each_rank_keeps_half_of_all_tensors(runs):
    first, second = (json.loads((runs / f"kept-{rank}.json").read_text()) for rank in range(2))
    for name, (mine, size) in first.items():
        assert mine + second[name][0] == size > 0, name
        assert mine == pytest.approx(size / 2, rel=0.02), name
    assert first["moments"][1] == 2 * first["model"][1]


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(runs):
    found, expected = last(runs / "parts"), last(runs / "fsdp")
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_rank_0_draws_alone_in_training_what_it_draws_under_ddp(runs):
    for step in (3, 6):
        name = f"samples/grid-{step:08d}.png"
        assert (runs / "fsdp" / name).read_bytes() == (runs / "ddp" / name).read_bytes()


@pytest.mark.slow
def test_one_process_draws_the_same_from_the_folder(runs, tmp_path):
    shutil.copytree(runs / "fsdp", tmp_path / "run")
    drawn = next((tmp_path / "run/samples").glob("samples-*.npz"))
    before = drawn.read_bytes()
    drawn.unlink()
    assert entry.main(["stage=evaluate", f"run={tmp_path / 'run'}", "trainer=cpu"]) == 0
    assert drawn.read_bytes() == before


@pytest.mark.parametrize(
    ("experiment", "words", "sentence"),
    [
        ("rbm_digits", [], "trainer.strategy is fsdp, but the model RBM"),
        ("ebm_digits", [], "trainer.strategy is fsdp, but the model EnergyNetwork"),
        ("vae_digits", [], "trainer.strategy is fsdp, but the model VAE"),
        ("ssm_rings", [], "trainer.strategy is fsdp, but the loss SlicedScoreMatching"),
        ("ddpm_digits", ["module.compile=true"], "module.compile is true, expected false"),
        ("ddpm_digits", ["module.checkpointing=true"], "module.checkpointing is true, expected false"),
        ("ddpm_digits", ["trainer.precision=16-mixed"], "trainer.precision is 16-mixed with trainer.strategy fsdp"),
        ("ddpm_digits", ["trainer.strategy=fsdp_cpu_offload"], "trainer.strategy is fsdp_cpu_offload"),
    ],
)
def test_what_needs_whole_weights_is_refused(experiment, words, sentence, tmp_path, monkeypatch, capsys):
    for key, value in place(1, 2, 29500).items():
        monkeypatch.setenv(key, value)
    assert entry.main([f"experiment={experiment}", "trainer=fsdp_cpu", *words, f"run={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and sentence in said[0] and not list(tmp_path.iterdir())


def test_one_process_is_refused(tmp_path, monkeypatch, capsys):
    for key, value in place(0, 1, free_port()).items():
        monkeypatch.setenv(key, value)
    assert entry.main(["trainer=fsdp_cpu", f"run={tmp_path / 'run'}"]) == 2
    assert "trainer.strategy is fsdp with one process" in capsys.readouterr().err


class Objective(DDPM):
    """A family with an objective of its own."""

    def objective(self, model, batch, noise, step):
        return super().objective(model, batch, noise, step)


class Scalar(MLP):
    """A network with a parameter that has no axis to split."""

    def __init__(self):
        super().__init__((2,), 4, 1)
        self.gain = torch.nn.Parameter(torch.ones(()))


class Tied(MLP):
    """A network whose blocks share a weight."""

    def __init__(self):
        super().__init__((2,), 4, 2)
        self.inner[1].weight = self.inner[0].weight


def test_what_is_split_is_said_by_model_loss_family_and_network():
    assert why_unshardable(DDPM(MLP((2,), 4, 1), ADAM)) is None
    assert "objective" in why_unshardable(Objective(MLP((2,), 4, 1), ADAM))
    assert "single number" in why_unshardable(DDPM(Scalar(), ADAM))
    assert "same parameter" in why_unshardable(DDPM(Tied(), ADAM))
    module = DDPM(MLP((2,), 4, 1), ADAM)
    module.loss.critic = torch.nn.Linear(2, 1)
    assert "no network" in why_unshardable(module)
    assert "2 players" in why_unshardable(TwoPlayers())


U_NET = ("net=unet_digits", "net.channels=8", "net.groups=4", "net.blocks=1", "net.multipliers=[1,1]")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("trainer.accumulate_grad_batches=2", "module.classes=10", "trainer.limit_train_batches=5"),
        ("trainer.gradient_clip_val=0.001", "trainer.gradient_clip_algorithm=value"),
        (
            "module.ema_decay=null",
            "module.optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 0.1, momentum: 0.9}",
        ),
    ],
)
def test_a_u_net_trains_as_under_ddp(words, tmp_path):
    """In double precision, where sums in another order differ by less; a network of blocks, some of odd widths."""
    words = [word for word in WORDS if not word.startswith(("net", "trainer.limit"))] + [*U_NET, *words]
    words += ["trainer.precision=64-true", "callbacks.pictures=null", "callbacks.curves=null"]
    several = [
        [*words, f"trainer={name}_cpu", "trainer.max_steps=5", f"run={tmp_path / name}"] for name in ("fsdp", "ddp")
    ]
    run(tmp_path, *several)
    assert_same(last(tmp_path / "fsdp"), last(tmp_path / "ddp"), 1e-10)


@pytest.mark.slow
def test_checkpoints_serve_ddp_and_fsdp_in_turn(runs, tmp_path):
    run(tmp_path, *(command(tmp_path / "run", name, steps) for name, steps in (("ddp", 2), ("fsdp", 4), ("ddp", 6))))
    assert_same(last(tmp_path / "run"), last(runs / "ddp"))


@pytest.mark.slow
def test_a_run_that_is_stopped_in_the_middle_resumes_to_the_bit(runs, tmp_path):
    words = command(tmp_path / "run", "fsdp", 6)
    (tmp_path / "commands.json").write_text(json.dumps([words]))
    stopped = torchrun("-m", "tests.shards", str(tmp_path), "5")
    assert stopped.returncode == 1 and (tmp_path / "run/stopped").is_file(), stopped.stderr
    assert "stopped: by SIGTERM at step 5, saved" in stopped.stderr
    run(tmp_path, words)
    found, expected = last(tmp_path / "run"), last(runs / "fsdp")
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_rank_stops_both(tmp_path):
    done = torchrun("-m", "tests.ranks", str(tmp_path), "1", *command(tmp_path / "run", "fsdp", 6))
    assert done.returncode != 0
    assert len(re.findall("training loss.*not finite.*rank 1", done.stderr)) == 2, done.stderr


@pytest.mark.slow
def test_a_step_that_overflows_is_not_saved(tmp_path):
    """SGD at a rate near the largest float: no loss has seen the weights yet when they are saved."""
    rate = "module.optimizer={_target_: torch.optim.SGD, _partial_: true, lr: 3.0e+38, weight_decay: 1.0e+9}"
    words = command(tmp_path / "run", "fsdp", 1, rate, "module.scheduler=null", "trainer.gradient_clip_val=null")
    done = torchrun(str(ROOT / "run.py"), *words)
    assert done.returncode != 0 and "is not finite after optimizer step 1" in done.stderr, done.stderr
    assert not list(tmp_path.glob("run/checkpoints/*"))
