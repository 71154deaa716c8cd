"""stage=fit: training."""

from typing import TYPE_CHECKING

from lightning_gen.errors import ConfigError

if TYPE_CHECKING:
    from lightning_gen.stages.session import Session

NO_BATCH = "trainer.{} is {}, which leaves no batch of an epoch: raise it"


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
        key = "overfit_batches" if session.trainer.overfit_batches else "limit_train_batches"
        raise ConfigError([NO_BATCH.format(key, session.config["trainer"].get(key))])
