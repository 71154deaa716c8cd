"""One process at a time writes into a run folder, whatever became of the one before."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lightning_gen.errors import ConfigError, Stopped
from lightning_gen.runs import lock, signals
from lightning_gen.runs.lock import NAME, STALE, Lock, myself

HOLD = "from lightning_gen.runs.lock import Lock\nfrom pathlib import Path\nimport sys, time\n"
HOLD += "from lightning_gen.errors import ConfigError\nfolder = Path(sys.argv[1])\n"
HOLD += "while not Path(sys.argv[2]).exists(): time.sleep(0.001)\n"
HOLD += "try:\n    with Lock(folder):\n        print('mine', flush=True)\n        time.sleep(float(sys.argv[3]))\n"
HOLD += "except ConfigError as error:\n    print(error, flush=True)\n    sys.exit(2)\n"


def holder(folder, start, seconds):
    """A process that takes the lock as soon as the file `start` is there."""
    words = [sys.executable, "-c", HOLD, str(folder), str(start), str(seconds)]
    return subprocess.Popen(words, stdout=-1, text=True)


def left(folder, seconds=0.0, **changes):
    """A lock that somebody has left there, that many seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_text(json.dumps(myself() | changes))
    then = time.time() - seconds
    os.utime(folder / NAME, (then, then))


def test_it_names_its_owner_and_is_gone_afterwards(tmp_path):
    with Lock(tmp_path / "a" / "run"):
        owner = json.loads((tmp_path / "a" / "run" / NAME).read_text())
        assert owner["pid"] == os.getpid() and owner["host"] and owner["since"] and owner["started"]
    assert not list(tmp_path.iterdir()), "folders made for nothing are left"
    (tmp_path / "kept").mkdir()
    with Lock(tmp_path / "kept"):
        (tmp_path / "kept" / "file").touch()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["file"]


def test_it_is_given_back_after_any_exception(tmp_path):
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), Lock(tmp_path):
            raise error
        assert not (tmp_path / NAME).exists()
    assert not signals.leaving


def test_a_living_owner_is_named_with_what_to_do(tmp_path):
    with Lock(tmp_path), pytest.raises(ConfigError) as refused, Lock(tmp_path):
        pass
    sentence = refused.value.faults[0]
    for part in (str(tmp_path), f"process {os.getpid()}", lock.socket.gethostname(), "since 2", "wait", "kill", "run="):
        assert part in sentence, part
    assert not (tmp_path / NAME).exists()


def test_one_of_many_that_start_at_once_gets_it(tmp_path):
    for trial in range(2):
        folder, start = tmp_path / str(trial), tmp_path / f"start-{trial}"
        if trial % 2:  # where a dead owner left a lock, all want to take it over
            left(folder, started="0")
        racers = [holder(folder, start, 1) for _ in range(5)]
        time.sleep(0.4)
        start.touch()
        said = [racer.communicate(timeout=60)[0] for racer in racers]
        codes = sorted(racer.returncode for racer in racers)
        assert codes == [0, 2, 2, 2, 2], said
        winner = next(racer.pid for racer in racers if racer.returncode == 0)
        assert all(f"process {winner} " in line for line in said if "mine" not in line), said
        assert not folder.exists() or not list(folder.iterdir())


def test_after_kill_nine_it_is_taken_over_at_once(tmp_path):
    (tmp_path / "start").touch()
    process = holder(tmp_path / "run", tmp_path / "start", 60)
    assert process.stdout.readline() == "mine\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "run" / NAME).is_file()
    with Lock(tmp_path / "run") as held:
        assert held.mine()


def test_a_process_of_the_same_number_that_started_later_is_not_the_owner(tmp_path):
    left(tmp_path, started="1")
    with Lock(tmp_path) as held:
        assert held.mine()


