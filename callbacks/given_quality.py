"""Quality of somebody else's samples."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.quality import Quality


class GivenQuality(Quality):
    """Quality of the first n of somebody else's samples, as `fid/<features>/samples`; sampler and weights unknown."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse fewer samples than are asked for, before any work."""
        super().setup(trainer, pl_module, stage)
        if len(pl_module.rows) < self.n:
            raise ValueError(
                f"{pl_module.path} holds {len(pl_module.rows)} samples, quality.n is {self.n}: "
                f"write quality.n={len(pl_module.rows)}"
            )

    def measured(self, module: Any) -> str:
        return "samples"

    def protocol(self, data: Any, module: Any, sampler: Any = None) -> dict[str, Any]:
        """What fixes the numbers, and what is unknown of the samples, as how often a network was called."""
        about = {**module.about(), "evaluations": "unknown"}
        return {**self._against(data), **about, "seed": self.seed, "block": self.size(module)}

    def _quantised(self, module: Any, x: Tensor) -> Tensor:
        return x
