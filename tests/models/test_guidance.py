"""Classifier-free guidance against a mixture of Gaussians whose every class has a known score."""

import pytest
import torch

from lightning_gen.models import Guided, Scored, capabilities
from lightning_gen.process import VE, VP, DiscreteVP, expand, linear_betas
from lightning_gen.samplers import DDIM
from tests.gaussian import QUANTITIES

K = 3  # classes; the label K stands for none
MEANS = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [0.5, -2.0]], dtype=torch.float64)
SHARES = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
SPREADS = torch.tensor([0.3, 0.6, 1.0], dtype=torch.float64)


class Mixture(Scored):
    """p(x) = sum_k share_k N(mean_k, spread_k^2 I), or one class of it; counts how often it is called."""

    def __init__(self, process):
        super().__init__(process)
        self.calls = []

    def log_density(self, x, t, label):
        """log p_t(x | label) up to one constant, (B,); of all classes where the label is K."""
        alpha, variance = self.process.alpha(t), self.process.variance(t)
        total = alpha[:, None] ** 2 * SPREADS**2 + variance[:, None]
        squares = (x[:, None] - alpha[:, None, None] * MEANS).square().sum(-1)
        classes = -0.5 * squares / total - total.log()  # d = 2: -d / 2 log total
        return torch.where(
            label == K,
            torch.logsumexp(classes + SHARES.log(), 1),
            classes.gather(1, label.clamp(max=K - 1)[:, None])[:, 0],
        )

    def score(self, x, t):
        self.calls.append(self.label)
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            return torch.autograd.grad(self.log_density(point, t, self.label).sum(), point)[0]

    def log_prior(self, x):
        return x.flatten(1).sum(1)

    def prior(self, shape, generator=None):
        return torch.full(shape, 7.0)


@pytest.fixture(params=[VP, VE, lambda: DiscreteVP(linear_betas(10))], ids=["vp", "ve", "discrete"])
def mixture(request):
    return Mixture(request.param())


def batch(n=6):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(n, 2, generator=g, dtype=torch.float64)
    return x, torch.linspace(0.1, 1, n, dtype=torch.float64), torch.arange(n) % K


@pytest.mark.parametrize("reading", ["score", "noise", "denoise"])
def test_at_the_ends_it_is_one_model_called_once_bit_for_bit(mixture, reading):
    x, t, label = batch()
    for scale, same in ((1, label), (0, torch.full_like(label, K))):
        guided = Guided(mixture, label, scale, K)
        expected = QUANTITIES[reading](mixture.with_label(same), x, t)
        mixture.calls.clear()
        assert torch.equal(QUANTITIES[reading](guided, x, t), expected)
        assert len(mixture.calls) == guided.evaluations == 1
    assert torch.equal(
        QUANTITIES[reading](Guided(mixture, label), x, t), QUANTITIES[reading](mixture.with_label(label), x, t)
    )


@pytest.mark.parametrize("scale", [0.4, 2.0, 7.5])
def test_scores_mix_as_the_papers_w_says(mixture, scale):
    """(1 + w) conditional - w unconditional, w = scale - 1, in every reading; each sample by its own label."""
    x, t, label = batch()
    guided, w = Guided(mixture, label, scale, K), scale - 1
    none = torch.full_like(label, K)
    for reading in ("score", "noise", "denoise"):
        conditional, free = (QUANTITIES[reading](mixture.with_label(known), x, t) for known in (label, none))
        mixed = QUANTITIES[reading](guided, x, t)
        torch.testing.assert_close(mixed, (1 + w) * conditional - w * free, rtol=1e-12, atol=1e-12)
    mixture.calls.clear()
    guided.score(x, t)
    assert len(mixture.calls) == guided.evaluations == 2


def test_it_is_the_score_of_the_sharpened_density(mixture, scale=3.0):
    """grad [log p(x) + scale (log p(x | label) - log p(x))], by differences."""
    x, t, label = batch()

    def sharpened(x):
        free, conditional = (mixture.log_density(x, t, y) for y in (torch.full_like(label, K), label))
        return free + scale * (conditional - free)

    h = 1e-5
    slopes = [(sharpened(x + h * e) - sharpened(x - h * e)) / (2 * h) for e in torch.eye(2).double()]
    score = Guided(mixture, label, scale, K).score(x, t)
    torch.testing.assert_close(score, torch.stack(slopes, 1), rtol=1e-6, atol=1e-6)


def test_readings_agree_by_tweedie(mixture):
    x, t, label = batch()
    guided = Guided(mixture, label, 2.5, K)
    alpha, sigma = expand(mixture.process.alpha(t), x), expand(mixture.process.sigma(t), x)
    torch.testing.assert_close(guided.noise(x, t), -sigma * guided.score(x, t), rtol=1e-9, atol=1e-9)
    clean = (x - sigma * guided.noise(x, t)) / alpha
    torch.testing.assert_close(guided.denoise(x, t), clean, rtol=1e-9, atol=1e-9)


def test_it_passes_for_the_model_and_takes_other_labels(mixture):
    x, t, label = batch()
    guided = Guided(mixture, label, 2.0, K)
    assert Scored in capabilities(guided) and guided.process is mixture.process
    assert torch.equal(guided.prior((2, 2)), mixture.prior((2, 2)))
    assert torch.equal(guided.log_prior(x), mixture.log_prior(x))
    other = guided.with_label(label.flip(0))
    assert torch.equal(other.score(x, t), Guided(mixture, label.flip(0), 2.0, K).score(x, t))
    assert not torch.equal(other.score(x, t), guided.score(x, t))
    assert mixture.label is None


def test_guided_samples_lie_deeper_in_their_class():
    """A larger scale raises p(label | x) of the samples, class by class."""
    mixture, n = Mixture(VP()), 300
    label = torch.arange(n) % K
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    belief = []
    for scale in (0.0, 1.0, 3.0):
        x = DDIM(steps=20)(Guided(mixture, label, scale, K), noise, torch.Generator().manual_seed(0))
        t = torch.zeros(n, dtype=torch.float64)
        ratio = mixture.log_density(x, t, label) - mixture.log_density(x, t, torch.full_like(label, K))
        belief.append((ratio.exp() * SHARES[label]).reshape(-1, K).mean(0))
    assert (belief[1] > belief[0]).all() and (belief[2] > belief[1]).all()


@pytest.mark.parametrize(("scale", "null"), [(-1.0, K), (float("nan"), K), (2.0, None), (0.0, None)])
def test_what_cannot_be_is_refused(scale, null):
    with pytest.raises(ValueError, match="scale"):
        Guided(Mixture(VP()), torch.zeros(1, dtype=torch.int64), scale, null)
