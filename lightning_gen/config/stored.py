"""A stored config as it is read back: somebody else may have written it, so it is data until it has been looked at."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lightning_gen.config.aliases import present, renamed
from lightning_gen.config.allow import needed_faults
from lightning_gen.config.root import KEYS, MISSING, PERSONAL, ROOT
from lightning_gen.errors import first_line
from lightning_gen.options import suggestion

CONFIG = "config"  # the key of a checkpoint that holds the text of config.yaml
NEEDED = tuple(key.name for key in ROOT if key.default == MISSING and not key.personal)  # by every stored config
BYTES, VALUES = 2**18, 2**14  # a stored config has some 5,000 bytes and 200 values; aliases multiply the second
# What writes by itself belongs to the keys that a stored config does not decide.
OURS = tuple(f"lightning_gen.callbacks.{name}" for name in ("loggers", "RecordLogger", "Wandb", "TensorBoard"))
WRITERS = ("pytorch_lightning.loggers", "pytorch_lightning.Trainer", *OURS)


class Loader(yaml.SafeLoader):
    """yaml.SafeLoader without merge keys, which double what they merge."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse `<<`."""
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "<< is no key of a stored config", key.start_mark)


def config_file(path: Path) -> Path:
    """The file with the config of what a person names: config.yaml of a run, of an export, or of the run that a
    checkpoint lies in; a checkpoint that lies elsewhere itself."""
    if path.suffix != ".ckpt":
        return path / "config.yaml"
    beside = path.parent.parent / "config.yaml"
    return beside if beside.is_file() else path


def read(file: Path) -> dict[str, Any]:
    """The root keys and their values in a config.yaml or a checkpoint.

    FileNotFoundError for no file, ValueError with every fault. Nothing has seen them before: a config that needs an
    extension which the person has not allowed ends here.
    """
    if not file.is_file():
        if file.parent.is_file():
            raise FileNotFoundError(f"{file.parent} is a file, expected a run folder or an export: name one")
        if any((file.parent / name).is_file() for name in ("model_index.json", "config.json")):
            raise FileNotFoundError(
                f"{file.parent} is a folder of diffusers, expected a run folder or an export: python -m "
                f"lightning_gen.convert {file.parent} TARGET makes one"
            )
        raise FileNotFoundError(f"{file} does not exist: train first (stage=fit), or name a run folder or an export")
    inside = file.suffix == ".ckpt"
    size = len(content := _inside(file)) if inside else file.stat().st_size
    if size > BYTES:
        raise ValueError(f"{file} has {size} bytes, a stored config at most {BYTES}: take another folder")
    try:
        config = yaml.load(content if inside else file.read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read as plain YAML ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file} holds {type(config).__name__}, expected a mapping of {', '.join(KEYS)}")
    unknown = [key for key in config if key not in KEYS]
    if unknown and (missing := [key for key in NEEDED if key not in config]):
        lacks = f"it has no {' and no '.join(missing)}, and {', '.join(map(str, unknown[:4]))} of another program"
        raise ValueError(f"{file} is no config of a run ({lacks}): name a run folder or an export")
    faults = [f"{key!r} is no key of a stored config: {suggestion(str(key), KEYS) or 'remove it'}" for key in unknown]
    for number, fault in enumerate(_faults(config, "")):
        if number > VALUES:
            faults.append(f"it holds more than {VALUES} values: take another folder")
            break
        faults += fault
    if faults:
        raise ValueError(f"{file}: {'; '.join(faults[:10])}")
    if faults := needed_faults(config, str(file)):
        raise ValueError("; ".join(faults))
    return renamed(config)


def _inside(file: Path) -> str:
    """The text of the config in a checkpoint; ValueError for one that holds none."""
    import torch

    try:
        # Tensors on meta have no content: the config of a large file is read at once.
        checkpoint = torch.load(file, map_location="meta", weights_only=True, mmap=True)
    except Exception as error:  # whatever a damaged or foreign file gives
        raise ValueError(
            f"{file} is damaged, or no checkpoint of tensors: copy it again, or name another ({first_line(error)})"
        ) from None
    content = checkpoint.get(CONFIG) if isinstance(checkpoint, dict) else None
    if not isinstance(content, str):
        raise ValueError(
            f"{file} is not in a run folder and holds no config, as checkpoints of run.py do: name its run folder, or "
            "an export, which is one folder to copy"
        )
    return content


def _faults(value: Any, path: str, depth: int = 0) -> Iterator[list[str]]:
    """The faults of each value in turn, most often none, so that the reader can stop counting."""
    if depth > 20:
        yield [f"{path} is nested more than 20 deep: take another folder"]
    elif isinstance(value, dict):
        yield []
        for key, child in value.items():
            at = f"{path}.{key}" if path else str(key)
            yield _key_faults(key, at, "_target_" in value)
            yield from _faults(child, at, depth + 1)
        target = value.get("_target_")
        theirs = path in ("trainer", "logger") or path.startswith("logger.")
        if isinstance(target, str) and not theirs and present(target).startswith(WRITERS):
            yield [f"{path}._target_ is {target}, which only trainer or logger may name: remove it"]
    elif isinstance(value, list):
        yield []
        for index, child in enumerate(value):
            yield from _faults(child, f"{path}[{index}]", depth + 1)
    else:
        yield _leaf_faults(value, path)


def _key_faults(key: Any, at: str, is_node: bool) -> list[str]:
    # Whole numbers are the epochs of an accumulation schedule; arguments have names.
    if type(key) not in (str, int) or (type(key) is int and is_node):
        return [f"{at} has the key {key!r}, expected a name: write a text"]
    if "${" in str(key):
        return [f"{at} has an interpolation for a key, and a stored config holds none: write the name"]
    return []


def _leaf_faults(value: Any, path: str) -> list[str]:
    if isinstance(value, str) and "${" in value:
        return [f"{path} is {value!r}, an interpolation, and a stored config holds none: write the value"]
    if value is None or isinstance(value, str | bool | int | float):
        return []
    return [f"{path} is a {type(value).__name__}, expected text, number, list or mapping: write one of them"]


def page_fault(file: Path) -> str | None:
    """Why a YAML of a folder of configs cannot be read; None where it can."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except Exception as error:
        return f"{file} cannot be read as YAML ({' '.join(str(error).split())}): mend it"
    if not isinstance(content, dict | None):
        return f"{file} holds {type(content).__name__}, expected a mapping: write KEY: VALUE"
    waiting, count = [content], 0
    while waiting:  # aliases can multiply a few lines without end
        value = waiting.pop()
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += 1
        if count > VALUES:
            return f"{file} holds more than {VALUES} values: write fewer aliases"
    return None


def base(stored: dict[str, Any]) -> dict[str, Any]:
    """What a stored config decides for a stage that starts from it: what is computed, never where something is written.

    Of the trainer it keeps the precision, which is the model's arithmetic; data are read from where it says, and not
    downloaded to there; caches are the person's own.
    """
    kept = without({key: value for key, value in stored.items() if key not in PERSONAL}, "cache")
    if isinstance(kept.get("data"), dict) and "download" in kept["data"]:
        kept["data"]["download"] = False
    trainer = stored.get("trainer")
    if isinstance(trainer, dict) and "precision" in trainer:
        kept["trainer"] = {"precision": trainer["precision"]}
    return kept


def without(value: Any, name: str) -> Any:
    """The same containers anew, less every key of that name."""
    if isinstance(value, dict):
        return {key: without(child, name) for key, child in value.items() if key != name}
    return [without(child, name) for child in value] if isinstance(value, list) else value
