"""Adversarial losses against closed forms: divergences at the optimal critic, gradients by hand, penalties."""

import math

import pytest
import torch
import torch.nn.functional as F

from lightning_gen.losses import (
    FDivergence,
    GradientPenalty,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Relativistic,
    Wasserstein,
    ZeroCentred,
)
from lightning_gen.losses.adversarial import DIVERGENCES

F64 = {"dtype": torch.float64}
MP, SP, MQ, SQ = 0.3, 0.8, -0.4, 1.1  # p = N(.3, .8^2), q = N(-.4, 1.1^2)
X = torch.linspace(-14, 14, 40_001, **F64)
P, Q = torch.distributions.Normal(MP, SP), torch.distributions.Normal(MQ, SQ)
LOG_RATIO = P.log_prob(X) - Q.log_prob(X)


def mean(law, values):
    """E values(x) under a law, by quadrature on X."""
    return torch.trapezoid(law.log_prob(X).exp() * values, X)


def kl(m, s, n, r):
    """KL(N(m, s^2) || N(n, r^2)), nats."""
    return math.log(r / s) + (s**2 + (m - n) ** 2) / (2 * r**2) - 0.5


def chi_squared():
    """int p^2 / q - 1 of the two Gaussians."""
    a = 2 / SP**2 - 1 / SQ**2
    b = 2 * MP / SP**2 - MQ / SQ**2
    c = 2 * MP**2 / SP**2 - MQ**2 / SQ**2
    return SQ / SP**2 / math.sqrt(a) * math.exp((b**2 / a - c) / 2) - 1


def jensen_shannon():
    """JS(p, q), nats, by quadrature."""
    middle = torch.logaddexp(P.log_prob(X), Q.log_prob(X)) - math.log(2)
    return float(mean(P, P.log_prob(X) - middle) + mean(Q, Q.log_prob(X) - middle)) / 2


