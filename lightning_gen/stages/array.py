"""`-m launcher=slurm`: a sweep as an array job, by hydra-submitit-launcher, one task a job of the sweep.

A task runs this program with the command line of its one job, so that it is stopped, requeued and resumed as any run
is. Its exit code is that of SLURM's task, and lies in a file, for the process that has submitted and waits.
"""

import atexit
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from lightning_gen.config.allow import allowing
from lightning_gen.config.command_line.hydra_keys import installed, sweeper
from lightning_gen.config.command_line.request import request
from lightning_gen.config.command_line.sweep import Task, launch_by, tasks
from lightning_gen.config.command_line.words import Words, split
from lightning_gen.config.instantiate import refusing
from lightning_gen.errors import ConfigError, Stopped
from lightning_gen.runs import signals
from lightning_gen.runs.devices import place
from lightning_gen.runs.signals import STOPPED
from lightning_gen.stages.slurm import SRUN, job_faults, job_parser, requeue

KEY, CHOICE = "launcher", "slurm"
ROOT = Path(__file__).resolve().parents[2]
USAGE = "python run.py -m launcher=slurm launcher.partition=NAME [launcher.OPTION=VALUE ...] KEY=VALUE,VALUE ..."


def of_launcher(word: str) -> bool:
    """Whether a word of the command line says how a sweep is submitted."""
    return word.partition("=")[0].lstrip("+").split(".")[0] == KEY


def submit(argv: Sequence[str], configs: Path, look: Callable[[dict[str, Any], Path], Any]) -> int:
    """Submit the sweep as an array job and wait for its end: 0, or 1 where a task has failed.

    Every job's config is checked before, by `look` too. Raises ConfigError, and Stopped at a signal, at which the
    tasks go on.

    Args:
        argv: the command line.
        configs: the folder of our experiments.
        look: what refuses a config and its run folder.
    """
    words = refusing(split, [word for word in argv if not of_launcher(word)], configs)
    options = launcher_options([word for word in argv if of_launcher(word)], words)
    with allowing(words.allow), signals.interrupting():
        asked = refusing(request, words)
        if (chosen := sweeper(asked.hydra)) != "basic":
            told = f"hydra/sweeper is {chosen}, which waits for each job's number"
            raise ConfigError([f"{told}, and launcher=slurm submits all jobs at once: leave one of them out"])
        found = tasks(words, asked, look)
        folder = sweep_folder(options.logs)
        print(
            f"submitting {len(found)} tasks, logs in {folder}; they go on without this command, which waits",
            flush=True,
        )
        call = partial(run_task, [task.words for task in found], folder)
        lost = wait(folder, partial(launch_by, plugin(options, folder, len(found)), folder, call, words, asked))
    return summary(found, folder, lost)


def launcher_options(ours: Sequence[str], words: Words) -> Namespace:
    """The options of `launcher.`; ConfigError with what is wrong with them, or missing."""
    given = {key.lstrip("+"): value for key, _, value in (word.partition("=") for word in ours)}
    chosen = given.pop(KEY, None)
    if chosen != CHOICE:
        raise ConfigError([f"launcher is {chosen or 'not given'}, expected {CHOICE}: {USAGE}"])
    if not (words.sweeps and words.running):
        raise ConfigError([f"launcher=slurm submits a sweep: {USAGE}; one job is submitted by lightning-gen slurm"])
    parser = job_parser(USAGE, f"{KEY}.")
    parser.add_argument("--parallel", type=int, default=256)
    arguments = []
    for name, value in given.items():
        name, _, more = name.removeprefix(f"{KEY}.").partition(".")
        arguments.append(f"--{name}={more}={value}" if name == "sbatch" and more else f"--{name}={value}")
    options = parser.parse_args(arguments)
    faults = list(job_faults(options, words.overrides, f"{KEY}."))
    if options.parallel < 1:
        faults.append(f"launcher.parallel is {options.parallel}, expected at least 1: write how many may run at once")
    if (world := refusing(place).world) > 1:
        faults.append(f"launcher=slurm was started as {world} processes, which would all submit: start one")
    if not installed("hydra_plugins.hydra_submitit_launcher"):
        faults.append(
            "launcher=slurm needs hydra-submitit-launcher, which is not installed: pip install 'lightning-gen[slurm]'"
        )
    elif shutil.which("sbatch") is None:
        faults.append("launcher=slurm finds no sbatch: give the command on a machine of a cluster with SLURM")
    if faults:
        raise ConfigError(faults)
    return options


