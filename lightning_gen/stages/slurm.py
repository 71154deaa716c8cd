"""`lightning-gen slurm`: an sbatch file that runs a command, and requeues its job where the command was stopped."""

import argparse
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

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
trap : TERM
srun --kill-on-bad-exit=0 {command}
code=$?
# Of several tasks srun gives the highest code.
if [ $code -eq {stopped} ]; then
    scontrol requeue "{job}"
fi
exit $code
"""


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
        command=told,
        job="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" if array else "$SLURM_JOB_ID",
    )
    file = Path(options.file)
    file.write_text(text)
    print(f"written: {file}; submit it by: sbatch {shlex.quote(str(file))}")


def quoted(word: str, array: bool) -> str:
    """A word for the shell, in an array with the task's number where it says ARRAY_TASK."""
    parts = word.split("ARRAY_TASK") if array else [word]
    return '"$SLURM_ARRAY_TASK_ID"'.join(shlex.quote(part) if part else "" for part in parts) or "''"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "lightning-gen slurm", usage="%(prog)s --partition NAME [options] -- KEY=VALUE ..."
    )
    parser.add_argument("--partition", required=True)
    parser.add_argument("--time", default="24:00:00", help="of one job, as sbatch takes it; a requeued one has it anew")
    parser.add_argument("--gpus", type=int, default=0, help="of each node, one process each")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=0, help="processes of each node, where there is no GPU")
    parser.add_argument(
        "--array", help="as 0-9%%4; ARRAY_TASK in the command is the task's number, as in seed=ARRAY_TASK"
    )
    parser.add_argument("--notice", type=int, default=120, help="seconds before the end of the time to stop at")
    parser.add_argument("--name", default="lightning-gen")
    parser.add_argument("--logs", default="logs", help="the folder for the jobs' output, which all nodes see")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION=VALUE", help="one more of sbatch's")
    parser.add_argument("--file", default="job.sbatch")
    return parser


def _faults(options: argparse.Namespace, words: Sequence[str]) -> Iterator[str]:
    given = [word.partition("=") for word in words]
    several = options.nodes * (options.tasks or options.gpus or 1) > 1
    trainer = next((value for key, _, value in given if key == "trainer"), "")
    run = next((value for key, _, value in given if key == "run"), "")
    if several and not any(key in ("trainer", "trainer.strategy") for key, _, _ in given):
        yield "several processes, and the command has no trainer=: add trainer=ddp or trainer=ddp_cpu"
    if options.gpus and options.tasks not in (0, options.gpus):
        yield f"--tasks is {options.tasks} and --gpus {options.gpus}, but each process has one GPU: leave --tasks out"
    if trainer == "ddp" and not options.gpus:
        yield "trainer=ddp needs a GPU a process: add --gpus N, or write trainer=ddp_cpu"
    if options.array is not None and "ARRAY_TASK" not in run:
        yield "--array needs a folder for each of its tasks: write run=outputs/NAME-ARRAY_TASK"
    if options.array is not None and not re.fullmatch(r"[\d,:%-]+", options.array):
        yield f"--array is {options.array!r}, expected numbers as 0-9 or 0,3,5%2: write them"
    if not re.fullmatch(r"[\w.-]+", options.name):
        yield f"--name is {options.name!r}, expected letters, digits, '.', '_', '-': write such a name"
    if {"-m", "--multirun"} & {*words}:
        yield "-m runs a sweep's jobs one after the other in one job: use --array"
