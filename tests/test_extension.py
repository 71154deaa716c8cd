"""A package of somebody else's, with parts of every kind, is trained, measured, resumed where it is allowed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import lightning_gen
import run as entry
from lightning_gen.config.allow import LIBRARIES, extension_faults
from lightning_gen.errors import ConfigError
from lightning_gen.results.store import read_record
from tests.extensions import CONFIGS, EXTENSION, forget, on_path

TINY = ("experiment=spirals", "logger=none", "data.n=64", "data.batch_size=16", "quality.n=16", "sampler.steps=3")
TINY += ("callbacks.pictures.n=4", "callbacks.pictures.strip=2", "trainer.log_every_n_steps=1", "callbacks.curves=null")
FOLDER = ("--config-dir", str(CONFIGS))
ALLOW = ("--allow", "spirals")


def refused(words, capsys):
    """The sentences of a command that is refused before any work."""
    capsys.readouterr()
    assert entry.main(list(words)) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return [line.removeprefix("error: ") for line in error.splitlines()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package, installed as pip does it, so that it declares itself."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(EXTENSION, folder / "source")
    target = folder / "target"
    words = ["install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", *words, str(folder / "source")], check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def trained(installed, tmp_path_factory):
    """A run of an installed extension, stopped after 4 steps and resumed to 8, its export beside it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with on_path(installed, "spirals"):
        for steps in (4, 8):
            assert entry.main([*FOLDER, *TINY, f"trainer.max_steps={steps}", f"run={folder}"]) == 0
        assert entry.main(["stage=export", f"run={folder}"]) == 0
    return folder


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The package on the path, not installed: nothing declares it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(EXTENSION / "spirals", tmp_path / "path" / "spirals")
    with on_path(tmp_path / "path", "spirals"):
        yield tmp_path


def test_to_install_it_is_to_trust_it(trained):
    record = read_record(trained / "record.jsonl")
    assert sorted(row["step"] for row in record if row["name"] == "train/loss") == list(range(1, 9))
    assert any(row["name"] == "spirals/weight_norm" for row in record)
    assert any("resume" in line for line in (trained / "record.jsonl").read_text().splitlines())
    assert {"fid/polar/ema", "radius_gap/polar/ema", "radius_gap/polar/held-out"} <= {
        *json.loads((trained / "metrics.json").read_text())
    }
    stored = yaml.safe_load((trained / "config.yaml").read_text())
    assert stored["extensions"] == ["spirals"] and stored["net"]["classes"] is None
    assert "shape" not in stored["net"] and stored["module"]["shape"] == [2]


def test_its_stages_and_python_draw_the_same(trained, installed):
    with on_path(installed, "spirals"):
        assert entry.main(["stage=sample", f"run={trained}", "n=5", "seed=2"]) == 0
        assert entry.main(["stage=evaluate", f"run={trained / 'export'}", "quality.n=20"]) == 0
        import numpy

        drawn = numpy.load(trained / "samples" / "samples-restart-seed2-n5.npz")["points"]
        assert torch.equal(lightning_gen.load(trained).sample(5, seed=2), torch.from_numpy(drawn))


def test_classes_reach_its_network(installed, tmp_path):
    bare = [word for word in TINY if not word.startswith(("quality.", "callbacks."))]
    bare += ["quality=none", "callbacks.pictures=null", "callbacks.curves=null"]
    with on_path(installed, "spirals"):
        words = (*FOLDER, *bare, "module.classes=2", "trainer.max_steps=1", f"run={tmp_path / 'r'}")
        assert entry.main(list(words)) == 0
    assert yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())["net"]["classes"] == 3


def test_where_nobody_allows_it_the_word_to_add_is_said(trained, copied, capsys):
    runs = f"runs=[{trained},{trained / 'export'}]"
    shutil.copy(trained / "metrics.json", trained / "export")
    for words in (
        [*FOLDER, *TINY],
        ["stage=sample", f"run={trained}"],
        ["stage=evaluate", f"run={trained / 'export'}"],
        ["stage=export", f"run={trained}"],
        ["stage=compare", runs, "logger=none"],
        [f"init={trained}", "logger=none"],
        [f"init={trained / 'checkpoints' / 'last.ckpt'}", "logger=none"],
    ):
        sentences = refused(words, capsys)
        assert len(sentences) == 1 and "spirals" in sentences[0] and "--allow spirals" in sentences[0], sentences
    for path in (trained, trained / "export"):
        with pytest.raises(ConfigError, match="spirals.*--allow spirals"):
            lightning_gen.load(path)
    assert "spirals" not in sys.modules and not (copied / "outputs").exists()


