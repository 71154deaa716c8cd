"""The probability-flow ODE: orders of its solvers, and what they coincide with; the SDE's published steps."""

import math

import pytest
import torch

from lightning_gen.models import Denoiser
from lightning_gen.process import VE, VP, DiscreteVP, SubVP, linear_betas
from lightning_gen.samplers import DDIM, RK45, Ancestral, DPMSolver, EDMHeun, EulerMaruyama, ProbabilityFlow
from tests.gaussian import PROCESSES, Gaussian, Mixture, example
from tests.networks import Curved

schedulers = pytest.importorskip("diffusers", reason="the test extra installs diffusers").schedulers
F64 = {"dtype": torch.float64}


def path_error(sampler, process, variance=0.25, t_end=0.1):
    """How far the deterministic map is from the exact one, along which x_s / sd_s is constant."""
    model = Gaussian(process, torch.zeros(1), torch.full((1, 1), variance))

    def sd(t):
        t = torch.tensor(t, **F64)
        return float(process.alpha(t) ** 2 * variance + process.variance(t)) ** 0.5

    x = torch.ones(1, 1, **F64)
    return abs(float(sampler(model, x)) - sd(t_end) / sd(1.0))


@pytest.mark.parametrize(
    ("make", "order", "steps"),
    [
        (lambda n: ProbabilityFlow(n, "euler", "log_snr", 0.1, False), 1, 200),
        (lambda n: ProbabilityFlow(n, "heun", "log_snr", 0.1, False), 2, 100),
        (lambda n: ProbabilityFlow(n, "rk4", "log_snr", 0.1, False), 4, 30),
        (lambda n: DPMSolver(n, "log_snr", 0.1, denoise=False), 2, 200),
    ],
)
@pytest.mark.parametrize("process", [VP, lambda: VE(0.01, 20.0)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(make, order, steps, process):
    few, many = (path_error(make(n + 1), process()) for n in (steps, 2 * steps))
    assert math.log2(few / many) == pytest.approx(order, rel=0.1)


def test_an_adaptive_solver_keeps_its_tolerance():
    errors = [path_error(RK45(tol, tol, 5, 0.1, False), VP()) for tol in (1e-3, 1e-6)]
    assert errors[0] < 1e-2 and errors[1] < 1e-5


@pytest.mark.parametrize("name", PROCESSES)
def test_euler_in_the_flows_variables_is_ddim(name):
    model, x = (
        Gaussian(PROCESSES[name](), *example()),
        torch.randn(4, 2, **F64, generator=torch.Generator().manual_seed(0)),
    )
    for spacing in ("trailing", "karras"):
        first = list(ProbabilityFlow(12, "euler", spacing).trajectory(model, x))
        second = list(DDIM(12, 0.0, spacing=spacing).trajectory(model, x))
        for a, b in zip(first, second, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
def test_edm_without_churn_is_heun(name):
    model, x = (
        Gaussian(PROCESSES[name](), *example()),
        torch.randn(4, 2, **F64, generator=torch.Generator().manual_seed(0)),
    )
    first = list(EDMHeun(9).trajectory(model, x))
    for a, b in zip(first, ProbabilityFlow(9, "heun", "karras").trajectory(model, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert EDMHeun(9).evaluations(model, (1, 2)) == 17


def test_churn_adds_the_noise_between_the_levels():
    """EDM algorithm 2, line 6: x + sqrt(t^2 - t_before^2) S_noise eps, gamma = min(S_churn / N, sqrt 2 - 1)."""
    for s_churn, gamma in ((2.0, 0.2), (40.0, math.sqrt(2) - 1)):
        sampler = EDMHeun(10, s_churn, s_min=0.1, s_max=5.0, s_noise=1.1)
        process = VE(0.01, 20.0)
        for step in sampler.transitions(process)[:-1]:
            _, raised, _, _, keep, noise = step.coefficients
            level = math.sqrt(raised**2 - (noise / 1.1) ** 2)
            assert keep == 1
            if 0.1 <= level <= 5:
                assert raised == pytest.approx((1 + gamma) * level)
                assert float(process.sigma(torch.tensor(step.t, **F64))) == pytest.approx(raised)
            else:
                assert noise == 0


def test_dpm_solver_is_diffusers():
    scheduler = schedulers.DPMSolverMultistepScheduler(
        num_train_timesteps=100, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint",
        final_sigmas_type="zero", timestep_spacing="trailing",
    )  # fmt: skip
    scheduler.betas = torch.tensor(linear_betas(100), **F64)
    scheduler.alphas_cumprod = (1 - scheduler.betas).cumprod(0)
    scheduler.set_timesteps(12)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1), **F64)
    ours = DPMSolver([int(t) + 1 for t in scheduler.timesteps.flip(0)])
    states = list(ours.trajectory(Denoiser(Curved(), DiscreteVP(linear_betas(100))), x))
    for t, state in zip(scheduler.timesteps, states[1:], strict=True):
        x = scheduler.step(Curved()(x, t.double().expand(2)), t, x).prev_sample
        torch.testing.assert_close(x, state, rtol=1e-5, atol=1e-5)


def test_ancestral_steps_on_a_ve_are_the_papers():
    """Song et al. (2021), eq. 47: x + (s_i^2 - s_{i-1}^2) score + sqrt(s_{i-1}^2 (s_i^2 - s_{i-1}^2) / s_i^2) z."""
    process = VE(0.01, 50.0)
    model = Gaussian(process, *example())
    x, sampler = torch.randn(6, 2, **F64, generator=torch.Generator().manual_seed(0)), Ancestral("small", 20)
    for number, step in enumerate(sampler.plan(model, x.shape)):
        t, s = (torch.tensor(v, **F64) for v in (step.t, step.s))
        big, small = process.variance(t), process.variance(s) if number < 19 else torch.zeros((), **F64)
        z = torch.randn(x.shape, generator=torch.Generator().manual_seed(number), **F64)
        paper = x + (big - small) * model.score(x, t) + (small * (big - small) / big).sqrt() * z
        x, _ = sampler.step(model, x, step, None, torch.Generator().manual_seed(number))
        torch.testing.assert_close(x, paper, rtol=1e-10, atol=1e-10)


def test_euler_maruyama_is_the_reverse_sde():
    """x + [beta / 2 x + beta s] dt + sqrt(beta dt) z for VP, and Tweedie's formula at the end."""
    model, x = Gaussian(VP(), *example()), torch.randn(6, 2, **F64, generator=torch.Generator().manual_seed(0))
    plan = EulerMaruyama(10).plan(model, x.shape)
    assert (plan[0].t, plan[-1].t, len(plan)) == (1.0, pytest.approx(1e-3), 10)
    for step in plan[:-1]:
        beta, dt = 0.1 + 19.9 * step.t, step.t - step.s
        z = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), **F64)
        score = model.score(x, torch.tensor(step.t, **F64))
        paper = x + (0.5 * beta * x + beta * score) * dt + math.sqrt(beta * dt) * z
        x, _ = EulerMaruyama(10).step(model, x, step, None, torch.Generator().manual_seed(3))
        torch.testing.assert_close(x, paper, rtol=1e-9, atol=1e-9)


def prior(model, n=5):
    g = torch.Generator().manual_seed(0)
    return model.process.prior_sigma * torch.randn(n, 2, generator=g, **F64)


def flow(model, x, t, s):
    """The flow's map of a Gaussian: (x / alpha - m) grows as (cov + lambda^2)^(1/2)."""
    (a, b), (u, v) = (
        [float(c) for c in law(torch.tensor([t, s], **F64))] for law in (model.process.alpha, model.process.variance)
    )
    values, vectors = torch.linalg.eigh(model.cov)
    growth = ((values + v / b**2) / (values + u / a**2)).sqrt()
    return b * (model.mean + (x / a - model.mean) @ vectors @ growth.diag() @ vectors.T)


def close(a, b, tolerance):
    scale = b.abs().max().clamp(min=1)
    torch.testing.assert_close(a / scale, b / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("churn", [3.0, 100.0])
def test_edms_algorithm_2_written_out(churn):
    """Line by line for alpha = 1, with the same random numbers, its schedule (eq. 5) too."""
    model, n, rho, low, high, boost = Mixture(VE(0.05, 20.0)), 10, 5.0, 0.2, 10.0, 1.007
    t_max, t_min = 20.0, 0.05
    levels = [
        (t_max ** (1 / rho) + i / (n - 1) * (t_min ** (1 / rho) - t_max ** (1 / rho))) ** rho for i in range(n)
    ] + [0]

    def derivative(x, level):
        t = model.process.time(torch.tensor(level**-2.0, **F64))
        return (x - model.denoise(x, t)) / level

    x, g = prior(model), torch.Generator().manual_seed(2)
    sampler = EDMHeun(n, churn, low, high, boost, rho)
    path = list(sampler.trajectory(model, x, torch.Generator().manual_seed(2)))
    for i, state in enumerate(path[1:]):
        gamma = min(churn / n, math.sqrt(2) - 1) if low <= levels[i] <= high else 0
        hat = levels[i] * (1 + gamma)
        if gamma:
            x = x + math.sqrt(hat**2 - levels[i] ** 2) * boost * torch.randn(x.shape, generator=g, **F64)
        slope = derivative(x, hat)
        after = x + (levels[i + 1] - hat) * slope
        if levels[i + 1]:
            after = x + (levels[i + 1] - hat) * (slope + derivative(after, levels[i + 1])) / 2
        x = after
        close(state, x, 1e-10)


@pytest.mark.parametrize("process", [VP, SubVP, lambda: VE(0.05, 20.0)])
def test_rk45_is_on_the_flow_at_every_time_that_it_shows(process):
    model = Gaussian(process(), *example())
    x, sampler = prior(model), RK45(1e-8, 1e-8, 7)
    *path, last = sampler.trajectory(model, x)
    times = [1.0, *[step.s for step in sampler.plan(model, (1, 2))[:-1]]]
    assert len(path) == 7 and all(b < a for a, b in zip(times, times[1:], strict=False))
    for t, state in zip(times, path, strict=True):
        close(state, flow(model, x, 1.0, t), 1e-6)
    close(last, model.denoise(path[-1], torch.tensor(times[-1], **F64)), 1e-12)


def calls(sampler, model, x):
    """What a trajectory returns."""
    path = sampler.trajectory(model, x)
    while True:
        try:
            next(path)
        except StopIteration as end:
            return end.value


def test_rk45_takes_more_calls_where_less_error_is_allowed():
    model = Gaussian(VP(), *example())
    x = prior(model)
    assert calls(RK45(1e-6, 1e-6), model, x) > 1.5 * calls(RK45(1e-3, 1e-3), model, x)
    assert RK45().evaluations(Gaussian(VP(), *example()), (1, 2)) is None


def test_levels_are_spaced_as_said():
    """sigma / alpha: uniform in its logarithm, or in its seventh root; on a chain at k / T."""
    process = VP()

    def level(sampler):
        t = torch.tensor(sampler.times(process)[:-1], **F64)
        return process.sigma(t) / process.alpha(t)

    for values in (
        level(DPMSolver(9, "log_snr")).log(),
        level(ProbabilityFlow(9)) ** (1 / 7),
        level(EDMHeun(9, rho=3)) ** (1 / 3),
    ):
        steps = values.diff()
        torch.testing.assert_close(steps, steps.mean().expand(8), rtol=1e-6, atol=1e-9)
    for steps in (5, 60, 200):
        ks = [200 * t for t in ProbabilityFlow(steps).times(DiscreteVP(linear_betas(200)))]
        assert ks == pytest.approx(sorted(set(map(round, ks)), reverse=True)) and (ks[0], ks[-1]) == (
            200,
            0,
        )
        assert len(ks) == steps + 1


@pytest.mark.parametrize(
    ("sampler", "word"), [(ProbabilityFlow(6), "heun"), (ProbabilityFlow(6, "rk4"), "rk4"), (DDIM(6), "ddim")]
)
def test_files_of_samples_are_named_as_the_sampler_is_chosen(sampler, word):
    assert sampler.word == word


class Breaking(torch.nn.Module):
    """A network that gives NaN from its call number `after` on."""

    def __init__(self, after):
        super().__init__()
        self.after, self.calls = after, 0

    def forward(self, x, t):
        self.calls += 1
        return 0.1 * x if self.calls <= self.after else x * torch.nan


@pytest.mark.parametrize("after", [0, 1, 3, 30])
@pytest.mark.parametrize("sampler", [RK45(points=6), ProbabilityFlow(6)])
def test_a_model_that_breaks_gives_samples_that_say_so_and_ends(sampler, after):
    """SciPy left alone halves its step for ever where the slope is NaN."""
    model, counts = Denoiser(Breaking(after), VP()), []

    def walk():
        counts.append((yield from sampler.trajectory(model, torch.ones(2, 3))))

    states = list(walk())
    assert len(states) == len(sampler.plan(model, (1, 2))) + 1
    assert counts == [model.net.calls] and model.net.calls < 100
    assert torch.isnan(states[-1]).all() == (model.net.calls > after)
    assert model.net.calls > after or after == 30
