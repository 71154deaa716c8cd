"""The command line as a user meets it: exit codes, run folders, stages, resume after kill -9, wrong input."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import lightning_gen
import run as entry
from lightning_gen.results.store import read_record
from lightning_gen.stages import command as stages
from tests.faults.jobs import Job

ROOT = Path(__file__).resolve().parents[1]
CURVES = "callbacks.curves=null"  # which are half of a tiny run's time
# A small run of any diffusion of digits, and one of the DDPM.
SMALL = (
    "sampler.steps=4",
    "net.channels=8",
    "net.groups=4",
    "data.batch_size=64",
    "trainer.log_every_n_steps=1",
    "trainer.check_val_every_n_epoch=1000",
    "callbacks.likelihood.n=4",
    "callbacks.pictures.n=4",
    "callbacks.pictures.strip=2",
    CURVES,
    "quality.n=20",
    "logger=none",
)
CHAIN = ("experiment=ddpm_digits", "module.steps=4")
TINY = (*CHAIN, *SMALL)
DRAWN = tuple(word for word in TINY if word != CURVES)
# Without measuring.
BARE = tuple(word for word in TINY if not word.startswith(("quality.", "callbacks.")))
BARE += ("quality=none", "callbacks.likelihood=null", "callbacks.pictures=null", CURVES)


def command(*words):
    """The exit code of python run.py WORDS, run in this process."""
    return entry.main(list(words))


def losses(folder):
    """Step -> training loss of a run folder's record."""
    return {row["step"]: row["value"] for row in read_record(folder / "record.jsonl") if row["name"] == "train/loss"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 30 steps, more than an epoch of 23 batches, and its folder."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert command(*DRAWN, "trainer.max_steps=30", f"run={folder}") == 0
    return folder


def test_one_command_trains_samples_and_measures(trained):
    for name in ("config.yaml", "record.jsonl", "metrics.json", "curves.png", "report.html", "checkpoints/last.ckpt"):
        assert (trained / name).stat().st_size > 0, name
    assert list(trained.glob("samples/grid-*.png"))
    assert list(trained.glob("samples/strip-*.png"))
    metrics = json.loads((trained / "metrics.json").read_text())
    for name in ("fid/digits/ema", "kid/digits/ema", "is/digits/ema", "fid/digits/held-out", "vlb/bits_per_dim/ema"):
        assert metrics[name]["protocol"], name
    assert metrics["vlb/bits_per_dim/ema"]["kind"] == "upper bound"
    assert sorted(losses(trained)) == list(range(1, 31))


def test_the_demo_trains_draws_and_measures_with_the_fewest_words(tmp_path):
    """The experiment that nobody names; README.md and its tutorial print what it writes."""
    ode = "callbacks.likelihood.flow={_target_: lightning_gen.likelihood.ODELikelihood, solver: euler, steps: 2}"
    assert command(*SMALL, ode, "trainer.max_steps=2", f"run={tmp_path / 'demo'}") == 0
    for name in ("report.html", "samples/grid-00000002.png", "samples/strip-00000002.png"):
        assert (tmp_path / "demo" / name).stat().st_size > 0, name
    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    assert {"fid/digits/ema", "fid/digits/held-out", "ode/bits_per_dim/ema"} <= metrics.keys()


def test_the_folder_is_named_for_the_experiment_and_not_for_the_clock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(stages, "job", lambda config, folder: seen.append((config["seed"], str(folder.path))))
    assert command() == 0
    assert command("experiment=ddpm_cifar") == 0
    assert command("-m", "experiment=ddpm_digits,ddpm_mnist", "seed=0,1") == 0
    assert seen[:2] == [(0, "outputs/edm_digits"), (0, "outputs/ddpm_cifar")]
    assert sorted(folder for _, folder in seen[2:]) == [
        "outputs/ddpm_digits-seed=0",
        "outputs/ddpm_digits-seed=1",
        "outputs/ddpm_mnist-seed=0",
        "outputs/ddpm_mnist-seed=1",
    ]
    assert not list(tmp_path.iterdir())


def test_kill_nine_then_the_same_command_goes_on_where_it_stood(trained, tmp_path):
    """The killed run's losses, resumed in mid-epoch, are those of the run that nobody killed, to the last bit."""
    words = (*TINY, "trainer.max_steps=30", "callbacks.checkpoints.every_n_steps=7", f"run={tmp_path / 'killed'}")
    record = tmp_path / "killed" / "record.jsonl"
    job = Job(words, 1, tmp_path / "log")
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 240
    while not (last.is_file() and record.read_text().count("train/loss") >= 9):
        assert job.ranks[0].is_alive() and time.monotonic() < deadline, "the run ended or hung before it was killed"
        time.sleep(0.005)
    job.kill()
    stood = torch.load(last, weights_only=True)["global_step"]
    assert 0 < stood < 30 and stood % 7 == 0
    assert command(*words) == 0
    assert any("resume" in json.loads(line) for line in record.read_text().splitlines() if line.endswith("}"))
    assert losses(tmp_path / "killed") == losses(trained)
    ours, theirs = (
        torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for f in (last.parents[1], trained)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_finished_run_evaluates_again_and_trains_no_more(trained, capsys):
    before = (trained / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert command(*DRAWN, "trainer.max_steps=30", f"run={trained}") == 0
    assert (trained / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    assert "FID ↓" in capsys.readouterr().out


def test_another_config_in_the_folder_is_refused_with_the_differences(trained, capsys):
    assert command(*DRAWN, "trainer.max_steps=30", f"run={trained}", "module.ema_decay=0.5", "seed=3") == 2
    error = capsys.readouterr().err
    assert "module.ema_decay: 0.995 -> 0.5" in error
    assert "seed: 0 -> 3" in error
    assert "fresh=true" in error


def test_an_objective_that_comes_after_the_last_epoch_is_refused_before_the_first_step(tmp_path, capsys):
    words = ("trainer.max_steps=2", "trainer.check_val_every_n_epoch=50", f"run={tmp_path / 'a'}")
    assert command(*TINY, *words, "optimize=val/loss/ema") == 2
    assert "optimize is val/loss/ema, which first comes after epoch 50" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_fresh_starts_beside_the_run(trained):
    assert command(*BARE, "trainer.max_steps=1", f"run={trained}", "fresh=true", "seed=4") == 0
    assert yaml.safe_load((trained.parent / "first-2" / "config.yaml").read_text())["seed"] == 4


def test_sample_takes_another_sampler_by_one_word(trained, capsys):
    assert command("stage=sample", f"run={trained}", "n=5", "sampler=ancestral", "sampler.steps=2", "seed=3") == 0
    archive = np.load(trained / "samples" / "samples-ancestral-seed3-n5.npz")
    assert archive["images"].shape == (5, 8, 8, 1)
    assert "grid-ancestral-seed3-n5.png" in capsys.readouterr().out
    stored = yaml.safe_load((trained / "config.yaml").read_text())
    assert stored["sampler"]["_target_"].endswith("DDIM")


def test_samples_of_other_settings_stay(trained):
    """The same command again writes the same file."""

    def drawn(steps):
        words = ("n=5", "sampler=ancestral", f"sampler.steps={steps}", "seed=5")
        assert command("stage=sample", f"run={trained}", *words) == 0
        return {path.name: path.read_bytes() for path in (trained / "samples").glob("samples-ancestral-seed5-*")}

    first = drawn(2)
    both = drawn(3)
    assert {*both} == {"samples-ancestral-seed5-n5.npz", "samples-ancestral-seed5-n5-2.npz"} and {*first} < {*both}
    assert both == both | first == drawn(3) == drawn(2)
    assert len([*(trained / "samples").glob("grid-ancestral-seed5-*")]) == 2


def test_edit_draws_missing_halves_and_paths_of_test_images(trained):
    """The known half stays as it is, draws of the other half differ; each column has its title."""
    for kind in ("inpaint", "interpolate"):
        assert command("stage=edit", f"edit={kind}", f"run={trained}", "n=3", "logger=none") == 0
    files = {kind: np.load(trained / "edits" / f"{kind}-seed0-n3.npz") for kind in ("inpaint", "interpolate")}
    images, titles = files["inpaint"]["images"], files["inpaint"]["titles"].tolist()
    assert titles == ["data", "known", "draw 1", "draw 2", "draw 3", "draw 4"] and images.shape == (3, 6, 8, 8, 1)
    assert (images[:, 1:, :4] == images[:, :1, :4]).all()
    assert (images[:, 2, 4:] != images[:, 3, 4:]).any() and str(files["inpaint"]["by"]) == "RePaint"
    path = files["interpolate"]["images"]
    assert path.shape == (3, 11, 8, 8, 1) and (path[:, -1] == path[[1, 2, 0], 0]).all()
    assert (path[:, 0] == images[:, 0]).all()
    assert all((trained / "edits" / f"{kind}-seed0-n3.png").is_file() for kind in files)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["stage=edit", "n=100000"], "n is 100000"),
        (["stage=edit", "label=3"], "label is 3"),
        (["stage=edit", "edit=paint"], "edit is 'paint'"),
        (["stage=sample", "edit=mode"], "edit is read by stage=edit alone"),
        (["stage=sample", "split=train"], "split is read by stage=compress alone"),
        (["stage=edit", "edit=inpaint", "sampler.steps=5"], "sampler.steps is given with stage=edit, which draws by"),
        (["stage=edit", "edit=mode", "sampler=heun"], "sampler is given with stage=edit, which draws by no sampler"),
        (["stage=compress", "sampler.eta=1"], "sampler.eta is given with stage=compress, which draws by no sampler"),
        (["stage=decompress", "file=x", "sampler=heun"], "sampler is given with stage=decompress, which draws by no"),
    ],
)
def test_an_edit_that_cannot_be_is_refused(words, found, trained, capsys):
    assert command(*words, f"run={trained}", "logger=none") == 2
    assert found in capsys.readouterr().err


def test_python_draws_what_the_command_draws(trained):
    assert command("stage=sample", f"run={trained}", "n=6", "seed=11") == 0
    archive = np.load(trained / "samples" / "samples-ddim-seed11-n6.npz")["images"]
    images = lightning_gen.load(trained).sample(6, seed=11)
    assert images.shape == (6, 1, 8, 8)
    assert images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(), archive)


