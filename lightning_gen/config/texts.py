"""Values as a person types them, in the quotes that Hydra's grammar needs."""

import json
import re
from contextlib import suppress
from pathlib import Path

from lightning_gen.config.root import DEFAULTS, TEXTS


def as_text(word: str, sweeps: bool) -> str:
    """The override with its value in quotes where Hydra's grammar does not read it; ~/ is the home folder.

    As a path with a space or =, and for a root key that is a text, as run=2024, whatever is no text.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    other = name in DEFAULTS and name not in TEXTS
    if not equals or other or key.startswith("~") or value[:1] in ("'", '"') or "${" in value:
        return word
    with suppress(OverrideParseException):  # as a text it can be read
        override = OverridesParser.create().parse_overrides([word])[0]
        several = override.is_sweep_override()
        typed = (several and sweeps) or (not several and isinstance(override.value(), str | None))
        if typed or name not in TEXTS:
            return word
    if value == "~" or value.startswith("~/"):
        value = str(Path(value).expanduser())
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # backslashes before a quote escape it, others are themselves
    return f"{key}='" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def quoted(word: str) -> str:
    """runs=[a,b] with each folder in quotes: Hydra takes no = of a sweep's folder without."""
    key, _, value = word.partition("=")
    if key.lstrip("+") != "runs" or not (value[:1] == "[" and value[-1:] == "]") or {"'", '"'} & set(value):
        return word
    parts = [json.dumps(part.strip(), ensure_ascii=False) for part in value[1:-1].split(",") if part.strip()]
    return f"{key}=[{','.join(parts)}]"
