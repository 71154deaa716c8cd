"""`lightning-gen slurm`: an sbatch file that runs a command, and requeues its job where the command was stopped."""

import argparse
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from lightning_gen.errors import ConfigError
from lightning_gen.runs.signals import STOPPED

# SLURM sends USR1 to the tasks before the time is over; a preempted job gets TERM. `wait` returns at a trapped signal.
TEMPLATE = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --partition={partition}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={tasks}
#SBATCH --time={time}
#SBATCH --signal=USR1@{notice}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={logs}
{more}# A stopped job goes on by itself: the command ends with {stopped} and is requeued, in the same run folder.
cd {folder} || exit 1
{requeue}
srun {srun} {command}
"""
SRUN = "--kill-on-bad-exit=0"  # of several processes srun gives the highest code


def slurm(argv: Sequence[str]) -> None:
    """Write the file and say how it is submitted; ConfigError for what is wrong."""
    split = list(argv).index("--") if "--" in argv else len(argv)
    options, words = _parser().parse_args(argv[:split]), list(argv[split + 1 :])
    faults = list(_faults(options, words))
    if faults:
        raise ConfigError(faults)
    array = options.array is not None
    more = [f"#SBATCH --gpus-per-node={options.gpus}"] * bool(options.gpus)
    more += [f"#SBATCH --array={options.array}"] * array + [f"#SBATCH --{line}" for line in options.sbatch]
    command = [sys.executable, "-m", "lightning_gen", *words]
    logs = Path(options.logs).resolve()
    logs.mkdir(parents=True, exist_ok=True)
    told = " ".join(quoted(word, array) for word in command)
    text = TEMPLATE.format(
        name=options.name,
        partition=options.partition,
        nodes=options.nodes,
        tasks=options.tasks or options.gpus or 1,
        time=options.time,
        notice=options.notice,
        logs=logs / ("%x-%A_%a.log" if array else "%x-%j.log"),
        more="".join(f"{line}\n" for line in more),
        stopped=STOPPED,
        folder=shlex.quote(str(Path.cwd())),
        requeue="\n".join(requeue(array)),
        srun=SRUN,
        command=told,
    )
    file = Path(options.file)
    if file.exists() and (not file.is_file() or file.read_text() != text):
        raise ConfigError([f"--file {file} exists, and says something else: name another, or remove it"])
    file.write_text(text)
    print(f"written: {file}; submit it by: sbatch {shlex.quote(str(file))}")


def requeue(array: bool) -> list[str]:
    """What a script says before its command, so that a stopped one is requeued; one task of an array alone."""
    job = '"$SLURM_ARRAY_JOB_ID"_"$SLURM_ARRAY_TASK_ID"' if array else '"$SLURM_JOB_ID"'
    return ["trap : TERM", f"trap 'if [ $? -eq {STOPPED} ]; then scontrol requeue {job}; fi' EXIT"]


def quoted(word: str, array: bool) -> str:
    """A word for the shell, in an array with the task's number where it says ARRAY_TASK."""
    parts = word.split("ARRAY_TASK") if array else [word]
    return '"$SLURM_ARRAY_TASK_ID"'.join(shlex.quote(part) if part else "" for part in parts) or "''"


class Parser(argparse.ArgumentParser):
    """A parser of sbatch's options whose errors are ours."""

    mark = "--"  # what stands before an option's name, as the person writes it

    def error(self, message: str) -> NoReturn:
        """ConfigError with what argparse says."""
        told = message.removeprefix("argument ").replace("--", self.mark)
        raise ConfigError([f"{told}; lightning-gen slurm --help lists the options"])


def job_parser(usage: str, mark: str = "--") -> Parser:
    """The options of every job that is submitted."""
    parser = Parser("lightning-gen slurm", usage=usage, allow_abbrev=False)
    parser.mark = mark
    parser.add_argument("--partition", required=True)
    parser.add_argument("--time", default="24:00:00", help="of one job, as sbatch takes it; a requeued one has it anew")
    parser.add_argument("--gpus", type=int, default=0, help="of each node, one process each")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=0, help="processes of each node, where there is no GPU")
    parser.add_argument("--notice", type=int, default=120, help="seconds before the end of the time to stop at")
    parser.add_argument("--name", default="lightning-gen")
    parser.add_argument("--logs", default="logs", help="the folder for the jobs' output, which all nodes see")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION=VALUE", help="one more of sbatch's")
    return parser


