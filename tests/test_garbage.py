"""The command starts without Python's garbage collector, and has it once Lightning is loaded, or for a sweep."""

import gc
import subprocess
import sys

import pytest

from lightning_gen import garbage
from lightning_gen.stages.quiet import quieten


@pytest.fixture
def nothing_frozen():
    """Until the test ends the collector looks at all objects; afterwards it is on."""
    gc.unfreeze()
    yield
    gc.enable()


def test_what_is_there_once_lightning_is_loaded_is_not_looked_at_again(nothing_frozen):
    garbage.pause()
    assert not gc.isenabled()
    quieten()
    assert gc.isenabled() and gc.get_freeze_count() > 100_000


@pytest.mark.parametrize("on", [True, False])
def test_a_program_that_sets_its_collector_keeps_it_as_it_is(nothing_frozen, on):
    (gc.enable if on else gc.disable)()
    garbage.resume()
    assert gc.isenabled() == on and gc.get_freeze_count() == 0
    garbage.pause()
    garbage.resume()
    assert gc.isenabled() == on


@pytest.mark.parametrize(("words", "on"), [(["--help"], False), (["-m", "module.steps=5,x"], True)])
def test_one_config_is_composed_without_it_and_many_with_it(tmp_path, words, on):
    code = "import gc, sys, lightning_gen.__main__ as command\n"
    code += f"sys.argv = ['lightning-gen', *{words!r}]\n"
    code += "command.main()\nprint('collects', gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"collects {on}", done.stderr
