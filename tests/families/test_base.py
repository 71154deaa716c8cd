"""What every family inherits: the average, addressed noise, finite checks, sampling that any ranks repeat."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint

from lightning_gen.data import Digits, Rings
from lightning_gen.errors import NonFinite
from lightning_gen.families import DDPM
from lightning_gen.families.optimisation import Optimisation
from lightning_gen.families.statistics import TrainingStatistics
from lightning_gen.losses import Loss
from lightning_gen.nets import MLP, UNet
from lightning_gen.randomness import generator
from lightning_gen.samplers import DDIM, Ancestral


def digits_module(**options):
    torch.manual_seed(0)
    net = UNet((1, 8, 8), channels=8, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0.5, groups=4)
    options = {"steps": 6, "sampler": DDIM(3, clip=(-1, 1)), "value_range": (-1, 1), "shape": (1, 8, 8)} | options
    return DDPM(net, options.pop("optimizer", partial(torch.optim.Adam, lr=1e-2)), **options)


class Written(Loss):
    """A loss that a function computes."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, model, x, generator):
        return self.function(model, x, generator)


def fit(module, folder, *callbacks, data=None, **options):
    """A short run on the CPU."""
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
        **{"max_steps": 5, "log_every_n_steps": 1, "max_epochs": -1} | options,
    )
    trainer.fit(module, datamodule=data or Digits(batch_size=64, seed=0))
    return trainer


class Watch(Callback):
    """The raw and averaged weights after every step, and the losses."""

    def __init__(self):
        self.raw, self.ema, self.losses = [], [], []

    def on_train_start(self, trainer, module):
        self.start = [p.detach().clone() for p in module.model.parameters()]

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.raw.append([p.detach().clone() for p in module.model.parameters()])
        self.ema.append([p.detach().clone() for p in module.averaged.parameters()])
        self.losses.append(float(outputs["loss"]))


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_follows_its_recursion_once_per_optimizer_step(tmp_path, warmup, accumulate):
    watch = Watch()
    module = digits_module(ema_decay=0.9, ema_warmup=warmup)
    fit(module, tmp_path, watch, accumulate_grad_batches=accumulate, max_steps=4)
    expected = watch.start
    for n, raw in enumerate(watch.raw[accumulate - 1 :: accumulate], 1):
        decay = min(0.9, (1 + n) / (10 + n)) if warmup else 0.9
        expected = [decay * a + (1 - decay) * b for a, b in zip(expected, raw, strict=True)]
        for a, b in zip(watch.ema[n * accumulate - 1], expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(a, b) for a, b in zip(watch.ema[-1], watch.raw[-1], strict=True))


def test_callbacks_in_any_order_see_the_average_and_never_a_swap(tmp_path):
    """Trap: an average that is swapped in for validation is gone for callbacks listed after, and in checkpoints."""
    records = []

    class See(Callback):
        def on_validation_start(self, trainer, module):
            self.look(module)

        def on_validation_end(self, trainer, module):
            self.look(module)

        def look(self, module):
            records.append(
                [torch.cat([p.flatten() for p in m.parameters()]).clone() for m in (module.averaged, module.model)]
            )

    module = digits_module(ema_decay=0.9)
    fit(module, tmp_path, See(), See(), max_steps=3, val_check_interval=3)
    assert len(records) == 4
    for averaged, raw in records:
        assert torch.equal(averaged, records[0][0]) and torch.equal(raw, records[0][1])
    assert not torch.equal(records[0][0], records[0][1])
    keys = module.state_dict().keys()
    assert {key.replace("ema.", "model.") for key in keys if key.startswith("ema.")} == {
        key for key in keys if key.startswith("model.")
    }


