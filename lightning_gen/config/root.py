"""The root keys, and what a command line's words mean for a stage, an experiment's sampler, a run folder's name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

STAGES = ("fit", "evaluate", "sample", "export", "compare")
NODES = ("data", "net", "module", "sampler", "trainer", "callbacks", "quality", "logger")
KEYS = (*NODES, "stage", "run", "seed", "n", "label", "init", "fresh", "runs", "samples")
# What the person who starts a stage says; a stored config, which may be somebody else's, does not.
PERSONAL = ("stage", "run", "init", "fresh", "runs", "trainer", "logger")
# What a stage that needs no model reads; another key would do nothing there.
COMPARE = ("stage", "run", "runs", "logger")
GIVEN_SAMPLES = ("stage", "run", "samples", "experiment", "data", "quality", "trainer", "logger", "seed")


class Root:
    """The root keys of every config: their names and types are checked against this signature."""

    def __init__(
        self,
        data: dict,
        module: dict,
        sampler: dict,
        trainer: dict,
        net: dict | None = None,
        callbacks: dict | None = None,
        quality: dict | None = None,
        logger: dict | None = None,
        stage: Literal["fit", "evaluate", "sample", "export", "compare"] = "fit",
        run: str | None = None,
        seed: int = 0,
        n: int = 64,
        init: str | None = None,
        fresh: bool = False,
        label: int | None = None,
        runs: list[str] | None = None,
        samples: str | None = None,
    ) -> None:
        """The names and types alone matter."""


def quoted(word: str) -> str:
    """runs=[a,b] with each folder in quotes: Hydra takes no = of a sweep's folder without."""
    key, _, value = word.partition("=")
    if key.lstrip("+") != "runs" or not (value[:1] == "[" and value[-1:] == "]") or {"'", '"'} & set(value):
        return word
    parts = [json.dumps(part.strip(), ensure_ascii=False) for part in value[1:-1].split(",") if part.strip()]
    return f"{key}=[{','.join(parts)}]"


def misplaced(stage: str, values: dict[str, Any], given: Sequence[str]) -> list[str]:
    """A fault for each key that the stage would not read, and for what it needs and has not."""
    named = list(dict.fromkeys(key.split(".")[0] for key in given))
    if stage == "compare":
        return [
            f"stage=compare reads {', '.join(COMPARE)}, not {key}: remove it" for key in named if key not in COMPARE
        ]
    faults = ["runs is read by stage=compare alone: add stage=compare"] if "runs" in named else []
    if values.get("samples") is None or stage != "evaluate":
        return faults
    unread = [key for key in named if key not in (*GIVEN_SAMPLES, "runs")]
    told = f"samples={values['samples']} is measured without a model"
    return faults + [f"{told}, {key} would do nothing: remove it" for key in unread]


def replaced(configs: Path, experiment: str, sampler: str) -> list[str]:
    """Overrides that leave nothing of the experiment's own options for its sampler, when another one is named."""
    import yaml

    def options(name: str) -> dict[str, Any]:
        file = configs / "experiment" / f"{name}.yaml"
        page = yaml.safe_load(file.read_text()) if file.is_file() else {}
        bases = [base for base in page.get("defaults", []) if isinstance(base, str) and base != "_self_"]
        return {key: None for base in bases for key in options(base)} | (page.get("sampler") or {})

    file = configs / "sampler" / f"{sampler}.yaml"
    own = yaml.safe_load(file.read_text()) if file.is_file() else {}
    kept = {key: json.dumps(value) for key, value in own.items()}
    return [f"sampler.{key}={kept[key]}" if key in own else f"~sampler.{key}" for key in options(experiment)]


def swept(overrides: Sequence[str]) -> list[str]:
    """The job's overrides as parts of a folder's name, without the experiment, which names it already."""
    parts = [word.lstrip("+") for word in overrides]
    return [part.replace("/", "_") for part in parts if not part.startswith(("experiment=", "stage=", "run="))]
