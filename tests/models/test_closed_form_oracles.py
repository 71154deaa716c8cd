"""What closed forms say of estimators that do without Z: NCE, score matching, kernel densities; and refusals."""

import numpy as np
import pytest
import torch

from lightning_gen.likelihood.kde import kernel_density
from lightning_gen.losses import NCE, ExactScoreMatching, NegativeLogLikelihood
from lightning_gen.models import Energy, Exponential, Gaussian, SmoothEnergy
from lightning_gen.process import Clean
from lightning_gen.samplers import MALA, Exact, Langevin
from tests.losses.test_nce import fitted
from tests.models.test_closed_form import F64, draws, law, minimised, values


class WithConstant(Energy):
    """-log p + c, all parameters and c in one vector theta."""

    def __init__(self, model):
        super().__init__()
        self.support, self.of = model.support, [model]
        self.theta = torch.nn.Parameter(torch.cat([torch.zeros(2), torch.ones(1)]).double())

    def energy(self, x):
        return self.theta[-1] - values(self.of[0], self.theta[:-1], x)


@pytest.mark.parametrize("model", [Gaussian([0.5], [1.5]), Exponential([0.6, 1.5])], ids=["gaussian", "exponential"])
def test_nce_finds_the_parameters_and_that_log_z_is_zero(model):
    """c becomes log Z of the density, and so 0: of the noise on the half line what lies outside has p = 0."""
    model = model.double()
    truth = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    d = len(next(model.parameters()))
    x, loss = model.draw((1000, d), torch.Generator().manual_seed(1)), NCE(2.5, mean=0.5)
    wrapped = WithConstant(model)
    loss.check(wrapped)
    theta, errors = fitted(wrapped, "theta", loss, x)
    assert ((theta - torch.cat([truth, torch.zeros(1)])).abs() <= 4 * errors).all()
    assert errors.max() < 0.3


def test_exact_score_matching_finds_mean_and_deviation_of_the_sample():
    """Hyvarinen (2005), section 3.1: of a Gaussian the estimator is that of the likelihood."""
    x = draws("gaussian", 2000)
    model = minimised(law("gaussian"), ExactScoreMatching(), x)
    torch.testing.assert_close(model.mean.detach(), x.mean(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(model.log_deviation.detach().exp(), x.std(0, correction=0), rtol=1e-6, atol=0)


class OnAllNumbers(SmoothEnergy):
    """An exponential density whose support is said to be all real numbers."""

    def __init__(self, model):
        super().__init__(Clean())
        self.model = model

    def energy(self, x):
        return self.model.energy(x)


def test_on_the_half_line_score_matching_lacks_a_boundary_term_and_is_refused():
    """Integration by parts leaves p(0) s(0) there: without it the loss is rate^2 / 2, least at 0 for any data."""
    truth = 1.7
    x = Exponential([truth]).double().draw((1000, 1), torch.Generator().manual_seed(0))
    with pytest.raises(
        TypeError, match="ExactScoreMatching needs a score over real numbers.*Exponential.*from 0 to inf"
    ):
        ExactScoreMatching().check(Exponential([1.0]))
    rates = torch.linspace(0.1, 4.0, 40, **F64).tolist()
    wrong = [
        float(ExactScoreMatching()(OnAllNumbers(Exponential([r]).double()), x, None).mean().detach()) for r in rates
    ]
    np.testing.assert_allclose(wrong, [r**2 / 2 for r in rates], rtol=1e-6)
    assert np.argmin(wrong) == 0
    right = [loss + truth * -r for loss, r in zip(wrong, rates, strict=True)]  # p(0) = truth, s = -rate
    assert rates[np.argmin(right)] == pytest.approx(truth, abs=0.06)


@pytest.mark.parametrize("name", ["exponential", "gamma", "beta", "dirichlet", "poisson"])
def test_what_needs_all_real_numbers_is_refused_in_one_sentence(name):
    for sampler in (MALA(1, 0.1), Langevin(1, 0.1)):
        with pytest.raises(TypeError, match="over real numbers.*choose Exact") as refusal:
            sampler.check(law(name))
        assert "\n" not in str(refusal.value)
    NegativeLogLikelihood().check(law(name))
    Exact().check(law(name))


@pytest.mark.parametrize("name", ["dirichlet", "poisson"])
def test_gaussian_noise_has_no_density_to_contrast_shares_or_counts_with(name):
    with pytest.raises(TypeError, match="loss NCE needs"):
        NCE(1.0).check(law(name))


def test_a_kernel_density_is_below_the_true_one_and_comes_near():
    """E_p log q <= E_p log p for any density q, and the gap closes as the samples grow."""
    model = law("gaussian")
    points = draws("gaussian", 3000, seed=1)
    exact = model.log_prob(points).detach().numpy()
    gaps = [exact - kernel_density(draws("gaussian", n).numpy(), points.numpy()).nats for n in (50, 200, 800)]
    means = [float(gap.mean()) for gap in gaps]
    assert means[0] > 1.5 * means[1] > 1.5**2 * means[2] > 0
    assert means[2] > 4 * gaps[2].std() / len(points) ** 0.5 and means[2] < 0.05
