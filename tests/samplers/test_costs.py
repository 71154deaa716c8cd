"""What a sampler's step costs beyond the network, in tensor operations; and that it computes what it did before."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_gen import samplers
from lightning_gen.models import Denoiser, ScoreNetwork
from lightning_gen.process import VE, VP, DiscreteVP, SubVP, cosine_betas, instant, linear_betas
from lightning_gen.samplers.base import Denoising
from tests.gaussian import Gaussian, example
from tests.networks import Identity

F64 = {"dtype": torch.float64}
SYNCS = ("_local_scalar_dense", "is_nonzero", "item", "nonzero")


class Counter(TorchDispatchMode):
    """The names of all operations inside."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.__name__)
        return function(*args, **(kwargs or {}))


def denoiser(parametrization, process):
    return Denoiser(Identity(), process, parametrization)


PROCESSES = {"vp": VP, "subvp": SubVP, "ve": VE, "discrete": lambda: DiscreteVP(linear_betas(1000))}
ONE_CALL = {
    "ancestral small": lambda: samplers.Ancestral("small", 10),
    "ancestral large": lambda: samplers.Ancestral("large", 10),
    "ddim": lambda: samplers.DDIM(10),
    "ddim with noise": lambda: samplers.DDIM(10, 0.5),
    "euler-maruyama": lambda: samplers.EulerMaruyama(10),
    "langevin": lambda: samplers.Langevin(10, t=0.5),
    "euler": lambda: samplers.ProbabilityFlow(10, "euler"),
}
MORE = {
    "heun": lambda: samplers.ProbabilityFlow(10),
    "dpm-solver": lambda: samplers.DPMSolver(10),
    "edm": lambda: samplers.EDMHeun(10),
    "edm churned": lambda: samplers.EDMHeun(10, 5.0, s_max=20.0),
}


def costs(sampler, model):
    """Operations of each transition but the last, and their names."""
    x, g, carry, costs = torch.randn(4, 3, 4, 4), torch.Generator().manual_seed(0), None, []
    with torch.no_grad():
        for transition in sampler.plan(model, tuple(x.shape)):
            if isinstance(transition, Denoising):
                continue
            with Counter() as counter:
                x, carry = sampler.step(model, x, transition, carry, g)
            costs.append(counter.names)
    return costs


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("parametrization", ["noise", "clean", "velocity", "edm", "ve", "score"])
@pytest.mark.parametrize("name", [*ONE_CALL, *MORE])
def test_a_step_is_at_most_8_operations_12_with_two_calls_or_memory_and_no_host_sync(name, parametrization, process):
    process = PROCESSES[process]()
    model = ScoreNetwork(Identity(), process) if parametrization == "score" else denoiser(parametrization, process)
    for names in costs((ONE_CALL | MORE)[name](), model):
        assert len(names) <= (8 if name in ONE_CALL else 12), names
        assert not any(sync in operation for operation in names for sync in SYNCS)


@pytest.mark.parametrize(
    "sampler", [samplers.Ancestral("small", 10, clip=(-1, 1)), samplers.DDIM(10, 0.5, clip=(-1, 1))]
)
def test_clipping_fits_into_8_operations_of_a_noise_network(sampler):
    assert max(map(len, costs(sampler, denoiser("noise", VP())))) <= 8


# The same steps as they are written in the papers, by the model's answers at tensors of times.


def posterior(model, x, step, sampler, z):
    """keep x_t + pull x_0 + noise z."""
    keep, pull, noise = step.coefficients
    clean = model.denoise(x, instant(step.t, x))
    clean = clean if sampler.clip is None else clean.clamp(*sampler.clip)
    return keep * x + pull * clean + noise * z


def reverse_sde(model, x, step, sampler, z):
    """keep x + pull score + noise z."""
    keep, pull, noise = step.coefficients
    return keep * x + pull * model.score(x, instant(step.t, x)) + noise * z


