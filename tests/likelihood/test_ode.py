"""The flow's density: a Gaussian's to 1e-6 nats, a mixture's, the trace, the solvers' orders, and what is refused."""

import math

import pytest
import torch

from lightning_gen.likelihood import ODELikelihood
from lightning_gen.likelihood.ode import divergence
from lightning_gen.models import Denoiser, EnergyNetwork, Scored
from lightning_gen.nets import MLP
from lightning_gen.process import VE, VP, Clean, DiscreteVP, SubVP, linear_betas
from tests.gaussian import PROCESSES, Gaussian, Mixture, example
from tests.networks import Identity

F64 = {"dtype": torch.float64}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n=6, d=2):
    return 1.5 * torch.randn(n, d, generator=seeded(1), **F64)


def law(process, t, d=2):
    """Of x_t, for data N(*example(d))."""
    mean, cov = example(d)
    t = torch.tensor(t, **F64)
    alpha, variance = process.alpha(t), process.variance(t)
    return torch.distributions.MultivariateNormal(alpha * mean, alpha**2 * cov + variance * torch.eye(d, **F64))


class Broken(Scored):
    """N(0, I) until t, then NaN."""

    def __init__(self, t):
        super().__init__(VP())
        self.t = t

    def noise(self, x, t):
        return torch.where(t[0] < self.t, self.process.sigma(t[0]), math.nan) * x


@pytest.mark.parametrize(
    ("name", "t_start", "steps", "gate"),
    [
        *((name, 0.0, 200, 1e-6) for name in ("vp", "subvp", "ve", "ve from zero")),
        *((name, None, 80, 1e-5) for name in ("vp", "subvp", "ve from zero")),
        *((name, None, 30, 1e-4) for name in ("discrete linear", "discrete cosine")),
        ("vp", 0.2, 80, 1e-6),
        ("ve", 0.5, 100, 1e-6),
    ],
)
def test_the_density_of_a_gaussian(name, t_start, steps, gate):
    """At t_start; so a VE that starts from sigma_min gives at t = 0 the density of data with that noise."""
    process = PROCESSES[name]()
    flow = ODELikelihood("rk4", steps=steps, t_start=t_start)
    x, model = points(), Gaussian(process, *example())
    nats, calls = flow(model, x, terminal=law(process, 1.0).log_prob)
    assert calls == 4 * steps
    begin = {"vp": 1e-5, "subvp": 1e-5, "ve from zero": 1e-5, "discrete linear": 1e-3, "discrete cosine": 1e-2}
    truth = law(process, begin[name] if t_start is None else t_start).log_prob(x)
    torch.testing.assert_close(nats, truth, rtol=0, atol=gate)


