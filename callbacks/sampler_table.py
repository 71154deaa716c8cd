"""The picture from which a user chooses a sampler: sampler x number of network evaluations -> FID, KID, seconds."""

import copy
import json
import platform
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge
from pytorch_lightning import LightningModule, Trainer

from lightning_gen.callbacks.measuring import Measuring
from lightning_gen.callbacks.publishing import log_image, step_of
from lightning_gen.callbacks.quality import Quality
from lightning_gen.errors import NonFinite
from lightning_gen.metrics.evaluation import Evaluation
from lightning_gen.metrics.reference import Reference
from lightning_gen.models import Model
from lightning_gen.options import Counts, Positive
from lightning_gen.results.drawing import save_png
from lightning_gen.results.pictures.samplers import samplers_picture
from lightning_gen.results.result import Name, Result
from lightning_gen.results.sampler_table import SAMPLERS, markdown
from lightning_gen.results.store import plain, write_atomically
from lightning_gen.samplers import Sampler


class Point(NamedTuple):
    """A sampler as one row runs it, by its name and what it was asked to keep within."""

    name: str
    budget: str
    sampler: Sampler


class SamplerTable(Measuring):
    """samplers.json, samplers.md and samplers.png in the run folder, at the test stage, for one trained model.

    Each of `samplers` draws n samples with the most steps that call the network at most N times, for each N of
    `evaluations`. One that chooses its own steps (RK45) runs once for each of `tolerances`, rtol = atol. All have one
    seed, and features, reference and weights of the run's Quality. What does not fit the model, or diverges, is left
    out and named with the reason. Rows of the same protocol that the files hold are not drawn again.

    FID's error knows nothing of the bias, which all share. Seconds are of drawing 1,000 samples, without their
    features, by one device of this machine.
    n: null is quality.n, or the number of held-out samples where they are fewer, so that both have the same bias.
    """

    key = "callbacks.solvers"

    def __init__(
        self,
        samplers: dict[str, Sampler],
        evaluations: Counts = (10, 20, 50, 100),
        tolerances: Sequence[Positive] = (1e-1, 1e-2, 1e-3),
        n: Annotated[int, Ge(3)] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(n, seed=seed)
        if not samplers:
            raise ValueError("callbacks.solvers.samplers is {}, expected at least one: add it")
        self.samplers, self.evaluations = dict(samplers), sorted(set(evaluations))
        self.tolerances = sorted(set(tolerances), reverse=True)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a run without Quality, and a model that no sampler fits, before any work."""
        if not any(isinstance(callback, Quality) for callback in trainer.callbacks):
            raise ValueError("callbacks.solvers measures by the run's quality, and there is none: name quality=digits")
        points, left_out = self.points(pl_module)
        if not points:
            raise ValueError(f"none of callbacks.solvers.samplers fits this model: {reasons(left_out)}")

    def quality(self, trainer: Trainer) -> Quality:
        """The run's Quality, set to measure FID and KID of our n samples."""
        mine = copy.copy(next(callback for callback in trainer.callbacks if isinstance(callback, Quality)))
        held_out = len(trainer.datamodule.split("test")) if mine.held_out else mine.n
        mine.n = min(mine.n, held_out) if self.n is None else self.n
        mine.n, mine.metrics, mine.seed = max(mine.n, 3), ("fid", "kid"), self.seed
        return mine

    def publishes(self, module: Any) -> set[Name]:
        """No number: its rows stand in files of their own."""
        return set()

    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Draw the rows that the files lack, and write the files anew after each."""
        data, quality = trainer.datamodule, self.quality(trainer)
        quality.features.prepare(data, trainer.global_rank, trainer.strategy.broadcast)
        quality.features.to(module.device)
        points, left_out = self.points(module)
        keys = [json.dumps(self.row_key(trainer, module, quality, point.sampler), sort_keys=True) for point in points]
        folder, first = Path(trainer.default_root_dir), trainer.is_global_zero
        rows = trainer.strategy.broadcast(self.known(folder) if first else None)
        content = {"budgets": self.evaluations, "rows": [], "left_out": left_out, "held_out": {}}
        missing = {key: point.sampler for point, key in zip(points, keys, strict=True) if key not in rows}
        share = {"size": quality.block, "rank": trainer.global_rank, "world": trainer.world_size}
        work = sum(module.work(quality.n, sampler, **share) for sampler in missing.values())
        with self.bar(trainer, "samplers", work) as progress:
            real = quality.real(trainer, quality.reference) if first else None
            if first and quality.held_out:
                content["held_out"] = stored(quality.held_out_numbers(trainer, real))
            for point, key in zip(points, keys, strict=True):
                try:
                    if key not in rows:
                        rows[key] = self.row(trainer, module, quality, point.sampler, real, progress.update)
                    content["rows"].append({"sampler": point.name, "protocol": json.loads(key), **rows[key]})
                except NonFinite as error:
                    left_out[f"{point.name}, {point.budget}"] = str(error)
                if first and content["rows"]:
                    write(folder, content)
        quality.features.to("cpu")
        if not content["rows"]:
            raise NonFinite(f"no sampler's samples are finite: {reasons(left_out)}")
        if first:
            log_image(trainer, SAMPLERS, folder / f"{SAMPLERS}.png")

    def points(self, module: Any) -> tuple[list[Point], dict[str, str]]:
        """Every sampler at every budget, and the reasons why others are left out."""
        points, left_out = [], {}
        for name, sampler in self.samplers.items():
            try:
                sampler.check(module.model)  # a plan may divide by what is refused here
                settings = (self.by_tolerance if sampler.adaptive else self.by_steps)(module, sampler)
            except (TypeError, ValueError) as error:
                left_out[name] = " ".join(str(error).split())
                continue
            if not settings:
                left_out[name] = f"takes more than {self.evaluations[-1]} evaluations"
            points += [Point(name, *setting) for setting in settings]
        return points, left_out

    def by_tolerance(self, module: Any, sampler: Sampler) -> list[tuple[str, Sampler]]:
        """A sampler that chooses its own steps, at each tolerance."""
        module.check(sampler)
        return [(f"tolerance {x:g}", sampler.with_options(rtol=x, atol=x)) for x in self.tolerances]

    def by_steps(self, module: Any, sampler: Sampler) -> list[tuple[str, Sampler]]:
        """A sampler with the most steps that each budget buys."""
        guided = module.classes is not None and module.guidance not in (0, 1)  # two calls of the network a reading
        steps = {
            goal: most(sampler, module.model, module.model_shape, goal // (1 + guided)) for goal in self.evaluations
        }
        # a process of few steps reaches several budgets with the same
        steps = {k: goal for goal, k in reversed(steps.items()) if k is not None}
        module.check(sampler.with_steps(max(steps, default=1)))
        return [(f"{goal} evaluations", sampler.with_steps(k)) for k, goal in reversed(steps.items())]

    def row_key(self, trainer: Trainer, module: Any, quality: Quality, sampler: Sampler) -> dict[str, Any]:
        """What makes a row what it is, as JSON holds it."""
        own = {"step": step_of(trainer), "n": quality.n, "options": quality.options._asdict()}
        return plain({**quality.protocol(trainer.datamodule, module, sampler), **own})

    def row(
        self, trainer: Trainer, module: Any, quality: Quality, sampler: Sampler, real: Reference | None, progress: Any
    ) -> dict[str, Any]:
        """Evaluations, FID, KID and seconds; rank 0 alone has the reference and makes the row."""
        drawn = quality.drawn(trainer, module, sampler, progress)
        if real is None:
            return {}
        size = quality.size(module, sampler)
        how = {"machine": machine(module.device), "ranks": trainer.world_size, "n": quality.n, "block": size}
        protocol = {**quality.protocol(trainer.datamodule, module, sampler), "evaluations": drawn.evaluations}
        kind = "estimate" if sampler.adaptive else "exact"
        samples = Evaluation(drawn.features, None, real, None, quality.options, quality.seed)
        return stored(
            [
                Result(drawn.evaluations, kind, None, "calls a sample", name=Name("evaluations")),
                *quality.numbers("samples", samples, protocol),
                Result(drawn.seconds, "estimate", drawn.spread, "s per 1,000", how, name=Name("seconds")),
            ]
        )

    def known(self, folder: Path) -> dict[str, Any]:
        """The rows that an earlier call has drawn, by their protocol."""
        path = folder / f"{SAMPLERS}.json"
        rows = json.loads(path.read_text())["rows"] if path.is_file() else []
        return {
            json.dumps(row["protocol"], sort_keys=True): {
                key: row[key] for key in row if key not in ("sampler", "protocol")
            }
            for row in rows
            if "protocol" in row
        }


def reasons(left_out: Mapping[str, str]) -> str:
    """Who is left out and why."""
    return "; ".join(f"{name}: {reason}" for name, reason in left_out.items())


def stored(results: list[Result]) -> dict[str, Any]:
    """Results by their quantity alone, as JSON holds them."""
    return {result.name.quantity: plain(replace(result, name=None).as_dict()) for result in results}


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """The three files."""
    write_atomically(folder / f"{SAMPLERS}.json", (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    write_atomically(folder / f"{SAMPLERS}.md", markdown(content).encode())
    save_png(folder / f"{SAMPLERS}.png", samplers_picture(content))


def machine(device: torch.device) -> str:
    """What the seconds were taken on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {device.type}, {torch.get_num_threads()} threads"


def most(sampler: Sampler, model: Model, shape: tuple[int, ...], evaluations: int) -> int | None:
    """The most steps whose trajectory calls the network at most `evaluations` times; None where one is too many."""

    def calls(steps: int) -> float:
        try:
            return sampler.with_steps(steps).evaluations(model, (1, *shape))
        except ValueError:  # more steps than the process has
            return float("inf")

    least = next((steps for steps in (1, 2) if calls(steps) <= evaluations), None)
    if least is None:
        if calls(1) == calls(2) == float("inf"):
            sampler.with_steps(2).evaluations(model, (1, *shape))  # says what is wrong
        return None
    return least - 1 + bisect_right(range(least, evaluations + 1), evaluations, key=calls)
