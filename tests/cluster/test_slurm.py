"""A real SLURM on this machine: ranks by srun, a job that is stopped and requeued, an array, two nodes by torchrun."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from lightning_gen.stages.array import installed
from tests.processes import ROOT, free_port
from tests.test_run import BARE, TINY, losses

pytestmark = pytest.mark.cluster
WORDS = (*TINY, "quality.n=20", "callbacks.checkpoints.every_n_steps=5", "callbacks.likelihood=null")
HERE = Path(__file__).parent
TWO = ("--tasks", "2", "--partition", "all", "--sbatch", "overcommit")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """The cluster's folder; a short path, for the socket's."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        subprocess.run(["sh", str(HERE / "slurm.sh"), "start", folder], check=True)
        os.environ["SLURM_CONF"], os.environ["PYTHONPATH"] = f"{folder}/slurm.conf", str(ROOT)
        os.environ["OMP_NUM_THREADS"] = "1"
        try:
            yield Path(folder)
        finally:
            subprocess.run(["scancel", "--full", "--user", "root"], check=False)
            time.sleep(1)
            subprocess.run(["sh", str(HERE / "slurm.sh"), "stop", folder], check=True)
            time.sleep(1)
            del os.environ["SLURM_CONF"]


def told(*command):
    """What a command says."""
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def submit(folder, options, words):
    """The number of a job of the file that `lightning-gen slurm` writes."""
    file = folder / "job.sbatch"
    told(
        *(sys.executable, "-m", "lightning_gen", "slurm", *options, "--file", str(file)),
        *("--logs", str(folder / "logs"), "--time", "0:30:00", "--", *words),
    )
    return told("sbatch", "--parsable", str(file)).strip().split(";")[0]


