"""The command keeps the memory that it has freed: the system does not hand out its pages anew."""

import os
import subprocess
import sys

import pytest

from lightning_gen import heap

PAGES = 64 * 2**20 // os.sysconf("SC_PAGE_SIZE")  # of 64 MiB
CODE = """
import io, resource, sys
from contextlib import redirect_stdout
import lightning_gen.__main__ as command
sys.argv = ["lightning-gen", "--version"]
with redirect_stdout(io.StringIO()):
    command.main()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(64 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library is another one")
@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ({}, True),
        ({"MALLOC_ARENA_MAX": "4"}, True),
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}, False),
    ],
    ids=["default", "other setting", "variable", "tunable"],
)
def test_freed_memory_is_used_again_unless_the_user_says_otherwise(setting, kept):
    inherited = {k: v for k, v in os.environ.items() if k not in heap.SETTINGS | {"GLIBC_TUNABLES"}}
    done = subprocess.run([sys.executable, "-c", CODE], env=inherited | setting, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    faults = int(done.stdout)
    assert faults < PAGES / 100 if kept else faults > PAGES / 2
