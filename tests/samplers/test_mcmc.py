"""Markov chains: their stationary laws, conventions and steps."""

import math

import pytest
import torch

from lightning_gen.models import Scored, SmoothEnergy
from lightning_gen.process import VE, VP, Clean, DiscreteVP, Process, linear_betas
from lightning_gen.samplers import MALA, Ancestral, AnnealedLangevin, Langevin, PredictorCorrector
from lightning_gen.samplers.mcmc import technique4
from tests.energies import DoubleWell, Quadratic
from tests.gaussian import Gaussian, Mixture

F64 = {"dtype": torch.float64}
CHAINS = 20_000


def z_of_variance(x, variance):
    return (float(x.square().mean()) / variance - 1) * math.sqrt(len(x) / 2)


@pytest.mark.parametrize("eta", [0.1, 0.5, 1.0])
def test_the_stationary_variance_is_biased_for_ula_and_right_for_mala(eta):
    """1 / (1 - eta / 2) and 1 on N(0, 1), 20,000 chains started in either law, |z| <= 4."""
    steps, g = round(8 / eta), torch.Generator().manual_seed(0)
    for sampler, variance in ((Langevin(steps, eta), 1 / (1 - eta / 2)), (MALA(steps, eta), 1.0)):
        for start in (1 / (1 - eta / 2), 1.0):
            x = start**0.5 * torch.randn(CHAINS, 1, generator=g, **F64)
            assert abs(z_of_variance(sampler(Quadratic(), x, g), variance)) <= 4


def test_mala_leaves_another_density_as_it_is():
    """Chains of the double well started in its law (by rejection) keep its second moment and its share inside."""
    g = torch.Generator().manual_seed(0)
    proposals = 4 * torch.rand(400_000, 1, generator=g, **F64) - 2
    x = proposals[torch.rand(len(proposals), generator=g, **F64) < (-DoubleWell().energy(proposals)).exp()][:CHAINS]
    moved = MALA(30, 0.1)(DoubleWell(), x, g)
    for moment in (lambda x: x.square(), lambda x: (x.abs() < 0.8).double()):
        a, b = moment(x), moment(moved)
        assert abs(float((a - b).mean())) <= 4 * float((a.var() + b.var()) / len(x)) ** 0.5
    assert not torch.equal(x, moved)


def test_malas_carry_is_its_share_of_accepted_proposals():
    sampler, g, carry = MALA(200, 1.0), torch.Generator().manual_seed(0), None
    x = torch.randn(500, 1, generator=g, **F64)
    moves = torch.zeros(500)
    for transition in sampler.plan(None, (1, 2)):
        before = x
        x, carry = sampler.step(Quadratic(), x, transition, carry, g)
        moves += (x != before).flatten()
    torch.testing.assert_close(carry[2], moves / 200)
    assert 0.7 < float(carry[2].mean()) < 0.99
    torch.testing.assert_close(carry[0], Quadratic().energy(x))
    torch.testing.assert_close(carry[1], -x)


def test_both_conventions_are_one_chain():
    """eps = 2 eta; and a step is written out."""
    x, eta = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), **F64), 0.03
    chains = [
        sampler(Quadratic(), x, torch.Generator().manual_seed(1))
        for sampler in (Langevin(20, eta), Langevin(20, 2 * eta, "epsilon"))
    ]
    assert torch.equal(*chains)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), **F64)
    one = Langevin(1, eta)(Quadratic(), x, torch.Generator().manual_seed(1))
    torch.testing.assert_close(one, x - eta * x + math.sqrt(2 * eta) * z)


def test_langevin_reaches_the_noised_density_and_tweedie_takes_the_noise_out():
    """The notes say that the chain of a score at level sigma has the data's law."""
    data, sigma = 0.5, 0.8
    model = Gaussian(VE(sigma, sigma), torch.zeros(1), torch.full((1, 1), data))
    g = torch.Generator().manual_seed(0)
    x = torch.randn(CHAINS, 1, generator=g, **F64)
    eta = 0.05
    noised = data + sigma**2
    chain = Langevin(300, eta)(model, x, g)
    assert abs(z_of_variance(chain, noised / (1 - eta / noised / 2))) <= 4
    assert abs(z_of_variance(chain, data)) > 20
    clean = Langevin(300, eta, denoise=True)(model, x, torch.Generator().manual_seed(2))
    same = Langevin(300, eta)(model, x, torch.Generator().manual_seed(2))
    torch.testing.assert_close(clean, same * data / noised)


class Zero(Scored):
    """A score of zero leaves the noise of a step alone; of one, its drift."""

    def __init__(self, value):
        super().__init__(VE(0.1, 10.0, levels=3))
        self.value = value

    def score(self, x, t):
        return torch.full_like(x, self.value)


