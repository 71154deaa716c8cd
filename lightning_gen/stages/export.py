"""stage=export: the averaged weights and the config of a run, for others, or for other code."""

from pathlib import Path
from typing import Any

from lightning_gen.config.instantiate import refusing
from lightning_gen.runs import weights_file
from lightning_gen.runs.folder import RunFolder, list_files
from lightning_gen.runs.metrics_file import read_metrics
from lightning_gen.stages.loggers import build_loggers, close, send_files


def export(config: dict[str, Any], folder: RunFolder) -> None:
    """Write <run>/export, or <run>/diffusers, and send it as an artifact where a logger that takes one is named."""
    loggers = refusing(build_loggers, config, folder)
    if config["format"] == "diffusers":
        files = refusing(exported_to_diffusers, config, folder)
    else:
        files = refusing(exported_with_card, folder).files()
    list_files(files)
    if loggers:
        send_files(loggers, "export", files, {"step": folder.trained()[0]})
        close(loggers)


def exported_with_card(folder: RunFolder) -> RunFolder:
    """The folder <run>/export, with a README.md that has the numbers of the run."""
    from lightning_gen.results.card import write_card

    metrics = read_metrics(folder.metrics) if folder.metrics.is_file() else None
    target, (step, _) = folder.export(), folder.trained()
    weights, origin = weights_file.read(target.exported), f"step {step:,} of {folder.path.resolve().name}"
    write_card(target.path, target.config(), weights, origin, metrics)
    return target


def exported_to_diffusers(config: dict[str, Any], folder: RunFolder) -> list[Path]:
    """The files of <run>/diffusers."""
    from lightning_gen.convert.to_diffusers import write_diffusers

    weights = weights_file.shared(folder.weights(), f"of {folder.named or folder.path}")
    return write_diffusers(config, weights, folder.path / "diffusers")