def test_a_batchs_noise_is_a_function_of_seed_epoch_batch_and_rank_alone(tmp_path):
    runs = []
    for disturb in (False, True):
        watch = Watch()

        class Disturb(Callback):
            def on_train_batch_start(self, trainer, module, batch, batch_idx):
                torch.manual_seed(17) if disturb else None  # noqa: B023

        fit(digits_module(ema_decay=None), tmp_path, watch, Disturb())
        runs.append(watch.losses)
    assert runs[0] == runs[1]
    other = Watch()
    fit(digits_module(ema_decay=None, seed=1), tmp_path, other)
    assert other.losses != runs[0]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_never_reaches_the_weights(tmp_path, where):
    module = digits_module()
    watch, loss = Watch(), module.loss

    def broken(model, x, generator):
        value = loss(model, x, generator)
        if module.trainer.global_step == 2:
            # A gradient may overflow though its loss is finite, and a loss be NaN without a gradient.
            root = next(model.parameters()).flatten()[0]
            return value + (float("nan") if where == "loss" else (root - root.detach()).abs().sqrt())
        return value

    module.loss = Written(broken)
    with pytest.raises(NonFinite, match=rf"{where}.*not finite.*3 to 3") as caught:
        fit(module, tmp_path, watch)
    assert ("rank 0" in str(caught.value)) == (where == "loss")
    assert all(torch.equal(a, b) for a, b in zip(watch.raw[-1], module.model.parameters(), strict=True))
    assert len(watch.raw) == 2


