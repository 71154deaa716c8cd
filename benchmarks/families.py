"""Every family on the digits at equal CPU time of training: python benchmarks/families.py [--minutes 3] [--out FOLDER].

Each experiment is trained on one thread for the number of steps that take so long, found by two short runs of it, and
measured as its recipe says. What an interrupted call has finished is not trained again; the CPU time of a run that was
interrupted is that of its last part.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = (
    "ddpm edm sde_vp sde_ve sde_subvp ncsn flow_matching vae glow made pixelcnn transformer gan wgan "
    "ebm ebm_product ebm_adversarial drl rbm grbm"
)
METRICS = ("fid", "kid", "is", "precision", "recall")
SHORT = (20, 120)


def run(experiment: str, folder: Path, *overrides: str) -> float:
    """CPU seconds of one command, its children's included."""
    command = [sys.executable, str(ROOT / "run.py"), f"experiment={experiment}", f"run={folder}", "logger=none"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, *overrides], check=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def steps_in(experiment: str, seconds: float, folder: Path) -> int:
    """Training steps that take as many seconds of CPU."""
    bare = ("quality=none", "callbacks.likelihood=null", "callbacks.pictures=null", "callbacks.checkpoints=null")
    spent = [run(experiment, folder / f"short-{n}", f"trainer.max_steps={n}", "fresh=true", *bare) for n in SHORT]
    return int(seconds * (SHORT[1] - SHORT[0]) / (spent[1] - spent[0]))


def schedule(experiment: str, steps: int) -> list[str]:
    """Overrides that end the recipe's own schedule, where it has an end, at the last step."""
    recipe = yaml.safe_load((ROOT / f"experiments/experiment/{experiment}.yaml").read_text())
    scheduler, last = recipe["module"].get("scheduler") or {}, recipe["trainer"]["max_steps"]
    return [f"module.scheduler.{key}={steps}" for key in ("T_max", "total_iters") if scheduler.get(key) == last]


def row(experiment: str, done: dict) -> str:
    """One line of the table."""
    numbers = json.loads((Path(done["run"]) / "metrics.json").read_text()).values()
    cells = []
    for quantity in METRICS:
        named = [x for x in numbers if x["name"]["quantity"] == quantity and not x["name"].get("n")]
        found = {x["name"]["weights"]: x for x in named}
        best = found.get("ema") or found.get("raw")
        cells.append("–" if best is None else f"{best['value']:.3g} ± {best['error']:.2g}")
    return f"| `{experiment}` | {done['steps']:,} | {done['cpu'] / 60:.1f} | " + " | ".join(cells) + " |"


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="CPU minutes of training (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=EXPERIMENTS.split(), metavar="FAMILY")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs/families")
    options = parser.parse_args()
    done = {}
    for experiment in (f"{family}_digits" for family in options.only):
        folder = options.out.resolve() / f"{experiment}-{options.minutes:g}-{options.seed}"
        record, count = folder / "done.json", folder / "steps"
        if not record.exists():
            if not count.exists():
                steps = steps_in(experiment, 60 * options.minutes, folder)
                count.write_text(str(steps))
            steps = int(count.read_text())
            overrides = [f"trainer.max_steps={steps}", f"seed={options.seed}", *schedule(experiment, steps)]
            cpu = run(experiment, folder / "run", *overrides)
            record.write_text(json.dumps({"run": str(folder / "run"), "steps": steps, "cpu": cpu}))
        done[experiment] = json.loads(record.read_text())
    print("| experiment | steps | CPU minutes, measuring included | FID | KID | IS | precision | recall |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(row(experiment, found) for experiment, found in done.items()))


if __name__ == "__main__":
    main()