def test_allowed_by_name_it_works(trained, copied, capsys):
    assert entry.main([*ALLOW, *FOLDER, *TINY, "trainer.max_steps=1", f"init={trained / 'export'}", "run=mine"]) == 0
    assert entry.main(["--allow=spirals", "stage=sample", f"run={trained}", "n=2"]) == 0
    assert entry.main([*ALLOW, "stage=compare", f"runs=[{trained},mine]", "logger=none"]) == 0
    assert lightning_gen.load("mine", allow=("spirals",)).sample(2).shape == (2, 2)
    assert lightning_gen.load(trained / "export", allow=("spirals",)).sample(2).shape == (2, 2)
    card = (trained / "export" / "README.md").read_text()
    assert 'load("export", allow=("spirals",))' in card and "stage=sample run=export n=16 --allow spirals" in card
    assert len(refused(["stage=sample", "run=mine"], capsys)) == 1, "what was allowed once is not allowed for ever"


def test_what_a_command_uses_is_recorded(copied):
    node = "{_target_: spirals.callbacks.WeightNorm, every: 1}"
    words = ["data=moons", "net=mlp", "quality=none", "logger=none", "trainer.max_steps=1", "run=out"]
    words += [f"callbacks.{name}=null" for name in ("likelihood", "pictures", "curves")] + [f"callbacks.norm={node}"]
    assert entry.main([*ALLOW, *words]) == 0
    assert yaml.safe_load(Path("out/config.yaml").read_text())["extensions"] == ["spirals"]


def test_a_process_of_ones_own_trains_as_its_page_says(tmp_path, monkeypatch):
    """Each file and command of docs/extending.md, with few steps; x_t then has the moments of the page's formula."""
    monkeypatch.chdir(tmp_path)
    page = (EXTENSION.parent / "extending.md").read_text()
    for name, content in re.findall(r"In `([\w/]+\.\w+)`.*:\n\n```\w+\n([\s\S]*?)^```", page, re.MULTILINE):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    few = ["trainer.max_steps=2", "data.n=64", "data.batch_size=16", "quality.n=16", "logger=none"]
    commands = [line.split()[1:] for line in re.findall(r"^lightning-gen .*waves.*$", page, re.MULTILINE)]
    assert [any(word.startswith("stage=") for word in words) for words in commands] == [False, True]
    with on_path(tmp_path, "waves"):
        for words, more in zip(commands, (few, []), strict=True):
            assert entry.main([*words, *more]) == 0
        model = lightning_gen.load("outputs/waves", allow=("waves",)).model
    assert len(list(Path("outputs/waves/samples").glob("samples-heun-seed0-n500.npz"))) == 1
    t, x = torch.full((20_000,), 0.4, dtype=torch.float64), torch.full((20_000, 1), 2.0, dtype=torch.float64)
    noised = model.process.perturb(x, t, torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double())
    angle = torch.tensor(0.99 * 0.4 * torch.pi / 2, dtype=torch.float64)
    assert abs(float(noised.mean() - 2 * angle.cos())) <= 4 * float(angle.sin()) / len(x) ** 0.5
    assert abs(float(noised.var() / angle.sin().square() - 1)) <= 4 * (2 / len(x)) ** 0.5


def test_its_faults_are_reported_as_ours_are(copied, capsys):
    wrong = ["net.widht=3", "module.loss.delta=-1", "sampler.steps=many", "callbacks.norm.evry=2", "data.n=0"]
    sentences = refused([*ALLOW, *FOLDER, *TINY[:2], *wrong], capsys)
    for key, found in (("net.widht", "width?"), ("module.loss.delta", "-1"), ("sampler.steps", "'many'")):
        assert any(key in sentence and found in sentence for sentence in sentences), key
    assert any("callbacks.norm.evry" in s and "every?" in s for s in sentences) and any(
        "data.n" in s for s in sentences
    )
    for target, found in (
        ("spirals.losses.PseudHuber", "PseudoHuber?"),
        ("spirals.samplers.Restart", "expects a Loss"),
        ("spirals.losses.torch.load", "does not have"),
        ("spirals.losses.Tensor", "allow list"),
    ):
        sentences = refused([*ALLOW, *FOLDER, *TINY[:2], f"module.loss={{_target_: {target}}}"], capsys)
        assert any("module.loss" in sentence and found in sentence for sentence in sentences), sentences
    assert "spirals" not in sys.modules


