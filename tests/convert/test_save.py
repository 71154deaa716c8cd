"""Sharing: models made by hand, checkpoints that were copied, exports with their card, and folders for diffusers."""

import json
import re
import shutil
from functools import partial

import numpy as np
import pytest
import torch
import yaml

import lightning_gen
import run as entry
from lightning_gen.data import Digits
from lightning_gen.errors import ConfigError
from lightning_gen.families import DDPM, ScoreSDE
from lightning_gen.nets import MLP, UNet
from lightning_gen.results.result import Name, Result, protocol_hash
from lightning_gen.runs.weights_file import keeps_average
from lightning_gen.samplers import DDIM, EulerMaruyama, PredictorCorrector
from tests.processes import ROOT
from tests.test_run import BARE

ADAM = partial(torch.optim.Adam, lr=1e-4)


def unet(**options):
    return UNet((1, 8, 8), channels=8, multipliers=(1, 2), blocks=1, attention=(4,), groups=4, dropout=0.0, **options)


def spread(module):
    """Weights that no initialisation gives, so that every tensor counts."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def by_hand(**options):
    sampler = options.pop("sampler", DDIM(steps=3, clip=(-1, 1)))
    given = {"steps": 20, "beta_max": 0.3, "sampler": sampler, "shape": (1, 8, 8), "value_range": (-1, 1)} | options
    return spread(DDPM(given.pop("net", None) or unet(), ADAM, **given))


NUMBER = Result(1.5, "estimate", 0.25, "nats", {"n": 40, "features": "pixels"}, name=Name("fid", "pixels", "ema"))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A short run, with a number."""
    folder = tmp_path_factory.mktemp("share") / "run"
    assert entry.main([*BARE, "callbacks.curves=null", "trainer.max_steps=3", f"run={folder}"]) == 0
    (folder / "metrics.json").write_text(json.dumps({str(NUMBER.name): NUMBER.as_dict() | {"step": 3}}))
    return folder


MADE = {
    "averaged": lambda: by_hand(),
    "raw": lambda: by_hand(ema_decay=None, seed=4),
    "labels": lambda: by_hand(net=unet(classes=11), classes=10, guidance=2.0),
    "nested sampler": lambda: spread(
        ScoreSDE(
            unet(), ADAM, sde="subvp", shape=[1, 8, 8], value_range=(-1, 1),
            sampler=PredictorCorrector(EulerMaruyama(3), corrections=1),
        )
    ),
    "points": lambda: spread(ScoreSDE(MLP((2,), width=8), ADAM, shape=(2,), sampler=EulerMaruyama(3))),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_what_is_saved_is_loaded(name, tmp_path):
    """The same weights, the same settings, so the same samples bit for bit; and the same config again."""
    made = MADE[name]()
    folder = lightning_gen.save(made, tmp_path / "model")
    loaded = lightning_gen.load(folder)
    assert type(loaded) is type(made) and (loaded.ema is None) == (made.ema is None)
    assert all(torch.equal(a, b) for a, b in zip(loaded.averaged.parameters(), made.averaged.parameters(), strict=True))
    assert torch.equal(loaded.sample(2, seed=5), made.sample(2, seed=5))
    lightning_gen.save(loaded, tmp_path / "again")
    first, second = (yaml.safe_load((tmp_path / part / "config.yaml").read_text()) for part in ("model", "again"))
    for key in ("net", "sampler", "seed"):
        assert first[key] == second[key]
    assert {k: v for k, v in second["module"].items() if k in first["module"]} == first["module"]


def test_the_command_line_samples_what_was_saved(tmp_path):
    made = by_hand()
    made.sampler.steps = 4  # as it is now, not as it was made
    folder = lightning_gen.save(made, tmp_path / "model", Digits(batch_size=16))
    assert entry.main(["stage=sample", f"run={folder}", "n=2", "seed=5", "trainer.accelerator=cpu"]) == 0
    (archive,) = (folder / "samples").glob("*.npz")
    drawn = torch.as_tensor(np.load(archive)["images"]).permute(0, 3, 1, 2)
    assert (drawn / 255 - made.sample(2, seed=5)).abs().max() <= 0.5 / 255 + 1e-5
    stored = yaml.safe_load((folder / "config.yaml").read_text())
    assert stored["data"] == {"_target_": "lightning_gen.data.Digits", "batch_size": 16}
    assert stored["sampler"]["steps"] == 4


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: DDPM(unet(), lambda p: torch.optim.Adam(p, lr=1e-4)), r"module.optimizer.*lambda.*functools.partial"),
        (lambda: DDPM(torch.nn.Linear(2, 2), ADAM), "module.net is a Linear.*Checked"),
        (lambda: unet(), "model is a UNet.*family"),
        (lambda: by_hand(sampler=type("Own", (DDIM,), {})(3)), "module.sampler.*Own"),
    ],
)
def test_what_no_config_can_name_is_refused(model, says, tmp_path):
    with pytest.raises((ValueError, TypeError), match=says):
        lightning_gen.save(model(), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "sharing.md").read_text(), re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if "lightning_gen.save" in block)
    exec(compile(block, "sharing.md", "exec"), {})
    assert "torch.Size([4, 1, 8, 8])" in capsys.readouterr().out


