"""Signals: noted or raised, never lost, whatever a library does; a second SIGINT leaves at once."""

import os
import signal
import subprocess
import sys
import time

import pytest
from matplotlib import _path
from matplotlib.path import Path as Line

from lightning_gen.errors import Stopped
from lightning_gen.runs import signals

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
BUSY = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"  # minutes in one call, which no handler interrupts


@pytest.fixture(autouse=True)
def listening():
    before = [signal.getsignal(number) for number in signals.NUMBERS]
    with signals.listening():
        yield
    assert [signal.getsignal(number) for number in signals.NUMBERS] == before
    assert signals.received() is None


def send(name):
    os.kill(os.getpid(), getattr(signal, name))


def child(code, **environment):
    """A process that listens, says so and runs `code`, within `interrupting`."""
    lines = ["import hashlib, os, signal, sys, time", "from lightning_gen.runs import signals", "signals.listen()"]
    lines += ["with signals.interrupting():", "    print('ready', flush=True)", *(f"    {line}" for line in code)]
    process = subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], env=os.environ | environment, stdout=-1, stderr=-1, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_raises_at_once_and_no_except_exception_swallows_it(name):
    with pytest.raises(Stopped, match=f"{name}.*resumes"), signals.interrupting():
        try:
            send(name)
        except Exception:
            pytest.fail("swallowed")
        pytest.fail("not raised")


@pytest.mark.parametrize("name", SIGNALS)
def test_what_is_swallowed_all_the_same_is_raised_at_the_next_border(name):
    with pytest.raises(Stopped, match=name), signals.interrupting():
        try:
            send(name)
        except BaseException:
            assert signals.received() == name
        signals.check()


@pytest.mark.parametrize("name", SIGNALS)
def test_what_a_library_makes_of_it_is_a_stop_all_the_same(name):
    """matplotlib's C++ asks an object for an array, drops what that raises, and says "Invalid bounding box"."""

    class Box:
        def __array__(self, *_, **__):
            send(name)

    with pytest.raises(Stopped, match=name) as stop, signals.interrupting():
        _path.clip_path_to_rect(Line([[0, 0], [1, 1]]), Box(), True)
    assert "bounding box" in str(stop.value.__cause__)


def test_an_error_without_a_signal_or_while_it_is_held_is_an_error():
    for held in (False, True):
        with pytest.raises(ValueError, match="ours"), signals.interrupting():
            if held:
                signals.hold()
                send("SIGTERM")
            raise ValueError("ours")


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_is_noted_before_and_while_it_is_held(name):
    with signals.interrupting():
        signals.hold()
        send(name)
        assert signals.received() == name
        with pytest.raises(Stopped, match=f"{name} at step 3"):
            raise signals.stopped(" at step 3")
    with pytest.raises(Stopped), signals.interrupting():
        pytest.fail("a signal noted before was forgotten")


def test_the_first_signal_is_the_one_that_counts():
    signals.hold()
    for name in ("SIGUSR1", "SIGTERM", "SIGINT"):
        send(name)
    assert signals.received() == "SIGUSR1"


def test_one_lost_in_a_destructor_is_not_reported_and_not_forgotten(capsys):
    class Dying:
        def __del__(self):
            send("SIGTERM")

    with pytest.raises(Stopped), signals.interrupting():
        Dying()
        signals.check()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("held", [True, False])
def test_a_second_sigint_leaves_a_long_call_at_once(held):
    process = child([*(["signals.hold()"] if held else []), "print('busy', flush=True)", BUSY])
    assert process.stdout.readline() == "busy\n"
    begun = time.monotonic()
    for _ in range(2):
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 75 and time.monotonic() - begun < 5
    assert err.count("\n") == 1 and "second SIGINT" in err and "same command" in err


def test_torchruns_echo_of_a_terminals_sigint_is_no_second_one():
    code = ["signals.hold()", "print('held', flush=True)", "while not signals.received(): time.sleep(0.01)"]
    process = child([*code, "time.sleep(0.5)", "print('saved')"], TORCHELASTIC_RUN_ID="x")
    assert process.stdout.readline() == "held\n"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert process.communicate(timeout=30)[0] == "saved\n" and process.returncode == 0


@pytest.mark.parametrize("code", [["try: time.sleep(60)", "except BaseException: time.sleep(60)"], [BUSY]])
def test_where_the_main_thread_does_not_end_the_process_leaves(code, tmp_path):
    """A library that swallows everything, and a call that no handler interrupts."""
    said = tmp_path / "said"
    before = ["signals.GRACE = 0.5", f"signals.leaving.append(open({str(said)!r}, 'w', 1).write)"]
    process = child([*before, "print('on', flush=True)", *code])
    assert process.stdout.readline() == "on\n"
    time.sleep(0.3)  # until it is within the call
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75 and err.startswith("stopped: by SIGTERM") and err.count("\n") == 1
    assert said.read_text() in err, "who has to clean up is told"


@pytest.mark.parametrize("saved", [True, False])
def test_who_leaves_at_once_says_whether_anything_was_saved(saved, tmp_path):
    file = tmp_path / "last.ckpt"
    process = child([f"signals.saves.append({str(file)!r})", "print('busy', flush=True)", BUSY])
    if saved:
        file.touch()
    assert process.stdout.readline() == "busy\n"
    for _ in range(2):
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    assert ("last save" in process.communicate(timeout=30)[1]) == saved


def test_a_forked_worker_ends_by_sigterm_and_its_sigint_is_not_the_parents():
    for number, code in ((signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0), (signal.SIGUSR1, 0)):
        read, write = os.pipe()
        worker = os.fork()
        if not worker:
            os.write(write, b"x")
            time.sleep(0.3)
            os._exit(0)
        os.read(read, 1)
        for _ in range(2):
            os.kill(worker, number)
            time.sleep(0.05)
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == code
    assert signals.received() is None


def test_it_is_light():
    code = "import sys\nfrom lightning_gen.runs import signals, lock\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"yaml", "torch", "hydra", "numpy", "pytorch_lightning"} & {*loaded}