def test_a_ve_from_sigma_min_sees_data_with_that_noise():
    process, (mean, cov) = VE(sigma_min=0.5), example()
    nats, _ = ODELikelihood("rk4", t_start=0.0)(
        Gaussian(process, mean, cov), points(), terminal=law(process, 1.0).log_prob
    )
    noised = torch.distributions.MultivariateNormal(mean, cov + 0.25 * torch.eye(2, **F64))
    torch.testing.assert_close(nats, noised.log_prob(points()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["vp", "subvp", "ve"])
def test_the_law_at_the_end_is_the_models_prior(name):
    """x_1 = alpha_1 m + S_1^(1/2) S_0^(-1/2) (x - alpha_0 m), so log p = log prior(x_1) + log det of that map."""
    process, x = PROCESSES[name](), points()
    nats, _ = ODELikelihood("rk4", steps=200, t_start=0.0)(Gaussian(process, *example()), x)
    first, last = law(process, 0.0), law(process, 1.0)
    (v, basis), w = torch.linalg.eigh(first.covariance_matrix), torch.linalg.eigvalsh(last.covariance_matrix)
    ends = last.mean + (x - first.mean) @ (basis * (w / v).sqrt() @ basis.T)
    sigma = float(process.sigma(torch.ones((), **F64))) if name == "ve" else 1.0
    prior = torch.distributions.Normal(torch.zeros((), **F64), sigma).log_prob(ends).sum(1)
    torch.testing.assert_close(nats, prior + 0.5 * (w / v).log().sum(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("process", [VP(), SubVP(), VE(), DiscreteVP(linear_betas(50, 1e-3, 0.3))])
def test_the_density_of_a_mixture(process):
    model, x = Mixture(process), points(40)
    flow = ODELikelihood(rtol=1e-6, atol=1e-6)
    nats, _ = flow(model, x, terminal=lambda x: model.log_density(x, torch.ones((), **F64)))
    truth = model.log_density(x, torch.tensor(flow.first_time(process), **F64))
    torch.testing.assert_close(nats, truth, rtol=0, atol=5e-4)


@pytest.mark.parametrize(("t_start", "process"), [(0.0, VP()), (None, VE())])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_a_solvers_order_by_halving(solver, order, t_start, process):
    model, x = Gaussian(process, *example()), points(1)
    errors = []
    for steps in (80, 160):
        flow = ODELikelihood(solver, steps=steps, t_start=t_start)
        nats, _ = flow(model, x, terminal=law(process, 1.0).log_prob)
        errors.append(float((nats - law(process, flow.first_time(process)).log_prob(x)).abs()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, rel=0.1)


def test_rk45_agrees_with_rk4_and_obeys_its_tolerances():
    model, x = Mixture(VE()), points()
    exact, _ = ODELikelihood("rk4", steps=400)(model, x)
    result = {tolerance: ODELikelihood(rtol=tolerance, atol=tolerance)(model, x) for tolerance in (1e-3, 1e-5, 1e-7)}
    errors = [float((nats - exact).abs().max()) for nats, _ in result.values()]
    assert errors[1] < 2e-3 and errors[1] < errors[0] / 3 and errors[2] < errors[1] / 3
    calls = [calls for _, calls in result.values()]
    assert calls[0] < calls[1] < calls[2] < 1600


def curved(x, t):
    """Of an image, with a Jacobian that is neither diagonal nor symmetric, (B, 1, 2, 2)."""
    flat = x.flatten(1)
    mixed = torch.sin(flat) @ torch.arange(16.0, **F64).reshape(4, 4) / 10
    return (mixed * flat[:, :1] + t.reshape(-1, 1)).view_as(x)


def test_the_exact_trace_is_the_jacobians():
    x = points(5, 4).view(5, 1, 2, 2)
    value, trace = divergence(curved, x, 0.3, None)
    t = torch.full((1,), 0.3, **F64)
    for i in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda y: curved(y, t), x[i : i + 1]).reshape(4, 4)
        torch.testing.assert_close(trace[i], jacobian.trace())
    torch.testing.assert_close(value, curved(x, t.expand(5)))
    assert not value.requires_grad and not trace.requires_grad


@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_hutchinsons_trace_is_unbiased(probe, n=4000):
    model, x = Gaussian(VP(), *example(3)), points(1, 3)
    options = {"solver": "rk4", "steps": 20, "t_start": 0.0}
    exact, _ = ODELikelihood(**options, trace="exact")(model, x)
    nats, _ = ODELikelihood(**options, trace="hutchinson", probe=probe)(model, x.expand(n, 3), seeded(2))
    assert nats.std() > 0.01
    assert abs(float((nats.mean() - exact) / (nats.std() / n**0.5))) < 4


def test_a_probe_stays_the_same_along_the_path():
    """In one dimension the estimate is then linear in v^2, and exact at v^2 = 1."""
    model, x = Gaussian(VP(), *example(1)), points(1, 1).expand(4, 1)
    options = {"solver": "heun", "steps": 10, "t_start": 0.0}
    nats, _ = ODELikelihood(**options, trace="hutchinson", probe="gaussian")(model, x, seeded(3))
    exact, _ = ODELikelihood(**options)(model, x)
    squares = torch.randn(4, 1, generator=seeded(3), **F64).square().squeeze()
    slopes = (nats - exact) / (squares - 1)
    torch.testing.assert_close(slopes, slopes[:1].expand(4), rtol=1e-9, atol=0)
    rademacher, _ = ODELikelihood(**options, trace="hutchinson")(model, x, seeded(3))
    torch.testing.assert_close(rademacher, exact)


def test_several_probes_are_their_mean():
    model, x, drawn = Gaussian(VE(), *example(3)), points(4, 3), seeded(4)
    options = {"solver": "rk4", "steps": 10, "trace": "hutchinson"}
    singles = torch.stack([ODELikelihood(**options)(model, x, drawn)[0] for _ in range(3)])
    together, calls = ODELikelihood(**options, probes=3)(model, x, seeded(4))
    assert singles.std(0).max() > 0.1 and calls == 40
    torch.testing.assert_close(together, singles.mean(0))


def test_few_dimensions_have_the_exact_trace_and_more_one_probe():
    for d, draws in ((8, False), (9, True)):
        drawn = seeded()
        ODELikelihood("euler", steps=1)(Gaussian(VP(), *example(d)), points(2, d), drawn)
        assert (not torch.equal(drawn.get_state(), seeded().get_state())) == draws
        assert ODELikelihood().describe(VP(), d)["trace"] == ("hutchinson" if draws else "exact")


def test_a_network_is_read_as_it_stands():
    """Images in single precision under no_grad: no gradient is kept, no global random number used."""
    torch.manual_seed(0)
    net = MLP((1, 2, 2), width=16, depth=1)
    torch.nn.init.normal_(list(net.parameters())[-2], std=0.3)
    model, x = Denoiser(net, VP(), "noise"), points(5, 4).view(5, 1, 2, 2)
    kept, state, flow = x.clone(), torch.get_rng_state(), ODELikelihood("rk4", steps=8)
    with torch.no_grad():
        nats, _ = flow(model, x.float())
        assert not torch.is_grad_enabled()
    double, _ = flow(model.double(), x)
    assert not nats.requires_grad and nats.dtype == torch.float64 and not double.requires_grad
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(x, kept)
    torch.testing.assert_close(nats, double, rtol=0, atol=1e-4)
    apart = torch.cat([flow(model, one[None])[0] for one in x])
    torch.testing.assert_close(double, apart)
    assert (double - Gaussian(VP(), torch.zeros(4), torch.eye(4)).log_prior(x)).abs().max() > 0.1


def test_a_model_without_derivatives_is_refused():
    model, flow = Gaussian(VP(), *example()), ODELikelihood("euler", steps=2)
    with torch.inference_mode(), pytest.raises(ValueError, match="derivative.*torch.inference_mode"):
        flow(model, points())
    model.noise = torch.no_grad()(model.noise)
    with pytest.raises(ValueError, match="derivative.*torch.no_grad"):
        flow(model, points())


def test_an_energy_has_its_second_derivatives():
    """E = ||x||^2 / 2 is N(0, I) at every t of a VP."""
    with torch.no_grad():
        nats, _ = ODELikelihood("rk4", steps=10)(EnergyNetwork(Identity(), VP(), "norm"), points())
    torch.testing.assert_close(nats, torch.distributions.Normal(0.0, 1.0).log_prob(points()).sum(1))


@pytest.mark.parametrize("solver", ["rk45", "rk4"])
@pytest.mark.parametrize("t", [0.0, 0.5])
def test_a_model_that_breaks_gives_nan_and_an_end(solver, t):
    nats, calls = ODELikelihood(solver, steps=5)(Broken(t), points())
    assert nats.isnan().all() and calls < 1000
    whole, _ = ODELikelihood(solver, steps=5)(Broken(2.0), points())
    torch.testing.assert_close(whole, Broken(2.0).log_prior(points()), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("solver", "ticks"), [("rk45", 20), ("heun", 7)])
def test_progress_has_its_end_and_calls_are_counted(solver, ticks):
    model, asked, steps = Gaussian(VP(), *example()), [], []
    score = model.score
    model.score = lambda x, t: asked.append(float(t[0])) or score(x, t)
    flow = ODELikelihood(solver, steps=7)
    _, calls = flow(model, points(), progress=lambda: steps.append(len(asked)))
    assert len(steps) == flow.ticks == ticks
    assert calls == len(asked) and (solver == "rk45" or calls == 14)
    assert min(asked) == pytest.approx(1e-5) and max(asked) == pytest.approx(1.0)
    assert len(set(steps)) > 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"solver": "rk5"}, "solver.*rk5"),
        ({"trace": "hutch"}, "trace.*'hutch'"),
        ({"probe": "normal"}, "probe.*normal"),
        ({"steps": 0}, "steps.*0"),
        ({"probes": 0}, "probes.*0"),
        ({"rtol": 0.0}, "rtol.*0.0"),
        ({"atol": -1.0}, "atol.*-1.0"),
        ({"t_start": 1.0}, "t_start.*1.0"),
    ],
)
def test_wrong_options_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        ODELikelihood(**options)