def test_a_folder_with_an_export_is_not_written_over(tmp_path):
    lightning_gen.save(by_hand(), tmp_path / "x")
    with pytest.raises(ValueError, match="already"):
        lightning_gen.save(by_hand(), tmp_path / "x")


def test_a_checkpoint_is_loaded_wherever_it_was_copied(run_folder, tmp_path):
    """Its config travels inside it: load, stage=sample, init= and stage=export take it alone."""
    copied = tmp_path / "model.ckpt"
    shutil.copy(run_folder / "checkpoints" / "last.ckpt", copied)
    expected = lightning_gen.load(run_folder).sample(2, seed=1)
    assert torch.equal(lightning_gen.load(copied).sample(2, seed=1), expected)
    assert entry.main(["stage=sample", f"run={copied}", "n=2", "seed=1"]) == 0
    (archive,) = (tmp_path / "model" / "samples").glob("*.npz")
    drawn = torch.as_tensor(np.load(archive)["images"]).permute(0, 3, 1, 2)
    assert (drawn / 255 - expected).abs().max() <= 0.5 / 255 + 1e-5
    assert entry.main(["stage=export", f"run={copied}"]) == 0
    assert torch.equal(lightning_gen.load(tmp_path / "model" / "export").sample(2, seed=1), expected)


def without_config(path):
    content = torch.load(path, weights_only=True)
    del content["config"]
    return content


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_config, "model.ckpt.*holds no config"),
        (lambda path: torch.load(path, weights_only=True) | {"config": "module: {_target_: os.system}"}, "os.system"),
        (lambda path: torch.load(path, weights_only=True) | {"config": "a: 1"}, "no module and no sampler"),
        (lambda path: [1, 2], "model.ckpt.*holds no config"),
    ],
    ids=["none", "foreign call", "no config", "list"],
)
def test_a_config_inside_a_checkpoint_is_checked_as_any_other(change, says, run_folder, tmp_path, capsys):
    torch.save(change(run_folder / "checkpoints" / "last.ckpt"), tmp_path / "model.ckpt")
    with pytest.raises(ConfigError, match=says):
        lightning_gen.load(tmp_path / "model.ckpt")
    if change is without_config:
        assert entry.main(["stage=sample", f"run={tmp_path / 'model.ckpt'}", "n=1"]) == 2
        assert re.search(says, capsys.readouterr().err)


def test_a_card_says_raw_where_no_average_is_kept():
    def node(name, **options):
        return {"_target_": f"lightning_gen.families.{name}", **options}

    assert keeps_average(node("DDPM")) and keeps_average(node("VAE", ema_decay=0.9))
    assert not keeps_average(node("VAE")) and not keeps_average(node("DDPM", ema_decay=None))


def test_an_export_has_a_card(run_folder):
    card = run_folder / "export" / "README.md"
    assert entry.main(["stage=export", f"run={run_folder}"]) == 0
    text = card.read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "unknown" and head["library_name"] == "lightning_gen" and "DDPM" in head["tags"]
    row = f"| fid/pixels/ema | 1.50 ± 0.25 | nats | estimate | 40 | 3 | {protocol_hash(NUMBER.protocol)} |"
    assert row in text and '"features": "pixels"' in text
    for words in ("family: DDPM", "network: UNet", "data: Digits", "averaged, step 3 of run", "run=export"):
        assert words in text, words
    assert str(run_folder.parent) not in text
    card.write_text(text.replace("license: unknown", "license: cc-by-4.0"))
    assert entry.main(["stage=export", f"run={run_folder}"]) == 0
    assert "license: cc-by-4.0" in card.read_text(), "the author's licence is kept"
