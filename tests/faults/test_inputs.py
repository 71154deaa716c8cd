"""Bad input: one sentence a fault, with the key or file, exit code 2, before any work, never a traceback or a second
fault that follows from the first."""

import re
import socket
import subprocess
import sys
import time

import pytest

import run as entry
from tests.faults.bad_inputs import ALL
from tests.faults.inputs import make_archives, make_configs, make_pictures, make_runs, pictures
from tests.processes import ROOT

SECONDS = 10
DRAW = ("seed=-1", "seed = 1", "seed =1", "trainer.max_time=abc", "seed=1,2")
DRAW += ("WORLD_SIZE alone", "twelve damaged", "npz flipped")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder of wrong files."""
    folder = tmp_path_factory.mktemp("files")
    make_pictures(folder)
    make_archives(folder)
    make_configs(folder / "configs")
    return folder


@pytest.fixture(scope="module")
def port():
    """A port in use."""
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as used:
        used.bind(("", 0))
        used.listen()
        yield used.getsockname()[1]


def wrong(row, files, runs, port, capsys, monkeypatch):
    """What is wrong with the answer to a row; nothing where it is as it should be."""

    def filled(text):
        return text.replace("{d}", str(files)).replace("{r}", str(runs)).replace("{port}", str(port))

    words = [filled(word) for word in (*row.base, *re.split(r" (?=[\w.+~]+=|--)", row.words)) if word]
    free = not any(word.startswith(("run=", "stage=compare")) for word in words)
    words += [f"run={runs}/new"] * free
    capsys.readouterr()
    with monkeypatch.context() as patched:
        for name, value in row.environment.items():
            patched.setenv(name, filled(value))
        start = time.perf_counter()
        try:
            code = entry.main(words)
        except BaseException as error:  # what a user would see as a traceback
            return f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
    told = "".join(capsys.readouterr())
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    found = [f"exit {code}"] * (code != 2) + [f"{len(errors)} faults"] * (len(errors) != row.faults)
    found += [f"nothing like {row.names}"] * (not re.search(filled(row.names), "\n".join(errors)))
    found += [f"says {said[0]}" for said in [re.search(row.never, told)] if said]
    found += [f"{seconds:.0f} s"] * (seconds > SECONDS) + ["a folder is left"] * (runs / "new").exists()
    return f"{', '.join(found)}: {' / '.join(errors)[:300]}" if found else ""


@pytest.mark.parametrize("row", [row for row in ALL if row.name in DRAW], ids=lambda row: row.name)
def test_a_draw_of_the_bad_inputs(row, files, port, tmp_path, capsys, monkeypatch):
    assert not wrong(row, files, tmp_path, port, capsys, monkeypatch)


@pytest.mark.slow
def test_every_bad_input_is_one_sentence(files, port, tmp_path, capsys, monkeypatch):
    make_runs(tmp_path)
    monkeypatch.chdir(pictures(tmp_path / "here", 1))
    faults = {row.name: fault for row in ALL if (fault := wrong(row, files, tmp_path, port, capsys, monkeypatch))}
    with capsys.disabled():
        print(f"\nbad inputs: {len(ALL) - len(faults)} of {len(ALL)}")
    assert not faults, "\n".join(f"{name}: {fault}" for name, fault in faults.items())


@pytest.mark.slow
def test_a_sentence_that_nobody_reads_changes_no_exit_code():
    command = f'"{sys.executable}" "{ROOT / "run.py"}" sed=1 2>&1 | head -c 0; exit ${{PIPESTATUS[0]}}'
    assert subprocess.run(["bash", "-c", command], cwd=ROOT, check=False).returncode == 2
