"""kill -9 at any moment, half of them inside a save: the same command ends as if nothing had been, to the bit."""

import json
import random
import shutil
from pathlib import Path

import pytest

from tests.faults.jobs import CALLS, DyingInASave, Job
from tests.faults.wholes import FAMILIES, LONGEST, Whole

KINDS = [(family, world) for family in FAMILIES for world in (1, 2)]


def kill(whole: Whole, folder: Path, draw: random.Random, inside: bool) -> str:
    """Start a run and kill it; where that was."""
    words, moment = [*whole.words, f"run={folder / 'run'}"], DyingInASave()
    if inside:
        call = draw.choice([call for call in CALLS if whole.calls[call]])
        moment = DyingInASave(call, draw.randint(1, whole.calls[call]), draw.random() < 0.5)
    delay = LONGEST if inside else draw.uniform(0.0, whole.seconds)
    job = Job(words, whole.world, folder / "killed", moment)
    job.wait(delay)
    job.kill()
    if not job.lost():
        assert not inside, job.log.read_text()[-3000:]
        shutil.rmtree(folder / "run")  # it had ended
        return kill(whole, folder, draw, inside)
    if not inside:
        return f"after {delay:.2f} of {whole.seconds:.2f} s"
    return f"{'after' if moment.after else 'in'} {moment.call} {moment.number} of {whole.calls[moment.call]}"


def trial(whole: Whole, folder: Path, draw: random.Random, inside: bool) -> str:
    """Kill a run and resume it; where it was killed, and what is wrong, empty where nothing is."""
    folder.mkdir()
    where = kill(whole, folder, draw, inside)
    again = Job([*whole.words, f"run={folder / 'run'}"], whole.world, folder / "resumed")
    codes = again.wait(LONGEST)
    again.kill()
    if codes != [0] * whole.world:
        return f"{where}: resumed with {codes}, {again.log.read_text()[-1500:]}"
    wrong = whole.difference(folder / "run")
    return f"{where}: {wrong}" if wrong else ""


@pytest.mark.parametrize("inside", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_short_draw(inside, wholes, tmp_path):
    assert not trial(wholes("vae", 1), tmp_path / "trial", random.Random(1), inside)


@pytest.mark.slow
def test_fifty_kills(wholes, tmp_path):
    draw, failed, trials = random.Random(0), {}, 50
    for number in range(trials):
        kind = KINDS[number // 2 % len(KINDS)]
        wrong = trial(wholes(*kind), tmp_path / str(number), draw, inside=number % 2 == 0)
        failed |= {f"{number}, {kind[0]} on {kind[1]}": wrong} if wrong else {}
    print(f"\nkills: {trials - len(failed)} of {trials} resumed to the same bits")
    assert not failed, json.dumps(failed, indent=1)
