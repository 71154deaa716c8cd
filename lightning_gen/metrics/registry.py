"""Every quantity that is measured, known once: its title, its unit, which way is better; and the sample metrics."""

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Literal

Better = Literal["higher", "lower"] | None


@dataclass(frozen=True)
class Quantity:
    """What a number is of.

    Args:
        name: the word in published names, `fid` of fid/digits/ema, or two of them: `energy/gap`
        title: what tables call it
        better: which way; None where neither more nor less is better
        unit: of its value, "" where it has none, or where methods give it in several
        likelihood: whether it is a likelihood of data, in nats or bits/dim
    """

    name: str
    title: str
    better: Better = None
    unit: str = ""
    likelihood: bool = False

    @property
    def sign(self) -> int:
        """-1 where less is better, 1 where more is, 0 where neither."""
        return {"lower": -1, None: 0, "higher": 1}[self.better]


@dataclass(frozen=True)
class Measured:
    """A metric's value, its standard error or None, what is doubtful, its own part of the protocol, and what else was
    observed on the way."""

    value: float
    error: float | None = None
    flags: tuple[str, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    observed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A sample metric: its quantity, the fewest images that it takes, what it needs, and its function.

    The function takes an Evaluation and returns a Measured, or, by their names, those of several quantities at once.
    `gives` are the quantities that come with it, its own among them.
    """

    quantity: Quantity
    least: Callable[[Any], int]
    needs: Literal["features", "logits", "memory"]
    function: Callable[[Any], Measured | dict[str, Measured]]
    gives: tuple[str, ...]


QUANTITIES: dict[str, Quantity] = {}
METRICS: dict[str, Metric] = {}


def register(*quantities: Quantity) -> None:
    """Make quantities known to every table, ranking and checkpoint; ValueError where a name has another meaning."""
    for quantity in quantities:
        if QUANTITIES.setdefault(quantity.name, quantity) != quantity:
            raise ValueError(f"the quantity {quantity.name} is registered twice: give one of them another name")


def metric(
    name: str,
    title: str,
    better: Better,
    least: int | Callable[[Any], int] = 2,
    needs: Literal["features", "logits", "memory"] = "features",
    parts: Iterable[Quantity] = (),
) -> Callable:
    """Register a function of an Evaluation as the sample metric `name`; quality.metrics takes that name.

    Args:
        title: what tables call it
        better: higher, lower, or None for neither
        least: fewest images, a number or a function of the options
        needs: features alone, logits too, or the features of training and held-out images
        parts: further quantities that come with it
    """
    parts = tuple(parts)

    def registered(function: Callable) -> Callable:
        quantity = Quantity(name, title, better)
        register(quantity, *parts)
        fewest = least if callable(least) else lambda options: least
        METRICS[name] = Metric(quantity, fewest, needs, function, (name, *(part.name for part in parts)))
        return function

    return registered


@cache
def _load() -> None:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(import_module(package).__path__):
        if not module.ispkg:
            import_module(f"{package}.{module.name}")


def metrics() -> dict[str, Metric]:
    """The sample metrics by name: those of the modules beside this one, and what others have registered."""
    _load()
    return METRICS


def quantity_of(name: str) -> Quantity:
    """What a name like `fid`, `energy/gap` or `ais/log_likelihood` is of: the whole, else its last word.

    A name that nobody has registered is a quantity without direction.
    """
    _load()
    word = name.rpartition("/")[2]
    known = QUANTITIES.get(name) or QUANTITIES.get(word)
    return known or Quantity(name, word.replace("_", " "))


def _plain(names: str, better: Better, unit: str = "") -> list[Quantity]:
    return [Quantity(name, name.replace("_", " "), better, unit) for name in names.split()]


register(
    Quantity("log_likelihood", "log likelihood", "higher", "nats", likelihood=True),
    Quantity("nll", "negative log likelihood", "lower", "nats", likelihood=True),
    Quantity("bits_per_dim", "bits/dim", "lower", "bits/dim", likelihood=True),
    Quantity("-log p", "-log p", "lower", likelihood=True),
    *_plain("loss relative_error straightness", "lower"),
    Quantity("mse", "MSE", "lower"),
    Quantity("ssim", "SSIM", "higher"),
    Quantity("psnr", "PSNR", "higher", "dB"),
    Quantity("mig", "MIG", "higher"),
    Quantity("sap", "SAP", "higher"),
    Quantity("v_measure", "V-measure", "higher"),
    *_plain("homogeneity completeness probe_accuracy modularity", "higher"),
    Quantity("beta_vae_score", "β-VAE score", "higher"),
    Quantity("factor_vae_score", "FactorVAE score", "higher"),
    Quantity("dci_disentanglement", "DCI disentanglement", "higher"),
    Quantity("dci_completeness", "DCI completeness", "higher"),
    Quantity("dci_informativeness", "DCI informativeness", "higher"),
    Quantity("log_z", "log Z", None, "nats"),
    Quantity("energy/data", "energy of the data", None, "nats"),
    Quantity("energy/chains", "energy of training chains", None, "nats"),
    Quantity("energy/gap", "energy gap", None, "nats"),
    Quantity("energy/short", "energy after short chains", None, "nats"),
    Quantity("energy/long", "energy after long chains", None, "nats"),
    Quantity("health/drift", "energy drift of long chains", None, "nats"),
    Quantity("health/acceptance", "acceptance rate"),
    Quantity("health/step_size", "step size"),
    Quantity("health/r_hat", "R-hat"),
    Quantity("health/ess", "effective sample size", None, "draws"),
    Quantity("bdmc/log_p", "log p of simulated data", None, "nats"),
    Quantity("bdmc/gap", "AIS gap on simulated data", "lower", "nats"),
    Quantity("modes/found", "modes found", "higher"),
    Quantity("modes/share", "share near a mode", "higher"),
    Quantity("collapse", "collapse", "lower"),
    Quantity("vlb/decoder", "variational bound: decoder", None, "bits/dim"),
    Quantity("vlb/diffusion", "variational bound: diffusion", None, "bits/dim"),
    Quantity("vlb/prior", "variational bound: prior", None, "bits/dim"),
    Quantity("elbo/reconstruction", "ELBO: reconstruction", None, "nats"),
    Quantity("elbo/entropy", "ELBO: entropy", None, "nats"),
    Quantity("elbo/prior", "ELBO: prior", None, "nats"),
    Quantity("train/lr", "learning rate"),
    Quantity("train/gradient_norm", "gradient norm"),
    Quantity("speed/images_per_s", "images/s", None, "images/s"),
)
# What stands before a quantity in names, ais/log_z, in words; what is not here is its own word.
METHODS = {
    "ais": "AIS",
    "elbo": "ELBO",
    "flow_proposal": "flow proposal",
    "iwae": "IWAE",
    "kde": "kernel density",
    "likelihood_weighting": "likelihood weighting",
    "ode": "probability-flow ODE",
    "vlb": "variational bound",
}