def test_an_owner_elsewhere_is_alive_while_the_files_time_advances(tmp_path, capsys):
    left(tmp_path, 1, machine="another", host="elsewhere", pid=os.getpid())
    beat = threading.Timer(0.5, os.utime, [tmp_path / NAME])
    beat.start()
    with pytest.raises(ConfigError, match=f"elsewhere.*delete {tmp_path}/.lock if"), Lock(tmp_path):
        pass
    beat.join()
    assert json.loads((tmp_path / NAME).read_text())["host"] == "elsewhere", "another's lock is not ours to remove"
    assert "waiting" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [STALE + 10, STALE - 1])
def test_an_owner_elsewhere_without_a_sign_of_life_is_dead(tmp_path, seconds, monkeypatch):
    """By the file system's clock; a start waits until that is known."""
    left(tmp_path, seconds, machine="another")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    begun = time.monotonic()
    with Lock(tmp_path) as held:
        assert held.mine()
    assert (time.monotonic() - begun > 0.5) == (seconds < STALE)


def test_a_start_that_waits_can_be_stopped(tmp_path):
    left(tmp_path, machine="another")
    with signals.listening(), pytest.raises(Stopped):
        threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGTERM]).start()
        with Lock(tmp_path):
            pass
    assert (tmp_path / NAME).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": "x"}'])
def test_a_lock_that_a_kill_left_unfinished_is_taken_over(tmp_path, content, monkeypatch):
    monkeypatch.setattr(lock, "BRIEF", 0.3)
    (tmp_path / NAME).write_text(content)
    with Lock(tmp_path) as held:
        assert held.mine()


def test_a_takeover_that_a_kill_left_unfinished_is_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BRIEF", 0.3)
    left(tmp_path, started="1", token="dead")
    (tmp_path / f"{NAME}-dead").write_text("{}")
    with Lock(tmp_path) as held:
        assert held.mine()
    assert not list(tmp_path.iterdir())


def test_its_time_advances_and_a_deleted_lock_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with Lock(tmp_path) as held:
        os.utime(tmp_path / NAME, (0, 0))
        wait(lambda: (tmp_path / NAME).stat().st_mtime > 1e9)
        (tmp_path / NAME).unlink()
        wait(lambda: (tmp_path / NAME).exists() and held.mine())
    assert not (tmp_path / NAME).exists()


def test_a_sign_of_life_in_the_moment_of_the_release_leaves_no_file(tmp_path, monkeypatch):
    """The thread makes its file anew while the folder is removed, which a folder with a file would not be."""
    monkeypatch.setattr(lock, "BEAT", 0.01)
    beats, create, rmdir = threading.Event(), lock.create, Path.rmdir

    def late(path, owner):
        if threading.current_thread() is not threading.main_thread():
            beats.set()
            time.sleep(0.1)
        return create(path, owner)

    monkeypatch.setattr(lock, "create", late)
    monkeypatch.setattr(Path, "rmdir", lambda path: time.sleep(0.3) or rmdir(path))
    with Lock(tmp_path / "run"):
        (tmp_path / "run" / NAME).unlink()
        assert beats.wait(20)
    assert not (tmp_path / "run").exists()


def test_who_loses_it_to_another_ends_without_a_save(tmp_path):
    code = "from lightning_gen.runs import lock\nlock.BEAT = 0.05\n" + HOLD
    (tmp_path / "start").touch()
    words = [sys.executable, "-c", code, str(tmp_path / "run"), str(tmp_path / "start"), "60"]
    process = subprocess.Popen(words, stdout=-1, stderr=-1, text=True)
    assert process.stdout.readline() == "mine\n"
    left(tmp_path / "run", host="elsewhere", pid=7)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1 and "process 7 on elsewhere" in err and err.count("\n") == 1


def test_other_ranks_take_none(tmp_path):
    with Lock(tmp_path), Lock(tmp_path, rank=1):
        pass
    with Lock(tmp_path / "x", rank=1):
        assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match="run=.*run="), Lock(path):
            pass


def wait(condition, seconds=20):
    """Until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
