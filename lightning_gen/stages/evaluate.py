"""stage=evaluate, which follows stage=fit too: measuring and drawing."""

from typing import TYPE_CHECKING

from lightning_gen.runs.folder import list_files
from lightning_gen.runs.metrics_file import read_metrics

if TYPE_CHECKING:
    from lightning_gen.stages.session import Session


def evaluate(session: "Session") -> None:
    """Let the callbacks measure and draw, then show what came out and where it lies."""
    session.start(session.trainer.test, session.module, datamodule=session.data, verbose=False, weights_only=True)
    if session.trainer.is_global_zero and not session.trainer.fast_dev_run:
        from lightning_gen.results.report import closing_table, write_report

        if session.folder.metrics.is_file():
            print(closing_table(read_metrics(session.folder.metrics)))
        write_report(session.folder.path)
        session.folder.forget_pieces()
        list_files(session.folder.files())
