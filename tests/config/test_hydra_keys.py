"""Hydra's own keys and flags: they do what they do in Hydra, or a sentence refuses them."""

import logging

import pytest
import yaml

import run as entry
from lightning_gen import __version__
from lightning_gen.config.command_line.hydra_keys import settings
from lightning_gen.config.command_line.words import split
from lightning_gen.stages import command


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """The jobs that would be done, as (config, folder), in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    done = []
    monkeypatch.setattr(command, "job", lambda config, folder: done.append((config, str(folder.path))))
    return done


def configs(folder, **files):
    """A folder of configs; group__name stands for group/name.yaml."""
    for name, content in files.items():
        file = folder / f"{name.replace('__', '/')}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


MINE = "# @package _global_\ndefaults:\n  - ddpm_digits\nseed: 7\n"
PRIMARY = "defaults:\n  - config\n  - override experiment: ddpm_mnist\n  - _self_\nseed: 5\n"


def test_a_primary_config_of_ones_own_has_another_name_than_ours(jobs, tmp_path, capsys):
    folder = configs(tmp_path / "mine", config="seed: 17\n")
    assert entry.main([f"--config-dir={folder}"]) == 2 and not jobs
    assert "config.yaml has the name of one of ours" in capsys.readouterr().err


def test_the_version_is_ours(capsys):
    assert entry.main(["--version"]) == 0 and capsys.readouterr().out == f"lightning-gen {__version__}\n"


def test_hydra_composes_a_config_once(jobs, monkeypatch):
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    times, load = [], ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(
        ConfigLoaderImpl, "load_configuration", lambda *args, **words: times.append(1) or load(*args, **words)
    )
    assert entry.main(["--help"]) == 0 and len(times) == 1


def test_config_name_is_another_primary_config_and_names_the_run(jobs, tmp_path):
    configs(tmp_path / "mine", study=PRIMARY)
    words = ["--config-dir=mine", "--config-name", "study", "logger=none"]
    assert entry.main(words) == 0 and entry.main([*words, "experiment=edm_digits", "seed=1"]) == 0
    assert [(config["seed"], folder) for config, folder in jobs] == [(5, "outputs/study"), (1, "outputs/edm_digits")]
    assert jobs[0][0]["data"]["_target_"].endswith("MNIST") and jobs[1][0]["data"]["_target_"].endswith("Digits")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_a_sampler_replaces_that_of_the_primary_configs_experiment(jobs, tmp_path):
    configs(tmp_path / "mine", study=PRIMARY)
    assert entry.main(["-cd", "mine", "-cn", "study", "sampler=dpm_solver", "logger=none"]) == 0
    assert jobs[0][0]["sampler"]["_target_"].endswith("DPMSolver")


def test_search_paths_are_looked_in(jobs, tmp_path, monkeypatch):
    configs(tmp_path / "mine", experiment__one=MINE)
    configs(tmp_path / "other" / "inside", experiment__two=MINE).joinpath("__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "other")
    words = [f"hydra.searchpath=[file://{tmp_path}/mine,pkg://inside]", "logger=none"]
    assert entry.main([*words, "experiment=one"]) == 0 and entry.main([*words, "experiment=two"]) == 0
    assert [(config["seed"], folder) for config, folder in jobs] == [(7, "outputs/one"), (7, "outputs/two")]
    configs(tmp_path, start=f"hydra: {{searchpath: [file://{tmp_path}/mine]}}\n{PRIMARY}")
    assert entry.main(["--config-dir=.", "--config-name=start", "experiment=one", "logger=none"]) == 0
    assert jobs[-1][1] == "outputs/one"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra.run.dir=elsewhere"], "hydra.run.dir is elsewhere"),
        pytest.param(
            ["hydra.sweep.dir=elsewhere", "-m", "seed=0,1"], "hydra.sweep.dir is elsewhere", marks=pytest.mark.slow
        ),
        pytest.param(["hydra.output_subdir=x"], "hydra.output_subdir is x", marks=pytest.mark.slow),
        pytest.param(["hydra.job.chdir=true"], "hydra.job.chdir is true", marks=pytest.mark.slow),
        pytest.param(["hydra.mode=MULTIRUN"], "hydra.mode is MULTIRUN", marks=pytest.mark.slow),
        pytest.param(["hydra/job_logging=default"], "hydra/job_logging is default", marks=pytest.mark.slow),
        (["hydra/launcher=joblib", "-m", "seed=0,1"], "hydra/launcher is joblib"),
        pytest.param(["hydra.launcher.n_jobs=2"], "hydra.launcher.n_jobs is 2", marks=pytest.mark.slow),
        (["hydra.searchpath=[file://nowhere]"], "file://nowhere"),
        pytest.param(["hydra.searchpath=[pkg://no.such.package]"], "pkg://no.such.package", marks=pytest.mark.slow),
        (["--config-path=conf"], "--config-path"),
        pytest.param(["-cp", "conf"], "-cp", marks=pytest.mark.slow),
        (["--config-name=nothing"], "--config-name=nothing does not exist"),
        pytest.param(["--experimental-rerun", "config.pickle"], "--experimental-rerun", marks=pytest.mark.slow),
        (["--cfg", "job", "sed=1"], "sed is no key"),
        (["--config-dir=mine", "experiment=moved"], "mine/experiment/moved.yaml: hydra.run.dir is elsewhere"),
        (["--config-dir=mine", "experiment=many"], "mine/experiment/many.yaml: hydra/launcher is joblib"),
        (["--config-dir=mine", "experiment=derived"], "mine/experiment/moved.yaml: hydra.run.dir is elsewhere"),
        (["--config-dir=mine", "experiment=moved", "hydra.run.dir=x"], "error: hydra.run.dir is x"),
        (["--config-dir=mine", "experiment=round", "sampler=heun"], "round derived from itself: take round out of the"),
        (["--config-dir=mine", "experiment=there"], "experiment=there has there derived from itself: take there out"),
        (["hydra/sweeper=nonsense"], "hydra/sweeper=nonsense does not exist: choose one of ax, basic"),
        (["hydra/sweeper=basik", "-m", "optimize=val/loss/ema"], "did you mean basic"),
        (["--config-dir=mine", "experiment=lost"], "mine/experiment/lost.yaml: hydra/sweeper=nonsense does not exist"),
        (["--config-dir=mine", "hydra/sweeper=mine"], "hydra/sweeper is mine, which chooses"),
        (["-m", "hydra.sweeper.max_batch_size=0"], "max_batch_size is 0, expected a whole number from 1, or null: "),
        (["-m", "hydra.sweeper.max_batch_size=many"], "hydra.sweeper.max_batch_size is many, expected"),
        (["-m", "seed=glob(*)"], "seed is glob(*), expected names of a group"),
        (["-m", "net=glob(*,exclude=*)"], "net is glob(*,exclude=*), expected names of a group"),
        (["net=null"], "net is null, expected a name: write net=none"),
        (["trainer=null"], "trainer is null, expected a name: choose among "),
        (["runs=glob(*)", "stage=compare"], "runs is glob(*), expected run folders: write runs=[A,B]"),
        (["--cfg", "job", "-m", "seed=0,1"], "--cfg shows the config of one job, and -m asks for several: leave -m"),
        (["--multirun", "--info=config"], "--info shows the config of one job, and --multirun asks for several"),
        (["-m", "seed=range(0,0)"], "seed is range(0,0), expected at least one value: write"),
    ],
)
def test_what_would_do_something_else_than_in_hydra_is_refused(words, said, jobs, tmp_path, capsys):
    configs(
        tmp_path / "mine",
        experiment__moved=f"{MINE}hydra: {{run: {{dir: elsewhere}}}}\n",
        experiment__many=MINE.replace("defaults:", "defaults:\n  - override /hydra/launcher: joblib"),
        experiment__derived=MINE.replace("ddpm_digits", "moved"),
        experiment__round=MINE.replace("ddpm_digits", "round"),
        experiment__there=MINE.replace("ddpm_digits", "back"),
        experiment__back=MINE.replace("ddpm_digits", "there"),
        experiment__lost=MINE.replace("defaults:", "defaults:\n  - override /hydra/sweeper: nonsense"),
        hydra__sweeper__mine="max_batch_size: 1\n",
    )
    assert entry.main([*words, "logger=none"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and said in errors[0], errors
    assert not jobs and [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_glob_is_the_names_of_its_group_that_match(jobs):
    assert entry.main(["-m", "experiment=glob(n*_rings)", "net=glob(mlp)", "seed=1,2", "logger=none"]) == 0
    folders = [f"outputs/{name}_rings-net=mlp-seed={seed}" for name in ("nce", "nsf") for seed in (1, 2)]
    assert [folder for _, folder in jobs] == folders


def test_the_command_line_goes_before_the_pages(tmp_path):
    first = {
        "hydra": {"verbose": True, "sweeper": {"n_trials": 3}},
        "defaults": [{"override /hydra/sweeper": "optuna"}],
    }
    second = {"hydra": {"sweeper": {"n_trials": 5}}}
    given = settings(["++hydra.verbose=[a]", "seed=1"], [first, second])
    assert given == {"hydra/sweeper": "optuna", "hydra.verbose": "[a]", "hydra.sweeper.n_trials": 5}


@pytest.mark.slow
def test_verbose_shows_logs_and_leaves_no_file(jobs, tmp_path, monkeypatch, capsys):
    def job(config, folder):
        logging.getLogger("mine").debug("a detail")
        logging.getLogger("other").debug("another")

    monkeypatch.setattr(command, "job", job)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        assert entry.main(["logger=none"]) == 0 and "a detail" not in capsys.readouterr().out
        assert entry.main(["logger=none", "hydra.verbose=[mine]"]) == 0
        out = capsys.readouterr().out
        assert "a detail" in out and "another" not in out
    finally:
        root.handlers[:], root.level = before
        logging.getLogger("mine").setLevel(logging.NOTSET)
    assert not list(tmp_path.iterdir())


def test_the_stored_config_is_the_base_whatever_hydra_is_told(jobs, tmp_path, capsys):
    configs(tmp_path / "mine", study=PRIMARY)
    assert entry.main(["logger=none", "seed=3", "run=outputs/study"]) == 0
    (tmp_path / "outputs" / "study").mkdir(parents=True)
    (tmp_path / "outputs" / "study" / "config.yaml").write_text(yaml.safe_dump(jobs.pop()[0]))
    words = ["--config-dir=mine", "--config-name=study", "stage=sample", "n=2"]
    assert entry.main(words) == 0
    assert (jobs[0][0]["seed"], jobs[0][0]["n"], jobs[0][1]) == (3, 2, "outputs/study")
    capsys.readouterr()
    assert entry.main([*words, "--cfg", "job"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["seed"], shown["n"], shown["stage"]) == (3, 2, "sample") and len(jobs) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "outputs"]


def test_run_is_what_is_done_anyway():
    words = split(["--run", "seed=1", "-r"], command.CONFIGS)
    assert words.running and not words.sweeps and not words.faults


def test_help_says_what_each_value_means_and_what_no_yaml_names(jobs, capsys):
    assert entry.main(["--help", "sampler=ddim", "sampler.steps=7"]) == 0
    lines = capsys.readouterr().out.splitlines()

    def told(start):
        (line,) = (line for line in lines if line.startswith(start))
        return line

    assert "1 the ancestral step" in told("  sampler.eta=0.0") and "number of steps" in told("  sampler.steps=7")
    assert "above" in told("+ module.guidance=1.0") or "guidance" in told("+ module.guidance=1.0")
    assert "those of" not in told("  module.ema_decay=0.995")  # its base says it
    assert "samples per draw" in told("+ quality.block=null")  # said in a paragraph
    assert "the run folder" in told("  run=null") and told("  module.optimizer=(below)") and told("module.optimizer: ")
    assert not jobs
    assert entry.main(["--help", "sed=1"]) == 2 and "did you mean seed" in capsys.readouterr().err


def test_a_fault_of_a_stored_config_names_its_file(jobs, tmp_path, capsys):
    assert entry.main(["logger=none", "run=r"]) == 0
    config = jobs.pop()[0]
    config["module"]["stepps"] = 3
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.yaml").write_text(yaml.safe_dump(config))
    assert entry.main(["stage=sample", "run=r", "n=0"]) == 2
    errors = sorted(capsys.readouterr().err.splitlines())
    assert errors[0].startswith("error: n is 0") and errors[1].startswith("error: r/config.yaml: module.stepps is no")
    assert len(errors) == 2