def sweep_folder(logs: str) -> Path:
    """A new folder for what submitit writes, and the tasks' logs and exit codes."""
    folder = Path(logs).expanduser().resolve() / f"sweep-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigError([f"launcher.logs={logs} cannot be written to ({error.strerror}): name another"]) from error
    return folder


def plugin(options: Namespace, folder: Path, count: int) -> dict[str, Any]:
    """The config of the plugin's launcher, whose options are those of submitit's SlurmExecutor."""
    node = {
        "_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
        "submitit_folder": str(folder),
        "name": options.name,
        "partition": options.partition,
        "nodes": options.nodes,
        "tasks_per_node": options.tasks or options.gpus or 1,
        "stderr_to_stdout": True,
        "signal_delay_s": options.notice,
        "array_parallelism": options.parallel,
        "setup": requeue(count > 1),
        "srun_args": [SRUN, "--open-mode=append"],
    }
    more = {name: value or True for name, _, value in (word.partition("=") for word in options.sbatch)}
    node["additional_parameters"] = {"time": options.time, "requeue": True, **more}
    return node | ({"gpus_per_node": options.gpus} if options.gpus else {})


def wait(folder: Path, launch: Callable[[], None]) -> str:
    """Submit, and wait for all tasks; what submitit says of one that has left no result, empty for none."""
    # Where SLURM keeps no accounts it warns again and again; sacct says so itself.
    logging.getLogger("submitit").addFilter(lambda record: record.levelno > logging.WARNING)
    # Until a task's own process listens, submitit's handler does, by default to USR2; it requeues, too.
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = "USR1"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        launch()
    except RuntimeError as error:
        if list(folder.glob("*_submission.sh")):
            return str(error)
        shutil.rmtree(folder)
        raise ConfigError([f"sbatch has refused the job: {' '.join(str(error).split())[-300:]}"]) from error
    except Stopped:
        told = f"by {signals.received()}; tasks that were submitted go on: squeue shows them, scancel ends them"
        raise Stopped(told) from None
    return ""


def run_task(commands: Sequence[Sequence[str]], folder: Path, number: int) -> None:
    """On a node: run the command of a task; a stopped one leaves no result, and is requeued by the job's script."""
    command = [sys.executable, "-m", "lightning_gen", *commands[number]]
    print(shlex.join(command), flush=True)
    process = subprocess.Popen(command)
    for each in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(each, lambda which, _: process.send_signal(which))
    code = process.wait()
    code = code if code >= 0 else 128 - code
    print(f"exit code {code}", flush=True)
    if code == STOPPED:
        sys.exit(STOPPED)
    if os.environ.get("SLURM_PROCID", "0") == "0":
        code_file(folder, number).write_text(f"{code}\n")
    if code:
        atexit.register(os._exit, code)  # submitit's own would be 0


def code_file(folder: Path, number: int) -> Path:
    """Where a task leaves its exit code."""
    return folder / f"task-{number}.code"


def summary(found: Sequence[Task], folder: Path, lost: str) -> int:
    """Say how each task has ended; 1 where one has failed, else 0."""
    codes = []
    for number, task in enumerate(found):
        file = code_file(folder, number)
        codes.append(int(file.read_text()) if file.is_file() else 1)
        told = f"exit code {codes[-1]}" if file.is_file() else "no exit code: it was killed, or still runs (squeue)"
        print(f"task {number}: {told}: {task.folder}")
    if lost:
        print(f"error: a task was lost, see {folder}: {lost.splitlines()[0]}", file=sys.stderr)
    return int(any(codes))
