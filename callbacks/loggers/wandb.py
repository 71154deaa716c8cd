"""Weights & Biases as a mirror of the record: it can be absent, offline or broken, and the run goes on."""

import secrets
import shlex
import string
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyExperiment, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from lightning_gen.callbacks.loggers.wandb_environment import PRIVATE, chosen_mode, has_key, staging, variable
from lightning_gen.options import Checked
from lightning_gen.results.drawing import to_pil
from lightning_gen.results.result import Name, is_error

STEP = "trainer/global_step"
PROJECT = "lightning-gen"
BEST = {"lower": "min", "higher": "max"}


class Wandb(Checked, Logger):
    """Sends numbers and pictures to W&B from rank 0: online where a key is found, else to <folder>/wandb/offline-run-*.

    Never a prompt, and no failure of W&B ends a run: it is said once on stderr. The run's id is kept in the file
    wandb/run-id, so that a resume goes on with the same run; `wandb sync <folder>/wandb/offline-run-*` uploads it.
    What is null is named by W&B's own variable, where that is set.

    Args:
        project: of W&B; null for WANDB_PROJECT, else lightning-gen. An agent's sweep decides it.
        name: of the run; null for WANDB_NAME, else the run folder's name.
        folder: the run folder.
        mode: online, offline, disabled; auto for WANDB_MODE, else online where there is a key, else offline.
        entity: the user or team; null for WANDB_ENTITY, else the key's own. An agent's sweep decides it.
        group: that the run belongs to; null for WANDB_RUN_GROUP.
        tags: of the run; null for WANDB_TAGS, separated by commas.
        job_type: of the run; null for WANDB_JOB_TYPE.
        checkpoint: whether the last checkpoint, and the best one if any, are sent after training, as an artifact.
    """

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        folder: str = ".",
        mode: Literal["auto", "online", "offline", "disabled"] = "auto",
        entity: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        job_type: str | None = None,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if mode == "online" and not has_key():
            raise ValueError(
                "logger.mode=online needs a W&B key, found none in WANDB_API_KEY or netrc: "
                "run `wandb login`, or take logger.mode=offline"
            )
        self.mode, self._why = chosen_mode() if mode == "auto" else (mode, f"mode={mode}")
        self.checkpoint = checkpoint
        self._project, self._folder, self._id_file = project, folder, Path(folder, "wandb", "run-id")
        self._about = {"entity": entity, "group": group, "job_type": job_type}
        self._about = {what: value or variable(what) for what, value in self._about.items()}
        self._about["name"] = name or variable("name") or Path(folder).resolve().name
        self._about["tags"] = tags or [tag.strip() for tag in (variable("tags") or "").split(",") if tag.strip()]
        self._run: Any = None
        self._failed = ""  # what ended W&B
        self._defined: set[str] = set()  # the numbers whose best value W&B keeps
        self._sent: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self._project or variable("project") or PROJECT

    @property
    def version(self) -> str:
        """The run's id, "" before there is one."""
        return self._id_file.read_text().strip() if self._id_file.exists() else ""

    @property
    def save_dir(self) -> str:
        return self._folder

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The wandb.Run, or something that takes every call and does nothing."""
        if self._run is None:
            self._run = self._start()
        return self._run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers at an optimizer step; W&B's own counter is left alone, for it drops what a resumed run says again."""
        with _Guard(self):
            self._define(metrics)
            self._log(metrics, step)
            self._sent["value"] += len(metrics) - ("epoch" in metrics)

    @rank_zero_only
    def log_image(self, name: str, images: list[Any], step: int | None = None) -> None:
        """Pictures as PIL images, uint8: W&B casts floats without scaling."""
        if self._off():
            return
        with _Guard(self):
            import wandb

            self._log({name: [wandb.Image(image) for image in images]}, step)
            self._sent["picture"] += len(images)

    @rank_zero_only
    def log_table(self, name: str, columns: list[str], data: list[list[Any]], step: int | None = None) -> None:
        """Rows of plain values as a table; W&B takes one type a column, so a value that is missing is None."""
        if self._off():
            return
        with _Guard(self), staging(self._folder):
            import wandb

            self._log({name: wandb.Table(columns=columns, data=data, allow_mixed_types=True)}, step)
            self._sent["table"] += 1

    @rank_zero_only
    def log_samples(self, name: str, samples: np.ndarray, step: int | None = None) -> None:
        """A table with a row each: of uint8 images (N, H, W, C) the picture, of points (N, 2) both numbers."""
        if self._off():
            return
        with _Guard(self):
            import wandb

            if samples.ndim == 2:
                columns, cells = ["x", "y"], samples.tolist()
            else:
                columns, cells = ["image"], [[wandb.Image(to_pil(x))] for x in samples]
            self.log_table(name, ["index", *columns], [[i, *row] for i, row in enumerate(cells)], step)

    @rank_zero_only
    def log_files(self, kind: str, files: Iterable[Path], about: Mapping[str, Any]) -> None:
        """Files as the artifact <kind>-<id of the run> of the type model, with what is said about them."""
        if self._off():
            return
        with _Guard(self), staging(self._folder):
            import wandb

            run = self.experiment
            artifact = wandb.Artifact(f"{kind}-{run.id}", type="model", metadata=dict(about))
            for file in files:
                artifact.add_file(str(file), name=file.name, skip_cache=True)
            run.log_artifact(artifact)
            self._sent["artifact"] += 1

    @rank_zero_only
    def alert(self, title: str, text: str) -> None:
        """A message that W&B sends to the user."""
        if not self._off():
            with _Guard(self):
                self.experiment.alert(title=title, text=text)

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run's config, as plain containers."""
        if not self._off():
            with _Guard(self):
                self.experiment.config.update(
                    vars(params) if isinstance(params, Namespace) else dict(params), allow_val_change=True
                )

    @rank_zero_only
    def close(self) -> str:
        """Upload what is left and end W&B's run; what was sent, and where it is, in one line, "" where nothing was.

        At the end of a process that does not come here W&B ends the run itself.
        """
        if self._run is None:
            return ""
        sent = [f"{count:,} {what}{'s' * (count > 1)}" for what, count in self._sent.items() if count]
        told = f"W&B: {', '.join(sent) or 'nothing but the config'} "
        if not self._off():
            with _Guard(self):
                if self.mode == "online":
                    told += f"sent to {self._run.url}"
                else:
                    place = Path(self._folder, "wandb", Path(self._run.dir).parent.name)
                    upload = f"wandb sync {shlex.quote(str(place))}"
                    told += f"written to {place}, offline ({self._why}); send them by: {upload}"
                self._run.finish()
        if self._failed:
            told = f"W&B: stopped, as said above ({self._failed}); record.jsonl holds every value"
        self._run = None
        return "" if self.mode == "disabled" else told

    def _off(self) -> bool:
        return bool(self._failed) or self.mode == "disabled"

    def _log(self, values: Mapping[str, Any], step: int | None) -> None:
        self.experiment.log(dict(values) | ({} if step is None else {STEP: step}))

    def _define(self, names: Iterable[str]) -> None:
        """Have W&B keep the best value beside the last, of numbers that have a better direction."""
        for name in {*names} - self._defined:
            best = BEST.get(Name.parse(name).about.better) if not is_error(name) else None
            if best is not None:
                self.experiment.define_metric(name, step_metric=STEP, step_sync=True, summary=f"{best},last")
        self._defined |= {*names}

    def _start(self) -> Any:
        if self._off():
            return DummyExperiment()
        if find_spec("wandb") is None:
            self._say("wandb is not installed")
            return DummyExperiment()
        number = self._identity()
        for mode in ("online", "offline") if self.mode == "online" else ("offline",):
            with _Guard(self) as guard:
                import wandb

                known = {key: value for key, value in PRIVATE.items() if key in wandb.Settings.model_fields}
                # W&B takes project, entity and id of a sweep's run from its agent's variables.
                own = {"project": self.name, "id": number} if variable("sweep") is None else {"entity": None}
                run = wandb.init(
                    dir=self._folder,
                    resume="allow" if mode == "online" else None,
                    mode=mode,
                    settings=wandb.Settings(**known),
                    **self._about | own,
                )
                run.define_metric(STEP)
                run.define_metric("*", step_metric=STEP, step_sync=True)
                self._id_file.write_text(f"{number}\n")
            if not guard.failed:
                self._failed, self.mode = "", mode
                return run
            self._why = str(self._failed)
            with _Guard(self):
                import wandb

                wandb.teardown()  # else the failed start keeps the run's id in use
        return DummyExperiment()

    def _identity(self) -> str:
        """WANDB_RUN_ID, else the run's own id, else a new one."""
        self._id_file.parent.mkdir(parents=True, exist_ok=True)
        asked, kept = variable("id"), self.version
        if asked and kept and asked != kept:
            print(f"W&B: the run's id is {asked} by WANDB_RUN_ID, it was {kept} before", file=sys.stderr, flush=True)
        # not from the run's seeds: two runs of one seed are two runs
        letters = string.ascii_lowercase + string.digits
        return asked or kept or "".join(secrets.choice(letters) for _ in range(8))

    def _say(self, what: object) -> None:
        if not self._failed:
            print(f"W&B: {what}; the run goes on, and record.jsonl holds every value", file=sys.stderr, flush=True)
        self._failed = str(what)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_run": None}


class _Guard:
    """Lets W&B's failures end W&B and nothing else; an interrupt, or an error that is not of its making, passes."""

    OUTER = (OSError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError, ImportError)

    def __init__(self, owner: Wandb) -> None:
        self.owner = owner
        self.failed = False

    def __enter__(self) -> "_Guard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool:
        if kind is None:
            return False
        # W&B raises many private classes; they are known by their package
        theirs = kind.__module__.split(".")[0] in ("wandb", "pydantic_core") or issubclass(kind, self.OUTER)
        if theirs:
            self.failed = True
            self.owner._say(f"{kind.__name__}: {error}".splitlines()[0])
            self.owner._run = DummyExperiment()
        return theirs
