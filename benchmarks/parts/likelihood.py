"""Exact likelihoods: log p of flows and autoregressive models, and sampling of the latter."""

import math
from collections.abc import Iterator

import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import linear

from benchmarks.counting import flops
from benchmarks.table import Row, at_most
from benchmarks.timing import ROOT, Run, matrix_rate, same
from lightning_gen.config.instantiate import build
from lightning_gen.models import Autoregressive, Flow

VALUES = 43  # of a point, as MiniBooNE has, on which both papers were measured


def network(name: str, **changes: object) -> nn.Module:
    """A network of the experiments."""
    return build({**yaml.safe_load((ROOT / f"experiments/net/{name}.yaml").read_text()), **changes})


@torch.no_grad()
def flows(run: Run) -> Iterator[Row]:
    """log p of MAF and NSF against zuko's own flows."""
    import zuko

    batch = run.pick(512, 4)
    for name, values in (("MAF", 2), ("MAF", VALUES), ("NSF", 2), ("NSF", VALUES)):
        net = network(name.lower(), shape=[values])
        ours, options = Flow(net), yaml.safe_load((ROOT / f"experiments/net/{name.lower()}.yaml").read_text())
        arguments = {"transforms": options["transforms"], "hidden_features": [options["width"]] * options["depth"]}
        arguments |= {"bins": options["bins"]} if name == "NSF" else {}
        theirs = getattr(zuko.flows, name)(values, activation=nn.SiLU, **arguments)
        weights = dict(zip(theirs.state_dict(), net.state_dict().values(), strict=False))
        theirs.load_state_dict({**theirs.state_dict(), **weights})
        x = torch.randn(batch, values)
        same(f"log p of {name}", ours.log_prob(x), theirs().log_prob(x))
        yield run.row(
            f"{name} of {values} values, log p of {batch}",
            lambda: ours.log_prob(x),  # noqa: B023
            {"zuko": lambda: theirs().log_prob(x)},  # noqa: B023
            ("its arithmetic at the rate of a matrix product", flops(lambda: ours.log_prob(x)) / matrix_rate()),  # noqa: B023
            at_most(1.1),
        )


@torch.no_grad()
def made(run: Run) -> Iterator[Row]:
    """log p of MADE on binarised images over the products of its one hidden layer."""
    side, width, batch = run.pick(28, 4), run.pick(500, 8), run.pick(100, 4)
    net = network("made_mnist", shape=[1, side, side], width=width, levels=2, logistics=None, orderings=1).eval()
    model, x = Autoregressive(net), (torch.rand(batch, 1, side, side) < 0.2).float()
    rows, (*weights, last), direct = x.flatten(1), *net.masked(0)

    def plain() -> Tensor:
        """The same with the masks multiplied once, as for a network that is not trained."""
        h = rows
        for layer, weight in zip(net.layers, weights, strict=True):
            h = torch.relu(linear(h, weight, layer.bias))
        out = linear(h, last.flatten(0, 1), net.last.bias)
        out = out if direct is None else out + linear(rows, direct.flatten(0, 1))
        return -nn.functional.binary_cross_entropy_with_logits(out, rows, reduction="none").sum(1)

    same("log p of MADE", model.log_prob(x), plain())
    arithmetic = flops(plain) / matrix_rate()
    yield run.row(
        f"MADE of {side}x{side} binary pixels, log p of {batch}",
        lambda: model.log_prob(x),
        {"masks multiplied once": plain},
        ("its arithmetic at the rate of a matrix product", arithmetic),
    )


@torch.no_grad()
def pixelcnn(run: Run) -> Iterator[Row]:
    """Sampling of a PixelCNN against a loop that runs the whole network for every pixel."""
    side, batch = run.pick(8, 3), run.pick(16, 2)
    net = network("pixelcnn_digits", shape=[1, side, side], levels=17).eval()
    model, shape = Autoregressive(net), (batch, 1, side, side)

    def naive(generator: torch.Generator) -> Tensor:
        x = torch.zeros(shape)
        for i in range(math.prod(shape[1:])):
            table = net.law.table(net(x.flatten(1))[:, i], x.new_zeros(batch, 0))
            below = table.exp().cumsum(-1)[:, :-1]
            drawn = below <= torch.rand(batch, 1, generator=generator)
            x.flatten(1)[:, i] = drawn.sum(-1).float()
        return x

    same(
        "PixelCNN's samples",
        *(draw(torch.Generator().manual_seed(0)) for draw in (lambda g: model.draw(shape, g), naive)),
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(shape)
    yield run.row(
        f"PixelCNN, {batch} images of 1x{side}x{side}, an image",
        lambda: model.draw(shape, generator),
        {"the whole network for every pixel": lambda: naive(generator)},
        ("one pass of the network", lambda: net(x.flatten(1))),
        at_most(0.1),
        per=batch,
    )


CASES = (flows, made, pixelcnn)
LONG = ()
