"""The run folder: one name, one config, its checkpoints. A name, never a clock: any rank after any kill finds it."""

import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from lightning_gen.config.fixed import fixed
from lightning_gen.config.stored import config_file, read
from lightning_gen.errors import Stopped
from lightning_gen.runs import checkpoint_file, signals, weights_file
from lightning_gen.runs.atomic import replacing
from lightning_gen.runs.devices import place, process_rank

STOP = "stopped"  # the file that says that a signal has stopped the run
TORN = ("checkpoints/*.ckpt.part", "checkpoints/*.ckpt.previous")
TORN += tuple(f"{name}/*.part" for name in ("export", "samples", "edits", "compressed", "diffusers", "diffusers/*"))
TORN += tuple(f"{name}.part" for name in ("config.yaml", "run.json", "stopped", "report.html", "curves.png"))
TORN += tuple(f"{name}.part" for name in ("metrics.json", "metrics-before.json", "samplers.json", "samplers.md"))
PIECES = ".evaluation"  # what an evaluation in progress has drawn


class RunFolder:
    """outputs/<name>: config.yaml, checkpoints/, and what the callbacks write."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.configured = self.path / "config.yaml"
        self.named: Path | None = None  # the checkpoint, where one was named
        self.threads: int | None = None  # of the CPU, where a measurement has chosen them
        self.compiled: bool | None = None  # whether networks are compiled in training, likewise

    @classmethod
    def of(cls, path: Path) -> "RunFolder":
        """The folder that a user names: a run, an export, or a checkpoint.

        That of a checkpoint is the run that it lies in, else a folder of its name beside it.
        """
        path = Path(path).expanduser()
        if path.suffix != ".ckpt":
            return cls(path)
        configured = config_file(path)
        folder = cls(path.with_suffix("") if configured == path else configured.parent)
        folder.configured, folder.named = configured, path
        return folder

    def config(self) -> dict[str, Any]:
        """The stored config, plain values under root keys; FileNotFoundError for none, ValueError for anything else."""
        return read(self.configured)

    def fresh(self) -> "RunFolder":
        """The first of <name>, <name>-2, <name>-3, ... that does not exist."""
        if place().world > 1:
            raise ValueError("fresh=true with several processes would give each its own folder: name a new one by run=")
        path, number = self.path, 1
        while path.exists():
            number += 1
            path = self.path.with_name(f"{self.path.name}-{number}")
        return RunFolder(path)

    def differences(self, config: dict[str, Any]) -> list[str]:
        """`key: stored value -> new value` for each difference that a resumed run may not have."""
        if not (self.path / "config.yaml").is_file():
            return []
        stored, new, absent = fixed(self.config()), fixed(config), "(absent)"
        pairs = ((key, stored.get(key, absent), new.get(key, absent)) for key in {**stored, **new})
        return [f"{key}: {old} -> {value}" for key, old, value in pairs if old != value]

    def text(self) -> str:
        """The text of config.yaml, "" where there is none."""
        return self.configured.read_text(encoding="utf-8") if self.configured.is_file() else ""

    def store(self, config: dict[str, Any]) -> None:
        """Write config.yaml."""
        with replacing(self.path / "config.yaml") as partial:
            partial.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def identity(self) -> dict[str, Any]:
        """What the run is: id, SHA-256 of its config, and the step of its newest checkpoint; {} where none is known."""
        try:
            identity = json.loads((self.path / "run.json").read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"{self.path / 'run.json'} is not valid JSON ({error}): delete it") from error
        if not isinstance(identity, dict):
            raise ValueError(f"{self.path / 'run.json'} holds {type(identity).__name__}, no run: delete it")
        return identity

    def identify(self, **changes: Any) -> None:
        """Write run.json, with a new id where there is none."""
        identity = {"id": uuid.uuid4().hex} | self.identity() | changes
        with replacing(self.path / "run.json") as partial:
            partial.write_text(json.dumps(identity) + "\n")

    def check_identity(self, checkpoint: dict[str, Any], path: Path) -> None:
        """ValueError for a checkpoint of another run."""
        mine, its = self.identity(), checkpoint.get("run", {})
        if "id" in mine and "id" in its and mine["id"] != its["id"]:
            same = "the same" if mine.get("config") == its.get("config") else "another"
            raise ValueError(
                f"{path} is of the run {its['id']}, which has {same} config, expected {mine['id']} as in run.json: put "
                "this run's own checkpoint back, or write fresh=true"
            )

    def check_data(self, identity: str, data: Any) -> None:
        """ValueError where the training data, which have this identity, are not those of the run."""
        known = self.identity().get("data")
        if known is not None and identity.startswith("files:") and ":" not in known:
            if process_rank() == 0:  # an older version's, of names and sizes
                taken = f"takes {data.name} as it is now, and compares its content from the next start on"
                print(f"warning: {self.path} {taken}", file=sys.stderr)
        elif known not in (None, identity):
            raise ValueError(
                f"{data.changed(identity, known)} as when {self.path} began: put it back, or write fresh=true"
            )

    @property
    def last(self) -> Path:
        """The newest checkpoint's name."""
        return self.path / "checkpoints" / "last.ckpt"

    def newest(self) -> Path | None:
        """The newest intact checkpoint: last.ckpt, else the one of most steps of those before it and step-*.ckpt.

        None before any save. A damaged or absent file is named on stderr, with what is lost; ValueError where no
        intact one is left.
        """
        previous = list(checkpoint_file.previous(self.last))
        copies = sorted(self.last.parent.glob("step-*.ckpt"), reverse=True)
        if not (self.last.is_file() or previous or copies or self.identity().get("step")):
            return None
        faults: list[str] = []
        path = first_intact([self.last], faults)
        if path is None:
            found = [first_intact(paths, faults) for paths in (previous, copies)]
            path = max(filter(None, found), key=checkpoint_file.steps, default=None)
        saved = self.identity().get("step")
        if path is None:
            raise ValueError(
                f"{'; '.join(faults)}; the run had saved step {saved or '(unknown)'}, and no other checkpoint is left: "
                "copy one back, or train anew (stage=fit fresh=true)"
            )
        if faults and process_rank() == 0:
            at = checkpoint_file.steps(path)
            lost = f", steps {at + 1} to {saved} are computed again" if saved and at is not None and at < saved else ""
            print(f"warning: {'; '.join(faults)}: {path.name} is taken instead{lost}", file=sys.stderr)
        return path

    @property
    def exported(self) -> Path:
        """The weights of an exported folder."""
        return self.path / "model.safetensors"

    @property
    def metrics(self) -> Path:
        """The last evaluation's numbers."""
        return self.path / "metrics.json"

    def remove_torn(self) -> None:
        """Remove what a killed process has left of files that it was writing; an only good checkpoint stays."""
        link = self.last.with_name("last.ckpt.previous")
        if link.is_file() and first_intact([self.last], []) is None and checkpoint_file.damage(link) is None:
            os.replace(link, self.last)  # of somebody's CheckpointIO that writes into last.ckpt
        for path in (path for pattern in TORN for path in self.path.glob(pattern)):
            path.unlink(missing_ok=True)

    def forget_pieces(self) -> None:
        """Remove what an evaluation that is complete had drawn."""
        shutil.rmtree(self.path / PIECES, ignore_errors=True)

    def forget_stop(self) -> None:
        """Remove the file `stopped`, as the next start does, also one that is refused, which nobody should requeue."""
        note = self.path / STOP
        with suppress(OSError, UnicodeDecodeError):
            # Not one of the user's; a link is a stranger's.
            if note.is_symlink() or (note.is_file() and note.read_text().startswith("stopped: ")):
                note.unlink()

    @contextmanager
    def stop_note(self, rank: int = 0) -> Iterator[None]:
        """The file `stopped`, written by rank 0 where a signal ends what is done within: torchrun's exit code is 1."""

        def write(sentence: str) -> None:
            with suppress(OSError):  # a full disk does not keep the process from stopping
                if sentence and rank == 0 and self.path.is_dir():
                    with replacing(self.path / STOP) as partial:
                        partial.write_text(f"stopped: {sentence}\n")

        if rank == 0:
            self.forget_stop()
        signals.leaving.insert(0, write)
        saves = (self.last, self.path / PIECES)
        signals.saves.extend(saves)
        try:
            yield
        except Stopped as stop:
            write(str(stop))
            raise
        finally:
            signals.leaving.remove(write)
            for path in saves:
                signals.saves.remove(path)

    def checkpoint(self, path: Path | None = None) -> dict[str, Any]:
        """A checkpoint's plain containers and tensors, on the CPU; FileNotFoundError where there is none."""
        file = path or self.named or self.newest() or self.last
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist: the run has saved nothing yet; start it by stage=fit")
        checkpoint = checkpoint_file.read(file)
        checkpoint_file.check_parts(checkpoint, file)
        self.check_identity(checkpoint, file)
        return checkpoint

    def weights(self, path: Path | None = None) -> dict[str, Any]:
        """The module's state dict.

        An export holds the averaged weights alone: model and ema both start from them.
        """
        if (path := path or self.named) is not None and path.suffix == ".ckpt":
            return self.checkpoint(path)["state_dict"]
        if not self.exported.is_file():
            return self.checkpoint()["state_dict"]
        state = weights_file.read(self.exported)
        if not weights_file.keeps_average(self.config()["module"]):
            return state
        return state | {f"ema.{key[6:]}": value for key, value in state.items() if key.startswith("model.")}

    def trained(self) -> tuple[int, int]:
        """Optimizer steps and last epoch of the checkpoint; (0, 0) of an export, which does not say."""
        if self.exported.is_file():
            return 0, 0
        checkpoint = self.checkpoint()
        return checkpoint["global_step"], checkpoint["epoch"]

    def export(self) -> "RunFolder":
        """Write <run>/export: the averaged weights as safetensors, and config.yaml; NonFinite, and nothing written,
        if a weight is not finite."""
        checkpoint, target = self.checkpoint(), RunFolder(self.path / "export")
        weights = weights_file.shared(checkpoint["state_dict"], f"of step {checkpoint['global_step']}")
        target.store(self.config())
        weights_file.write(weights, target.exported, step=str(checkpoint["global_step"]))
        return target

    def files(self) -> list[Path]:
        """What a person opens, W&B's own files left out."""
        paths = (path for path in self.path.rglob("*") if path.is_file() and "wandb" not in path.parts)
        return sorted(p for p in paths if not any(part[0] == "." for part in p.relative_to(self.path).parts))


def list_files(files: Iterable[Path]) -> None:
    """Say where everything lies."""
    print("written:", *files, sep="\n  ")


def first_intact(paths: Iterable[Path], faults: list[str]) -> Path | None:
    """The first intact checkpoint, None where there is none; a fault is added for each file before it."""
    for path in paths:
        if not path.is_file():
            faults.append(f"{path} does not exist")
        elif (reason := checkpoint_file.damage(path)) is not None:
            faults.append(f"{path} is damaged ({reason})")
        elif path.name != "last.ckpt" and checkpoint_file.steps(path) is None:
            faults.append(f"{path} is no checkpoint of a run")
        else:
            return path
    return None