def test_a_fused_optimizer_skips_the_step_on_the_device():
    """What a GPU does without asking the host: found_inf = 1 leaves weights and moments as they are."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter], lr=0.1, fused=True)
    parameter.grad = torch.full((3,), float("nan"))
    statistics = TrainingStatistics()
    statistics.add_loss(torch.tensor(1.0))
    statistics.add_gradient(torch.tensor(float("nan")), SimpleNamespace(world_size=1))
    optimizer.grad_scale, optimizer.found_inf = None, statistics.nonfinite
    optimizer.step()
    assert torch.equal(parameter.detach(), torch.ones(3))
    optimizer.found_inf, parameter.grad = torch.zeros(()), torch.ones(3)
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 0.9))


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_a_fused_optimizer_left_out_after_the_last_record_ends_the_run(tmp_path, monkeypatch, where):
    """The flag stays on the device between records: the end of training reads it once more."""
    monkeypatch.setattr(Optimisation, "on_accelerator", lambda self: True)
    module, watch = digits_module(optimizer=partial(torch.optim.Adam, lr=1e-2, fused=True)), Watch()
    loss = module.loss

    def broken(model, x, generator):
        value = loss(model, x, generator)
        if module.trainer.global_step != 3:
            return value
        root = next(model.parameters()).flatten()[0]
        return value + (float("nan") if where == "loss" else (root - root.detach()).abs().sqrt())

    module.loss = Written(broken)
    with pytest.raises(NonFinite, match=rf"{where}.*not finite.*4 to 5"):
        fit(module, tmp_path, watch, max_steps=5, log_every_n_steps=3)
    assert len(watch.raw) == 5
    assert all(torch.equal(a, b) for a, b in zip(watch.raw[2], module.model.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(watch.raw[1], watch.raw[2], strict=True))


def test_gradients_are_clipped_by_the_trainers_own_key(tmp_path):
    norms = []

    class Norms(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            norms.append(torch.nn.utils.get_total_norm([p.grad for p in module.model.parameters()]).item())

        def on_before_zero_grad(self, trainer, module, optimizer):
            grads = [p.grad for p in module.model.parameters() if p.grad is not None]
            if grads:
                norms.append(torch.nn.utils.get_total_norm(grads).item())

    fit(digits_module(), tmp_path, Norms(), gradient_clip_val=0.01)
    assert norms and max(norms) <= 0.01 * (1 + 1e-4)


@pytest.mark.parametrize("limit", [0.5, 4.9, 5.0, 5.1])
def test_clipping_is_torchs_bit_for_bit(limit):
    """On a CPU a gradient within the limit is left alone, on a device, which the host does not ask, multiplied by 1."""
    found = []
    for device in (False, True):
        parameter = torch.nn.Parameter(torch.zeros(2))
        parameter.grad = torch.tensor([3.0, 4.0])
        module = SimpleNamespace(
            trainer=SimpleNamespace(gradient_clip_val=limit, gradient_clip_algorithm=None),
            device=SimpleNamespace(type="cuda" if device else "cpu"),
        )
        optimisation = Optimisation(module, [SimpleNamespace(name="model")], None)
        optimisation.turn = SimpleNamespace(optimizer=torch.optim.SGD([parameter], lr=0.1))
        optimisation.clip(torch.tensor(5.0))
        found.append(parameter.grad)
    assert torch.equal(*found)


def test_validation_moves_neither_training_nor_depends_on_it(tmp_path):
    values = []
    for every in (1, 3):
        watch = Watch()
        module = digits_module(ema_decay=0.9)
        trainer = fit(module, tmp_path, watch, max_steps=3, val_check_interval=every)
        values.append((watch.losses, float(trainer.callback_metrics["val/loss/ema"])))
    assert values[0] == values[1]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_any_number_of_ranks_draws_the_same_samples(world):
    module = digits_module()
    whole = module.sample(20, seed=4, size=8)
    parts = {}
    for rank in range(world):
        parts |= dict(module.blocks(20, 4, size=8, rank=rank, world=world))
    together = torch.cat([parts[start] for start in sorted(parts)])
    assert torch.equal(module.decode(together).clamp(0, 1), whole)
    assert sum(module.work(20, size=8, rank=rank, world=world) for rank in range(world)) == 3 * 3
    assert torch.equal(module.sample(3, seed=4, size=8), whole[:3])
    assert not torch.equal(module.sample(3, seed=5, size=8), whole[:3])
    assert whole.unique(dim=0).shape[0] == 20


def test_sampling_uses_the_average_without_dropout_and_leaves_modes_and_generators(tmp_path):
    module = digits_module(ema_decay=0.5)
    fit(module, tmp_path, max_steps=3)
    module.train()
    before, calls = torch.get_rng_state(), []
    first = module.sample(4, size=4)
    assert torch.equal(first, module.sample(4, size=4))
    assert torch.equal(before, torch.get_rng_state())
    assert module.ema.training and module.model.training
    for _, x in module.blocks(4, size=4, weights="raw", progress=lambda: calls.append(1)):
        assert not torch.equal(module.decode(x).clamp(0, 1), first)
    assert len(calls) == module.work(4, size=4) == 3


def test_samples_that_are_not_finite_are_an_error():
    module = digits_module()
    with torch.no_grad():
        next(module.ema.parameters()).fill_(float("nan"))
    with pytest.raises(NonFinite, match="samples are not finite"):
        module.sample(2)


def test_points_in_the_plane_pass_through_the_same_module(tmp_path):
    torch.manual_seed(0)
    module = DDPM(
        MLP((2,), width=16, depth=1),
        partial(torch.optim.Adam, lr=1e-3),
        steps=5,
        sampler=Ancestral(),
        shape=(2,),
        value_range=None,
    )
    fit(module, tmp_path, data=Rings(batch_size=64, n=500, val_size=20, test_size=20), max_steps=2)
    assert module.sample(7).shape == (7, 2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ema_decay": 1.0}, "ema_decay.*1.0"),
        ({"schedule": "quadratic"}, "schedule.*quadratic.*linear, cosine"),
        ({"steps": 0}, "steps.*0"),
        ({"sampler": DDIM(7)}, "steps.*7.*6"),
        ({"sampler": DDIM(3, clip=(0, 1))}, r"sampler.clip.*\[0, 1\].*\[-1, 1\]"),
    ],
)
def test_wrong_options_are_refused_before_any_work(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        digits_module(**options)


def test_weights_by_name(tmp_path):
    module = digits_module(ema_decay=None)
    assert module.averaged is module.model
    with pytest.raises(ValueError, match="ema_decay.*null.*raw"):
        module.weights("ema")


def test_dropout_and_noise_each_differ_between_ranks_batches_and_epochs():
    """Each by itself: what differs in the one would hide what is equal in the other."""
    module = digits_module()
    module.loss = Written(
        lambda model, x, generator: torch.stack([torch.rand(()), torch.rand((), generator=generator)])
    )
    records = []

    class Placed(DDPM):
        current_epoch = property(lambda self: self.position[0])
        global_rank = property(lambda self: self.position[2])

    module.__class__ = Placed

    def draws(*position):
        module.position, records[:] = position, []
        module.loss = Written(
            lambda model, x, g: records.extend([torch.rand(()), torch.rand((), generator=g)]) or x.sum()
        )
        module.losses(module.players()[0], {"x": torch.zeros(1)}, position[1])
        return [float(draw) for draw in records]

    positions = ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 1, 0), (1, 0, 1))
    values = [draws(*position) for position in positions]
    assert len({dropout for dropout, _ in values}) == len({noise for _, noise in values}) == len(positions)
    assert len({draw for pair in values for draw in pair}) == 2 * len(positions), "noise and dropout are one stream"
    assert draws(0, 0, 1) == values[1]


@pytest.mark.parametrize("sampler", [DDIM(3, clip=(-1, 1)), Ancestral(clip=(-1, 1))])
def test_fewer_samples_are_the_first_of_many(sampler):
    """On a CPU the prior of a short block is the beginning of a whole one's: only later noise tells them apart."""
    module = digits_module(sampler=sampler)
    assert torch.equal(module.sample(3, seed=4, size=8), module.sample(20, seed=4, size=8)[:3])


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_statistics_forget_nothing_until_the_host_has_read(bad):
    """Of three micro-batches, and of three updates, any one that is not finite holds back all that follow."""
    trainer, statistics = SimpleNamespace(world_size=1), TrainingStatistics()
    for i in range(3):
        statistics.add_loss(torch.tensor(float("nan") if i == bad else 1.0))
    statistics.add_gradient(torch.tensor(1.0), trainer)
    assert float(statistics.nonfinite) == 1
    statistics = TrainingStatistics()
    for i in range(3):
        statistics.add_loss(torch.tensor(1.0))
        statistics.add_gradient(torch.tensor(float("inf") if i == bad else 1.0), trainer)
        assert float(statistics.nonfinite) == (i >= bad)
    assert statistics.nonfinite.shape == () and statistics.nonfinite.dtype == torch.float32


