"""Several players, and a loss that is trained: rhythm, one count of steps, resume after kill -9, what stops both."""

import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping, GradientAccumulationScheduler, LearningRateMonitor
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn

from lightning_gen.errors import NonFinite
from lightning_gen.families import DDPM, GenerativeModule
from lightning_gen.losses import Loss
from lightning_gen.nets import MLP
from lightning_gen.runs.folder import RunFolder
from tests.families import two_players
from tests.families.two_players import Generator, TwoPlayers, train
from tests.processes import ROOT, fork_two, start_two

BATCHES = 11  # of an epoch


def copies(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def record(folder, name):
    lines = map(json.loads, (folder / "record.jsonl").read_text().splitlines())
    return {line["step"]: line["value"] for line in lines if line.get("name") == name}


def last(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


def same(a, b):
    """Equal containers of equal tensors."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def resumed_equals_whole(whole, parts):
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "updates", "global_step", "epoch")
    return all(same(last(whole)[key], last(parts)[key]) for key in kept)


class Moves(Callback):
    """The weights after each batch, and the trainer's count."""

    def on_train_start(self, trainer, module):
        self.weights, self.steps = [copies(module)], [trainer.global_step]

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.weights.append(copies(module))
        self.steps.append(trainer.global_step)
        assert all(p.requires_grad for p in (*module.model.parameters(), *module.critic.parameters()))

    def moved(self, prefix, batch):
        """Whether parameters of that prefix moved in that batch."""
        before, after = self.weights[batch], self.weights[batch + 1]
        return any(not torch.equal(before[k], after[k]) for k in after if k.startswith(prefix) and "running" not in k)


def test_the_critic_moves_on_each_batch_and_the_generator_on_every_third_and_counts(tmp_path):
    watch, module = Moves(), TwoPlayers(critic_steps=3, ema_decay=0.9)
    trainer = train(tmp_path, module, watch, max_steps=6)
    due = [(i % BATCHES + 1) % 3 == 0 or i % BATCHES == BATCHES - 1 for i in range(len(watch.weights) - 1)]
    assert trainer.global_step == sum(due) == 6 and due[-1] and len(due) == BATCHES + 6
    assert watch.steps[1:] == [sum(due[: i + 1]) for i in range(len(due))]
    for batch, turn in enumerate(due):
        assert watch.moved("critic.", batch)
        assert watch.moved("model.net.4", batch) == watch.moved("ema.net.4", batch) == turn
    critic, generator = ([turn for turn in module.turns if turn[0] == name] for name in ("critic", "generator"))
    assert [step for _, step, _ in critic] == list(range(len(due))), "each player gets its own count"
    assert [step for _, step, _ in generator] == list(range(6))
    assert len({tuple(index) for _, _, index in critic}) == len(due), "a fresh batch for each critic step"
    assert [index for *_, index in generator] == [critic[i][2] for i, turn in enumerate(due) if turn]


def test_the_average_is_the_generators_alone_and_follows_its_recursion(tmp_path):
    watch, module = Moves(), TwoPlayers(critic_steps=2, ema_decay=0.9)
    train(tmp_path, module, watch, max_steps=4)
    assert not any("critic" in key for key in module.ema.state_dict())
    expected = watch.weights[0]["model.net.4.weight"]
    for before, after in zip(watch.weights, watch.weights[1:], strict=False):
        if not torch.equal(before["ema.net.4.weight"], after["ema.net.4.weight"]):
            expected = 0.9 * expected + 0.1 * after["model.net.4.weight"]
        torch.testing.assert_close(after["ema.net.4.weight"], expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(expected, watch.weights[0]["model.net.4.weight"])


def test_both_players_losses_norms_and_rates_are_recorded_at_the_generators_steps(tmp_path):
    train(tmp_path, TwoPlayers(critic_steps=3, rate=0.5), max_steps=4)
    for name in ("train/loss", "train/gradient_norm", "train/lr"):
        for of in ("", "/critic"):
            assert sorted(record(tmp_path, name + of)) == [1, 2, 3, 4], name + of
    assert list(record(tmp_path, "train/lr").values()) == pytest.approx([1e-2 * 0.5**k for k in range(4)])
    critic = [3, 6, 9, 11]  # of the critic's steps up to then; the epoch ends with the eleventh
    rates = [2e-2 * 0.5 ** (k - 1) for k in critic]
    assert list(record(tmp_path, "train/lr/critic").values()) == pytest.approx(rates)
    assert record(tmp_path, "train/loss") != record(tmp_path, "train/loss/critic")


def test_clipping_bounds_each_players_gradient_by_itself(tmp_path):
    norms = {"critic": [], "model": []}

    class Norms(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            for name in norms:
                grads = [p.grad for p in getattr(module, name).parameters() if p.grad is not None]
                norms[name].append(float(torch.nn.utils.get_total_norm(grads)) if grads else 0.0)

    train(tmp_path, TwoPlayers(critic_steps=2), Norms(), gradient_clip_val=1e-3, max_steps=4)
    for name, found in norms.items():
        assert max(found) == pytest.approx(1e-3, rel=1e-3), name
    assert min(record(tmp_path, "train/gradient_norm/critic").values()) > 1e-2, "recorded before clipping"


def test_accumulation_of_two_players_is_refused(tmp_path):
    with pytest.raises(ValueError, match="trainer.accumulate_grad_batches is 4 with 2 players.*data.batch_size"):
        train(tmp_path, TwoPlayers(), accumulate_grad_batches=4)


@pytest.mark.parametrize("player", ["critic", "generator"])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_one_players_nan_stops_both_before_any_weight_moves(tmp_path, player, optimizer):
    watch, module = Moves(), TwoPlayers(critic_steps=2, optimizer=optimizer, ema_decay=0.9, spoil=(player, 0))
    with pytest.raises(NonFinite, match=f"training loss of {player} is not finite on rank 0.*optimizer steps 3 to 3"):
        train(tmp_path, module, watch)
    kept, now = watch.weights[-1], module.state_dict()
    moved = [k for k in now if not torch.equal(kept[k], now[k]) and "running" not in k and "tracked" not in k]
    assert not [key for key in moved if key.startswith(("model.", "ema."))]
    # The critic's own step on that batch came before the generator's turn, and was sound.
    assert bool(moved) == (player == "generator")
    assert all(torch.isfinite(value).all() for key, value in now.items() if "running" not in key)


@pytest.fixture(scope="module", params=[1, 2])
def whole(request, tmp_path_factory):
    """The number of ranks, and an uninterrupted run on them."""
    folder = tmp_path_factory.mktemp(f"ranks-{request.param}")
    done = start(request.param, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return request.param, folder


def start(ranks, folder, *words):
    if ranks == 2:
        return start_two("-m", "tests.families.two_players", str(folder), *words)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.families.two_players", str(folder), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT)


@pytest.mark.slow  # a test below says the same of one process that an exception ends
@pytest.mark.parametrize("die", [5, 7])
def test_kill_nine_then_the_same_command_equals_a_run_that_nobody_killed(whole, tmp_path, die):
    """Killed after step 5, in the first epoch behind a save at 4, or after 7, behind one at 6 of the second."""
    ranks, folder = whole
    done = start(ranks, tmp_path, f"die={die}", f"save={4 if die == 5 else 6}")
    assert done.returncode == -signal.SIGKILL
    assert last(tmp_path)["global_step"] == (4 if die == 5 else 6)
    done = start(ranks, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert resumed_equals_whole(folder, tmp_path)
    for name in ("train/loss", "train/loss/critic", "train/gradient_norm", "train/lr/critic"):
        assert record(tmp_path, name) == record(folder, name)


@pytest.mark.slow
def test_two_ranks_play_with_equal_weights_on_different_data(whole):
    ranks, folder = whole
    if ranks == 1:
        assert last(folder)["updates"] == {"critic": 2 * BATCHES + 9}
        return
    (turns, weights), (others, theirs) = (torch.load(folder / f"rank-{r}.pt", weights_only=True) for r in (0, 1))
    local = ("running", "tracked")  # batch statistics are each rank's own until the next forward pass
    assert all(torch.equal(weights[key], theirs[key]) for key in weights if not any(word in key for word in local))
    assert [turn[:2] for turn in turns] == [turn[:2] for turn in others]
    for (*_, mine), (*_, other) in zip(turns, others, strict=True):
        assert len(mine) == len(other) == 16 and not set(mine) & set(other)


def test_two_ranks_take_the_step_of_the_mean_gradient(tmp_path):
    """Without noise, dropout and batch statistics two ranks of 16 are one rank of 32."""
    words = ("plain=1", "max_steps=3")
    two_players.main(str(tmp_path / "1"), *words)
    fork_two(two_players.main, str(tmp_path / "2"), *words)
    ends = [last(tmp_path / ranks)["state_dict"] for ranks in "12"]
    for key, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][key], rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.slow
def test_a_rank_that_fails_stops_both_ranks_and_players(tmp_path):
    done = start(2, tmp_path, "spoil=1")
    assert done.returncode != 0
    assert done.stdout.count("error: training loss of critic is not finite on rank 1") == 2, done.stdout
    stopped = [torch.load(tmp_path / f"stopped-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for key in stopped[0]:
        if "running" not in key and "tracked" not in key:
            assert torch.equal(stopped[0][key], stopped[1][key]) and torch.isfinite(stopped[0][key]).all()


def test_an_export_holds_the_averaged_generator_and_loads_without_the_critic(tmp_path):
    module = TwoPlayers(ema_decay=0.9)
    train(tmp_path, module, max_steps=3)
    folder = RunFolder(tmp_path)
    folder.store({"module": {"ema_decay": 0.9}})
    loaded = TwoPlayers(ema_decay=0.9)
    loaded.load_weights(folder.export().weights())
    for name, value in module.ema.state_dict().items():
        assert torch.equal(loaded.averaged.state_dict()[name], value)
        assert torch.equal(loaded.model.state_dict()[name], value)
    for wrong in ("model.net.4.weight", "ema.net.0.bias"):
        state = {key: value for key, value in folder.weights().items() if key != wrong}
        with pytest.raises(ValueError, match=f"{wrong} missing"):
            loaded.load_weights(state)
    with pytest.raises(ValueError, match="ema.9.weight unknown"):
        loaded.load_weights(folder.weights() | {"ema.9.weight": torch.zeros(1)})


def test_max_epochs_val_check_interval_early_stopping_and_rates_mean_what_they_say(tmp_path):
    validations = []

    class Count(Callback):
        def on_validation_end(self, trainer, module):
            validations.append(trainer.global_step)

    trainer = train(tmp_path / "a", TwoPlayers(critic_steps=3), max_steps=-1, max_epochs=2)
    assert trainer.global_step == 8 and trainer.estimated_stepping_batches == 8
    train(tmp_path / "b", TwoPlayers(), Count(), max_steps=6, val_check_interval=5, limit_val_batches=1.0)
    assert validations == [1, 3, 5]
    stop = EarlyStopping("val/loss/raw", patience=1, mode="min", min_delta=1e9)
    trainer = train(tmp_path / "c", TwoPlayers(), stop, max_steps=40, limit_val_batches=1.0)
    assert trainer.global_step == 8, "after the second epoch"

    train(tmp_path / "d", TwoPlayers(rate=0.5), LearningRateMonitor(), max_steps=4)
    rates = {k: 1e-2 * 0.5**k for k in range(4)}
    assert record(tmp_path / "d", "lr-Adam-1") == pytest.approx(rates), "at the generator's steps"


class Killed(Callback):
    """Ends a run after step 6 without a save: the last is that of step 4."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 6:
            raise RuntimeError("killed")


def test_a_run_of_two_players_that_was_killed_equals_one_that_was_not(tmp_path):
    train(tmp_path / "whole", TwoPlayers(ema_decay=0.9), max_steps=9)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "parts", TwoPlayers(ema_decay=0.9), Killed(), max_steps=9)
    assert last(tmp_path / "parts")["global_step"] == 4
    train(tmp_path / "parts", TwoPlayers(ema_decay=0.9), max_steps=9)
    assert resumed_equals_whole(tmp_path / "whole", tmp_path / "parts")


class Scaled(Loss):
    """1/2 exp(-s) e^2 + s / 2 with a learned s: at rest exp(s) is the mean of e^2."""

    def __init__(self):
        super().__init__()
        self.s = nn.Parameter(torch.zeros(()))

    def forward(self, model, x, generator):
        e = model(torch.randn(x.shape, generator=generator)) - x
        return (0.5 * torch.exp(-self.s) * e.square() + 0.5 * self.s).sum(1)


def scaled(**options):
    torch.manual_seed(0)
    return GenerativeModule(Generator(nn.Linear(2, 2)), Scaled(), partial(torch.optim.Adam, lr=1e-2), **options)


def test_a_loss_that_owns_a_parameter_is_trained_saved_and_resumed(tmp_path):
    module = scaled(ema_decay=0.9)
    train(tmp_path / "whole", module, max_steps=9)
    assert float(module.loss.s.detach().abs()) > 0.03
    assert len(last(tmp_path / "whole")["optimizer_states"][0]["state"]) == 3
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "parts", scaled(ema_decay=0.9), Killed(), max_steps=9)
    stood = last(tmp_path / "parts")["state_dict"]["loss.s"]
    resumed = scaled(ema_decay=0.9)
    train(tmp_path / "parts", resumed, max_steps=9)
    assert not torch.equal(stood, resumed.loss.s) and torch.equal(resumed.loss.s, module.loss.s)
    assert resumed_equals_whole(tmp_path / "whole", tmp_path / "parts")
    export = scaled(ema_decay=0.9)
    folder = RunFolder(tmp_path / "whole")
    folder.store({"module": {"ema_decay": 0.9}})
    export.load_weights(folder.export().weights())
    assert torch.equal(export.model.net.weight, module.ema.net.weight)


@pytest.mark.parametrize("name", ["training_step", "configure_optimizers", "on_before_optimizer_step", "on_train_end"])
def test_a_family_cannot_lose_the_step_by_overriding(name):
    with pytest.raises(TypeError, match=f"Lost defines {name}.*override objective"):
        type("Lost", (DDPM,), {name: lambda self, *_: None})
    mixin = type("Mixin", (), {name: lambda self, *_: None})
    with pytest.raises(TypeError, match=f"Mixed defines {name}"):
        type("Mixed", (mixin, DDPM), {})


def test_a_family_that_overrides_its_objective_keeps_all_that_is_the_bases(tmp_path):
    class Halved(DDPM):
        def objective(self, model, batch, noise, step):
            steps.append(step)
            return 0.5 * super().objective(model, batch, noise, step)

    steps, losses, module = [], [], None
    for family in (DDPM, Halved):
        torch.manual_seed(0)
        module = family(MLP((2,), 16, 1), partial(torch.optim.SGD, lr=1e-2), steps=5, ema_decay=0.9, shape=(2,))
        train(tmp_path / family.__name__, module, max_steps=1)
        losses.append(record(tmp_path / family.__name__, "train/loss")[1])
    assert steps == [0] and losses[1] == pytest.approx(0.5 * losses[0])
    assert not same(dict(module.ema.state_dict()), dict(module.model.state_dict()))


@pytest.mark.parametrize(
    ("callbacks", "scheduler", "sentence"),
    [
        (
            [GradientAccumulationScheduler({0: 2})],
            None,
            "GradientAccumulationScheduler.*trainer.accumulate_grad_batches",
        ),
        ([], torch.optim.lr_scheduler.ReduceLROnPlateau, "ReduceLROnPlateau.*choose another"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(tmp_path, callbacks, scheduler, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(tmp_path, scaled(scheduler=scheduler), *callbacks)


@pytest.mark.parametrize("fused", [False, True])
def test_half_precision_unscales_before_clipping_and_leaves_out_what_overflows(tmp_path, fused):
    """A scale of 2^127 overflows at first: no NonFinite, no step of the weights, and a smaller scale."""
    scaler, watch = torch.amp.GradScaler("cpu", init_scale=2.0**127), Moves()
    module = TwoPlayers(critic_steps=1, optimizer=partial(torch.optim.Adam, fused=fused), ema_decay=0.9)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    train(tmp_path, module, watch, plugins=[plugin], gradient_clip_val=0.5, max_steps=60)
    moved = [watch.moved("model.net.4", batch) for batch in range(60)]
    assert not moved[0] and moved[-1] and scaler.get_scale() < 2.0**127
    norms = record(tmp_path, "train/gradient_norm")
    assert norms[1] == 0 and 0 < norms[60] < 1e3, "of the unscaled gradient"
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())
    assert last(tmp_path)["MixedPrecision"]["scale"] == scaler.get_scale()
