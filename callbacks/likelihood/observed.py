"""What estimators of log p(x) of decoders share: p(x|z), dequantisation, nats and bits/dim."""

import math
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.likelihood.base import PerSample
from lightning_gen.likelihood import bits_per_dim
from lightning_gen.likelihood.dequantise import bins_protocol
from lightning_gen.models import BINARY, GaussianObservation, LatentVariables, ObservationModel, Requires, why_unfit
from lightning_gen.options import Positive
from lightning_gen.results.result import Kind, Name, Result


class ObservedLikelihood(PerSample):
    """log p(x) of a decoder with the model's own p(x|z), or with N(E[x|z], s^2 I).

    Args:
        deviation: s, in units of x, > 0; null for the model's own p(x|z), which a GAN has not.
        options: those of PerSample.
    """

    needs = (LatentVariables,)

    def __init__(self, deviation: Positive | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.deviation = deviation

    def estimator(self) -> type[Requires]:
        """What has needs of its own."""
        return type(self)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a model that does not fit, or without p(x|z), and images without a range, before any work."""
        model, estimator = pl_module.model, self.estimator()
        super().setup(trainer, pl_module, stage)
        if self.deviation is not None and model.support == BINARY:
            raise ValueError(
                f"{self.key}.deviation is {self.deviation} for {type(model).__name__} over binary values, expected "
                "null: write null"
            )
        observed = model if self.deviation is None else GaussianObservation(model, self.deviation)
        if why := why_unfit(estimator, observed):
            named = f", with {self.key}.deviation, the s of N(E[x|z], s^2 I)" if self.deviation is None else ""
            raise TypeError(f"{why}{named}; or write {self.key}=null")
        if pl_module.value_range is None and len(pl_module.shape) == 3:
            raise ValueError(f"{self.key} dequantises images in data.value_range, got null: write the range")
        self.binarise = trainer.datamodule.binarise

    def spread(self, module: Any) -> bool:
        """Whether x is dequantised."""
        return module.model.support != BINARY and module.value_range is not None

    def observed(self, model: LatentVariables) -> ObservationModel:
        """The model with its labels and the p(x|z) that is measured."""
        if self.deviation is None:
            return model
        observed = GaussianObservation(model, self.deviation)
        return observed if model.label is None else observed.with_label(model.label)

    def protocol(self, module: Any, n: int, fingerprint: str) -> dict[str, Any]:
        """What the protocols of decoders have."""
        own = module.model.deviation if self.deviation is None else self.deviation
        return {
            **super().protocol(module, n, fingerprint),
            "likelihood": "bernoulli" if own is None else "gaussian",
            "deviation": own,
            "binarisation": self.binarise or "none",
            "dequantisation": "uniform" if self.spread(module) else "none",
        }

    def quantities(self, module: Any) -> list[str]:
        """What is published of a method: nats, and bits/dim of images."""
        return ["log_likelihood", *(["bits_per_dim"] if module.value_range is not None else [])]

    def both(
        self, module: Any, nats: Tensor, method: str, side: str | None, kind: Kind, protocol: dict
    ) -> list[Result]:
        """Nats, (n,), of a method and side, and bits/dim of images."""
        d, which, spread = math.prod(module.shape), self.measured(module), self.spread(module)
        results = [Result.of_mean(nats, kind, "nats", protocol, Name(f"{method}/log_likelihood", None, which, side))]
        if module.value_range is not None:
            bits = bits_per_dim(nats, d, module.value_range) if spread else -nats / d / math.log(2)
            kind = "upper bound" if kind == "lower bound" else kind
            protocol = {**protocol, **(bins_protocol(module.value_range) if spread else {"levels": 2})}
            name = Name(f"{method}/bits_per_dim", None, which, side)
            error = results[0].error / d / math.log(2)
            results.append(Result(bits.mean().item(), kind, error, "bits/dim", protocol, name=name))
        return results
