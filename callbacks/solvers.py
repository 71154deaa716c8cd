"""The picture from which a user chooses a sampler: sampler x number of network evaluations -> FID, KID, seconds."""

import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.drawing import save_png
from callbacks.quality import Quality, undisturbed
from callbacks.record import log_image, step_of, write_atomically
from lightning_gen.metrics.frechet import frechet_distance, moments
from lightning_gen.metrics.kernel import kernel_distance
from lightning_gen.process import Process
from lightning_gen.randomness import generator
from lightning_gen.result import Result
from lightning_gen.samplers import Sampler

TABLE = "samplers"


class SamplerTable(Callback):
    """samplers.json, samplers.md and samplers.png in the run folder, at the test stage, for one trained model.

    Each of `samplers` draws n samples at each of `evaluations` (network calls a sample): the most steps that stay
    within. A sampler without `steps` (RK45) is run once for each of `tolerances`, and its calls are counted. All share
    seed, n and the features and reference of the run's Quality; seconds are those of drawing and features on this
    machine. What does not fit the model is left out and named with the reason. Rows of the same protocol are kept.
    """

    def __init__(
        self,
        samplers: dict[str, Sampler],
        evaluations: Sequence[int] = (10, 20, 50, 100, 200),
        tolerances: Sequence[float] = (1e-2, 1e-3, 1e-4),
        n: int = 1500,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not samplers or not evaluations or min(evaluations) < 1 or n < 3 or any(not x > 0 for x in tolerances):
            raise ValueError(
                f"callbacks.solvers needs samplers, evaluations >= 1, tolerances > 0 and n >= 3, got {list(samplers)}, "
                f"{list(evaluations)}, {list(tolerances)}, {n}"
            )
        self.samplers, self.evaluations, self.tolerances = dict(samplers), sorted(evaluations), list(tolerances)
        self.n, self.seed = n, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a run without Quality before any work."""
        if not any(isinstance(callback, Quality) for callback in trainer.callbacks):
            raise ValueError("callbacks.solvers measures by the run's quality, and there is none: name quality=digits")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what is missing, and write the table."""
        quality = next(callback for callback in trainer.callbacks if isinstance(callback, Quality))
        folder, module = Path(trainer.default_root_dir), pl_module
        chosen, left_out = self.chosen(module)
        known = trainer.strategy.broadcast(self.known(folder) if trainer.is_global_zero else None)
        rows = []
        for name, sampler in chosen:
            protocol = self.protocol(trainer, module, quality, sampler)
            key = json.dumps(protocol, sort_keys=True)
            row = known.get(key) or self.measure(trainer, module, quality, sampler, protocol)
            rows.append({"sampler": name, **row})
            known[key] = row
            if trainer.is_global_zero:
                self.write(folder, rows, left_out, self.held_out(trainer, module, quality))
        if rows and trainer.is_global_zero:
            log_image(trainer, "samplers", folder / f"{TABLE}.png")

    def chosen(self, module: Any) -> tuple[list[tuple[str, Sampler]], dict[str, str]]:
        """Every sampler at every budget, and the reasons why others are left out."""
        chosen, left_out, process = [], {}, module.model.process
        for name, sampler in self.samplers.items():
            try:
                if hasattr(sampler, "rtol"):
                    module.check(sampler)
                    chosen += [(name, changed(sampler, rtol=x, atol=x)) for x in self.tolerances]
                    continue
                found = dict.fromkeys(steps for goal in self.evaluations if (steps := most(sampler, process, goal)))
                module.check(with_steps(sampler, max(found, default=1)))
            except (TypeError, ValueError) as error:
                left_out[name] = " ".join(str(error).split())
                continue
            if not found:
                left_out[name] = f"takes more than {self.evaluations[-1]} evaluations"
            chosen += [(name, with_steps(sampler, steps)) for steps in found]
        return chosen, left_out

    def protocol(self, trainer: Trainer, module: Any, quality: Quality, sampler: Sampler) -> dict[str, Any]:
        """What makes a row what it is."""
        data = trainer.datamodule
        plain = {
            "sampler": sampler.describe(),
            "n": self.n,
            "seed": self.seed,
            "block": quality.block,
            "step": step_of(trainer),
            "weights": quality._weights(module),
            "guidance": module.guidance if module.classes is not None else "no labels",
            "features": quality.features.identity(),
            "reference": quality.reference,
            "reference_fingerprint": data.split(quality.reference).fingerprint(),
        }
        return json.loads(json.dumps(plain, default=str))

    @torch.no_grad()
    def measure(
        self, trainer: Trainer, module: Any, quality: Quality, sampler: Sampler, protocol: dict[str, Any]
    ) -> dict[str, Any]:
        """One row: evaluations, seconds per 1,000 samples, FID and KID."""
        quality.features.prepare(trainer.datamodule, trainer.global_rank, trainer.strategy.broadcast)
        quality.features.to(module.device)
        shadow = copy.copy(quality)
        shadow.seed = self.seed
        with undisturbed(module):
            begun = time.perf_counter()
            features, _, evaluations = shadow.drawn(trainer, module, sampler, self.n)
            seconds = (time.perf_counter() - begun) * 1000 / self.n  # the features are on the host: all work is done
        real = quality._reference(trainer.datamodule, quality.reference, module)
        kid = kernel_distance(
            features, real.features.to(features.device), generator(self.seed, "subset", "kid"),
            quality.kid_subsets, quality.kid_subset_size,
        )  # fmt: skip
        results = {
            "fid": Result(frechet_distance(*moments(features), real.mean, real.cov), "estimate", None, "", protocol),
            "kid": Result(kid.value, "estimate", kid.error, "", protocol),
        }
        plain = {name: result.as_dict() for name, result in results.items()}
        return {"evaluations": evaluations, "seconds_per_1000": seconds, **plain}

    def held_out(self, trainer: Trainer, module: Any, quality: Quality) -> dict[str, float]:
        """FID and KID of at most n real test images: what a perfect model would get."""
        if not quality.held_out:
            return {}
        real, test = (quality._reference(trainer.datamodule, name, module) for name in (quality.reference, "test"))
        rows = test.features[: self.n]
        kid = kernel_distance(rows, real.features, generator(self.seed, "subset", "kid"), quality.kid_subsets, 1000)
        return {"fid": frechet_distance(*moments(rows), real.mean, real.cov), "kid": kid.value, "n": len(rows)}

    def known(self, folder: Path) -> dict[str, Any]:
        """The rows that an earlier call has drawn, by their protocol."""
        path = folder / f"{TABLE}.json"
        rows = json.loads(path.read_text())["rows"] if path.is_file() else []
        return {
            json.dumps(row["fid"]["protocol"], sort_keys=True): {k: v for k, v in row.items() if k != "sampler"}
            for row in rows
        }

    def write(self, folder: Path, rows: list, left_out: Mapping[str, str], held_out: Mapping[str, float]) -> None:
        """The three files."""
        whole = {"rows": rows, "left_out": dict(left_out), "held_out": dict(held_out)}
        write_atomically(folder / f"{TABLE}.json", (json.dumps(whole, indent=1) + "\n").encode())
        write_atomically(folder / f"{TABLE}.md", markdown(rows, left_out, held_out).encode())
        save_png(folder / f"{TABLE}.png", picture(rows, held_out))


def changed(sampler: Sampler, **options: Any) -> Sampler:
    """A copy with other options."""
    other = copy.copy(sampler)
    for key, value in options.items():
        setattr(other, key, value)
    return other


def with_steps(sampler: Sampler, steps: int) -> Sampler:
    """A copy that takes `steps` steps; of a pair, its predictor does; of levels, at each of them."""
    if hasattr(sampler, "predictor"):
        return changed(sampler, predictor=with_steps(sampler.predictor, steps))
    return changed(sampler, **{"steps_each" if hasattr(sampler, "steps_each") else "steps": steps})


def most(sampler: Sampler, process: Process, evaluations: int) -> int | None:
    """The most steps whose trajectory calls the network at most `evaluations` times; None where one is too many."""

    def calls(steps: int) -> float:
        try:
            return with_steps(sampler, steps).evaluations(process)
        except ValueError:  # more steps than the process has
            return float("inf")

    least = next((steps for steps in (1, 2) if calls(steps) <= evaluations), None)
    if least is None:
        if calls(1) == calls(2) == float("inf"):
            with_steps(sampler, 2).evaluations(process)  # says what is wrong
        return None
    low, high = least, evaluations + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if calls(middle) <= evaluations else (low, middle)
    return low


def markdown(rows: Sequence[Mapping], left_out: Mapping[str, str], held_out: Mapping[str, float]) -> str:
    """The table as text, the best FID and KID at each number of evaluations in bold."""
    lines = ["| sampler | evaluations | FID | KID | seconds per 1,000 |", "|---|---:|---:|---:|---:|"]
    best = {key: min(row[key]["value"] for row in rows) for key in ("fid", "kid")}
    for row in sorted(rows, key=lambda row: (row["evaluations"], row["fid"]["value"])):
        fid, kid = row["fid"]["value"], row["kid"]["value"]
        cells = [f"{fid:.3f}", f"{kid:.4f} ± {row['kid']['error']:.4f}"]
        cells = [f"**{c}**" if v == best[k] else c for c, v, k in zip(cells, (fid, kid), ("fid", "kid"), strict=True)]
        seconds = f"{row['seconds_per_1000']:.1f}"
        lines.append(f"| {row['sampler']} | {row['evaluations']:.0f} | {cells[0]} | {cells[1]} | {seconds} |")
    if held_out:
        shown = f"{held_out['fid']:.3f} | {held_out['kid']:.4f}"
        lines.append(f"| real held-out images, N = {held_out['n']} | | {shown} | |")
    notes = [f"- {name}: left out: {reason}" for name, reason in left_out.items()]
    return "\n".join([*lines, "", *notes, ""])


def picture(rows: Sequence[Mapping], held_out: Mapping[str, float]) -> np.ndarray:
    """FID and KID over evaluations, a line a sampler -> uint8 (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), dpi=110, layout="constrained")
    canvas, markers = FigureCanvasAgg(figure), "os^vDPX*<>"
    panels = figure.subplots(1, 2)
    for axes, key in zip(panels, ("fid", "kid"), strict=True):
        for number, (name, own) in enumerate(grouped(rows)):
            x = [row["evaluations"] for row in own]
            y = [row[key]["value"] for row in own]
            errors = [row[key]["error"] or 0.0 for row in own]
            style = {"marker": markers[number % len(markers)], "color": f"C{number % 10}", "label": name}
            axes.errorbar(x, y, errors if any(errors) else None, capsize=2, linewidth=1.4, markersize=5, **style)
        if key in held_out:
            axes.axhline(held_out[key], color="0.4", linestyle="--", linewidth=1, label=f"real, N = {held_out['n']}")
        axes.set_xscale("log")
        axes.set_yscale("log" if key == "fid" else "symlog", **({} if key == "fid" else {"linthresh": 0.05}))
        low = min(*(row[key]["value"] - (row[key]["error"] or 0) for row in rows), held_out.get(key, float("inf")))
        axes.set_ylim(bottom=low * 0.8 if key == "fid" else low - 0.01)
        ticks = sorted({round(row["evaluations"]) for row in rows})
        axes.set(xlabel="network evaluations a sample", ylabel=key.upper())
        axes.set_xticks([t for t in (5, 10, 20, 50, 100, 200, 500, 1000) if ticks[0] / 1.5 <= t <= ticks[-1] * 1.5])
        axes.get_xaxis().set_major_formatter("{x:.0f}")
        axes.minorticks_off()
        axes.grid(alpha=0.25)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=9)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def grouped(rows: Sequence[Mapping]) -> Iterator[tuple[str, list[Mapping]]]:
    """Each sampler's rows by rising evaluations."""
    for name in dict.fromkeys(row["sampler"] for row in rows):
        yield name, sorted((r for r in rows if r["sampler"] == name), key=lambda row: row["evaluations"])
