"""Likelihoods of held-out data, exact and by importance sampling."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmarks.notes.book import F64, Numbers, Section, mean, panels
from lightning_gen.data import Digits
from lightning_gen.likelihood import DecoderAIS, EncoderProposal, PriorProposal, bounds
from lightning_gen.likelihood.importance import log_weights as importance_weights
from lightning_gen.losses import NegativeLogLikelihood
from lightning_gen.models import VAE, Autoregressive
from lightning_gen.nets import MADE
from lightning_gen.randomness import generator
from lightning_gen.samplers import HMC

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def stopping(steps: int = 2000, every: int = 40, width: int = 300) -> Numbers:
    """Exact log p of three splits of binarised digits while MADE learns one of them."""
    data = Digits(binarise="fixed", value_range=(0.0, 1.0))
    data.setup()
    splits = {name: data.encode(data.split(name).images(slice(None))) for name in ("train", "val", "test")}
    x, noise, loss = splits["train"], generator(0, "stopping"), NegativeLogLikelihood()
    model = Autoregressive(MADE(tuple(x.shape[1:]), width=width))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    at, means, tests = list(range(0, steps + 1, every)), {name: [] for name in splits}, []
    for step in range(steps + 1):
        if step % every == 0:
            with torch.no_grad():
                values = {name: model.log_prob(each).double() for name, each in splits.items()}
            for name, each in values.items():
                means[name].append(float(each.mean()))
            tests.append(values["test"])
        optimizer.zero_grad()
        loss(model, x[torch.randint(len(x), (128,), generator=noise)], noise).mean().backward()
        optimizer.step()
    best = max(range(len(at)), key=lambda i: means["val"][i])
    return {
        "sizes": {name: len(each) for name, each in splits.items()},
        "steps": steps,
        "at": at,
        "means": means,
        "best": at[best],
        "chosen": {name: each[best] for name, each in means.items()} | {"test": mean(tests[best])},
        "last": {name: each[-1] for name, each in means.items()} | {"test": mean(tests[-1])},
        "lost": mean(tests[best] - tests[-1]),
        "most": max(means["test"]),
        "rises": sum(a < b for a, b in zip(means["train"], means["train"][1:], strict=False)),
        "looks": len(at) - 1,
    }


def draw_stopping(figure: "Figure", numbers: Numbers) -> None:
    """The three likelihoods over the steps."""
    (axes,) = panels(figure)
    names = {"train": "train", "val": "validation", "test": "test"}
    for (name, label), style in zip(names.items(), ("-", "--", ":"), strict=True):
        axes.plot(numbers["at"], numbers["means"][name], style, label=label)
    axes.axvline(numbers["best"], color="0.4", linewidth=1)
    axes.set(xlabel="steps", ylabel="log p, nats an image", ylim=(-32, None))
    axes.legend(loc="lower right")


STOPPING = Section(
    name="early-stopping",
    title="Train, validation and test",
    claim="a model learns from the training set, its settings are chosen on the validation set, and the test set tells how good it is.",
    text="""
MADE, whose log p(x) is exact, learns {sizes[train]:,} binarised digits; {sizes[val]} others are the validation set, {sizes[test]} the test set. The training set's likelihood rises in {rises} of {looks} looks, to the end. That of
the validation set is greatest after {best} of {steps} steps, and turns. Nats an image:

| after | train | validation | test |
|---|---|---|---|
| {best} steps, chosen | {chosen[train]:.2f} | {chosen[val]:.2f} | {chosen[test]} |
| {steps} steps | {last[train]:.2f} | {last[val]:.2f} | {last[test]} |

The choice keeps {lost} nats an image of the test set, which had no part in it; the best step of the test set itself would have {most:.2f}.
""",
    verdict="holds",
    why="The training set's own likelihood would never have said stop.",
    measure=stopping,
    draw=draw_stopping,
    proof=lambda n: (
        0 < n["best"] < n["steps"]
        and n["rises"] > 0.9 * n["looks"]
        and n["last"]["train"] > n["chosen"]["train"] + 2
        and n["lost"]["value"] > 4 * n["lost"]["error"]
        and n["most"] - n["chosen"]["test"]["value"] < 0.3
    ),
    alt="Log-likelihood of three splits over training steps: the training set's rises on, the other two turn and fall",
    tiny={"steps": 4, "every": 2, "width": 16},
)


class LinearNet(nn.Module):
    """x = W z + s noise, whose posterior is Gaussian; the encoder's mean is off by `off` of its standard deviations."""

    classes = None

    def __init__(self, d: int, latent: int, deviation: float, off: float) -> None:
        super().__init__()
        root, _ = torch.linalg.qr(torch.randn(d, latent, generator=generator(0, "linear"), **F64))
        self.W, self.latent, self.deviation, self.off = nn.Parameter(2 * root), latent, deviation, off

    def encode(self, x: Tensor) -> Tensor:
        """mu(x) and log sigma^2(x), (B, 2 latent)."""
        variance = 1 / (1 + self.W.square().sum(0) / self.deviation**2)
        mean = variance * (x @ self.W) / self.deviation**2 + self.off * variance.sqrt()
        return torch.cat([mean, variance.log().expand_as(mean)], 1)

    def decode(self, z: Tensor) -> Tensor:
        """W z, (B, d)."""
        return z @ self.W.T