def _parser() -> Parser:
    parser = job_parser("%(prog)s --partition NAME [options] -- KEY=VALUE ...")
    parser.add_argument(
        "--array", help="as 0-9%%4; ARRAY_TASK in the command is the task's number, as in seed=ARRAY_TASK"
    )
    parser.add_argument("--file", default="job.sbatch")
    return parser


def job_faults(options: argparse.Namespace, words: Sequence[str], mark: str = "--") -> Iterator[str]:
    """What would fail in the queue, of the options and of the command's words."""
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    least = {"gpus": 0, "tasks": 0, "nodes": 1, "notice": 1}
    for name in least:
        if getattr(options, name) < least[name]:
            yield f"{mark}{name} is {getattr(options, name)}, expected at least {least[name]}: write a larger number"
    if not re.fullmatch(r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}", options.time):
        yield f"{mark}time is {options.time!r}, expected minutes, HH:MM:SS or DAYS-HH:MM:SS: write 12:00:00"
    elif 0 < seconds(options.time) <= options.notice:
        told = f"{mark}notice is {options.notice}, expected fewer seconds than {mark}time={options.time} has"
        yield f"{told} ({seconds(options.time)}), or the job is stopped as it starts: write a smaller one"
    if not re.fullmatch(r"[\w.-]+", options.name):
        yield f"{mark}name is {options.name!r}, expected letters, digits, '.', '_', '-': write such a name"
    yield from _process_faults(options, given, mark)
    if given.get("fresh", "false").lower() == "true":
        yield "fresh=true would start anew whenever the job is requeued: name a new folder by run="


def seconds(time: str) -> int:
    """Of a time as sbatch takes it: M, M:SS, H:MM:SS, D-H, D-H:MM or D-H:MM:SS; 0 for no limit."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if not dash and len(parts) < 3:
        parts = [0, *parts]
    hours, minutes, rest_seconds = [*parts, 0, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest_seconds


def _process_faults(options: argparse.Namespace, given: Mapping[str, str], mark: str) -> Iterator[str]:
    """What does not fit between the processes that are asked for and the command's trainer."""
    several = options.nodes * (options.tasks or options.gpus or 1) > 1
    if several and not {"trainer", "trainer.strategy"} & {*given}:
        yield "several processes, and the command has no trainer=: add trainer=ddp or trainer=ddp_cpu"
    if options.gpus and options.tasks not in (0, options.gpus):
        told = f"{mark}tasks is {options.tasks} and {mark}gpus {options.gpus}"
        yield f"{told}, but each process has one GPU: leave {mark}tasks out"
    if (trainer := given.get("trainer")) in ("ddp", "fsdp") and not options.gpus:
        yield f"trainer={trainer} needs a GPU a process: give {mark}gpus, or write trainer={trainer}_cpu"


def _faults(options: argparse.Namespace, words: Sequence[str]) -> Iterator[str]:
    yield from job_faults(options, words)
    run = next((word.partition("=")[2] for word in words if word.startswith("run=")), "")
    if options.array is not None and "ARRAY_TASK" not in run:
        yield "--array needs a folder for each of its tasks: write run=outputs/NAME-ARRAY_TASK"
    if options.array is not None and not re.fullmatch(r"[\d,:%-]+", options.array):
        yield f"--array is {options.array!r}, expected numbers as 0-9 or 0,3,5%2: write them"
    if {"-m", "--multirun"} & {*words}:
        yield (
            "-m runs a sweep's jobs one after the other in one job: use --array, or submit the sweep itself by "
            "python run.py -m launcher=slurm launcher.partition=NAME KEY=VALUE,VALUE"
        )
