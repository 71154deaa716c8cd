"""The family of flow matching: its recipe, reflow by a frozen teacher, and refusals before any work."""

from functools import partial

import pytest
import torch

import run as entry
from lightning_gen.families import FlowMatching
from lightning_gen.nets import MLP
from lightning_gen.samplers import FlowODE

ADAM = partial(torch.optim.Adam, lr=1e-3)
WORDS = ["experiment=flow_matching_rings", "net.width=16", "net.depth=1", "data.n=64", "data.val_size=8"]
WORDS += ["data.test_size=32", "data.batch_size=16", "trainer.max_steps=4", "sampler.steps=2", "quality=none"]
WORDS += [
    "callbacks.pictures=null",
    "callbacks.curves=null",
    "callbacks.likelihood=null",
    "callbacks.straightness=null",
    "logger=none",
]


def module(**options):
    torch.manual_seed(0)
    classes = options.get("classes")
    net = MLP((2,), 16, 1, classes=None if classes is None else classes + 1)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return FlowMatching(net, ADAM, sampler=FlowODE(3), shape=(2,), **options)


def seeded():
    return torch.Generator().manual_seed(4)


@pytest.mark.parametrize("classes", [None, 3])
def test_reflow_trains_on_the_teachers_pairs(classes):
    """||u(x_t, t) - (z - ODE(z))||^2 at t and z of the noise, x_t between the two; the data give labels alone."""
    student, batch = module(reflow=5, classes=classes, ema_decay=None), {"x": torch.full((6, 2), torch.nan)}
    torch.nn.init.normal_(student.model.net.last.bias)  # the student moves, its teacher does not
    teacher, model = student.teacher, student.model
    if classes is not None:
        batch["label"] = torch.arange(6) % 3
        teacher, model = teacher.with_label(batch["label"]), model.with_label(batch["label"])
    g = seeded()
    t = 1e-5 + (1 - 1e-5) * torch.rand(6, generator=g)
    z = torch.randn(6, 2, generator=g)
    with torch.no_grad():
        x = FlowODE(5, "heun")(teacher, z)
    expected = (model.velocity((1 - t[:, None]) * x + t[:, None] * z, t) - (z - x)).square().mean(1)
    torch.testing.assert_close(student.objective(model, batch, seeded(), 0), expected, rtol=1e-5, atol=1e-6)


def test_a_teacher_is_not_trained_and_starts_where_the_student_does():
    student = module(reflow=5)
    student.started_from = "a run"
    assert not any(parameter.requires_grad for parameter in student.teacher.parameters())
    trained = {id(parameter) for player in student.players() for parameter in player.parameters}
    assert not trained & {id(parameter) for parameter in student.teacher.parameters()}
    assert student.initial("FlowMatching") == [student.model, student.ema, student.teacher]
    assert module(ema_decay=None).initial("DDPM")[1:] == []
    student.train()
    student.objective(student.model, {"x": torch.zeros(4, 2)}, seeded(), 0)
    assert not student.teacher.training, "its dropout would bend the pairs"


def test_reflow_needs_a_trained_run_or_a_checkpoint():
    student = module(reflow=3)
    with pytest.raises(ValueError, match="reflow is 3.*init"):
        student.players()
    student.resumed = {"model": 2}
    assert len(student.players()) == 1
    assert any(key.startswith("teacher.") for key in student.state_dict()), "a checkpoint holds the teacher"


def test_the_teacher_of_reflow_is_a_velocity():
    class Ours(FlowMatching):
        pass

    with pytest.raises(ValueError, match="reflow is 3 and the run of init is a DDPM, expected a FlowMatching"):
        module(reflow=3).initial("DDPM")
    module(reflow=3).initial("FlowMatching")
    module().initial("DDPM")
    Ours(MLP((2,), 16, 1), ADAM, shape=(2,), reflow=3).initial("FlowMatching")


def test_reflow_of_straight_paths_changes_nothing():
    """A teacher with constant velocity has pairs for which its own loss is zero."""
    student = module(reflow=1)
    for model in (student.model, student.teacher):
        torch.nn.init.zeros_(model.net.last.weight)
        torch.nn.init.constant_(model.net.last.bias, 0.7)
    loss = student.objective(student.model, {"x": torch.zeros(8, 2)}, seeded(), 0)
    torch.testing.assert_close(loss, torch.zeros(8), atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"coupling": "optimal", "reflow": 3}, "coupling is optimal.*reflow 3.*independent"),
        ({"coupling": "optimal", "classes": 3}, "coupling is optimal.*classes 3.*independent"),
        ({"reflow": 0}, "reflow.*0"),
        ({"times": "lognormal"}, "times.*lognormal.*uniform, logit_normal"),
    ],
)
def test_what_cannot_be_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        module(**options)


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_reflow_is_a_command_and_a_resumed_run_keeps_its_teacher(tmp_path, capsys):
    """init= gives the teacher; stopped after 2 steps and resumed, a run equals one of 4 steps bit for bit."""
    first, whole, parts = (tmp_path / name for name in ("first", "whole", "parts"))
    reflow = [*WORDS, f"init={first}", "module.reflow=2"]
    assert entry.main([*WORDS, "module.reflow=2", f"run={tmp_path / 'none'}"]) == 2
    assert "module.reflow is 2 with init null" in capsys.readouterr().err
    assert entry.main([*WORDS, f"run={first}"]) == 0
    other, words = tmp_path / "other", ["experiment=dsm_rings", *WORDS[1:7], "callbacks={}", "logger=none"]
    assert entry.main([*words, "quality=none", f"run={other}"]) == 0
    assert entry.main([*WORDS, f"init={other}", "module.reflow=2", f"run={tmp_path / 'none'}"]) == 2
    assert "the run of init is a ScoreMatching, expected a FlowMatching" in capsys.readouterr().err
    assert entry.main([*reflow, f"run={whole}"]) == 0
    assert entry.main([*reflow, f"run={parts}", "trainer.max_steps=2"]) == 0
    assert entry.main([*reflow, f"run={parts}"]) == 0
    source, one, two = weights(first), weights(whole), weights(parts)
    assert set(one) == set(two) and all(torch.equal(one[key], two[key]) for key in one)
    for key, value in source.items():
        if key.startswith("ema."):
            name = key.removeprefix("ema.")
            assert torch.equal(one[f"teacher.{name}"], value)
            assert name != "net.last.bias" or not torch.equal(one[f"model.{name}"], value)
