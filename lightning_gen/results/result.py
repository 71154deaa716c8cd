"""What a measurement returns: a number never travels without its kind, its error and its protocol."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["exact", "lower bound", "upper bound", "estimate", "KDE"]


@dataclass(frozen=True)
class Result:
    """A measured number: value in `unit`, standard error or None, its kind, and the protocol that gave it.

    protocol["flags"] says what is doubtful about it. `observed` is what was seen on the way and fixes nothing.
    """

    value: float
    kind: Kind
    error: float | None = None
    unit: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)
    observed: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, as metrics.json stores them."""
        return {
            "value": self.value,
            "error": self.error,
            "kind": self.kind,
            "unit": self.unit,
            "protocol": dict(self.protocol),
            "protocol_hash": protocol_hash(self.protocol),
            **({"observed": dict(self.observed)} if self.observed else {}),
        }


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """16 hex digits of SHA-256 over a protocol but for its flags: equal protocols, equal hash, in whatever order."""
    content = {key: value for key, value in protocol.items() if key != "flags"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
