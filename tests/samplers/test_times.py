"""Times without noise are refused, and discrete processes are entered with the coefficients of their own steps."""

import math

import pytest
import torch

from lightning_gen.models import ScoreNetwork
from lightning_gen.process import VE, VP, DiscreteVP, SubVP, cosine_betas, linear_betas
from lightning_gen.samplers import (
    DDIM,
    AnnealedLangevin,
    EDMHeun,
    EulerMaruyama,
    Langevin,
    ProbabilityFlow,
)

F64 = {"dtype": torch.float64}


@pytest.mark.parametrize("betas", [linear_betas(1000), cosine_betas(50)])
def test_euler_maruyama_takes_the_beta_of_the_step_that_it_undoes(betas):
    """From k to k - 1 with f = log(1 - beta_k) / 2 and g^2 = -log(1 - beta_k) per step; beta_{k+1} would be one off."""
    *plan, _ = EulerMaruyama(len(betas)).transitions(DiscreteVP(betas))
    assert len(plan) == len(betas) - 1
    for step in plan:
        rate = -math.log1p(-betas[round(len(betas) * step.t) - 1])
        assert step.coefficients == pytest.approx((1 + rate / 2, rate, math.sqrt(rate)), rel=1e-9)


@pytest.mark.parametrize("process", [VP, SubVP, lambda: VE(start="zero")])
@pytest.mark.parametrize("spacing", ["trailing", "karras", "log_snr"])
def test_a_last_time_without_noise_is_refused(process, spacing):
    with pytest.raises(ValueError, match="t_end.*0.0.*null"):
        DDIM(5, spacing=spacing, t_end=0.0).transitions(process())


@pytest.mark.parametrize("spacing", ["trailing", "karras", "log_snr"])
def test_t_end_is_the_last_time_with_noise(spacing):
    for process, t_end in ((VP(), 1e-3), (VE(start="zero"), 1e-5), (VE(), 0.0)):
        for sampler in (DDIM(6, spacing=spacing, t_end=t_end), ProbabilityFlow(6, "euler", spacing, t_end)):
            assert [sampler.transitions(process)[i].t for i in (0, -1)] == [1, t_end]
        kept = ProbabilityFlow(6, "euler", spacing, t_end, denoise=False).transitions(process)
        assert len(kept) == 5 and kept[-1].s == t_end


@pytest.mark.parametrize("process", [lambda: DiscreteVP(linear_betas(1000)), lambda: DiscreteVP(cosine_betas(200))])
def test_churn_on_a_chain_raises_the_noise_to_a_level_that_the_chain_has(process):
    """The level is rounded to a time k / T, and the noise added is what lies between: not the unrounded amount."""
    process, n = process(), 12
    level = {k: float(process.snr(torch.tensor(k / process.steps, **F64))) ** -0.5 for k in range(1, process.steps + 1)}
    quiet = EDMHeun(n).transitions(process)
    raised = 0
    for step, before in zip(EDMHeun(n, 3.0, s_max=20.0, s_noise=1.5).transitions(process), quiet, strict=True):
        alpha, now, _, _, keep, noise = step.coefficients
        k = round(process.steps * step.t)
        assert process.steps * step.t == pytest.approx(k, abs=1e-9) and now == pytest.approx(level[k], rel=1e-6)
        added = (now**2 - before.coefficients[1] ** 2) ** 0.5
        assert noise == pytest.approx(1.5 * alpha * added, rel=1e-6)
        assert keep == pytest.approx(alpha / before.coefficients[0])
        raised += k > round(process.steps * before.t)
    assert raised >= 3, "of the levels below s_max"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: AnnealedLangevin(1).transitions(VE()), "technique4.*one level"),
        (lambda: EulerMaruyama(None), "EulerMaruyama.*steps.*None"),
    ],
)
def test_what_would_give_no_number_gives_a_sentence(call, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        call()


def test_langevin_with_noise_at_its_time_is_not_refused():
    for process, t in ((VP(), 1e-3), (VE(0.5, 0.5), 0.0)):
        Langevin(t=t, denoise=True).check(ScoreNetwork(torch.nn.Identity(), process))
