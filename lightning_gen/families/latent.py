"""Models of latent variables: encoded by a trained autoencoder on the way in, decoded on the way out."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.models import Encoded, Energy, Scored, has


class Latent:
    """Mixin of GenerativeModule: with an autoencoder the model is of z ~ q(z|x), and samples are E[x|z].

    The autoencoder is frozen, and a checkpoint holds its weights.
    High-resolution image synthesis with latent diffusion models (Rombach et al., 2022), https://arxiv.org/abs/2112.10752
    """

    autoencoder: Encoded | None

    @property
    def model_shape(self) -> tuple[int, ...] | None:
        """Shape of what the model is of: of a sample, or (latent,)."""
        return self.shape if self.autoencoder is None else (self.autoencoder.latent,)

    def encoded(self, batch: dict[str, Tensor], noise: torch.Generator) -> dict[str, Tensor]:
        """The batch with z ~ q(z|x), (B, latent), in the place of x; unchanged without an autoencoder."""
        if self.autoencoder is None:
            return batch
        coder = self.autoencoder.eval()
        with torch.no_grad():
            return {**batch, "x": coder.sample_posterior(*coder.posterior(batch["x"]), noise)}

    @torch.no_grad()
    def decoded(self, z: Tensor) -> Tensor:
        """E[x|z] in model space, (B, *shape); z itself without an autoencoder."""
        return z if self.autoencoder is None else self.autoencoder.eval().visible(z)

    def freeze(self, autoencoder: Encoded | None) -> Encoded | None:
        """The autoencoder without gradients; TypeError for a model that is no diffusion: others start from the data."""
        if autoencoder is None:
            return None
        if not has(self.model, Scored) or has(self.model, Energy):
            raise TypeError(
                f"module.autoencoder is given with the model {type(self.model).__name__}, expected a diffusion: choose "
                "DDPM, ScoreSDE or FlowMatching, or data that are not latent"
            )
        return autoencoder.requires_grad_(False).eval()

    def take_autoencoder(self, data: Any, stage: str) -> None:
        """In training the weights of the data's autoencoder; ValueError where one of data and module has none."""
        if stage != "fit":
            return
        theirs = getattr(data, "autoencoder", None)
        if (theirs is None) != (self.autoencoder is None):
            raise ValueError(
                f"module.autoencoder is {'given' if theirs is None else 'null'} with {data.name}, expected it with "
                "data=latent alone: leave it out, for it follows from data.run"
            )
        if theirs is not None:
            self.autoencoder.load_state_dict(theirs.state_dict())
