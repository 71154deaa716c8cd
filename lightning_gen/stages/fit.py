"""stage=fit: training."""

from typing import TYPE_CHECKING

from lightning_gen.errors import ConfigError

if TYPE_CHECKING:
    from lightning_gen.stages.session import Session

NO_BATCH = "trainer.limit_train_batches is {}, which leaves no batch of an epoch: raise it"


def fit(session: "Session") -> None:
    """Train from the start, or from the newest checkpoint."""
    session.start(
        session.trainer.fit,
        session.module,
        datamodule=session.data,
        ckpt_path=session.resume_from,
        weights_only=True,
    )
    if session.trainer.num_training_batches == 0:
        raise ConfigError([NO_BATCH.format(session.config["trainer"].get("limit_train_batches"))])
