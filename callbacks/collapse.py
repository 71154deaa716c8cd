"""An alarm where samples have lost the diversity of the data, from numbers that are measured anyway."""

import sys
from collections.abc import Sequence
from dataclasses import replace

from pytorch_lightning import Callback, Trainer

from lightning_gen.callbacks.publishing import step_of
from lightning_gen.errors import Diverged
from lightning_gen.options import Checked, NonNegative, UnitInterval
from lightning_gen.results.result import HELD_OUT, Name, Result


class CollapseAlarm(Checked, Callback):
    """Says in a sentence, on stderr and as a W&B alert, that samples have collapsed; training goes on unless `stop`.

    It hears what other callbacks publish, and draws nothing of its own. Samples have collapsed where recall and
    coverage are both below their bounds (either, where the other is not measured), or class_distance or memorised are
    above theirs, each by more than `errors` standard errors; a number without an error counts as it is. Each evaluation
    that finds it is recorded as collapse = 1, one that does not as 0.

    Args:
        recall: lower bound, in [0, 1].
        coverage: lower bound, in [0, 1].
        class_distance: upper bound of the total variation between the classes of samples and of data, in [0, 1].
        memorised: upper bound of the share of samples that are nearer to training images than held-out ones are.
        errors: standard errors beyond a bound, >= 0.
        stop: whether to end the training as one that diverges.
    """

    def __init__(
        self,
        recall: UnitInterval = 0.05,
        coverage: UnitInterval = 0.05,
        class_distance: UnitInterval = 0.5,
        memorised: UnitInterval = 0.5,
        errors: NonNegative = 3.0,
        stop: bool = False,
    ) -> None:
        super().__init__()
        self.least = {"recall": recall, "coverage": coverage}
        self.most = {"class_distance": class_distance, "memorised": memorised}
        self.errors, self.stop = errors, stop

    def published(self, trainer: Trainer, results: Sequence[Result]) -> None:
        """Judge the numbers of one evaluation, which all ranks have; Diverged with `stop`."""
        found: dict[Name, dict[str, Result]] = {}  # of each set of samples, by the quantity
        for each in results:
            name = each.name
            if name and name.quantity in {*self.least, *self.most} and name.weights != HELD_OUT and name.n is None:
                found.setdefault(replace(name, quantity=""), {})[name.quantity] = each
        if not found:
            return
        reasons = [reason for samples in found.values() for reason in self.reasons(samples)]
        for logger in trainer.loggers:
            logger.log_metrics({"collapse": float(bool(reasons))}, step_of(trainer))
        if not reasons:
            return
        sentence = f"the samples have collapsed at step {step_of(trainer)}: {', '.join(reasons)}"
        if trainer.is_global_zero:
            print(f"warning: {sentence}", file=sys.stderr, flush=True)
        for logger in trainer.loggers:
            if (alert := getattr(logger, "alert", None)) is not None:
                alert("collapse", sentence)
        if self.stop and trainer.state.fn == "fit":  # a finished run keeps its numbers
            raise Diverged(f"{sentence} (callbacks.collapse.stop is true)")

    def reasons(self, found: dict[str, Result]) -> list[str]:
        """What of one set of samples has collapsed, a few words a number; empty where nothing has."""

        def beyond(name: str, bound: float, sign: int) -> str | None:
            each = found[name]
            margin = self.errors * (each.error or 0.0)
            if sign * (each.value - bound) <= margin:
                return None
            side = "above" if sign > 0 else "below"
            return f"{each.name} is {each.value:.3g} ± {each.error or 0.0:.2g}, {side} {bound:g}"

        low = [beyond(name, bound, -1) for name, bound in self.least.items() if name in found]
        high = [beyond(name, bound, 1) for name, bound in self.most.items() if name in found]
        # Both: samples far from the data lack coverage, and may yet have recall, for their balls are wide.
        return [*(low if all(low) else []), *filter(None, high)]