def test_evaluate_measures_the_stored_run_with_what_the_command_line_changes(trained):
    step = json.loads((trained / "metrics.json").read_text())["fid/digits/ema"]["step"]
    words = ("sampler=ancestral", "sampler.steps=2", "quality.n=30", "callbacks.likelihood=null")
    assert command("stage=evaluate", f"run={trained}", *words) == 0
    metric = json.loads((trained / "metrics.json").read_text())["fid/digits/ema"]
    assert metric["protocol"]["sampler"]["name"] == "Ancestral"
    assert metric["protocol"]["sampler"]["steps"] == 2
    assert metric["protocol"]["n"] == 30
    assert metric["step"] == step == 30
    names = json.loads((trained / "metrics.json").read_text())
    assert not any(name.startswith("vlb") for name in names), "a number of the evaluation before"
    assert "vlb/bits_per_dim/ema" in json.loads((trained / "metrics-before.json").read_text())


def test_an_export_samples_like_its_run_and_starts_another(trained, tmp_path):
    assert command("stage=export", f"run={trained}") == 0
    export = trained / "export"
    assert {path.name for path in export.iterdir()} == {"config.yaml", "model.safetensors", "README.md"}
    (tmp_path / "plain").touch()
    assert {path.stat().st_mode for path in export.iterdir()} == {(tmp_path / "plain").stat().st_mode}, "by the umask"
    assert torch.equal(lightning_gen.load(export).sample(3), lightning_gen.load(trained).sample(3))
    for source in (export, trained, trained / "checkpoints" / "last.ckpt"):
        folder = tmp_path / source.stem
        assert command(*BARE, "trainer.max_steps=1", "module.optimizer.lr=0.0", f"init={source}", f"run={folder}") == 0
        assert torch.equal(lightning_gen.load(folder).sample(3), lightning_gen.load(trained).sample(3))


