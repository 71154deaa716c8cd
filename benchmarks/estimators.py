"""Estimators of log p judged by models that know it: python benchmarks/estimators.py [--picture FILE]

A flow and a MADE are trained briefly and know log p exactly. Of each estimator: its error, the mean over the same
points of its value minus the truth; its own standard error, of what it draws itself; and whether twice that covers it.

The flow is judged with noise, x = f^-1(z) + s e, z and e ~ N(0, I): a decoder with latent variables (AIS, importance
sampling), a density with a score at every noise level above s (ODE), a source of samples (KDE). Its truth is the flow's
own log p under a Gaussian kernel, summed over a grid whose halving is printed.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_gen.data import Digits, Rings
from lightning_gen.likelihood import (
    DecoderAIS,
    EncoderProposal,
    FlowProposal,
    ODELikelihood,
    PriorProposal,
    Proposal,
    annealing_path,
    bounds,
    dequantised,
    kernel_density,
    log_weights,
    partition,
    path_class,
    temperatures,
    tuned_steps,
)
from lightning_gen.likelihood.importance import log_weights as importance_weights
from lightning_gen.likelihood.proposals import log_normal
from lightning_gen.losses import NegativeLogLikelihood
from lightning_gen.models import Autoregressive, Encoded, Flow, GaussianObservation, LatentVariables, Normalised, Scored
from lightning_gen.nets import MADE, RealNVP
from lightning_gen.process import VE
from lightning_gen.randomness import generator, noise_like
from lightning_gen.results.pictures.proposals import proposals_picture
from lightning_gen.samplers import HMC, MALA

NOISE = 0.1  # s, in units of the plane
REACH = 3.0  # of the grid, which holds all but 1e-6 of the flow
DRAWS = {"prior": 2000, "encoder": 100, "flow": 100}
Row = tuple[str, str, Tensor, float | None]  # estimator, kind, values - truth of the points, own error of their mean


class Decoded(LatentVariables):
    """x = f^-1(z) of a flow."""

    latent = 2

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def visible(self, z: Tensor) -> Tensor:
        """f^-1(z), (B, 2)."""
        return self.flow.decode(z)

    def sample_visible(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The same: nothing is drawn."""
        return self.visible(z)


class NoisyFlow(GaussianObservation, Encoded):
    """x = f^-1(z) + s e, and an encoder: the mean is f(x) and a correction, the scale a network's."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(Decoded(flow), NOISE)
        self.encoder = nn.Sequential(nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 4))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu(x) and log sigma^2(x), (B, 2) each."""
        z, _ = self.model.flow.encode(x)
        shift, log_variance = self.encoder(torch.cat([x, z], 1)).chunk(2, 1)
        return z + shift, log_variance

    def sample_posterior(self, mean: Tensor, log_variance: Tensor, generator: torch.Generator | None) -> Tensor:
        """z ~ N(mean, diag exp(log_variance))."""
        return mean + (0.5 * log_variance).exp() * noise_like(mean, generator)

    def log_weight(self, x: Tensor, mean: Tensor, log_variance: Tensor, z: Tensor) -> Tensor:
        """log w, nats, (B,), without the constants that p(z) and q(z|x) share."""
        posterior = -0.5 * ((z - mean).square() * (-log_variance).exp() + log_variance)
        return self.log_conditional(x, z) + (-0.5 * z.square() - posterior).sum(1)

    def fit(self, steps: int) -> None:
        """The encoder, by E log q(z|x) on simulated pairs."""
        optimizer = torch.optim.Adam(self.encoder.parameters(), 2e-3)
        for step in range(steps):
            x, z = self.simulate(256, generator(0, "encoder", step))
            mean, log_variance = self.posterior(x)
            optimizer.zero_grad()
            (0.5 * ((z - mean).square() * (-log_variance).exp() + log_variance)).sum(1).mean().backward()
            optimizer.step()