@pytest.mark.parametrize("process", [Clean(), VE(0.3, 0.3)])
def test_no_path_to_a_known_law_is_refused(process):
    with pytest.raises(ValueError, match=f"{type(process).__name__}.*sigma"):
        ODELikelihood()(Gaussian(process, *example()), points())


def test_a_time_before_the_first_noise_is_refused():
    model = Gaussian(DiscreteVP(linear_betas(10, 0.01, 0.5)), *example())
    with pytest.raises(ValueError, match="t_start.*0.05.*0.1"):
        ODELikelihood(t_start=0.05).check(model)
    ODELikelihood(t_start=0.1).check(model)
    with pytest.raises(ValueError, match="t_start.*0.*null"):
        ODELikelihood(t_start=0.0)(Denoiser(MLP((2,), width=8, depth=1).double(), VP()), points())


def test_a_protocol_tells_the_options_in_force():
    assert ODELikelihood(steps=7, probes=2).describe(VE(), 64) == {
        "solver": "rk45",
        "rtol": 1e-5,
        "atol": 1e-5,
        "t_start": 0.0,
        "sigma_start": pytest.approx(0.01),
        "trace": "hutchinson",
        "probes": 2,
        "probe": "rademacher",
    }
    assert ODELikelihood().describe(VE(levels=10), 2)["trained_levels"] == 10  # the path passes between them
    assert ODELikelihood("rk4", steps=7, t_start=0.5).describe(VP(), 2) == {
        "solver": "rk4",
        "steps": 7,
        "t_start": 0.5,
        "sigma_start": pytest.approx(float(VP().sigma(torch.tensor(0.5, **F64)))),
        "trace": "exact",
    }
