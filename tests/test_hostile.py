"""A config, an export or a picture from a stranger is data: it runs nothing, writes nowhere, and learns no secret."""

import datetime
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import EpsImagePlugin, Image

import lightning_gen
import run as entry
from lightning_gen.config.signatures import check
from lightning_gen.errors import ConfigError
from lightning_gen.stages import command
from tests.extensions import forget, unimport
from tests.test_run import TINY

SECRET = "a-secret-of-the-surroundings"
QUICK = ("quality=none", "callbacks.likelihood=null", "callbacks.pictures=null", "callbacks.curves=null")


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """An export, as somebody publishes one."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    assert entry.main([*TINY[:-2], "logger=none", *QUICK, "trainer.max_steps=1", f"run={folder}"]) == 0
    assert entry.main(["stage=export", f"run={folder}"]) == 0
    return folder / "export"


class Payload:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (Path(self.marker),)


@pytest.fixture(scope="module", autouse=True)
def unread():
    """Each test writes the same package; reading all sources anew each time takes longer than the tests."""
    forget("evil")
    yield
    forget("evil")


@pytest.fixture
def theirs(export, tmp_path, monkeypatch):
    """A copy of the export, the place of the marker beside it, and what the attacks want: a pickle and a secret."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_SECRET", SECRET)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("open('MARK', 'w').close()\nclass Net:\n    pass\n")
    shutil.copytree(export, tmp_path / "theirs")
    (tmp_path / "theirs" / "extra.pt").write_bytes(pickle.dumps(Payload("MARK")))
    (tmp_path / "theirs" / "evil" / "data").mkdir(parents=True)
    (tmp_path / "theirs" / "evil" / "data" / "evil.yaml").write_text(f"# @package _global_\n{yaml.dump(hydra(COPY))}")
    yield tmp_path / "theirs"
    unimport("evil")


def changed(folder, **keys):
    """The stored config with these root keys, written back as the stranger would."""
    file = folder / "config.yaml"
    stored = yaml.safe_load(file.read_text())
    for key, value in keys.items():
        both = isinstance(value, dict) and isinstance(stored.get(key), dict)
        stored[key] = stored[key] | value if both else value
    file.write_text(yaml.safe_dump(stored))


def hydra(call):
    """A config whose `hydra` key makes Hydra call something before any of our code."""
    return {"hydra": {"callbacks": {"x": call}}}


def npz(path):
    """A config with a text that nothing but training reads."""
    return {"data": {"_target_": "lightning_gen.data.Npz", "path": path}}


