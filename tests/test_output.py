"""A closed stdout ends no run."""

import os
import subprocess
import sys

import pytest

from tests.processes import ROOT

CODE = """
import sys, time
from lightning_gen.stages.output import lasting_output
with lasting_output():
    for number in range(2000):
        print("line", number, flush=number % 7 == 0)
        print("line", number, file=sys.stderr)
    sys.stderr.isatty(), sys.stdout.encoding
open(sys.argv[1], "w").write("done")
"""


@pytest.mark.parametrize(
    "end", ["| head -1", "2>&1 | head -1", ">&-", "2>&-", ">&- 2>&-", "> /dev/full", "2> /dev/full"]
)
def test_it_goes_on_without_readers(end, tmp_path):
    command = f'"{sys.executable}" -u -c "$CODE" "$DONE" {end}; exit ${{PIPESTATUS[0]}}'
    environment = os.environ | {"CODE": CODE, "DONE": str(tmp_path / "done"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and (tmp_path / "done").read_text() == "done", done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert end != "| head -1" or (done.stdout == "line 0\n" and done.stderr.count("\n") == 2000)


def test_streams_are_given_back(capsys):
    from lightning_gen.stages.output import lasting_output

    before = sys.stdout, sys.stderr
    with lasting_output():
        print("seen")
        print("seen too", file=sys.stderr)
    assert (sys.stdout, sys.stderr) == before and tuple(capsys.readouterr()) == ("seen\n", "seen too\n")
