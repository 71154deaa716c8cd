"""What W&B takes from its surroundings: a key, and what its own variables name; and what it must not take."""

import netrc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

# No command line, user, host, git state, source, package list or environment value leaves the machine.
PRIVATE = {
    "silent": True,
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "program": "",
    "host": "",
    "username": "",
    "email": "",
    "reinit": "create_new",
    "symlink": False,  # the run folder may be moved
    "init_timeout": 60,
    "finish_timeout": 120,  # a lost network must not hold a finished run for ever; `wandb sync` sends the rest
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
# W&B's own variables, which name what the config leaves open; an agent of a sweep sets the last two.
VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "name": "WANDB_NAME",
    "group": "WANDB_RUN_GROUP",
    "job_type": "WANDB_JOB_TYPE",
    "tags": "WANDB_TAGS",
    "id": "WANDB_RUN_ID",
    "sweep": "WANDB_SWEEP_ID",
}


def variable(what: str) -> str | None:
    """The value of W&B's variable for `what`; None where it is not set or empty."""
    return os.environ.get(VARIABLES[what]) or None


def chosen_mode() -> tuple[str, str]:
    """The mode where nobody has chosen one, and why: WANDB_MODE, else online where there is a key."""
    asked = os.environ.get("WANDB_MODE", "").replace("dryrun", "offline")
    if asked in ("offline", "disabled"):
        return asked, f"WANDB_MODE={asked}"
    return ("online", "") if has_key() else ("offline", "no WANDB_API_KEY and no entry in netrc")


def has_key() -> bool:
    """Whether W&B would find a key without asking: WANDB_API_KEY, or netrc's entry for its host."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            entry = netrc.netrc(path).authenticators(host)
        except (OSError, netrc.NetrcParseError):
            continue  # no file, or one that W&B cannot read either
        if entry and entry[2]:
            return True
    return False


@contextmanager
def staging(folder: str) -> Iterator[None]:
    """Within it W&B copies the files of artifacts, tables' pictures too, into the run folder, not the home folder.

    There they wait for `wandb sync`. WANDB_DATA_DIR, which is W&B's only word for it, stays where it is set.
    """
    if os.environ.get("WANDB_DATA_DIR"):
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(Path(folder, "wandb", "data").resolve())
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]