class Smoothed(Scored):
    """sum_g p_g N(x; y_g, sigma_t^2 I): a density on a grid, under all noise of a VE process from s on."""

    def __init__(self, flow: Flow, step: float) -> None:
        super().__init__(VE(NOISE, 20.0))
        axis = torch.arange(-REACH, REACH + step / 2, step, dtype=torch.float64)
        y = torch.cartesian_prod(axis, axis)
        with torch.no_grad():
            log_p = torch.cat([flow.log_prob(part) for part in y.split(20_000)]) + 2 * math.log(step)
        held = log_p > log_p.max() - 30
        self.y, self.log_p = y[held], log_p[held]

    def terms(self, x: Tensor, variance: Tensor) -> Tensor:
        """log p_g N(x; y_g, variance I), (B, G)."""
        squares = x.square().sum(1, keepdim=True) - 2 * x @ self.y.T + self.y.square().sum(1)
        return self.log_p - 0.5 * squares / variance - torch.log(2 * math.pi * variance)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p_s(x), nats, (B,)."""
        return self.terms(x, torch.tensor(NOISE**2, dtype=torch.float64)).logsumexp(1)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """grad log p_t(x), (B, 2), all at one time."""
        variance = self.process.variance(t.flatten()[0].double())
        return (self.terms(x, variance).softmax(1) @ self.y - x) / variance


def fitted(model: Normalised, x: Tensor, steps: int, lr: float) -> Normalised:
    """The model after `steps` of maximum likelihood on batches of x, in float64."""
    optimizer, loss = torch.optim.Adam(model.parameters(), lr), NegativeLogLikelihood()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        noise = generator(0, "train", step)
        batch = x[torch.randint(len(x), (256,), generator=noise)]
        optimizer.zero_grad()
        loss(model, batch, noise).mean().backward()
        optimizer.step()
        schedule.step()
    return model.double().requires_grad_(False)


def by_weights(log_w: Tensor, truth: Tensor) -> tuple[Tensor, float, float]:
    """log mean w - truth, (B,), the standard error of its mean by the delta method, and the mean share of the ESS."""
    found, k = bounds(log_w), log_w.shape[1]
    each = (log_w - found.iwae[:, None]).exp().std(1) / k**0.5
    return found.iwae - truth, float(each.square().sum().sqrt()) / len(truth), float(found.ess.mean()) / k


def by_kernels(samples: Tensor, x: Tensor, truth: Tensor) -> tuple[Tensor, float]:
    """The same of a kernel density, whose value is a mean over its samples, shared by all points."""
    density = kernel_density(samples.numpy(), x.numpy())
    squares = torch.cdist(x, samples).square() / density.bandwidth**2
    share = (-0.5 * squares).softmax(1) * len(samples)  # of each sample in each point's density
    return torch.from_numpy(density.nats) - truth, float(share.mean(0).std()) / len(samples) ** 0.5


def of_the_flow(flow: Flow, points: int, encoder_steps: int) -> tuple[Iterator[Row], NoisyFlow, Tensor]:
    """A row for each estimator, the model, and its points."""
    model = NoisyFlow(flow).double()
    model.fit(encoder_steps)
    model.requires_grad_(False)
    x, _ = model.simulate(points, generator(0, "points"))
    exact = Smoothed(flow, 0.02)
    truth = exact.log_prob(x)
    change = float((truth - Smoothed(flow, 0.04).log_prob(x)).abs().max())
    print(f"truth of the flow with noise: {truth.mean():.3f} nats a point; halving the grid moved it by {change:.1e}")
    return flow_rows(flow, model, exact, x, truth), model, x


def flow_rows(flow: Flow, model: NoisyFlow, exact: Smoothed, x: Tensor, truth: Tensor) -> Iterator[Row]:
    """The rows, one after the other."""
    samples, _ = model.simulate(4000, generator(0, "kde"))
    yield "KDE, 4,000 samples", "KDE", *by_kernels(samples, x, truth)
    ais, noise = DecoderAIS(10, 200, HMC(1, 0.1, 4)), generator(0, "ais")
    found = ais.estimate(ais.path(model, x, noise), noise)
    yield "AIS, 10 chains, 200 temperatures", "lower bound", found.nats - truth, float(found.error.norm()) / len(x)
    betas, noise = temperatures(200), generator(0, "energy")
    path = annealing_path(flow, x.mean(0), x.var(0), MALA(1, 1e-2))
    path.tune(tuned_steps(path, betas, 50, noise))
    z = partition(path, log_weights(path, betas, path.start(500, noise), noise))
    yield "AIS of log Z, flow without noise", "upper bound", torch.full_like(truth, -z.log_z), z.error
    for name, proposal in proposals(model).items():
        log_w = importance_weights(model, x, DRAWS[name], generator(0, name), proposal=proposal)
        error, bar, share = by_weights(log_w, truth)
        title = f"{'IWAE' if name == 'encoder' else 'importance sampling'}, {name}, K = {DRAWS[name]}"
        yield f"{title}, ESS {share:.0%} of K", "lower bound", error, bar
    ode = ODELikelihood(trace="hutchinson")
    draws = torch.stack([ode(exact, x, generator(0, "ode", k))[0] for k in range(4)]) - truth
    yield "ODE, 4 draws of Hutchinson's trace", "estimate", draws.mean(0), float(draws.mean(1).std()) / 2
    yield "ODE, exact trace", "estimate", ODELikelihood()(exact, x)[0] - truth, None


def proposals(model: NoisyFlow) -> dict[str, Proposal]:
    """The three, the flow fitted."""
    flow = FlowProposal(steps=300, width=32).fit(model, generator(0, "proposal"))
    return {"prior": PriorProposal(), "encoder": EncoderProposal(), "flow": flow}


def of_the_made(made: Autoregressive, x: Tensor) -> Iterator[Row]:
    """A row for each estimator that takes a model of binary values."""
    truth = made.log_prob(x)
    whole = torch.cat([made.draw((500, 1, 8, 8), generator(0, "made", k)) for k in range(4)])
    spread = [dequantised(v, (0.0, 1.0), generator(0, "bins", len(v)), 2).flatten(1) for v in (whole, x)]
    yield "KDE, 2,000 samples, bins of width 1", "KDE", *by_kernels(*spread, truth)
    each = torch.stack([made.log_conditionals(x, k).sum(1) for k in range(made.net.orderings)], 1)
    drawn = torch.randint(each.shape[1], (len(x), 4), generator=generator(0, "orderings"))
    error, bar, share = by_weights(each.gather(1, drawn), truth)
    yield f"importance sampling of the ordering, K = 4, ESS {share:.0%} of K", "lower bound", error, bar


def print_rows(title: str, rows: Iterator[Row]) -> None:
    """A table."""
    print(f"\n| {title} | kind | error, nats | its own standard error | covered by twice that | CPU s |")
    print("|---|---|---|---|---|---|")
    begun = time.process_time()
    for name, kind, error, bar in rows:
        value, own = float(error.mean()), "none" if bar is None else f"{bar:.4f}"
        covered = "" if bar is None else "yes" if abs(value) <= 2 * bar else "no"
        print(f"| {name} | {kind} | {value:+.4f} | {own} | {covered} | {time.process_time() - begun:.0f} |", flush=True)
        begun = time.process_time()


def refusals(made: Autoregressive) -> Iterator[str]:
    """What estimators answer to a model of binary values."""
    for ask in (path_class, DecoderAIS().check, EncoderProposal().check, ODELikelihood().check):
        try:
            ask(made)
        except TypeError as refusal:
            yield str(refusal)


def main() -> None:
    """Both tables, and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=600, help="of the flow's training (%(default)s)")
    parser.add_argument("--points", type=int, default=50, help="at which log p is estimated (%(default)s)")
    parser.add_argument("--picture", help="a PNG of draws of z by each proposal, and of their estimates")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = Rings()
    data.setup()
    x = data.split("train").take(slice(None))
    flow = Flow(RealNVP((2,), 64, couplings=8))
    flow.initialise(x[:512])
    flow = fitted(flow, x, options.steps, 4e-3)
    nats = flow.log_prob(data.split("test").take(slice(None)).double())
    print(f"flow: {nats.mean():.3f} nats a test point, the rings' own {-entropy(data):.3f}")
    rows, model, points = of_the_flow(flow, options.points, options.steps // 2)
    print_rows("flow with noise", rows)
    digits = Digits(binarise="fixed", value_range=(0.0, 1.0))
    digits.setup()
    made = Autoregressive(MADE((1, 8, 8), 2, width=200, orderings=8))
    made = fitted(made, digits.encode(digits.split("train").take(slice(None))), options.steps // 2, 3e-3)
    held_out = digits.encode(digits.split("test").take(slice(options.points))).double()
    print(f"\nMADE: {made.log_prob(held_out).mean():.2f} nats a binarised test digit")
    print_rows("MADE", of_the_made(made, held_out))
    print("\nRefused:", *refusals(made), sep="\n- ")
    if options.picture:
        Path(options.picture).write_bytes(picture(model, points[:1]))


def picture(model: NoisyFlow, x: Tensor) -> bytes:
    """Draws of z by each proposal and the posterior of one x, (1, 2)."""
    plane = torch.linspace(-3.5, 3.5, 301, dtype=torch.float64)
    second, first = torch.meshgrid(plane, plane, indexing="ij")
    z = torch.stack([first.flatten(), second.flatten()], 1)
    log_posterior = model.log_conditional(x.expand(len(z), 2), z) - 0.5 * z.square().sum(1)
    cell = math.log(float(plane[1] - plane[0])) * 2 - math.log(2 * math.pi)
    draws = {}
    for name, proposal in proposals(model).items():
        rows, noise = x.expand(1000, 2), generator(0, "picture", name)
        drawn, log_q = proposal.draw(model, rows, noise, *proposal.statistics(model, rows))
        log_w = model.log_conditional(rows, drawn) + log_normal(drawn) - log_q
        draws[name] = (drawn.numpy(), log_w.numpy())
    truth = float(log_posterior.logsumexp(0) + cell)
    return proposals_picture(draws, plane.numpy(), log_posterior.view(301, 301).numpy(), truth)


def entropy(data: Rings) -> float:
    """-E log p of the rings by their test points, nats."""
    return -float(data.log_density(data.split("test").take(slice(None)), 0.0).mean())


if __name__ == "__main__":
    main()