OVERLAP = math.sqrt(2 * SP * SQ / (SP**2 + SQ**2)) * math.exp(-((MP - MQ) ** 2) / (4 * (SP**2 + SQ**2)))
KNOWN = {  # D_f, and the critic's value v at T* = f'(p/q), of log(p/q)
    "kl": (kl(MP, SP, MQ, SQ), lambda r: 1 + r),
    "reverse_kl": (kl(MQ, SQ, MP, SP), lambda r: r),
    "pearson": (chi_squared(), lambda r: 2 * (r.exp() - 1)),
    "squared_hellinger": (2 - 2 * OVERLAP, lambda r: r / 2),
    "jensen_shannon": (2 * jensen_shannon(), lambda r: r),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_optimal_critic_gives_the_divergence(name):
    divergence, best = KNOWN[name]
    loss, v = FDivergence(name), best(LOG_RATIO)

    def value(v):
        """The bound, as mean of the critic's loss over both laws."""
        zero = torch.zeros_like(v)
        data = loss.critic(v, zero) - loss.critic(zero, zero)
        samples = loss.critic(zero, v)
        return -float(mean(P, data) + mean(Q, samples))

    assert value(v) == pytest.approx(divergence, abs=1e-6)
    for other in (v + 0.1, 0.9 * v, v - 0.1 * X.tanh()):
        assert value(other) < divergence - 1e-5, "any other critic bounds it from below"


@pytest.mark.parametrize("name", KNOWN)
def test_a_row_is_a_conjugate_pair_and_its_activation_reaches_the_derivative(name):
    """f*(f'(u)) = u f'(u) - f(u), T* = g(v*), and f*(g(v)) is written out without rounding."""
    row, u = DIVERGENCES[name], torch.linspace(0.05, 6, 50, **F64).requires_grad_()
    f = row.f(u)
    (slope,) = torch.autograd.grad(f.sum(), u)
    u, f = u.detach(), f.detach()
    torch.testing.assert_close(row.conjugate(slope), u * slope - f)
    torch.testing.assert_close(row.activation(KNOWN[name][1](u.log())), slope)
    v = torch.linspace(-3, 3, 13, **F64)
    torch.testing.assert_close(row.composed(v), row.conjugate(row.activation(v)))
    assert float(row.f(torch.ones((), **F64))) == pytest.approx(0, abs=1e-12)


def test_the_minimax_game_has_goodfellows_value():
    """D* = p / (p + q) gives 2 JS - log 4, and it is the critic's optimum."""
    loss, zero = Minimax(), torch.zeros_like(X)
    v = LOG_RATIO
    torch.testing.assert_close(v.sigmoid(), (P.log_prob(X) - torch.logaddexp(P.log_prob(X), Q.log_prob(X))).exp())

    def value(v):
        data, samples = loss.critic(v, zero) - math.log(2), loss.critic(zero, v) - math.log(2)
        return -float(mean(P, data) + mean(Q, samples))

    assert value(v) == pytest.approx(
        2 * jensen_shannon() - math.log(4), abs=1e-8
    )  # torch's softplus is linear beyond 20
    assert value(1.1 * v) < value(v) > value(v + 0.1)


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def composed_slope(name, t, v):
    """d f*(g(v)) / dv, by hand."""
    slopes = {"kl": math.exp(v - 1), "reverse_kl": 1.0, "pearson": v / 2 + 1}
    slopes |= {"squared_hellinger": math.exp(v), "jensen_shannon": sigmoid(v)}
    plain = {"kl": 1.0, "reverse_kl": math.exp(-v), "pearson": 1.0}
    plain |= {"squared_hellinger": math.exp(-v), "jensen_shannon": sigmoid(-v)}
    return -slopes[name] if t else -plain[name]


BY_HAND = {
    "minimax": (Minimax(), lambda r, v: -sigmoid(v)),
    "non-saturating": (NonSaturating(), lambda r, v: -sigmoid(-v)),
    "wasserstein": (Wasserstein(), lambda r, v: -1.0),
    "hinge": (Hinge(), lambda r, v: -1.0),
    "least squares": (LeastSquares(), lambda r, v: v - 1),
    "relativistic": (Relativistic(), lambda r, v: -sigmoid(r - v)),
    **{
        f"{name}, saturating {t}": (FDivergence(name, t), lambda r, v, name=name, t=t: composed_slope(name, t, v))
        for name in DIVERGENCES
        for t in (True, False)
    },
}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_generators_gradient_is_the_one_by_hand(name):
    loss, slope = BY_HAND[name]
    real, fake = torch.tensor([0.7, -1.3, 0.2], **F64), torch.tensor([-0.4, 0.9, 1.7], **F64).requires_grad_()
    loss.generator(real, fake).sum().backward()
    expected = torch.tensor([slope(r, v) for r, v in zip(real.tolist(), fake.tolist(), strict=True)], **F64)
    torch.testing.assert_close(fake.grad, expected)


@pytest.mark.parametrize("name", BY_HAND)
def test_the_critic_raises_real_values_and_lowers_generated_ones(name):
    loss = BY_HAND[name][0]
    real, fake = (torch.tensor([0.1, 0.3], **F64).requires_grad_() for _ in range(2))
    loss.critic(real, fake).sum().backward()
    assert (real.grad < 0).all() and (fake.grad > 0).all()


def test_the_critics_losses_are_the_papers():
    real, fake = torch.tensor([0.5, -2.0], **F64), torch.tensor([-3.0, 0.25], **F64)
    torch.testing.assert_close(Hinge().critic(real, fake), torch.tensor([0.5, 4.25], **F64))
    torch.testing.assert_close(LeastSquares().critic(real, fake), torch.tensor([4.625, 4.53125], **F64))
    torch.testing.assert_close(Wasserstein().critic(real, fake), fake - real)
    torch.testing.assert_close(Relativistic().critic(real, fake), (1 + (fake - real).exp()).log())


def test_r1_and_r2_of_a_linear_critic_are_its_weights_square():
    """D(x) = w x: r1 / 2 ||w||^2 + r2 / 2 ||w||^2, with gradient (r1 + r2) w."""
    w = torch.tensor([0.6, -1.2, 0.3], **F64).requires_grad_()
    real, fake = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), **F64)
    for r1, r2 in ((2.0, 0.0), (0.0, 3.0), (0.5, 1.5)):
        values = ZeroCentred(r1, r2)(lambda x: x @ w, real, fake, torch.Generator())
        torch.testing.assert_close(values, ((r1 + r2) / 2 * w.detach().square().sum()).expand(5))
        (gradient,) = torch.autograd.grad(values.mean(), w)
        torch.testing.assert_close(gradient, (r1 + r2) * w.detach())


