"""stage=export: the averaged weights and the config of a run, for others."""

from lightning_gen.config.instantiate import refusing
from lightning_gen.runs.folder import RunFolder, list_files


def export(folder: RunFolder) -> None:
    """Write <run>/export."""
    list_files(refusing(folder.export).files())
