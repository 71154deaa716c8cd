"""Predictor-corrector: where the corrections stand, and the law that they leave. The step itself is in test_mcmc.py."""

import math

import pytest
import torch

from lightning_gen.process import VE, VP, SubVP
from lightning_gen.samplers import DDIM, RK45, Ancestral, DPMSolver, EulerMaruyama, PredictorCorrector
from lightning_gen.samplers.base import with_readings
from lightning_gen.samplers.sde import Correction
from tests.gaussian import Gaussian, example

F64 = {"dtype": torch.float64}


def corrections(sampler, process):
    return [step for step in sampler.plan(Gaussian(process, *example()), (1, 2)) if isinstance(step, Correction)]


@pytest.mark.parametrize("process", [VP, SubVP, VE])
def test_the_factor_is_alphas_fall_to_the_next_time(process):
    process = process()
    steps = corrections(PredictorCorrector(Ancestral(steps=10)), process)
    assert len(steps) == 9
    times = torch.tensor([*(step.t for step in steps), 0.0], **F64)
    expected = (process.alpha(times[:-1]) / process.alpha(times[1:])).square().tolist()
    assert [step.coefficients[0] for step in steps] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("predictor", [Ancestral(steps=6), DDIM(6), DPMSolver(6), EulerMaruyama(6)])
def test_every_step_but_the_last_is_corrected_where_it_ends(predictor, number):
    """The last one ends without noise; Euler-Maruyama's last is Tweedie's, so that t_end is corrected too."""
    model = Gaussian(VP(), *example())
    plan, alone = (sampler.plan(model, (1, 2)) for sampler in (PredictorCorrector(predictor, number), predictor))
    assert len(plan) == 6 + 5 * number
    for i, step in enumerate(alone[:-1]):
        mine, *after = plan[i * (number + 1) : (i + 1) * (number + 1)]
        assert mine == step
        assert all(isinstance(c, Correction) and c.t == c.s == step.s > 0 for c in after)
    assert plan[-1] == alone[-1] and type(plan[-1]) is type(alone[-1])


def test_corrections_alone_leave_the_noised_density_but_for_their_known_bias():
    """On N(0, v) in one dimension the variance V has V = v / (1 - eta / 2v), as ULA's, so that V = v (1 + snr^2).

    For mean ||z|| / mean ||s|| is v / sqrt V. Norms of each sample's own would make eta large where s is small.
    """
    n, snr, process = 20_000, 0.5, VE(0.1, 5.0)
    model = Gaussian(process, torch.zeros(1), torch.ones(1, 1))
    v, g = 1 + float(process.variance(torch.tensor(0.5, **F64))), torch.Generator().manual_seed(0)
    sampler, x = PredictorCorrector(DDIM(4), 1, snr), v**0.5 * torch.randn(n, 1, generator=g, **F64)
    (step,) = with_readings(model, [Correction(0.5, 0.5, (1.0,))])
    for _ in range(40):
        x, _ = sampler.step(model, x, step, None, g)
    assert abs(float(x.square().mean()) / (v * (1 + snr**2)) - 1) * math.sqrt(n / 2) <= 4
    assert abs(float(x.square().mean()) / v - 1) * math.sqrt(n / 2) > 20


def variance(sampler, model, v):
    """V / v of the end of chains on N(0, v): each step is linear in x, and mean ||z|| / mean ||s|| is v_t / sqrt V."""
    found, snr = model.process.prior_sigma**2, getattr(sampler, "snr", None)
    for step in sampler.plan(model, (1, 1)):
        t = torch.tensor(step.t, **F64)
        alpha = float(model.process.alpha(t))
        noised = alpha**2 * v + float(model.process.variance(t))
        if isinstance(step, Correction):
            eta = 2 * step.coefficients[0] * (snr * noised) ** 2 / found
            found = (1 - eta / noised) ** 2 * found + 2 * eta
        else:
            keep, pull, noise = step.coefficients
            found = (keep + pull * alpha * v / noised) ** 2 * found + noise**2
    return found / v


def test_chains_are_too_narrow_by_the_predictor_and_too_wide_by_the_corrections():
    """Neither is a fault: the first bias goes with 1 / steps, the second, snr^2, stays however many steps there are.

    The "small" variance is that of data at one point (Ho et al., 2020, section 3.2), and so loses some at each step: at
    150 steps of the VP 7.6 %, with corrections at snr 0.05 6.7 %, at 0.16 0.8 %; at 600 steps 2.1 %, with corrections
    at 0.05 1.3 %. At 0.16 it is then 2.2 % too large, and at 0.3 7.8 % after 150 steps and 8.9 % after 600.
    """
    v, n = 0.3633, 20_000
    model = Gaussian(VP(), torch.zeros(1), v * torch.ones(1, 1))
    for steps, expected in ((150, (0.924, 0.933, 0.992, 1.078)), (600, (0.979, 0.987, 1.022, 1.089))):
        predictor = Ancestral("small", steps)
        corrected = [PredictorCorrector(predictor, 1, snr) for snr in (0.05, 0.16, 0.3)]
        found = [variance(sampler, model, v) for sampler in (predictor, *corrected)]
        assert found == pytest.approx(expected, abs=1e-3)
    for sampler in (Ancestral("small", 60), PredictorCorrector(Ancestral("small", 60), 1, 0.3)):
        g = torch.Generator().manual_seed(0)
        x = sampler(model, sampler.start(model, (n, 1), g).double(), g)
        assert abs(float(x.square().mean()) / v / variance(sampler, model, v) - 1) * math.sqrt(n / 2) <= 4


def test_a_multistep_predictors_memory_passes_the_corrections():
    """A tiny snr corrects nothing: the path between is the predictor's own."""
    model = Gaussian(VP(), *example())
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), **F64)
    path = PredictorCorrector(DPMSolver(8), 1, 1e-9).trajectory(model, x, torch.Generator().manual_seed(1))
    expected = list(DPMSolver(8).trajectory(model, x))
    torch.testing.assert_close(torch.stack(list(path)[::2]), torch.stack(expected[:8]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: PredictorCorrector(RK45()), TypeError, "predictor.*RK45"),
        (
            lambda: PredictorCorrector(PredictorCorrector(DDIM(5))),
            TypeError,
            "predictor.*PredictorCorrector",
        ),
        (lambda: PredictorCorrector(DDIM(5), 0), ValueError, "corrections.*0"),
        (lambda: PredictorCorrector(DDIM(5), 1, 0.0), ValueError, "snr.*0.0"),
    ],
)
def test_what_cannot_be_corrected_is_refused(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()
