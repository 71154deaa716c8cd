"""stage=compare: one page over several runs."""

from pathlib import Path
from typing import Any

from lightning_gen.config.instantiate import refusing
from lightning_gen.runs.folder import RunFolder, list_files
from lightning_gen.stages.loggers import build_loggers, close
from lightning_gen.stages.quiet import quieten


def compare(config: dict[str, Any], folder: RunFolder) -> None:
    """Write one page over the runs, and mirror its numbers to the logger."""
    quieten()
    from lightning_gen.results.compare import Comparison

    loggers = refusing(build_loggers, config, folder)
    comparison = refusing(Comparison, [Path(run) for run in config["runs"]])
    list_files(comparison.write(folder.path))
    comparison.log(loggers)
    for logger in loggers:
        logger.finalize("success")
    close(loggers)
