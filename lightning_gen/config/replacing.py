"""What a class or a group that a command line names leaves of the one in whose place it comes: none of its options."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from lightning_gen.config.signatures import SPECIAL

Config = dict[str, Any]


def replaced(page: Callable[[str, str], Config], experiments: Sequence[str], group: str, choice: str) -> list[str]:
    """Overrides that leave nothing of what the experiment gives to a group, when another choice of it is named.

    Args:
        page: (group, name) -> what that YAML says.
        experiments: the names of those that the experiment is derived from, and its own.
        group: net, sampler or quality.
        choice: the name of the chosen one, or those of a sweep between commas.
    """
    pages, found = [page(group, name) for name in choice.split(",")], []
    for key in {key: None for name in experiments for key in page("experiment", name).get(group) or ()}:
        values = {json.dumps(own[key]) if key in own else None for own in pages}
        if len(values) == 1:  # where the choices of a sweep differ, one override cannot say both
            value = values.pop()
            found.append(f"~{group}.{key}" if value is None else f"{group}.{key}={value}")
    return found


def without_replaced(config: Config, overrides: Sequence[str]) -> Config:
    """The config, less the arguments that a YAML gives to a class in whose place an override, KEY._target_=, names one.

    A family keeps its parts, which have classes of their own, and the trainer is one class.
    """
    keys = [word.lstrip("+~").partition("=")[0] for word in overrides]
    for path in (key.removesuffix("._target_") for key in keys if key.endswith("._target_")):
        node: Any = config
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or path in ("module", "trainer"):
            continue
        own = {key.removeprefix(f"{path}.").partition(".")[0] for key in keys if key.startswith(f"{path}.")}
        for name in {*node} - own - {*SPECIAL}:
            del node[name]
    return config