def wait(condition, seconds, folder):
    """Until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        logs = "\n".join(path.read_text()[-3000:] for path in (folder / "logs").rglob("*.[lo][ou][gt]"))
        assert time.monotonic() < deadline, logs + told("squeue")
        time.sleep(0.2)


def states(job):
    """Of a job, or of each task of an array: COMPLETED, RUNNING, PENDING, ..."""
    return re.findall(r"JobState=(\w+)", told("scontrol", "show", "job", job))


def over(job):
    """Whether nothing of the job waits or runs."""
    return not {*states(job)} & {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED"}


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_job_that_is_stopped_requeues_itself_and_equals_one_that_is_not(tmp_path):
    words = (*WORDS, "trainer=ddp_cpu", "trainer.max_steps=120")
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    job = submit(tmp_path, TWO, (*words, f"run={stopped}"))
    wait(lambda: (stopped / "record.jsonl").is_file() and len(losses(stopped)) >= 20, 180, tmp_path)
    told("scancel", "--signal=USR1", job)
    restarts = lambda: "Restarts=1" in told("scontrol", "show", "job", job)  # noqa: E731
    wait(restarts, 120, tmp_path)
    at = max(losses(stopped))
    assert at < 120
    wait(lambda: states(job) == ["PENDING"], 60, tmp_path)
    # SLURM itself waits two minutes, so that the first start is gone before the second begins.
    told("scontrol", "update", f"jobid={job}", "starttime=now+10")
    wait(lambda: over(job), 400, tmp_path)
    assert states(job) == ["COMPLETED"], told("scontrol", "show", "job", job)
    told(*("srun", "--ntasks", "2", "--overcommit", sys.executable, "run.py", *words, f"run={whole}"))
    assert losses(stopped) == losses(whole) and len(losses(whole)) == 120
    ours, theirs = weights(stopped), weights(whole)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_an_array_has_a_folder_for_each_task(tmp_path):
    words = (*WORDS, "trainer.max_steps=3", "seed=ARRAY_TASK", f"run={tmp_path}/run-ARRAY_TASK")
    job = submit(tmp_path, ("--partition", "all", "--array", "0-1"), words)
    wait(lambda: over(job), 300, tmp_path)
    assert [len(losses(tmp_path / f"run-{task}")) for task in range(2)] == [3, 3]
    assert losses(tmp_path / "run-0") != losses(tmp_path / "run-1")
    assert len(list((tmp_path / "logs").iterdir())) == 2


def test_a_sweep_is_an_array_one_of_whose_tasks_fails(tmp_path):
    """launcher=slurm: folders, logs and exit codes of three tasks, of which the first is stopped and requeued."""
    if not installed():
        pytest.skip("hydra-submitit-launcher is not installed: pip install -e '.[slurm]'")
    words = (*BARE, "callbacks.checkpoints.every_n_steps=5", "trainer.max_steps=60", f"run={tmp_path / 'a b'}")
    words += ("module.optimizer.lr=0.001,1e38,0.002", "launcher=slurm", "launcher.partition=all")
    words += ("launcher.sbatch=overcommit", f"launcher.logs={tmp_path / 'logs'}", "launcher.time=0:30:00")
    sweep = subprocess.Popen([sys.executable, "run.py", "-m", *words], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        first, second, third = (tmp_path / f"a b-module.optimizer.lr={lr}" for lr in ("0.001", "1e+38", "0.002"))
        wait(lambda: (first / "record.jsonl").is_file() and len(losses(first)) >= 10, 180, tmp_path)
        (log,) = tmp_path.glob("logs/sweep-*/*_0_0_log.out")
        job = log.name.split("_")[0]
        told("scancel", "--signal=USR1", f"{job}_0")
        wait(lambda: "Restarts=1" in told("scontrol", "show", "job", f"{job}_0"), 120, tmp_path)
        assert max(losses(first)) < 60 and "exit code 75" in log.read_text()
        wait(lambda: states(f"{job}_0") == ["PENDING"], 60, tmp_path)
        told("scontrol", "update", f"jobid={job}_0", "starttime=now")
        out, _ = sweep.communicate(timeout=300)
    finally:
        sweep.kill()
    assert sweep.returncode == 1
    assert [f"task {n}: exit code {code}" in out for n, code in enumerate((0, 1, 0))] == [True] * 3, out
    assert [len(losses(folder)) for folder in (first, third)] == [60, 60]
    assert not (second / "checkpoints").exists() and "not finite" in log.with_name(f"{job}_1_0_log.out").read_text()
    assert "JobState=FAILED" in (shown := told("scontrol", "show", "job", f"{job}_1")) and "ExitCode=1:0" in shown


def test_within_an_allocation_a_plain_command_is_one_process(tmp_path):
    words = (*WORDS, "trainer.max_steps=2", f"run={tmp_path / 'run'}")
    told("salloc", "--ntasks", "2", sys.executable, "run.py", *words)
    assert len(losses(tmp_path / "run")) == 2


def test_two_nodes_by_torchrun(tmp_path):
    """Two network namespaces, each with an address of its own."""
    names, port = ("lg-a", "lg-b"), free_port()
    ip = lambda *words: subprocess.run(["ip", *words], check=True, capture_output=True)  # noqa: E731
    try:
        ip("netns", "add", names[0])
        ip("netns", "delete", names[0])
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", b"").decode().strip() or error
        pytest.skip(f"network namespaces cannot be made here: {why}")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "lg-va", "netns", names[0], "type", "veth", "peer", "name", "lg-vb", "netns", names[1])
        for number, (name, link) in enumerate(zip(names, ("lg-va", "lg-vb"), strict=True)):
            ip("-n", name, "address", "add", f"10.77.0.{number + 1}/24", "dev", link)
            for each in (link, "lo"):
                ip("-n", name, "link", "set", each, "up")
        torchrun = (sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1")
        torchrun += ("--master-addr", "10.77.0.1", "--master-port", str(port))
        words = (*WORDS, "trainer=ddp_cpu", "trainer.max_steps=4", f"run={tmp_path / 'run'}")
        nodes = [
            subprocess.Popen(
                ["ip", "netns", "exec", name, *torchrun, "--node-rank", str(number), "run.py", *words],
                cwd=ROOT,
                env=os.environ | {"GLOO_SOCKET_IFNAME": link},
            )
            for number, (name, link) in enumerate(zip(names, ("lg-va", "lg-vb"), strict=True))
        ]
        assert [node.wait(timeout=300) for node in nodes] == [0, 0]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)
    assert len(losses(tmp_path / "run")) == 4
