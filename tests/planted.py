"""Planted errors: each small mistake in the mathematics, and the one test that has to fail for it.

Each package of tests lists its own in planted.py. python -m tests.planted [words of a name] plants them one after the
other, each in a copy of the repository, and prints what caught it. A name with a number, "E24: ...", is a form of the
lecture notes: docs/errata.md has its row.
"""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("lightning_gen", "callbacks", "experiments", "tests", "run.py", "pyproject.toml")


class Plant(NamedTuple):
    """One mistake: `old` in `file` becomes `new`, and `test` has to fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


def planted() -> list[Plant]:
    """The planted errors of all packages of tests."""
    packages = sorted(path.parent.name for path in ROOT.glob("tests/*/planted.py"))
    return [plant for name in packages for plant in importlib.import_module(f"tests.{name}.planted").PLANTS]


def pytest(tests: Iterable[str], plant: Plant | None = None) -> tuple[int, str]:
    """pytest's exit code and output for `tests` in a copy of the repository with `plant` in it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            source, target = ROOT / name, Path(folder, name)
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        if plant is not None:
            path = Path(folder, plant.file)
            path.write_text(path.read_text().replace(plant.old, plant.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", *tests]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def verdict(plant: Plant) -> tuple[bool, str]:
    """Whether the plant's test fails for it, as a test does and not for want of a test, and how."""
    code, output = pytest([plant.test], plant)
    found = re.search(r"^FAILED \S+?::(.*)$", output, re.MULTILINE)
    if code == 1 and found:
        return True, found[1]
    return False, "survived" if code == 0 else f"pytest ended with {code}: {output[-300:]}"


def main(words: list[str]) -> int:
    """Plant what the words name, or everything, and print a table; 1 if anything survived."""
    plants = [plant for plant in planted() if not words or any(word in plant.name for word in words)]
    code, output = pytest(dict.fromkeys(plant.test for plant in plants))
    if code:
        print(f"these tests do not pass without any plant:\n{output}")
        return 1
    rows = [(plant, *verdict(plant)) for plant in tqdm(plants, desc="planted errors", unit="error")]
    for plant, caught, how in rows:
        print(f"{'caught  ' if caught else 'SURVIVED'}  {plant.name:52.52}  {how:.120}")
    print(f"{sum(caught for _, caught, _ in rows)} of {len(rows)} caught")
    return 0 if all(caught for _, caught, _ in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