def test_data_and_a_family_that_are_not_ours_are_refused_by_name(tmp_path, monkeypatch, capsys):
    """Of Lightning's own classes: before any import of the package, in a sweep too."""
    monkeypatch.chdir(tmp_path)
    Path("theirs.py").write_text(
        "from pytorch_lightning import LightningDataModule, LightningModule\n"
        "class Data(LightningDataModule):\n    batch_size = 8\n"
        "class Family(LightningModule):\n    def __init__(self, net, **options):\n        super().__init__()\n"
    )
    Path("configs/data").mkdir(parents=True)
    Path("configs/data/theirs.yaml").write_text("_target_: theirs.Data\n")
    words = ["--allow=theirs", "--config-dir=configs", "experiment=edm_digits", "logger=none"]
    with on_path(tmp_path, "theirs"):
        for more in ([], ["-m", "seed=0,1"], ["stage=estimate"]):
            (said,) = refused([*words, "data=theirs", *more], capsys)
            expected = "data._target_ is theirs.Data, expected a lightning_gen.data.GenerativeData: derive"
            assert said.startswith(expected)
        (said,) = refused([*words, "module={_target_: theirs.Family}"], capsys)
        assert said.startswith("module._target_ is theirs.Family, expected a lightning_gen.families.GenerativeModule: ")
        assert "theirs" not in sys.modules and not Path("outputs").exists()
    (said,) = refused([*words[2:], "module={_target_: lightning_gen.samplers.DDIM}"], capsys)
    assert said.startswith("module._target_ is lightning_gen.samplers.DDIM, expected a lightning_gen.families.")


def test_a_library_cannot_be_allowed_whole(capsys):
    for name in ("os", "torch", "numpy", "pickle", "builtins", "callbacks", "lightning_gen", "hydra", "_pytest"):
        if name in ("os", "torch", "callbacks"):
            sentences = refused([f"--allow={name}"], capsys)
            assert len(sentences) == 1 and name in sentences[0]
        with pytest.raises(ConfigError, match=name):
            lightning_gen.load("nowhere", allow=name)
    assert "write spirals" in refused(["--allow", "spirals.nets"], capsys)[0]
    assert "no_such_package" in refused(["--allow", "no_such_package"], capsys)[0]
    assert "--allow" in refused(["--allow"], capsys)[0]


def test_every_requirement_of_ours_is_a_library():
    """A package that this one needs is installed everywhere: it must not be allowed by a word."""
    from tests.test_packaging import imported

    known = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml", "hydra": "hydra-core"}
    canonical = {known.get(name, name.replace("_", "-")).lower() for name in LIBRARIES}
    needed = imported("run.py", "lightning_gen/**/*.py", "callbacks/**/*.py", "tests/**/*.py")
    assert not needed - canonical and extension_faults(["annotated_types"])


def test_a_declaration_opens_no_library(tmp_path, capsys):
    about = tmp_path / "evil-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[lightning_gen.extensions]\nos = os\n")
    with on_path(tmp_path):
        assert any("os" in sentence and "lightning_gen.extensions" in sentence for sentence in refused([], capsys))


def test_a_folder_of_configs_is_named_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "nowhere" in refused(["--config-dir", "nowhere"], capsys)[0]
    assert "experiment=spirls" in refused([*FOLDER, "experiment=spirls", *ALLOW[:0]], capsys)[-1]
    (tmp_path / "mine" / "net").mkdir(parents=True)
    (tmp_path / "mine" / "net" / "mlp.yaml").write_text("{}")
    sentences = refused(["--config-dir=mine"], capsys)
    assert len(sentences) == 1 and "mine/net/mlp.yaml" in sentences[0]
    (tmp_path / "yours" / "experiment").mkdir(parents=True)
    page = tmp_path / "yours" / "experiment" / "mine.yaml"
    page.write_text("# @package _global_\ndefaults:\n  - override /data: ringz\n")
    expected = "data=ringz, which a YAML names, does not exist: did you mean rings?"
    assert expected in refused(["--config-dir=yours", "experiment=mine"], capsys)[-1]


def test_nothing_of_it_is_left_after_its_tests():
    forget("spirals")
    assert "spirals" not in sys.modules
