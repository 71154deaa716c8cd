"""Ten planted secrets of the surroundings: none stands in any file that a run writes."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.test_run import TINY

NAMES = ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "GITHUB_TOKEN", "http_proxy", "https_proxy", "PIP_INDEX_URL")
SECRETS = {
    name: f"5ecret{number:034x}" for number, name in enumerate((*NAMES, "WANDB_API_KEY", "netrc", "other", "git"))
}
RUN = (*(word for word in TINY if word != "logger=none"), "logger=wandb", "trainer.max_steps=3")


def surroundings(home: Path) -> dict[str, str]:
    """Variables, a netrc and a git remote that hold the secrets."""
    variables = {name: SECRETS[name] for name in SECRETS if name.isupper()}
    for name in ("http_proxy", "https_proxy", "PIP_INDEX_URL"):
        variables[name] = f"http://user:{SECRETS[name]}@127.0.0.1:9"
    login = "machine {} login user password {}\n"
    netrc = login.format("api.wandb.ai", SECRETS["netrc"]) + login.format("example.org", SECRETS["other"])
    (home / ".netrc").write_text(netrc)
    (home / ".netrc").chmod(0o600)
    remote = ["git", "remote", "add", "origin", f"https://user:{SECRETS['git']}@example.org/x.git"]
    for command in (["git", "init", "-q"], remote):
        subprocess.run(command, cwd=home, check=True)
    return variables | {"HOME": str(home)}


def contents(file: Path) -> bytes:
    """The bytes of a file, and those of its members where it is a zip file."""
    data = file.read_bytes()
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            data += b"".join(archive.read(name) for name in archive.namelist())
    return data


def leaks(*folders: Path) -> list[str]:
    """Where a secret stands."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert files
    return [
        f"{name} in {file}" for file in files for name, secret in SECRETS.items() if secret.encode() in contents(file)
    ]


def test_what_is_searched_finds_a_secret(tmp_path):
    """The search itself: raw, and compressed in a zip file."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", SECRETS["git"] * 9)
    (tmp_path / "x.log").write_text(SECRETS["netrc"])
    assert len(leaks(tmp_path)) == 2


@pytest.mark.slow
def test_ten_secrets_stay_where_they_are(tmp_path):
    (home := tmp_path / "home").mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    environment |= surroundings(home)
    run = f"run={tmp_path / 'run'}"
    stages = (
        [*RUN, run],
        ["stage=evaluate", "logger=wandb", run, *RUN[1:2]],
        ["stage=export", run],
        ["stage=sample", "n=1", run],
    )
    for words in stages:
        command = [sys.executable, str(ROOT / "run.py"), *words]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert not any(secret in done.stdout + done.stderr for secret in SECRETS.values())
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    found = leaks(tmp_path / "run")
    print(f"\nsecrets: {len(SECRETS) - len({leak.split()[0] for leak in found})} of {len(SECRETS)} kept")
    assert not found
