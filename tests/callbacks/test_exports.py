"""The package names everything, and importing it costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

from lightning_gen import callbacks


def test_every_name_is_there_and_the_two_lists_agree():
    read = ast.parse(Path(callbacks.__file__).read_text())
    named = [alias.name for node in ast.walk(read) if isinstance(node, ast.ImportFrom) and node.module
             and node.module.startswith("lightning_gen.callbacks.") for alias in node.names]  # fmt: skip
    assert sorted(named) == sorted(callbacks.__all__) == sorted(n for names in callbacks._HOME.values() for n in names)
    for name in callbacks.__all__:
        assert callable(getattr(callbacks, name))


def test_the_package_alone_imports_nothing_heavy():
    heavy = {"torch", "pytorch_lightning", "wandb", "numpy"}
    code = f"import sys, lightning_gen.callbacks; print(sorted({heavy} & set(sys.modules)))"
    root = Path(callbacks.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