@pytest.mark.parametrize(("rule", "drift", "noise"), [("v1", 0.5, 1), ("v1_code", 1, 2), ("technique4", 1, 2)])
def test_the_papers_step_is_half_of_its_codes(rule, drift, noise):
    """NCSN's algorithm 1: x + (alpha_i / 2) s + sqrt(alpha_i) z, alpha_i = eps sigma_i^2 / sigma_L^2."""
    sampler = AnnealedLangevin(steps_each=2, step_rule=rule, epsilon=1e-3, denoise=False)
    plan = sampler.plan(Zero(0.0), (1, 2))
    assert [step.t for step in plan] == [1, 1, 0.5, 0.5, 0, 0]
    for step, sigma in zip(plan, (10, 10, 1, 1, 0.1, 0.1), strict=True):
        alpha = 1e-3 * (sigma / 0.1) ** 2
        assert step.coefficients == pytest.approx((1, drift * alpha, math.sqrt(noise * alpha)))
    x, g = torch.zeros(2, 1, **F64), torch.Generator().manual_seed(0)
    z = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), **F64)
    moved, _ = sampler.step(Zero(1.0), x, plan[0], None, g)
    torch.testing.assert_close(moved, plan[0].coefficients[1] + plan[0].coefficients[2] * z)


def test_technique_four_finds_the_papers_step():
    """NCSNv2, CIFAR-10: 232 levels from 50 to 0.01, T = 5: epsilon 6.2e-6; and it is where the variance is nearest."""
    ratio = (50 / 0.01) ** (1 / 231)
    assert technique4(0.01, ratio, 5) == pytest.approx(6.2e-6, rel=0.1)

    def left(u):
        variance = ratio**2
        for _ in range(5):  # x <- (1 - u) x + sqrt(2 u) z on N(0, 1)
            variance = (1 - u) ** 2 * variance + 2 * u
        return abs(variance - 1)

    u = technique4(0.01, ratio, 5) / 0.01**2
    assert left(u) <= min(left(1.1 * u), left(0.9 * u))


def test_chains_start_where_the_option_says():
    g = torch.Generator().manual_seed(0)
    model = Zero(0.0)
    uniform = Langevin(start="uniform", spread=3.0).start(model, (CHAINS, 1), g)
    assert uniform.abs().max() <= 3 and float(uniform.std()) == pytest.approx(3 / 3**0.5, rel=0.02)
    assert float(Langevin(spread=2.0).start(model, (CHAINS, 1), g).std()) == pytest.approx(2, rel=0.02)
    assert float(AnnealedLangevin().start(model, (CHAINS, 1), g).std()) == pytest.approx(10, rel=0.02)


def test_mala_accepts_as_often_as_the_integral_says():
    """E[min(1, p(x') q(x | x') / p(x) q(x' | x))] on N(0, 1), by quadrature; 20,000 first proposals, |z| <= 4."""
    eta, grid = 1.2, torch.linspace(-9, 9, 1201, **F64)
    x, y = grid[:, None], grid[None]

    def joint(x, y):  # log of p(x) q(y | x), without constants
        return -x.square() / 2 - (y - (1 - eta) * x).square() / (4 * eta)

    weight = joint(x, y).exp()
    share = float((weight * (joint(y, x) - joint(x, y)).exp().clamp(max=1)).sum() / weight.sum())
    g = torch.Generator().manual_seed(0)
    start, sampler = torch.randn(CHAINS, 1, generator=g, **F64), MALA(1, eta)
    _, carry = sampler.step(Quadratic(), start, sampler.plan(None, (1, 2))[0], None, g)
    assert abs(float(carry[2].mean()) - share) <= 4 * math.sqrt(share * (1 - share) / CHAINS)


class MixtureEnergy(SmoothEnergy):
    """E = -log of the mixture's density at one noise level."""

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self.truth = Mixture(process)

    def energy(self, x):
        return -self.truth.log_density(x, torch.zeros((), **F64))


@pytest.mark.parametrize(("sampler", "n"), [(Langevin(600, 0.02), 3000), (MALA(150, 0.15), 3000)])
def test_chains_reach_a_mixture_from_afar(sampler, n):
    """Noised at sigma = 0.6, the three modes mix: each coordinate by Kolmogorov-Smirnov, and E[x y], |z| <= 4."""
    model, g = MixtureEnergy(VE(0.6, 0.6)), torch.Generator().manual_seed(3)
    truth, spread = model.truth, math.sqrt(0.3**2 + 0.6**2)
    with torch.no_grad():
        x = sampler(model, sampler.start(model, (n, 2), g).double() + 1, g)
    for axis in range(2):
        values = x[:, axis].sort().values
        cdf = (truth.weights * torch.special.ndtr((values[:, None] - truth.means[:, axis]) / spread)).sum(1)
        steps = torch.arange(n + 1, **F64) / n
        assert float(torch.maximum((cdf - steps[:-1]).abs(), (cdf - steps[1:]).abs()).max()) * n**0.5 <= 2.3
    product, pairs = (x[:, 0] * x[:, 1]), truth.means.prod(1)
    assert abs(float(product.mean() - (truth.weights * pairs).sum())) <= 4 * float(product.std()) / n**0.5


