"""Which code has run, where there is no git: a digest of a package's source files."""

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path


def digest(package: str) -> str:
    """SHA-256 over the names and bytes of all Python files of an installed top-level package, or of a module's one.

    A checkout and an installed package of the same sources have the same.
    """
    spec = find_spec(package)
    found = hashlib.sha256()
    for root in (spec and spec.submodule_search_locations) or ():
        # Links are followed: lightning_gen/callbacks is one in a checkout.
        files = (Path(place, name) for place, _, names in os.walk(root, followlinks=True) for name in names)
        for file in sorted(path.relative_to(root) for path in files if path.suffix == ".py"):
            found.update(f"{file.as_posix()}\0".encode() + Path(root, file).read_bytes() + b"\0")
    if spec and not spec.submodule_search_locations and spec.origin:
        found.update(Path(spec.origin).read_bytes())
    return found.hexdigest()
