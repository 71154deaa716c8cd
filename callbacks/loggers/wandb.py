"""Weights & Biases as a mirror of the record: it can be absent, offline or broken, and the run goes on."""

import netrc
import os
import secrets
import string
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyExperiment, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from lightning_gen.options import Checked

# no command line, user, host, git state, source, package list or environment value leaves the machine
PRIVATE = {
    "silent": True,
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "program": "",
    "host": "",
    "username": "",
    "email": "",
    "reinit": "create_new",
    "symlink": False,  # the run folder may be moved
    "init_timeout": 60,
    "finish_timeout": 120,  # a lost network must not hold a finished run for ever; `wandb sync` sends the rest
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
STEP = "trainer/global_step"


class Wandb(Checked, Logger):
    """Sends numbers and pictures to W&B from rank 0: online where a key is found, else to <folder>/wandb/offline-run-*.

    Never a prompt, and no failure of W&B ends a run: it is said once on stderr. The run's id is kept in the file
    wandb/run-id, so that a resume goes on with the same run; `wandb sync <folder>/wandb/offline-run-*` uploads it.
    """

    def __init__(
        self,
        project: str = "lightning-gen",
        name: str | None = None,
        folder: str = ".",
        mode: Literal["auto", "online", "offline", "disabled"] = "auto",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if mode == "online" and not has_key():
            raise ValueError(
                "logger.mode=online needs a W&B key, found none in WANDB_API_KEY or netrc: "
                "run `wandb login`, or take logger.mode=offline"
            )
        if mode == "auto":
            asked = os.environ.get("WANDB_MODE", "").replace("dryrun", "offline")
            mode = asked if asked in ("offline", "disabled") else "online" if has_key() else "offline"
        self.mode = mode
        self._project, self._folder, self._id_file = project, folder, Path(folder, "wandb", "run-id")
        self._about = {"name": name or Path(folder).resolve().name, "entity": entity, "group": group, "tags": [*tags]}
        self._run: Any = None
        self._failed = False

    @property
    def name(self) -> str:
        return self._project

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
            self.experiment.log(dict(metrics) | ({} if step is None else {STEP: step}))

    @rank_zero_only
    def log_image(self, name: str, images: list[Any], step: int | None = None) -> None:
        """Pictures as PIL images, uint8: W&B casts floats without scaling."""
        if self._off():
            return
        with _Guard(self):
            import wandb

            self.log_metrics({name: [wandb.Image(image) for image in images]}, step)

    @rank_zero_only
    def log_table(self, name: str, columns: list[str], data: list[list[Any]]) -> None:
        """Rows of plain values as a table; W&B takes one type a column, so a value that is missing is None."""
        if self._off():
            return
        with _Guard(self):
            import wandb

            self.log_metrics({name: wandb.Table(columns=columns, data=data, allow_mixed_types=True)})

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
    def close(self) -> None:
        """Upload what is left and end W&B's run; at the end of the process W&B does so itself."""
        if self._run is not None and not self._off():
            with _Guard(self):
                self._run.finish()
        self._run = None

    def _off(self) -> bool:
        return self._failed or self.mode == "disabled"

    def _start(self) -> Any:
        if self._off():
            return DummyExperiment()
        if find_spec("wandb") is None:
            self._say("wandb is not installed")
            return DummyExperiment()
        for mode in ("online", "offline") if self.mode == "online" else ("offline",):
            with _Guard(self) as guard:
                import wandb

                known = {key: value for key, value in PRIVATE.items() if key in wandb.Settings.model_fields}
                run = wandb.init(
                    project=self._project,
                    dir=self._folder,
                    id=self._identity(),
                    resume="allow" if mode == "online" else None,
                    mode=mode,
                    settings=wandb.Settings(**known),
                    **self._about,
                )
                run.define_metric(STEP)
                run.define_metric("*", step_metric=STEP, step_sync=True)
            if not guard.failed:
                self._failed, self.mode = False, mode
                return run
            with _Guard(self):
                import wandb

                wandb.teardown()  # else the failed start keeps the run's id in use
        return DummyExperiment()

    def _identity(self) -> str:
        if not self._id_file.exists():
            self._id_file.parent.mkdir(parents=True, exist_ok=True)
            # not from the run's seeds: two runs of one seed are two runs
            letters = string.ascii_lowercase + string.digits
            self._id_file.write_text("".join(secrets.choice(letters) for _ in range(8)) + "\n")
        return self.version

    def _say(self, what: object) -> None:
        if not self._failed:
            print(f"W&B: {what}; the run goes on, and record.jsonl holds every value", file=sys.stderr, flush=True)
        self._failed = True

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


def has_key() -> bool:
    """Whether W&B would find a key without asking: WANDB_API_KEY, or netrc's entry for its host."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            entry = netrc.netrc(path).authenticators(host)
        except (OSError, netrc.NetrcParseError):
            continue  # no file, or one that W&B cannot read either
        if entry and entry[2]:
            return True
    return False
