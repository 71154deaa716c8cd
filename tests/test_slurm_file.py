"""The sbatch file that `lightning-gen slurm` writes."""

import subprocess

import pytest

import run as entry

PARTITION = ("slurm", "--partition", "gpu")


def written(tmp_path, monkeypatch, *words):
    """The text of the file, which bash can read."""
    monkeypatch.chdir(tmp_path)
    assert entry.main([*PARTITION, *words]) == 0
    subprocess.run(["bash", "-n", "job.sbatch"], check=True)
    return (tmp_path / "job.sbatch").read_text()


def test_options_stand_in_the_file(tmp_path, monkeypatch):
    words = ("--gpus", "4", "--nodes", "2", "--time", "1:00:00", "--sbatch", "account=me")
    text = written(tmp_path, monkeypatch, *words, "--", "trainer=ddp", "data.path=/a b/$x")
    for line in ("partition=gpu", "nodes=2", "gpus-per-node=4", "ntasks-per-node=4", "time=1:00:00", "account=me"):
        assert f"#SBATCH --{line}\n" in text
    assert "trainer=ddp 'data.path=/a b/$x'\n" in text
    assert 'scontrol requeue "$SLURM_JOB_ID"' in text


def test_a_task_of_an_array_has_its_number_in_every_word(tmp_path, monkeypatch):
    text = written(tmp_path, monkeypatch, "--array", "0-3", "--", "seed=ARRAY_TASK", "run=/a b/ARRAY_TASK/c d")
    assert "seed=\"$SLURM_ARRAY_TASK_ID\" 'run=/a b/'\"$SLURM_ARRAY_TASK_ID\"'/c d'\n" in text
    assert 'scontrol requeue "$SLURM_ARRAY_JOB_ID"_"$SLURM_ARRAY_TASK_ID"' in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--gpus", "2"), "trainer=ddp"),
        (("--tasks", "2", "--", "trainer=ddp"), "--gpus"),
        (("--array", "0-3", "--", "run=outputs/a"), "ARRAY_TASK"),
        (("--array", "x", "--", "run=outputs/ARRAY_TASK"), "--array is 'x'"),
        (("--", "-m", "seed=0,1"), "--array"),
        (("--notice", "-5"), "--notice is -5"),
        (("--notice", "0"), "--notice is 0"),
        (("--notice", "120", "--time", "2"), "--notice is 120, expected fewer seconds than --time=2 has (120)"),
        (("--notice", "90", "--time", "1:30"), "--time=1:30 has (90)"),
        (("--notice", "7200", "--time", "1:59:59"), "--time=1:59:59 has (7199)"),
        (("--notice", "93600", "--time", "1-02"), "--time=1-02 has (93600)"),
        (("--name", "a b"), "--name"),
        (("--nodes", "0"), "--nodes is 0"),
        (("--gpus", "two"), "--gpus: invalid int value: 'two'"),
        (("--", "fresh=true"), "fresh=true"),
    ],
)
def test_what_would_fail_in_the_queue_is_refused_before(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert entry.main([*PARTITION, *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("time", ["3", "2:01", "1-0", "0"])
def test_a_notice_shorter_than_the_time_is_written(time, tmp_path, monkeypatch):
    assert "USR1@120" in written(tmp_path, monkeypatch, f"--time={time}", "--", "run=x")


@pytest.mark.parametrize("time", ["abc", "-1", "1:2", "1-"])
def test_a_time_that_is_none_is_refused(time, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert entry.main([*PARTITION, f"--time={time}", "--", "run=x"]) == 2
    assert "--time" in capsys.readouterr().err and not (tmp_path / "job.sbatch").exists()


def test_another_file_is_not_replaced(tmp_path, monkeypatch, capsys):
    before = written(tmp_path, monkeypatch, "--", "run=x")
    assert written(tmp_path, monkeypatch, "--", "run=x") == before
    assert entry.main([*PARTITION, "--", "run=y"]) == 2
    assert "job.sbatch" in capsys.readouterr().err and (tmp_path / "job.sbatch").read_text() == before
