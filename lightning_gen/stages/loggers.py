"""The loggers that a config names, what they are told of a run besides its numbers, and their end."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gen import __version__
from lightning_gen.config.allow import OURS, declared
from lightning_gen.config.instantiate import build
from lightning_gen.config.root import IDENTITY
from lightning_gen.runs.folder import RunFolder
from lightning_gen.runs.sources import digest

if TYPE_CHECKING:
    from lightning_gen.stages.session import Session

SECRET = re.compile(r"password|passwd|secret|token|credential|api_?key", re.IGNORECASE)
WITHHELD = "(not sent)"


def build_loggers(config: dict[str, Any], folder: RunFolder) -> list[Any]:
    """The configured loggers: none, one, or several by name. Ours write into the run folder."""
    node = config.get("logger") or {}
    nodes = {"logger": node} if "_target_" in node else {f"logger.{name}": child for name, child in node.items()}
    return [build(each, path, **where(each, folder)) for path, each in nodes.items() if each]


def where(node: Mapping[str, Any], folder: RunFolder) -> dict[str, str]:
    """The run folder, as an argument of a logger of ours."""
    return {"folder": str(folder.path)} if node["_target_"].startswith(f"{OURS}.callbacks.") else {}


def describe(session: "Session") -> None:
    """Tell the loggers what the run is: its config as it is stored, its size, its code and its training data."""
    config = session.folder.config()
    model = getattr(session.module, "model", None)
    about = {
        "parameters": None if model is None else sum(p.numel() for p in model.parameters()),
        "version": __version__,
        "code": {package: digest(package)[:16] for package in (OURS, *declared(config))},
        "data_fingerprint": session.folder.identity().get("data"),
    }
    for logger in session.trainer.loggers:
        logger.log_hyperparams(public({key: config[key] for key in IDENTITY if key in config}) | about)


def public(value: Any, key: str = "") -> Any:
    """What may leave the machine of a config: of an absolute path its last part, of a URL no user, no secret.

    A config holds no environment value, for `config.faults.resolvers` refuses what asks for one.
    """
    if isinstance(value, Mapping):
        return {name: public(child, str(name)) for name, child in value.items()}
    if isinstance(value, list):
        return [public(child, key) for child in value]
    if not isinstance(value, str):
        return value
    if SECRET.search(key):
        return WITHHELD
    if value.startswith(("/", "~")):
        return Path(value).name
    return re.sub(r"(\w://)[^/@]*@", r"\1", value)


def send_files(loggers: Iterable[Any], kind: str, files: Iterable[Path], about: Mapping[str, Any]) -> None:
    """Give files to every logger that takes them, as what they are."""
    for logger in loggers:
        if (send := getattr(logger, "log_files", None)) is not None:
            send(kind, list(files), about)


def send_checkpoints(session: "Session") -> None:
    """Give last.ckpt, and best.ckpt where there is one, to the loggers whose option `checkpoint` asks for them."""
    last = session.folder.last
    files = [file for file in (last, last.with_name("best.ckpt")) if file.is_file()]
    asked = [logger for logger in session.loggers if getattr(logger, "checkpoint", False)]
    if files and not session.trainer.fast_dev_run:
        send_files(asked, "checkpoint", files, {"step": session.trainer.global_step})


def close(loggers: Iterable[Any]) -> None:
    """End the loggers whose end Lightning does not see to, and say what they did and where."""
    for logger in loggers:
        if hasattr(logger, "close") and (told := logger.close()):
            print(told)
