"""How Lightning writes and reads checkpoints."""

from pathlib import Path
from typing import Any

from lightning_fabric.plugins import CheckpointIO

from lightning_gen.runs.checkpoint_file import check_parts, read, write


class AtomicCheckpointIO(CheckpointIO):
    """Writes all of a file or nothing, and loads intact local files of plain containers and tensors only."""

    replaces = True  # a file that it writes is a new one, which takes the name

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Replace `path`."""
        write(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint, on the CPU by default; ValueError where its content is not what was written, or of no run."""
        checkpoint = read(Path(path), map_location or "cpu")
        check_parts(checkpoint, Path(path))
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)