COPY = {"_target_": "shutil.copyfile", "src": "theirs/config.yaml", "dst": "MARK"}
HANDLER = {"class": "logging.FileHandler", "filename": "MARK"}
LOGGING = {"version": 1, "handlers": {"file": HANDLER}, "root": {"handlers": ["file"]}}
LOAD = {"_target_": "torch.load", "f": "theirs/extra.pt", "weights_only": False}
WRITE = {"_target_": "pathlib.Path.write_text", "self": {"_target_": "pathlib.Path", "_args_": ["MARK"]}, "data": "x"}
HOSTILE = {
    "hydra callback loads a pickle": hydra(LOAD),
    "hydra callback copies a file": hydra(COPY),
    "hydra callback writes a text": hydra(WRITE),
    "hydra callback touches": hydra({"_target_": "pathlib.Path.touch", "_args_": ["${as_path:MARK}"]}),
    "hydra job_logging": {"hydra": {"job_logging": LOGGING}},
    "hydra hydra_logging": {"hydra": {"hydra_logging": LOGGING}},
    "hydra env_set": {"hydra": {"job": {"env_set": {"MARK": "1"}}}},
    "hydra chdir": {"hydra": {"job": {"chdir": True}, "run": {"dir": "MARK"}}},
    "hydra output": {"hydra": {"output_subdir": "MARK", "mode": "MULTIRUN", "sweep": {"dir": "MARK"}}},
    "hydra searchpath and defaults": {
        "hydra": {"searchpath": ["file://theirs/evil"]},
        "defaults": [{"data": "evil"}, "_self_"],
    },
    "defaults": {"defaults": [{"data": "mnist"}, "_self_"]},
    "unknown root key": {"evil": 1},
    "oc.env": npz("${oc.env:SOME_SECRET}"),
    "oc.env by the issue's detour": {
        "logger": {"_target_": "callbacks.Wandb", "group": "env", "name": "${oc.${logger.group}:SOME_SECRET}"}
    },
    "oc.env by another": {**npz("${oc.${module.way}:SOME_SECRET}"), "module": {"way": "env"}},
    "oc.decode": npz("${oc.decode:'${oc.env:SOME_SECRET}'}"),
    "oc.select of hydra": npz("${oc.select:hydra.job.name,x}"),
    "hydra resolver": npz("${hydra:runtime.cwd}"),
    "node reference": npz("${module._target_}"),
    "escaped": npz("\\${module._target_}"),
    "in a list": {"net": {"multipliers": [1, "${seed}"]}},
    "in a key": {"callbacks": {"${oc.env:SOME_SECRET}": None}},
    "in logger": {"logger": {"_target_": "callbacks.Wandb", "name": "${oc.env:SOME_SECRET}"}},
    "net loads": {"net": LOAD},
    "net copies": {"net": COPY},
    "callback writes": {"callbacks": {"x": WRITE}},
    "deep in a list": {"net": {"multipliers": [{"a": [COPY]}]}},
    "beside _recursive_": {"sampler": {"_recursive_": False, "x": COPY}},
    "method of ours": {"callbacks": {"x": {"_target_": "lightning_gen.runs.folder.RunFolder.store", "self": 1}}},
    "foreign through ours": {"net": {"_target_": "lightning_gen.randomness.torch.load", "f": "theirs/extra.pt"}},
    "logger as a callback": {"callbacks": {"x": {"_target_": "callbacks.TensorBoard", "folder": "MARK"}}},
    "trainer as a net": {"net": {"_target_": "pytorch_lightning.Trainer", "default_root_dir": "MARK"}},
    "positional": {"sampler": {"_args_": [COPY]}},
    "number for a key": {"net": {3: COPY}},
    "date": {"seed": datetime.date(2020, 1, 1)},
    "not a node": {"data": 5},
    "extension": {"extensions": ["evil"], "net": {"_target_": "evil.Net"}},
    "extension without saying so": {"net": {"_target_": "evil.Net"}},
    "extension of no use": {"extensions": ["evil"]},
    "extension by its module": {"extensions": ["evil.sub"], "net": {"_target_": "evil.sub.Net"}},
    "extension of the standard library": {"extensions": ["shutil"], "net": COPY},
    "extension of a library": {"extensions": ["torch"], "net": LOAD},
    "extension that is no list": {"extensions": "evil", "net": {"_target_": "evil.Net"}},
    "allow as a key": {"allow": ["evil"], "net": {"_target_": "evil.Net"}},
    "our own command": {
        "callbacks": {"x": {"_target_": "lightning_gen.stages.Session", "config": {}, "folder": "MARK"}}
    },
}


def quiet_about(secret, *places, output=""):
    """Whether no file below the places, nor the output, holds the secret."""
    files = [file for place in places for file in Path(place).rglob("*") if file.is_file()]
    return secret not in output and not any(secret.encode() in file.read_bytes() for file in files)


BY_NAME = ["hydra callback loads a pickle", "extension", "extension of a library"]


