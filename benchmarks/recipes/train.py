"""Training of cells: in any number of pieces, some at a time, each on one thread; and what they cost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from benchmarks.recipes import page, record, which
from benchmarks.recipes.tables import ROOT, Cell
from lightning_gen.results.store import write_atomically

STOPPED = 75  # run.py's exit code: saved, and the same command goes on
WAITS = "waits for the training of "
STOPS = (STOPPED, -signal.SIGTERM)  # the second where it was stopped before it could listen


class Cost:
    """Seconds that a cell's commands have taken, of CPU and by the clock, kept in its folder.

    A command whose end nobody saw, since this program was killed with it, is counted in `unseen` and not in them.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "cost.json"
        kept = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.seconds: float = kept.get("seconds", 0.0)
        self.clock: float = kept.get("clock", 0.0)
        self.open: int = kept.get("open", 0)  # the process of a command whose end was not seen
        self.by: int = kept.get("by", 0)  # the process that began it
        self.unseen: int = kept.get("unseen", 0) + bool(self.open)

    def write(self, open: int) -> None:
        """Keep it; `open` is the process of the command at work, 0 for none."""
        kept = {"seconds": self.seconds, "clock": self.clock, "unseen": self.unseen}
        kept |= {"open": open, "by": os.getpid()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, json.dumps(kept).encode())


def stop_survivor(pid: int, by: int, folder: Path) -> None:
    """Where a command in this folder outlived the program that began it, ask it for a save, and wait for its end.

    The number of its process may be another's by now, whose command line does not name the folder. One whose program
    is at work is left to it.
    """

    def lives() -> bool:
        words = ["ps", "-ww", "-o", "ppid=,command=", "-p", str(pid)]
        parent, _, command = subprocess.run(words, capture_output=True, text=True).stdout.strip().partition(" ")
        return f"{folder}/" in command and parent != str(by)

    if lives():
        os.kill(pid, signal.SIGTERM)
    while lives():
        time.sleep(0.2)


class Commands:
    """Runs programs, each on one thread, and hands a stop on to those at work."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def __call__(self, words: Iterable[str], folder: Path) -> int:
        """The exit code of `python words`, its output in folder/log.txt, its CPU time in folder/cost.json."""
        cost = Cost(folder)
        if cost.open:
            stop_survivor(cost.open, cost.by, folder)
        cost.write(open=os.getpid())  # whose child there is soon
        with open(folder / "log.txt", "ab") as log, self._lock:
            if self.stopping.is_set():
                cost.write(open=0)
                return STOPPED
            start = time.perf_counter()
            command = [sys.executable, *words]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            self._children.add(child)
            cost.write(open=child.pid)
        _, status, usage = os.wait4(child.pid, 0)  # of this child and its own, whatever runs beside it
        child.returncode = os.waitstatus_to_exitcode(status)
        with self._lock:
            self._children.discard(child)
        cost.seconds += usage.ru_utime + usage.ru_stime
        cost.clock += time.perf_counter() - start
        cost.write(open=0)
        return child.returncode

    def stop(self) -> None:
        """Ask all for a save and an end; what is not begun is not begun any more."""
        self.stopping.set()
        with self._lock:
            for child in self._children:
                os.kill(child.pid, signal.SIGTERM)  # Popen.send_signal would wait for it, and lose its usage


def measuring(cell: Cell, run: Path) -> list[str]:
    """What follows `python` to train and measure a cell in a run folder, of a peer's to measure its samples there.

    Samples are named from the root, since the protocols of their numbers have the name.
    """
    given = [f"samples={cell.samples.relative_to(ROOT)}"] if cell.peer else []
    return ["run.py", *cell.words, *given, f"run={run}"]


def train(cell: Cell, commands: Commands) -> str:
    """Train, measure, export and record a cell, or go on with it; a word on how it ended."""
    source, series = cell.source, [measuring(cell, cell.run)]
    if cell.peer:
        if not cell.samples.exists():  # a training that was stopped is begun anew
            series.insert(0, [*cell.peer, f"--file={cell.samples}"])
    elif source is None:
        series.append(["run.py", "stage=export", f"run={cell.run}", "logger=none"])
    elif not (source.run / "export").is_dir():
        return WAITS + str(source)
    else:
        shutil.copytree(source.run / "export", cell.run, dirs_exist_ok=True)
    for words in series:
        code = commands(words, cell.folder)
        if code != 0:
            return (
                "stopped" if code in STOPS else f"exit code {code}: see {(cell.folder / 'log.txt').relative_to(ROOT)}"
            )
    cost = Cost(cell.folder)
    try:
        record.add(cell, cost.seconds, cost.clock, cost.unseen)
    except ValueError as error:
        return f"not recorded: {error}"
    return "done"


def hours_left(cells: Iterable[Cell]) -> float:
    """CPU hours: of a row that another seed has finished as that took, else as its table expects."""
    return sum(record.expected_minutes(cell) for cell in cells) / 60


def train_all(cells: list[Cell], jobs: int, hours: float | None) -> int:
    """Train them, `jobs` at a time, for `hours` at most; 0, 75 if it was stopped, 1 if one has failed."""
    commands, left, ended = Commands(), set(cells), dict[Cell, str]()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: commands.stop())
    alarm = threading.Timer(3600 * hours, commands.stop) if hours is not None else None
    if alarm is not None:
        alarm.daemon = True  # where an error ends the program, nothing waits for it
        alarm.start()
    with tqdm(total=len(cells), unit="training") as bar, ThreadPoolExecutor(jobs) as pool:

        def one(cell: Cell) -> None:
            start = time.time()
            word = "stopped" if commands.stopping.is_set() else train(cell, commands)
            with lock:
                ended[cell] = word
                if word == "done":
                    left.discard(cell)
                    page.write()
                    which.write()
                if word != "stopped":
                    bar.update()
                    spent = (time.time() - start) / 60
                    bar.write(f"{cell}: {word}, {spent:.1f} minutes; {hours_left(left):.1f} CPU hours left")

        lock = threading.Lock()
        list(pool.map(one, cells))
    if alarm is not None:
        alarm.cancel()
        alarm.join()
    failed = [word for word in ended.values() if word not in ("done", "stopped") and not word.startswith(WAITS)]
    return 1 if failed else STOPPED if left else 0