def runge_kutta(model, x, step, sampler, z):
    """y = x / alpha moves by h times the mean slope."""
    (alpha_t, level_t, alpha_s, level_s), more = step.coefficients[:4], step.coefficients[4:]
    if len(more) == 2:  # EDM's added noise
        keep, noise = more
        x, more = keep * x + noise * z, ()
    h, y = level_s - level_t, x / alpha_t
    first = model.noise(x, instant(step.t, x))
    if step.evaluations == 1:
        return alpha_s * (y + h * first)
    if step.evaluations == 2:
        other = alpha_s * (y + h * first)
        return alpha_s * (y + h / 2 * (first + model.noise(other, instant(step.s, x))))
    (alpha,), (_, middle, _, _) = more, step.times
    second = model.noise(alpha * (y + h / 2 * first), instant(middle, x))
    third = model.noise(alpha * (y + h / 2 * second), instant(middle, x))
    fourth = model.noise(alpha_s * (y + h * third), instant(step.s, x))
    return alpha_s * (y + h / 6 * (first + 2 * second + 2 * third + fourth))


WRITTEN = {
    "ancestral": (lambda: samplers.Ancestral("large", 20), posterior),
    "ancestral clipped": (lambda: samplers.Ancestral("small", 20, clip=(-1.0, 1.0)), posterior),
    "ddim": (lambda: samplers.DDIM(20, 0.3), posterior),
    "euler-maruyama": (lambda: samplers.EulerMaruyama(20), reverse_sde),
    "euler": (lambda: samplers.ProbabilityFlow(12, "euler"), runge_kutta),
    "heun": (lambda: samplers.ProbabilityFlow(12), runge_kutta),
    "rk4": (lambda: samplers.ProbabilityFlow(6, "rk4"), runge_kutta),
    "edm churned": (lambda: samplers.EDMHeun(12, 3.0, s_max=20.0), runge_kutta),
}
LAWS = {"vp": VP, "ve": VE, "cosine": lambda: DiscreteVP(cosine_betas(100))}


class Learned(torch.nn.Module):
    """Some smooth function of x and t."""

    def forward(self, x, t):
        return torch.tanh(x + 0.001 * t.to(x.dtype)[:, None]) - 0.3 * x.flip(1)


def distance(a, b):
    """The largest difference, relative to the largest value above 1."""
    return float(((a - b) / b.abs().max().clamp(min=1)).abs().max())


@pytest.mark.parametrize("process", LAWS)
@pytest.mark.parametrize("parametrization", ["noise", "clean", "velocity", "edm", "ve", "score", "truth"])
@pytest.mark.parametrize("name", WRITTEN)
def test_every_step_and_the_whole_path_are_those_of_the_papers_formulas(name, parametrization, process):
    """A step from the same state to 1e-6 relative in single precision, the path to 1e-12 in double, 1e-4 in single."""
    (make, written), process = WRITTEN[name], LAWS[process]()
    model = {"score": lambda: ScoreNetwork(Learned(), process), "truth": lambda: Gaussian(process, *example())}.get(
        parametrization, lambda: Denoiser(Learned(), process, parametrization)
    )()
    sampler = make()
    with torch.no_grad():
        for dtype, path in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
            if dtype == torch.float32 and parametrization == "truth":
                continue  # which answers in double precision
            ours = model.process.prior_sigma * torch.randn(
                5, 2, generator=torch.Generator().manual_seed(1), dtype=dtype
            )
            theirs, carry = ours.double(), None
            for number, step in enumerate(sampler.plan(model, (5, 2))):
                if isinstance(step, Denoising):
                    continue
                g = torch.Generator().manual_seed(number)
                z = torch.randn(5, 2, generator=torch.Generator().manual_seed(number), dtype=dtype)
                alone, _ = sampler.step(model, theirs.to(dtype), step, None, torch.Generator().manual_seed(number))
                ours, carry = sampler.step(model, ours, step, carry, g)
                before = theirs.to(dtype).double()  # the very state that the step was taken from
                assert distance(alone, written(model, before, step, sampler, z.double())) <= (
                    1e-6 if dtype == torch.float32 else 1e-12
                )
                theirs = written(model, theirs, step, sampler, z.double())
            assert distance(ours, theirs) <= path
