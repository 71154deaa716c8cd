"""stage=export: the averaged weights and the config of a run, for others, or for other code."""

from pathlib import Path
from typing import Any

from lightning_gen.config.instantiate import refusing
from lightning_gen.runs import weights_file
from lightning_gen.runs.folder import RunFolder, list_files, read_metrics


def export(config: dict[str, Any], folder: RunFolder) -> None:
    """Write <run>/export, or <run>/diffusers."""
    if config["format"] == "diffusers":
        return list_files(refusing(exported_to_diffusers, config, folder))
    target = refusing(folder.export)
    refusing(write_card_of, target, folder)
    list_files(target.files())


def write_card_of(target: RunFolder, folder: RunFolder) -> None:
    """Write the export's README.md, with the numbers of the run."""
    from lightning_gen.results.card import write_card

    weights = weights_file.read(target.exported)
    metrics = read_metrics(folder.metrics) if folder.metrics.is_file() else None
    step, _ = folder.trained()
    origin = f"step {step:,} of {folder.path.resolve().name}"
    write_card(target.path, target.config(), weights, origin, metrics)


def exported_to_diffusers(config: dict[str, Any], folder: RunFolder) -> list[Path]:
    """The files of <run>/diffusers."""
    from lightning_gen.convert.to_diffusers import write_diffusers

    weights = weights_file.shared(folder.weights(), f"of {folder.named or folder.path}")
    return write_diffusers(config, weights, folder.path / "diffusers")