def test_a_changed_network_is_named_by_its_key(trained, capsys):
    assert command("stage=sample", f"run={trained}", "net.channels=12", "n=2") == 2
    said = capsys.readouterr().err
    assert "net.channels: 8 -> 12" in said and "leave it out" in said and "size mismatch" not in said


def test_init_that_does_not_fit_is_one_sentence(trained, tmp_path, capsys):
    words = [word for word in TINY if "channels" not in word]
    assert command(*words, "net.channels=12", f"init={trained}", f"run={tmp_path / 'x'}") == 2
    assert str(trained) in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_init_whose_config_names_no_family_is_one_sentence(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "copy")
    config = yaml.safe_load((tmp_path / "copy/config.yaml").read_text())
    del config["module"]["_target_"]
    (tmp_path / "copy/config.yaml").write_text(yaml.safe_dump(config))
    assert command(*BARE, f"init={tmp_path / 'copy'}", f"run={tmp_path / 'x'}") == 2
    assert "config.yaml has no module._target_" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["experiment=ddpm_cifr"], ["experiment=ddpm_cifr", "ddpm_cifar?"]),
        (["sampler=ddmi"], ["sampler=ddmi", "ddim?"]),
        (["sed=1"], ["sed ", "seed?"]),
        (["quality=none", "quality.n=10"], ["quality.n"]),
        (["net=none"], ["net "]),
        (["trainer.max_step=3"], ["trainer.max_step ", "max_steps?"]),
        (["module.optimizer.lr=abc"], ["module.optimizer.lr", "'abc'", "float"]),
        (["seed=one"], ["seed", "'one'", "int"]),
        (["stage=fitt"], ["stage", "'fitt'", "fit?"]),
        (["module.optimizer._target_=torch.optim.Adm"], ["torch.optim.Adm", "torch.optim.Adam?"]),
        (["module.optimizer._target_=torch.load"], ["module.optimizer._target_", "torch.load", "allow"]),
        (["net._target_=shutil.copyfile"], ["net._target_", "shutil.copyfile"]),
        (["data.root=${oc.env:HOME}"], ["oc.env"]),
        (["seed=1=2"], ["seed=1=2"]),
        (["data=npz"], ["data.path"]),
        (
            ["sed=1", "experiment=ddpm_cifr"],
            ["sed ", "seed?", "ddpm_cifr "],
        ),
        (
            ["trainer.max_step=3", "module.optimizer.lr=abc", "net.chanels=3", "quality.nn=3"],
            ["max_steps?", "'abc'", "channels?", "quality.nn"],
        ),
        (["experiment=ddpm_cifr", "trainer.max_step=3", "seed"], ["ddpm_cifar?", "max_steps?", "seed ", "KEY=VALUE"]),
        (["net.channels=-3", "data.val_size=-1"], ["net.channels", "-3", "data.val_size", "-1"]),
        # What needs the objects themselves:
        (["trainer.devices=64"], ["trainer.devices", "64", "torchrun"]),
        (["experiment=ddpm_digits", "sampler.clip=[0,1]"], ["sampler.clip", "[0, 1]", "-1.0"]),
        (["experiment=ddpm_digits", "sampler.steps=2000"], ["steps", "1000", "2000"]),
        (["data.batch_size=5000"], ["batch_size", "5000"]),
        (["data=moons"], ["net.shape", "(2,)", "(C, H, W)", "net=mlp"]),
        (["sampler=ancestral"], ["sampler.steps", "null", "continuous", "sampler.steps=100"]),
        (["net.groups=7"], ["groups", "7"]),
        (["net.groups=7", "trainer.devices=64"], ["groups", "trainer.devices"]),
        (["quality=inception"], ["weights"]),
        (["init=nowhere"], ["nowhere/config.yaml"]),
        (["stage=sample", "run=nowhere"], ["nowhere/config.yaml", "stage=fit"]),
    ],
)
def test_wrong_input_gets_sentences_exit_two_and_no_folder(words, sentences, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if not any(word.startswith("run=") for word in words):
        words = [*words, "logger=none"]
    assert command(*words) == 2
    error = capsys.readouterr().err
    for sentence in sentences:
        assert sentence in error
    assert "Traceback" not in error
    assert all(line.startswith("error: ") for line in error.splitlines()), error
    assert not (tmp_path / "outputs").exists()


def test_an_experiment_without_its_first_line_is_named(tmp_path):
    from lightning_gen.config.faults import check

    assert any("@package _global_" in fault for fault in check({"experiment": {"seed": 1}}))


def test_config_errors_need_no_heavy_import():
    code = (
        "import sys, run\n"
        "assert run.main(['sed=1', 'experiment=ddpm_cifr']) == 2\n"
        "assert run.main(['trainer.max_step=3', 'module.optimizer.lr=abc']) == 2\n"
        "assert run.main(['net.channels=-3', 'data.batch_size=0', 'quality.n=0']) == 2\n"
        "assert run.main(['experiment=my_images', 'data.path=null']) == 2\n"
        "assert run.main(['stage=evaluate', 'samples=/nowhere']) == 2\n"
        "assert run.main(['experiment=my_images', 'data.path=/nowhere']) == 2\n"
        "heavy = {'torch', 'pytorch_lightning', 'torchmetrics', 'wandb', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("words", [["-m", "lightning_gen"], [str(ROOT / "run.py")]])
def test_every_way_to_start_it_is_the_same_command(words, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words, "sed=1"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "seed?" in done.stderr


def test_help_and_completion_need_no_heavy_import():
    code = (
        "import sys, run\n"
        "for words in (['--help'], ['--cfg', 'job'], ['-sc', 'query=bash']):\n"
        "    try:\n"
        "        run.main(words)\n"
        "    except SystemExit as leave:\n"
        "        assert not leave.code, (words, leave.code)\n"
        "assert not {'torch', 'pytorch_lightning', 'wandb'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "COMP_LINE": "python run.py experiment=ddpm_c", "COMP_POINT": "31"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, env=environment
    )
    assert "experiment=ddpm_cifar" in done.stdout


def test_evaluation_can_take_gradients(trained, monkeypatch):
    """Trap: under Lightning's default inference_mode the score of an energy cannot be computed."""
    seen = []

    def step(self, batch, batch_idx):
        with torch.enable_grad():
            x = batch["x"].clone().requires_grad_()
            seen.append(torch.autograd.grad(x.square().sum(), x)[0])

    monkeypatch.setattr("lightning_gen.families.base.GenerativeModule.test_step", step)
    words = ("quality=none", "callbacks.likelihood=null", "callbacks.pictures=null")
    assert command("stage=evaluate", f"run={trained}", *words) == 0
    assert seen


def test_divergence_stops_with_its_step_and_leaves_the_last_good_weights(tmp_path, capsys):
    words = (*TINY, "trainer.max_steps=50", "module.optimizer.lr=1e30", "trainer.gradient_clip_val=null")
    words += ("callbacks.checkpoints.every_n_steps=1", f"run={tmp_path / 'r'}")
    assert command(*words) == 1
    error = capsys.readouterr().err
    assert "not finite" in error and "step" in error
    weights = torch.load(tmp_path / "r" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert not (tmp_path / "r" / "metrics.json").exists()
