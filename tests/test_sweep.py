"""Sweeps: the folders of their jobs, jobs that fail, the number that they return, and Hydra's other sweepers."""

import json
import math
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import run as entry
from lightning_gen.config.command_line import hydra_keys
from lightning_gen.config.compose import LONGEST, launch
from lightning_gen.errors import ConfigError, NonFinite
from lightning_gen.runs.folder import RunFolder
from lightning_gen.stages import command
from tests.processes import place
from tests.test_run import BARE

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """The jobs that would be done, as (config, folder), in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    done = []
    monkeypatch.setattr(command, "job", lambda config, folder: done.append((config, str(folder.path))))
    monkeypatch.setattr(command, "surveyor", lambda: lambda *_: None)
    return done


FIXED = (*BARE, "module.ema_decay=0.9", "n=3", "trainer.max_steps=7", "data.batch_size=8")


def swept(*words, task=lambda config, folder: None, **options):
    """The exit code and the folders of a sweep, whose jobs nothing looks at before."""
    folders = []
    code = launch(lambda *job: (folders.append(str(job[1])), task(*job))[1], command.CONFIGS, ["-m", *words], **options)
    return code, folders


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("seed=0,1",), ["outputs/ddpm_digits-seed=0", "outputs/ddpm_digits-seed=1"]),
        pytest.param(("run=a", "seed=0,1"), ["a-seed=0", "a-seed=1"], marks=pytest.mark.slow),
        pytest.param(("run=a,b",), ["a", "b"], marks=pytest.mark.slow),
        (("run=a", "experiment=ddpm_digits,ddpm_mnist"), ["a-experiment=ddpm_digits", "a-experiment=ddpm_mnist"]),
        pytest.param(("sampler=ddim",), ["outputs/ddpm_digits"], marks=pytest.mark.slow),
    ],
)
def test_a_folder_is_named_for_the_swept_keys_alone(words, names):
    assert len(FIXED) > 13
    assert swept(*FIXED, *words) == (0, names)


def test_each_run_of_a_sweep_has_the_config_that_it_has_stored(tmp_path, monkeypatch, capsys):
    """Another family's too, whose weights may fit as well: the numbers would be those of another model."""
    monkeypatch.chdir(tmp_path)

    def keep(config, folder):
        folder.mkdir()
        RunFolder(folder).store(config)

    for name, experiment in (("a", "ddpm_digits"), ("b", "sde_vp_digits")):
        launch(
            lambda config, folder: keep(config, folder), command.CONFIGS, [f"experiment={experiment}", f"run={name}"]
        )
    seen = []
    words = ("stage=evaluate", "run=a,b", "sampler.steps=7", "seed=3")
    code, folders = swept(*words, task=lambda config, folder: seen.append(config))
    assert (code, folders) == (0, ["a", "b"])
    assert [config["module"]["_target_"].rpartition(".")[2] for config in seen] == ["DDPM", "ScoreSDE"]
    assert [(config["sampler"]["steps"], config["seed"], config["run"]) for config in seen] == [
        (7, 3, "a"),
        (7, 3, "b"),
    ]
    Path("outputs").mkdir()
    Path("a").rename("outputs/edm_digits")
    launch(lambda config, folder: seen.append(folder), command.CONFIGS, ["stage=evaluate"])
    assert seen[-1] == Path("outputs/edm_digits")
    assert entry.main(["-m", "stage=evaluate", "run=outputs/edm_digits,c"]) == 2
    assert "c/config.yaml does not exist" in capsys.readouterr().err


@pytest.mark.slow
def test_long_names_are_cut_and_differ():
    words = (*FIXED, f"init={'a' * 220},{'b' * 220}")
    names = [Path(folder).name for folder in swept(*words)[1]]
    assert len({*names}) == 2 and all(len(name) == LONGEST for name in names)
    assert [Path(folder).name for folder in swept(*words)[1]] == names


def test_failed_jobs_do_not_stop_the_others_and_are_listed_and_the_best_stands_first(capsys):
    errors = {0: NonFinite("of a loss"), 1: ConfigError(["of a device"]), 2: RuntimeError("of the program")}

    def task(config, folder):
        if config["seed"] in errors:
            raise errors[config["seed"]]
        return float(config["seed"])

    words = (*BARE[:5], "optimize=coverage/digits/ema", "seed=0,1,3,2,4")
    code, folders = swept(*words, task=task, report=command.reported, better=command.better)
    assert code == 1 and [folder[-1] for folder in folders] == ["0", "1", "3", "2", "4"]
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()[-2:]] == [[n, f"outputs/ddpm_digits-seed={n}"] for n in "43"]
    told = err.splitlines()[-4:]
    assert "3 of 5" in told[0]
    for line, seed, code in zip(told[1:], (0, 1, 2), (1, 2, 1), strict=True):
        assert f"seed={seed}: exit code {code}: {str(errors[seed])}" in line


def test_the_objective_is_the_last_evaluations_else_the_records(tmp_path):
    from lightning_gen.runs.folder import RunFolder
    from lightning_gen.stages.objective import better, objective

    rows = [{"name": "val/loss/ema", "step": s, "value": v} for s, v in ((1, 3.0), (3, 1.5), (2, 2.0))]
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert objective("val/loss/ema", RunFolder(tmp_path)) == 1.5
    (tmp_path / "metrics.json").write_text(json.dumps({"fid/digits/ema": {"value": 7, "error": None}}))
    assert objective("fid/digits/ema", RunFolder(tmp_path)) == 7
    with pytest.raises(ValueError, match=r"optimize is fid/pixels/ema.*fid/digits/ema"):
        objective("fid/pixels/ema", RunFolder(tmp_path))
    assert (better("val/loss/ema"), better("coverage/digits/ema"), better("train/lr")) == ("lower", "higher", None)


