"""The bar counts the run's optimizer steps to its end, and costs a run hardly anything."""

import time

import pytest

from lightning_gen.bar import LABEL, bar
from lightning_gen.callbacks import Progress


class Watched(Progress):
    """Remembers what the bar showed at its opening and closing."""

    def on_train_start(self, trainer, module):
        super().on_train_start(trainer, module)
        self.opened = (self._train.n, self._train.total)

    def on_train_end(self, trainer, module):
        shown = self._train
        super().on_train_end(trainer, module)
        self.closed, self.postfix = shown.n, shown.postfix


@pytest.mark.parametrize(("limit", "total"), [
    ({"max_steps": 6, "max_epochs": -1}, 6), ({"max_epochs": 3}, 12),
    ({"max_epochs": 3, "accumulate_grad_batches": 2}, 6),
])  # fmt: skip
def test_it_counts_optimizer_steps_to_the_end_of_the_run(known, rows, make_trainer, limit, total, capsys):
    watched = Watched()
    make_trainer(watched, enable_progress_bar=True, **limit).fit(known(), rows(), rows())
    assert watched.opened == (0, total) and watched.closed == total
    assert watched.postfix == f"loss {1 / total:.4g}"
    assert f"{total}/{total}" in capsys.readouterr().err


def test_a_resumed_run_starts_at_its_step(tmp_path, known, rows, make_trainer):
    first = make_trainer(max_steps=3, max_epochs=-1)
    first.fit(known(), rows())
    first.save_checkpoint(tmp_path / "last.ckpt")
    watched = Watched()
    again = make_trainer(watched, enable_progress_bar=True, max_steps=6, max_epochs=-1)
    again.fit(known(), rows(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert watched.opened == (3, 6) and watched.closed == 6


def test_a_step_between_refreshes_costs_next_to_nothing(known, make_trainer):
    progress, trainer, module = Progress(), make_trainer(), known()
    progress._every, progress._next = 30.0, time.monotonic() + 30
    began = time.perf_counter()
    for k in range(10_000):
        progress.on_train_batch_end(trainer, module, None, None, k)
    assert (time.perf_counter() - began) / 10_000 < 50e-6


def test_other_ranks_show_nothing(capsys):
    with bar("samples", 3, shown=False) as shown:
        for _ in range(3):
            shown.update()
    assert capsys.readouterr().err == ""


def test_a_label_leaves_room_for_the_bar(capsys):
    with bar("features of the held-out split of it", 3) as shown:
        assert shown.desc.startswith("features of the held-out spli…") and len(shown.desc.removesuffix(": ")) == LABEL
    with bar("1,500,000 samples for quality", 3) as shown:
        assert shown.desc.startswith("1,500,000 samples for quality")
