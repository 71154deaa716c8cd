"""The run folder: what a stop says of it."""

from lightning_gen.runs import signals
from lightning_gen.runs.folder import PIECES, RunFolder


def test_a_stop_goes_on_from_checkpoints_and_from_an_evaluation_s_blocks(tmp_path):
    """As of an export, which has no checkpoint."""
    folder = RunFolder(tmp_path)
    with folder.stop_note():
        assert not any(path.exists() for path in signals.saves)
        (tmp_path / PIECES).mkdir()
        assert any(path.exists() for path in signals.saves)
    assert not signals.saves