def test_one_ranks_flag_is_every_ranks(monkeypatch):
    def another_rank_is_bad(flag, op):
        assert op == torch.distributed.ReduceOp.MAX
        flag.fill_(1)

    monkeypatch.setattr(torch.distributed, "all_reduce", another_rank_is_bad)
    statistics = TrainingStatistics()
    statistics.add_loss(torch.tensor(1.0))
    statistics.add_gradient(torch.tensor(1.0), SimpleNamespace(world_size=2))
    assert float(statistics.nonfinite) == 1


def test_validation_is_the_mean_over_all_samples_of_the_average(tmp_path):
    """Batches of 64, 64 and 9: a mean of means would weigh the last too much."""
    module = digits_module(ema_decay=0.5)
    trainer = fit(module, tmp_path, max_steps=3, val_check_interval=3)
    data, losses = trainer.datamodule, []
    module.model.eval()
    for batch in data.val_dataloader():
        noise = generator(0, "val", int(batch["index"][0]))
        losses.append(module.loss(module.averaged.eval(), batch["x"], noise).detach())
    assert len(losses) > 1 and len(losses[-1]) < len(losses[0])
    expected = float(torch.cat(losses).mean())
    assert float(trainer.callback_metrics["val/loss/ema"]) == pytest.approx(expected, rel=1e-5)


def test_a_validation_loss_that_is_not_finite_is_an_error():
    module = digits_module()
    module._trainer = SimpleNamespace(global_step=7, global_rank=0, strategy=None, state=SimpleNamespace(fn="validate"))
    module.on_validation_epoch_start()
    module.loss = Written(lambda model, x, generator: torch.tensor([1.0, float("nan")]))
    with pytest.raises(NonFinite, match="validation loss.*not finite.*step 7.*rank 0"):
        module.validation_step({"x": torch.zeros(2), "index": torch.tensor([0, 1])}, 0)


def test_what_is_recorded_is_the_mean_over_micro_batches_and_the_norm_before_clipping(tmp_path):
    watch, rows, module = Watch(), [], digits_module()
    module.record = lambda values, step: rows.append(values)
    fit(module, tmp_path, watch, max_steps=2, accumulate_grad_batches=2, gradient_clip_val=1e-3, limit_val_batches=0)
    pairs = [sum(watch.losses[i : i + 2]) for i in (0, 2)]  # Lightning halves each for the accumulation
    assert [row["train/loss"] for row in rows] == pytest.approx(pairs, rel=1e-5)
    assert all(row["train/gradient_norm"] > 1e-2 for row in rows)