def weighting(points: int = 40, d: int = 10, latent: int = 5, deviation: float = 0.3, off: float = 0.7) -> Numbers:
    """Estimates of log p(x) of a linear decoder minus the truth, by the draws, and by annealing."""
    net = LinearNet(d, latent, deviation, off)
    model = VAE(net, "gaussian", deviation).double().requires_grad_(False)
    noise = generator(0, "weighting")
    x, _ = model.simulate(points, noise)
    covariance = net.W @ net.W.T + deviation**2 * torch.eye(d, **F64)
    truth = torch.distributions.MultivariateNormal(torch.zeros(d, **F64), covariance.detach()).log_prob(x)
    counts = [1, 10, 100, 1000, 10_000]
    rows: dict[str, list] = {}
    shares, ratios = {}, {}
    for name, proposal in (("prior", PriorProposal()), ("encoder", EncoderProposal())):
        log_w = importance_weights(model, x, counts[-1], noise, proposal=proposal)
        rows[name] = [mean(bounds(log_w[:, :k]).iwae - truth) for k in counts]
        shares[name] = float(bounds(log_w).ess.mean()) / counts[-1]
        ratios[name] = mean((bounds(log_w).iwae - truth).exp())
    ais = DecoderAIS(10, 200, HMC(1, 0.1, 4))
    found = ais.estimate(ais.path(model, x, noise), noise)
    return {"points": points, "d": d, "latent": latent, "deviation": deviation, "off": off, "counts": counts} | {
        "rows": rows,
        "shares": shares,
        "ratios": ratios,
        "ais": mean(found.nats - truth),
        "chains": 10,
        "temperatures": 200,
    }


def draw_weighting(figure: "Figure", numbers: Numbers) -> None:
    """Errors over the number of draws."""
    (axes,) = panels(figure)
    labels = {"prior": "from the prior", "encoder": "from an encoder"}
    for (name, label), style in zip(labels.items(), ("o-", "s-"), strict=True):
        axes.plot(numbers["counts"], [-each["value"] for each in numbers["rows"][name]], style, label=label)
    axes.axhline(abs(numbers["ais"]["value"]), color="0.4", linestyle="--", label="annealed, chains of HMC")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set(xscale="log", xlabel="draws of z for each x", ylabel="nats below log p(x)")
    axes.legend()


WEIGHTING = Section(
    name="importance",
    title="Likelihood weighting, importance sampling, annealing",
    claim="draws from the prior have a large variance where the posterior is elsewhere; a proposal near the posterior mends that and stays unbiased.",
    text="""
A linear decoder of {latent} latent variables and {d} values knows its p(x). Estimates minus the truth, nats, mean over {points} of its own x; the encoder is off by {off:g} of its standard
deviations in every variable:

| draws | prior: likelihood weighting | encoder: importance sampling |
|---|---|---|
| {counts[0]} | {rows[prior][0]} | {rows[encoder][0]} |
| {counts[2]} | {rows[prior][2]} | {rows[encoder][2]} |
| {counts[4]:,} | {rows[prior][4]} | {rows[encoder][4]} |

Of the last row's draws {shares[prior]:.2%} and {shares[encoder]:.0%} count, by the effective sample size. The mean of their weights over p(x), one for an estimate without bias, is {ratios[encoder]} by the
encoder; by the prior {ratios[prior]}, without bias too, and with an error that hides it. Annealed importance sampling (`DecoderAIS`, {chains} chains of {temperatures}
temperatures) needs no proposal and is off by {ais}.
""",
    verdict="holds with a condition",
    why="The mean of the weights is unbiased for p(x); its logarithm is too small on average, and less so with more draws. The proposal must cover the posterior.",
    measure=weighting,
    draw=draw_weighting,
    proof=lambda n: (
        n["rows"]["prior"][2]["value"] < -1
        and abs(n["rows"]["encoder"][4]["value"]) < 0.05
        and n["shares"]["prior"] < 0.05 < n["shares"]["encoder"]
        and abs(n["ratios"]["encoder"]["value"] - 1) < 4 * n["ratios"]["encoder"]["error"] < 0.05
        and abs(n["ratios"]["prior"]["value"] - 1) < 4 * n["ratios"]["prior"]["error"]
        and n["ratios"]["prior"]["error"] > 10 * n["ratios"]["encoder"]["error"]
        and all(each["value"] < 4 * each["error"] for rows in n["rows"].values() for each in rows)
        and n["rows"]["prior"][2]["value"] < n["ais"]["value"] < 4 * n["ais"]["error"]
    ),
    alt="Nats by which two estimates fall short over the number of draws, the prior's far above the encoder's",
    erratum=True,
    tiny={"points": 3},
)