# Both stages read a config by the same function.
@pytest.mark.parametrize(
    ("stage", "name"),
    [
        *(("sample", name) for name in HOSTILE),
        *(pytest.param("export", name, marks=() if name in BY_NAME else pytest.mark.slow) for name in HOSTILE),
    ],
)
def test_a_hostile_export_is_refused_and_does_nothing(name, stage, theirs, tmp_path, capsys, monkeypatch):
    changed(theirs, **HOSTILE[name])
    before = {path for path in tmp_path.rglob("*")}
    seen = []
    job = command.job
    monkeypatch.setattr(command, "job", lambda config, folder: (seen.append(config), job(config, folder)))
    code = entry.main([f"stage={stage}", "run=theirs", "n=1", "sampler.steps=1"])
    printed = "".join(capsys.readouterr())
    assert os.environ.get("MARK") is None and not (tmp_path / "MARK").exists()
    assert {path for path in tmp_path.rglob("*")} == before, "something was written"
    assert quiet_about(SECRET, tmp_path, output=printed + repr(seen))
    assert code == 2 and "error: " in printed and "Traceback" not in printed


@pytest.mark.parametrize("name", HOSTILE)
def test_python_refuses_it_too(name, theirs, tmp_path):
    changed(theirs, **HOSTILE[name])
    with pytest.raises(ConfigError):
        lightning_gen.load("theirs")
    assert not (tmp_path / "MARK").exists()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_run_that_starts_from_it_refuses_it(name, theirs, tmp_path, capsys):
    changed(theirs, **HOSTILE[name])
    assert entry.main([*TINY, "trainer.max_steps=1", "init=theirs", "run=mine"]) == 2
    assert "theirs/config.yaml" in capsys.readouterr().err and not (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_comparison_refuses_it(name, theirs, tmp_path, capsys):
    number = {"value": 1.0, "error": None, "kind": "estimate", "unit": "", "protocol": {}, "step": 1}
    (theirs / "metrics.json").write_text(json.dumps({"fid/digits/ema": number}))
    shutil.copytree(theirs, tmp_path / "other")
    changed(theirs, **HOSTILE[name])
    assert entry.main(["stage=compare", "runs=[theirs,other]", "logger=none"]) == 2
    assert "theirs/config.yaml" in capsys.readouterr().err and not (tmp_path / "outputs").exists()


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = "a: &a {k: v}\n" + "".join(
    f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
PAGES = {
    "python tag": "seed: !!python/object/apply:pathlib.Path.touch [MARK]\n",
    "python name": "seed: !!python/name:os.system\n",
    "set": "callbacks: !!set {a, b}\n",
    "binary": "samples: !!binary JHtzZWVkfQ==\n",
    "laughs": f"callbacks:\n{''.join('  ' + line + chr(10) for line in LAUGHS.splitlines())}",
    "merged": f"callbacks:\n{''.join('  ' + line + chr(10) for line in MERGED.splitlines())}",
    "itself": "callbacks: &a {x: *a}\n",
    "deep": f"callbacks: {'[' * 5000}{']' * 5000}\n",
    "wide": f"samples: {'x' * 2**19}\n",
    "many": f"callbacks: [{'1,' * 20000}]\n",
    "long number": f"seed: {'9' * 5000}\n",
    "no mapping": "- seed\n",
    "text": "hydra\n",
    "empty": "",
    "two pages": "seed: 1\n---\nhydra: {}\n",
    "no text": "\x00\x01",
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_is_no_plain_mapping_is_named(name, theirs, tmp_path, capsys):
    (theirs / "config.yaml").write_text(PAGES[name])
    assert entry.main(["stage=sample", "run=theirs"]) == 2
    assert "theirs/config.yaml" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        lightning_gen.load("theirs")
    assert not (tmp_path / "MARK").exists()


RESOLVERS = [
    "${oc.env:SOME_SECRET}",
    "${oc.env:SOME_SECRET,x}",
    "a ${oc.env:SOME_SECRET} b",
    "${ oc.env : SOME_SECRET }",
    "${oc.decode:${oc.env:SOME_SECRET}}",
    "${oc.select:x,${oc.env:SOME_SECRET}}",
    "${oc.${logger.group}:SOME_SECRET}",
    "${${logger.group}.env:SOME_SECRET}",
    "${${oc.env:SOME_SECRET}}",
    "${hydra:runtime.cwd}",
    "${now:%Y}",
    "\\${oc.env:SOME_SECRET}",
    "${hydra.runtime.cwd}",
]


IN_A_FILE = ("${oc.env:SOME_SECRET}", "${${logger.group}.env:SOME_SECRET}", "\\${oc.env:SOME_SECRET}")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        *(("command line", value) for value in RESOLVERS),
        *(pytest.param("experiment", x, marks=() if x in IN_A_FILE else pytest.mark.slow) for x in RESOLVERS),
    ],
)
def test_nothing_of_the_surroundings_reaches_a_config(value, where, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_SECRET", SECRET)
    seen = []
    monkeypatch.setattr(command, "job", lambda config, folder: seen.append(config))
    words = ["logger.group=oc"]
    if where == "experiment":
        monkeypatch.setattr(command, "CONFIGS", shutil.copytree(command.CONFIGS, tmp_path / "experiments"))
        page = (command.CONFIGS / "experiment" / "ddpm_digits.yaml").read_text()
        page += "\nlogger: " + yaml.safe_dump({"name": value}, default_flow_style=True)
        (command.CONFIGS / "experiment" / "mine.yaml").write_text(page)
        words += ["experiment=mine"]
    else:
        quoted = value.replace("\\", "\\\\")
        words += [f"logger.name='{quoted}'"]
    code = entry.main(words)
    printed = "".join(capsys.readouterr())
    assert SECRET not in printed + repr(seen) and not seen
    assert code == 2 and "logger.name" in printed and "Traceback" not in printed


def test_a_config_still_asks_its_other_keys(monkeypatch):
    seen = []
    monkeypatch.setattr(command, "job", lambda config, folder: seen.append(config))
    assert entry.main(["seed=7", "quality.seed=${data.seed}", "logger=none"]) == 0
    assert seen[0]["data"]["seed"] == seen[0]["quality"]["seed"] == 7


def test_what_hydra_would_resolve_a_second_time_is_a_fault():
    assert len(check({"logger": {"_target_": "lightning_gen.callbacks.Wandb", "name": "${oc.env:HOME}"}})) == 1


def test_the_persons_own_keys_are_not_taken_from_an_export(theirs, tmp_path, monkeypatch):
    """Logger, trainer, run folder, start, downloads and caches: whatever the stored config says of them."""
    theirs_trainer = {"default_root_dir": "MARK", "devices": 7, "strategy": "ddp", "profiler": "simple", "logger": True}
    changed(
        theirs,
        logger={"_target_": "callbacks.TensorBoard", "folder": "MARK"},
        trainer={**theirs_trainer, "precision": "64-true"},
        run="MARK",
        init="MARK",
        fresh=True,
        runs=["MARK"],
        data={"_target_": "lightning_gen.data.MNIST", "root": "MARK", "download": True},
        quality={
            "_target_": "callbacks.Quality",
            "cache": "MARK",
            "features": {"_target_": "lightning_gen.metrics.ClassifierFeatures", "cache": "MARK"},
        },
    )
    seen = []
    monkeypatch.setattr(command, "job", lambda config, folder: seen.append((config, folder.path)))
    for stage in ("sample", "evaluate", "export"):
        assert entry.main([f"stage={stage}", "run=theirs"]) == 0
    for config, folder in seen:
        assert folder == Path("theirs") and not config["logger"] and config["init"] is None and not config["fresh"]
        assert config["data"]["download"] is False
        assert not set(theirs_trainer) - {"devices", "strategy"} & set(config["trainer"])
        assert (config["trainer"]["devices"], config["trainer"]["strategy"]) == (1, "auto")
        assert config["trainer"]["precision"] == "64-true", "the arithmetic that the numbers were made by"
        assert "MARK" not in repr(config["quality"])
    words = ("logger=tensorboard", "trainer=cpu", "trainer.devices=2", "quality.cache=mine", "data.download=true")
    assert entry.main(["stage=evaluate", "run=theirs", *words]) == 0
    config = seen[-1][0]
    assert (
        config["logger"] == {"_target_": "lightning_gen.callbacks.TensorBoard"} and config["quality"]["cache"] == "mine"
    )
    assert (config["trainer"]["accelerator"], config["trainer"]["devices"]) == ("cpu", 2)
    assert config["trainer"]["precision"] == "32-true" and config["data"]["download"] is True


def test_what_their_logger_and_trainer_name_is_not_built(theirs, tmp_path, capsys):
    changed(theirs, logger={**COPY}, trainer={**COPY, "default_root_dir": "MARK"}, quality={})
    assert entry.main(["stage=sample", "run=theirs", "n=1", "sampler.steps=1"]) == 0
    assert not (tmp_path / "MARK").exists() and (theirs / "samples").is_dir()


def test_a_run_that_started_from_another_samples_its_own_weights(export, tmp_path):
    """`init` and `fresh` are said once, when the run starts."""
    words = [*TINY[:-2], *QUICK, "logger=none", "trainer.max_steps=2", "module.optimizer.lr=0.1", "fresh=true"]
    words = [word for word in words if not word.startswith(("callbacks.likelihood.", "callbacks.pictures."))]
    assert entry.main([*words, f"init={export}", f"run={tmp_path / 'tuned'}"]) == 0
    assert entry.main(["stage=sample", f"run={tmp_path / 'tuned'}", "n=3", "seed=1"]) == 0
    (archive,) = (tmp_path / "tuned" / "samples").glob("*n3.npz")
    images = lightning_gen.load(tmp_path / "tuned").sample(3, seed=1)
    drawn = images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(drawn, np.load(archive)["images"])


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(MARK) (w) file closefile\nshowpage\n%%EOF\n"
OTHERS = {"eps": EPS, "gif": None, "bmp": None, "tiff": None, "ppm": None}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("words", [("data=folder", "data.path=pictures"), ("stage=evaluate", "samples=pictures")])
def test_a_picture_of_another_format_is_not_opened_whatever_its_name(kind, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    called = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: called.append(a) or Image.new("L", (8, 8)).im)
    (tmp_path / "pictures").mkdir()
    for place in range(40):
        Image.new("L", (8, 8), place).save(tmp_path / "pictures" / f"{place:02}.png")
    if OTHERS[kind] is None:
        Image.new("L", (8, 8)).save(tmp_path / "pictures" / "00.png", kind)
    else:
        (tmp_path / "pictures" / "00.png").write_bytes(OTHERS[kind])
    head = (tmp_path / "pictures" / "00.png").read_bytes()[:8]
    extra = [] if words[0] != "data=folder" else ["net.channels=8", "net.groups=4", "data.batch_size=8", "data.size=8"]
    assert entry.main([*words, *extra, "logger=none", "quality=pixels", "quality.n=20", "run=out"]) == 2
    error = capsys.readouterr().err
    assert not called, "Ghostscript was started"
    assert "pictures/00.png" in error and repr(head) in error and "PNG" in error and "Traceback" not in error


def test_a_jfif_is_a_jpeg(tmp_path):
    from lightning_gen.data import Folder

    for place in range(40):
        Image.new("RGB", (8, 8), (place, 0, 0)).save(tmp_path / f"{place:02}.jfif", "JPEG")
    splits = Folder(str(tmp_path)).load()
    assert sum(len(split) for split in splits.values()) == 40


def test_a_pickle_in_an_archive_is_not_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    evil = np.array([Payload("MARK")] * 2, dtype=object)
    np.savez("evil.npz", arr_0=evil, x_train=evil, images=evil)
    assert entry.main(["stage=evaluate", "samples=evil.npz", "logger=none", "quality.n=2", "run=out"]) == 2
    assert entry.main(["data=npz", "data.path=evil.npz", "logger=none", "run=out"]) == 2
    assert "evil.npz" in capsys.readouterr().err and not Path("MARK").exists()