def test_r1_is_taken_at_the_data_and_r2_at_the_samples():
    """D(x) = ||x||^2 / 2 has the slope x."""
    real, fake = torch.randn(2, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0), **F64)

    def critic(x):
        return x.flatten(1).square().sum(1) / 2

    values = ZeroCentred(2.0, 4.0)(critic, real, fake, torch.Generator())
    torch.testing.assert_close(values, real.flatten(1).square().sum(1) + 2 * fake.flatten(1).square().sum(1))
    assert torch.equal(ZeroCentred(0.0)(critic, real, fake, torch.Generator()), torch.zeros(4, **F64))


def test_the_gradient_penalty_wants_a_slope_of_one_on_the_segments():
    real, fake = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0), **F64)
    w, g = torch.tensor([1.0, 2.0, 2.0], **F64), torch.Generator().manual_seed(1)
    values = GradientPenalty(7.0)(lambda x: x @ w, real, fake, g)
    torch.testing.assert_close(values, torch.full((6,), 7.0 * (3 - 1) ** 2, **F64))
    u = torch.rand(6, 1, generator=torch.Generator().manual_seed(1), **F64)
    between = u * real + (1 - u) * fake
    values = GradientPenalty(7.0)(lambda x: x.square().sum(1) / 2, real, fake, torch.Generator().manual_seed(1))
    torch.testing.assert_close(values, 7.0 * (between.norm(dim=1) - 1) ** 2)


@pytest.mark.parametrize("weight", [1.0, 10.0, 1000.0])
def test_the_penalised_critic_of_two_points_has_the_known_optimum(weight):
    """Points at distance d: the best slope is 1 + d / (2 weight), so that the critic says d (1 + d / (2 weight))."""
    d = 1.5
    real, fake = torch.full((64, 1), d, **F64), torch.zeros(64, 1, **F64)
    knots = torch.linspace(0, d, 9, **F64)
    slopes = torch.zeros(8, **F64, requires_grad=True)

    def critic(x):
        """Piecewise linear with these slopes."""
        parts = (x.clamp(max=d) - knots[:-1]).clamp(min=0).minimum(knots[1:] - knots[:-1])
        return (parts * slopes).sum(1)

    penalty, g = GradientPenalty(weight), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam([slopes], 0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    for _ in range(500):
        optimizer.zero_grad()
        value = Wasserstein().critic(critic(real), critic(fake)) + penalty(critic, real, fake, g)
        value.mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        gap = float((critic(real) - critic(fake)).mean())
    assert gap == pytest.approx(d * (1 + d / (2 * weight)), rel=0.02)
    if weight == 1000.0:
        assert gap == pytest.approx(d, rel=0.02)


def test_values_far_from_zero_stay_finite():
    v = torch.tensor([-80.0, 80.0])
    for name in ("reverse_kl", "jensen_shannon"):
        assert torch.isfinite(FDivergence(name).critic(v.clamp(min=-30), v)).all()
    for loss in (Minimax(), NonSaturating(), Relativistic()):
        assert torch.isfinite(loss.critic(v, -v)).all() and torch.isfinite(loss.generator(v, -v)).all()
    torch.testing.assert_close(F.softplus(v[1]), v[1])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: FDivergence("kullback"), "divergence.*kullback.*reverse_kl"),
        (lambda: GradientPenalty(-1.0), "weight.*-1.0"),
        (lambda: ZeroCentred(r2=-1.0), "r2.*-1.0"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
