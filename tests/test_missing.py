"""What a machine does not have, its device, the data and the weights of features, is said at once."""

from urllib.error import HTTPError, URLError

import pytest
import torch

import run as entry
from lightning_gen.data import CIFAR10, vision
from lightning_gen.runs.devices import check_accelerator
from tests.test_run import BARE


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without a GPU")
def test_device_data_and_weights_are_named_together(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vision, "unreachable", lambda addresses: f"{addresses[0]} does not answer")
    words = [word for word in BARE if not word.startswith(("data.", "quality"))]
    words += ["experiment=ddpm_mnist", "trainer=gpu", "quality=inception", "quality.features.weights=nowhere.pth"]
    assert entry.main(words) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and not list(tmp_path.iterdir())
    assert any("trainer.accelerator is gpu" in error and "trainer=cpu" in error for error in errors)
    assert any("nowhere.pth" in error and "quality=pixels" in error for error in errors)
    assert any("MNIST is not in data" in error and "does not answer" in error for error in errors)


@pytest.mark.parametrize(("accelerator", "strategy", "instead"), [("gpu", "auto", "cpu"), ("cuda", "ddp", "ddp_cpu")])
def test_a_device_that_is_absent_is_named_with_what_takes_its_place(accelerator, strategy, instead, monkeypatch):
    for absent in (torch.accelerator, torch.cuda):
        monkeypatch.setattr(absent, "is_available", lambda: False)
    with pytest.raises(ValueError, match=rf"trainer.accelerator is {accelerator}.*trainer={instead},"):
        check_accelerator({"accelerator": accelerator, "strategy": strategy})
    check_accelerator({"accelerator": "cpu"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_accelerator({"accelerator": "cuda"})


def test_data_to_be_downloaded_need_somebody_who_answers(tmp_path, monkeypatch):
    asked = []

    def opened(request, timeout):
        asked.append(request.full_url)
        raise answers.pop(0)

    monkeypatch.setattr(vision, "urlopen", opened)
    answers = [URLError("no network")]
    with pytest.raises(FileNotFoundError, match=r"CIFAR10 is not in .*no network.*copy"):
        CIFAR10(str(tmp_path)).check_source()
    answers = [URLError("no network"), HTTPError("b", 404, "", {}, None)]
    assert vision.unreachable(["http://a", "http://b"]) is None and asked[1:] == ["http://a", "http://b"]
    with pytest.raises(FileNotFoundError, match="download is false"):
        CIFAR10(str(tmp_path), download=False).check_source()
    assert len(asked) == 3