class Halving:
    """A sweeper as Hydra's plugins are: it asks for one job after the other, and goes by what they return."""

    values: list
    returned: list

    def __init__(self, direction="minimize", n_jobs=2, max_failure_rate=0.0, params=None):
        self.rate, type(self).settings = max_failure_rate, (direction, n_jobs, max_failure_rate)

    def setup(self, *, hydra_context, task_function, config):
        from hydra.core.plugins import Plugins

        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments):
        """interval(low, high) of one key: the middle of the half whose last value was better."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        parsed = OverridesParser.create().parse_overrides(arguments)
        (swept,) = (each for each in parsed if each.is_interval_sweep())
        fixed = [each.input_line for each in parsed if each is not swept]
        for number, value in enumerate(self.values):
            job = [*fixed, f"{swept.get_key_element()}={value}"]
            (back,) = self.launcher.launch([job], initial_job_idx=number)
            try:
                self.returned.append(back.return_value)
            except Exception as error:
                if not self.rate:
                    raise
                self.returned.append(type(error).__name__)


@pytest.fixture
def chosen(monkeypatch):
    """A sweeper in the place of Optuna's, under its name."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from hydra.plugins.sweeper import Sweeper

    module, above = ModuleType("hydra_plugins.of_a_test"), ModuleType("hydra_plugins")
    above.__path__, above.of_a_test = [], module
    monkeypatch.setitem(sys.modules, above.__name__, above)
    kind = type("HalvingSweeper", (Halving, Sweeper), {"__module__": module.__name__, "values": [], "returned": []})
    module.HalvingSweeper = kind
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(hydra_keys, "installed", lambda plugin: True)
    node = {"_target_": f"{module.__name__}.HalvingSweeper", "direction": "minimize", "n_jobs": 2}
    ConfigStore.instance().store("optuna", {**node, "max_failure_rate": 0.0, "params": None}, group="hydra/sweeper")
    Plugins.instance().register(kind)
    yield kind
    del ConfigStore.instance().repo["hydra"]["sweeper"]["optuna.yaml"]


OPTUNA = ("-m", "hydra/sweeper=optuna", "module.optimizer.lr=tag(log, interval(1e-4, 1e-1))")


def test_a_sweeper_is_given_what_the_jobs_return_and_is_told_of_failures(chosen, jobs, monkeypatch, capsys):
    def job(config, folder):
        jobs.append((config["module"]["optimizer"]["lr"], str(folder.path)))
        if config["module"]["optimizer"]["lr"] == 0.05:
            raise NonFinite("loss")
        return abs(math.log10(config["module"]["optimizer"]["lr"]) + 3)

    monkeypatch.setattr(command, "job", job)
    chosen.values = [0.01, 0.05, 0.001]
    assert entry.main([*OPTUNA, *FIXED, "sampler=ddim", "optimize=val/loss/ema"]) == 1
    assert chosen.returned == [1.0, "Failed", 0.0] and chosen.settings == ("minimize", 1, 1.0)
    assert [name for _, name in jobs][2] == "outputs/ddpm_digits-module.optimizer.lr=0.001"
    out, err = capsys.readouterr()
    assert out.splitlines()[-2].endswith("lr=0.001") and "1 of 3" in err


def test_several_processes_do_not_all_choose(chosen, jobs, monkeypatch, capsys):
    for name, value in place(1, 2, 29500).items():
        monkeypatch.setenv(name, value)
    assert entry.main([*OPTUNA, *BARE, "optimize=val/loss/ema"]) == 2
    assert "2 processes" in capsys.readouterr().err and not jobs


@pytest.mark.slow
def test_the_direction_follows_from_the_number_unless_it_is_said(chosen, jobs, monkeypatch):
    monkeypatch.setattr(command, "job", lambda config, folder: 1.0)
    chosen.values = [0.01]
    assert entry.main([*OPTUNA, *BARE, "optimize=coverage/digits/ema", "hydra.sweeper.n_jobs=3"]) == 0
    assert chosen.settings == ("maximize", 3, 1.0)
    assert entry.main([*OPTUNA, *BARE, "optimize=coverage/digits/ema", "hydra.sweeper.direction=minimize"]) == 0
    assert chosen.settings == ("minimize", 1, 1.0)


def test_a_sweeper_ends_at_a_first_job_that_is_refused(chosen, jobs, capsys):
    chosen.values = [-1.0, 0.01]
    assert entry.main([*OPTUNA, *BARE, "optimize=val/loss/ema", "data.batch_size=0"]) == 2
    assert not jobs and len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-m", "hydra/sweeper=optuna", "seed=0,1"), "optimize=val/loss/ema"),
        (("-m", "hydra/sweeper=optuna", "seed=0,1", "optimize=val/loss/ema"), r"lightning-gen\[optuna\]"),
        (("hydra/sweeper=optuna", "optimize=val/loss/ema"), "add -m"),
        (("-m", "module.optimizer.lr=interval(0,1)"), "hydra/sweeper=optuna, or"),
        (("stage=sample", "optimize=val/loss/ema"), "optimize is a number"),
    ],
)
def test_what_no_sweeper_could_do_is_refused(words, said, jobs, monkeypatch, capsys):
    monkeypatch.setattr(hydra_keys, "installed", lambda plugin: False)
    assert entry.main([*BARE, *words]) == 2
    assert re.search(said, capsys.readouterr().err) and not jobs
