"""Dotted names of earlier versions, which configs on disk still use, and what they are called now."""

from typing import Any

CALLBACKS = (
    *("AnnealedImportance", "ChainHealth", "Checkpoints", "Curves", "EnergyPictures", "FlowLikelihood", "GivenQuality"),
    *("ImportanceLikelihood", "KernelDensityLikelihood", "Likelihood", "Pictures", "Progress", "Quality"),
    *("Representations", "SamplerTable", "ScoreField", "TensorBoard", "Throughput", "Wandb"),
)
LOSSES = {
    **{"denoising": "DenoisingScoreMatching", "exact": "ExactScoreMatching", "sliced": "SlicedScoreMatching"},
    **{"elbo": "ELBO", "iwae": "IWAE"},
}
ALIASES = {
    **{f"callbacks.{name}": f"lightning_gen.callbacks.{name}" for name in CALLBACKS},
    **{f"lightning_gen.losses.{old}": f"lightning_gen.losses.{new}" for old, new in LOSSES.items()},
    "lightning_gen.likelihood.Flow": "lightning_gen.likelihood.ODELikelihood",
}


def present(target: str) -> str:
    """The present name of a target."""
    return ALIASES.get(target, target)


def renamed(config: Any) -> Any:
    """The config with every `_target_`, and Folder's `crop`, of an earlier version under its present name."""
    if isinstance(config, dict):
        if config.get("_target_") == "lightning_gen.data.Folder" and "crop" in config:
            config = {**config, "fit": "crop" if config["crop"] else None}
            del config["crop"]
        return {
            key: present(value) if key == "_target_" and isinstance(value, str) else renamed(value)
            for key, value in config.items()
        }
    return [renamed(value) for value in config] if isinstance(config, list) else config
