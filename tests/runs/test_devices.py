"""Where a process stands among those that were started together, and what contradicts itself."""

import socket

import pytest

from lightning_gen.runs.devices import Place, first_host, place, processes
from tests.processes import free_port
from tests.processes import place as torchrun_place

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
JOB = {"SLURM_JOB_ID": "1234567", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_NODELIST": "node[03-04]"}
BATCH = JOB | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}  # what an sbatch file has by itself
TASK = JOB | {
    **{"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_STEP_ID": "0"},
    **{"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"},
}
DDP = {"strategy": "ddp", "devices": "auto"}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Nothing of the surroundings of the tests themselves."""
    for name in (*NAMES, *TASK, "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def given(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


def test_one_process_within_an_allocation():
    for found in ({}, JOB, BATCH, {"WORLD_SIZE": "1"}):
        assert place(found) == Place()


def test_places_that_torchrun_and_srun_give():
    here = place(torchrun_place(5, 6, 29500) | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "2"})
    assert here == Place(5, 6, 1, 2, 2, 3, "127.0.0.1", 29500, "torchrun")
    here = place(TASK)
    assert here[:7] == (3, 4, 1, 2, 1, 2, "node03") and here.starter == "srun"
    assert 15000 <= here.port < 25000
    assert place(TASK | {"SLURM_STEP_ID": "1"}).port != here.port
    assert place(TASK | JOB | torchrun_place(1, 2, 1)).starter == "torchrun"  # srun may start torchrun


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("a", "a"), ("a,b", "a"), ("n[03-05,9],b", "n03"), ("n[3]", "n3"), ("r1n[1,2]x,b[1-2]", "r1n1x")],
)
def test_the_first_host_of_a_list(hosts, first):
    assert first_host(hosts) == first


def test_devices_and_nodes_follow_from_the_start(alone):
    assert processes({"devices": 1, "timeout": 5}) == {"devices": 1}
    given(alone, torchrun_place(1, 2, free_port()))
    assert processes(DDP) == {"strategy": "ddp", "devices": 2, "num_nodes": 1}
    for name in NAMES:
        alone.delenv(name, raising=False)
    given(alone, TASK)
    for trainer in (DDP, DDP | {"devices": 2}, DDP | {"num_nodes": 2}):
        assert processes(trainer) == {"strategy": "ddp", "devices": 2, "num_nodes": 2}


@pytest.mark.parametrize(
    ("variables", "trainer", "words"),
    [
        ({}, {"devices": 64}, ("trainer.devices is 64", "torchrun")),
        ({}, DDP, ("nothing has started", "srun")),
        ({}, {"devices": 1, "num_nodes": 2}, ("trainer.num_nodes is 2", "--nnodes 2")),
        ({"WORLD_SIZE": "2"}, DDP, ("WORLD_SIZE is 2", "RANK, LOCAL_RANK")),
        ({"RANK": "1"}, {"devices": 1}, ("RANK is 1", "WORLD_SIZE")),
        ({**torchrun_place(1, 2, 29500), "RANK": "two"}, DDP, ("RANK is 'two'", "whole number")),
        ({**torchrun_place(1, 2, 29500), "RANK": "2"}, DDP, ("rank 2 of 2",)),
        ({**torchrun_place(1, 3, 29500), "LOCAL_WORLD_SIZE": "2"}, DDP, ("LOCAL_WORLD_SIZE is 2", "WORLD_SIZE 3")),
        ({**torchrun_place(1, 2, 29500), "MASTER_PORT": "70000"}, DDP, ("MASTER_PORT is 70000",)),
        (torchrun_place(1, 2, 29500), {"devices": 1}, ("trainer.strategy is auto", "trainer=ddp")),
        (torchrun_place(1, 2, 29500), DDP | {"devices": 64}, ("trainer.devices is 64", "devices=auto")),
        (torchrun_place(1, 2, 29500), DDP | {"num_nodes": 2}, ("trainer.num_nodes is 2", "started on 1")),
        ({k: v for k, v in TASK.items() if k != "SLURM_NODEID"}, DDP, ("SLURM_NODEID not set", "srun")),
        ({k: v for k, v in TASK.items() if k != "SLURM_STEP_ID"}, DDP, ("SLURM_STEP_ID not set",)),
        (TASK | {"SLURM_STEP_TASKS_PER_NODE": "3,1"}, DDP, ("3,1", "--ntasks-per-node")),
        (TASK | {"SLURM_PROCID": "4"}, DDP, ("rank 4 of 4",)),
        (BATCH, DDP, ("nothing has started", "srun")),
        (
            torchrun_place(1, 2, 29500),
            {"strategy": "fsdp_cpu_offload"},
            ("is fsdp_cpu_offload", "ddp or fsdp"),
        ),
        (torchrun_place(1, 2, 29500), {"strategy": "ddp_spawn"}, ("trainer.strategy is ddp_spawn",)),
        ({}, {"devices": 1, "timeout": 0}, ("trainer.timeout is 0",)),
        ({}, {"devices": 1, "timeout": "soon"}, ("trainer.timeout is 'soon'",)),
    ],
)
def test_contradictions_are_a_sentence(variables, trainer, words, alone):
    given(alone, variables)
    with pytest.raises(ValueError) as refused:
        processes(trainer)
    assert all(word in str(refused.value) for word in words), refused.value


def test_a_port_in_use_is_named(alone):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        given(alone, torchrun_place(0, 2, port))
        with pytest.raises(ValueError, match=f"MASTER_PORT {port} cannot be used"):
            processes(DDP)
