"""stage=fit: training."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_gen.stages.session import Session


def fit(session: "Session") -> None:
    """Train from the start, or from last.ckpt where there is one."""
    session.start(
        session.trainer.fit,
        session.module,
        datamodule=session.data,
        ckpt_path=session.folder.last if session.resuming else None,
        weights_only=True,
    )
