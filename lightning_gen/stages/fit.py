"""stage=fit: training."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_gen.stages.session import Session


def fit(session: "Session") -> None:
    """Train from the start, or from the newest checkpoint."""
    session.start(
        session.trainer.fit,
        session.module,
        datamodule=session.data,
        ckpt_path=session.resume_from,
        weights_only=True,
    )