class Apart(SmoothEnergy):
    """E = T times -log(0.3 N(-2, 0.1^2) + 0.7 N(5, 0.1^2)), up to a constant: no local chain crosses."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__(Clean())
        self.temperature = temperature

    def energy(self, x):
        modes, log_weights = torch.tensor([-2.0, 5.0], **F64), torch.tensor([0.3, 0.7], **F64).log()
        return -self.temperature * torch.logsumexp(log_weights - 50 * (x - modes).square(), 1)


@pytest.mark.parametrize("options", [{"start": "uniform", "spread": 6.0}, {"start": "normal", "spread": 4.0}])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_chains_that_jump_find_every_mode_with_its_share(options, temperature):
    """All start in the lighter mode; 4,000 chains, |z| <= 4 for the share and both deviations."""
    model, n, g = Apart(temperature), 4000, torch.Generator().manual_seed(0)
    sampler = MALA(400, 5e-3 / temperature, temperature=temperature, jump=0.3, **options)
    x = sampler(model, torch.full((n, 1), -2.0, **F64), g)
    right = x[:, 0] > 0
    assert abs(float(right.double().mean()) - 0.7) <= 4 * (0.21 / n) ** 0.5
    for side, mode in ((right, 5.0), (~right, -2.0)):
        away = (x[side, 0] - mode) / 0.1
        assert abs(float(away.mean())) <= 4 / len(away) ** 0.5
        assert abs(float(away.square().mean()) - 1) <= 4 * (2 / len(away)) ** 0.5
    still = MALA(400, 5e-3 / temperature, temperature=temperature, **options)
    assert not (still(model, torch.full((100, 1), -2.0, **F64), g) > 0).any()


def test_a_chain_outside_of_the_start_never_jumps():
    """Nothing could propose the reverse step."""
    model, g = Quadratic(), torch.Generator().manual_seed(0)
    sampler = MALA(1, 1e-9, start="uniform", spread=0.5, jump=0.999)
    x = torch.full((1000, 1), 2.0, **F64)
    moved, _ = sampler.step(model, x, sampler.plan(None, (1, 2))[0], None, g)
    assert float((moved - x).abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (lambda: DiscreteVP(linear_betas(10, 0.01, 0.3)), lambda k: 1 - linear_betas(10, 0.01, 0.3)[k - 1]),
        (lambda: VE(0.1, 10.0), lambda k: 1.0),
    ],
    ids=["ddpm", "ve"],
)
def test_the_corrector_is_the_authors_step(process, expected):
    """eta = 2 a (snr ||z|| / ||s||)^2 with the batch's mean norms, a = 1 - beta_k or 1; none at the noise-free end."""
    model, sampler = Mixture(process()), PredictorCorrector(Ancestral("small", 10), 2, 0.3)
    plan, x = sampler.plan(model, (1, 2)), torch.randn(6, 2, generator=torch.Generator().manual_seed(1), **F64)
    predictor = sampler.predictor.plan(model, (1, 2))
    assert len(plan) == 10 + 9 * 2 and plan[-1] == predictor[-1]
    assert [step.t for step in plan[1::3]] == [step.s for step in predictor[:-1]] == [step.t for step in plan[2::3]]
    for number, step in enumerate(plan[1::3]):
        z = torch.randn(x.shape, generator=torch.Generator().manual_seed(number), **F64)
        score = model.score(x, torch.tensor(step.t, **F64))
        ratio = z.norm(dim=1).mean() / score.norm(dim=1).mean()
        eta = 2 * expected(9 - number) * (0.3 * ratio) ** 2
        moved, _ = sampler.step(model, x, step, None, torch.Generator().manual_seed(number))
        torch.testing.assert_close(moved, x + eta * score + (2 * eta).sqrt() * z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chains_work_on_images_and_are_a_function_of_their_generator(dtype):
    x = torch.zeros(2, 3, 2, 2, dtype=dtype)
    for sampler in (Langevin(5, 0.1), MALA(5, 0.1)):
        first, second, other = (sampler(Quadratic(), x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert first.dtype == dtype and first.shape == x.shape
        assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: MALA(jump=1.0), "jump.*1.0"),
        (lambda: MALA(jump=0.1, start="prior"), "start.*jump|jump.*start"),
        (
            lambda: Langevin().check(Gaussian(VP(), torch.zeros(1), torch.eye(1))),
            "sampler.t.*0.0.*VP",
        ),
        (lambda: Langevin(start="prior").check(Quadratic()), "sampler.start.*prior"),
        (lambda: AnnealedLangevin(3).transitions(VE(0.5, 0.5)), "technique4.*one level"),
        (lambda: AnnealedLangevin(steps_each=0), "steps_each.*0"),
        (lambda: MALA(0), "steps.*0"),
    ],
)
def test_what_has_no_chain_gets_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
