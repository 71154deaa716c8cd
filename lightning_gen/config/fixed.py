"""What a resumed run may not change of its config."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from lightning_gen.config.root import CHANGES, FREE


def fixed(config: dict[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of all that a resumed run may not change."""
    # A root key that is null is one that an older version did not know.
    known = {key: value for key, value in leaves(config) if "." in key or value is not None}
    return {key: value for key, value in known.items() if key.split(".")[0] not in CHANGES and key not in FREE}


def config_hash(config: dict[str, Any]) -> str:
    """SHA-256 of all that a resumed run may not change."""
    return hashlib.sha256(json.dumps(fixed(config), sort_keys=True, default=str).encode()).hexdigest()


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf; a list is a leaf."""
    if not isinstance(config, dict):
        yield prefix, config
        return
    for key, value in config.items():
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
