"""push_to_hub, with a hub that is a local folder; and what a downloaded snapshot gives."""

import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

import lightning_gen
from tests.convert.test_save import by_hand

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the test extra installs huggingface-hub")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder in which a repository is a folder, laid out as the hub's cache is: files are links to blobs."""

    class LocalApi(huggingface_hub.HfApi):
        def create_repo(self, repo_id, *, private=False, exist_ok=False):
            (tmp_path / "hub" / repo_id).mkdir(parents=True, exist_ok=exist_ok)

        def upload_folder(self, *, repo_id, folder_path, allow_patterns):
            blobs = tmp_path / "hub" / "blobs"
            blobs.mkdir(exist_ok=True)
            for file in filter(Path.is_file, Path(folder_path).rglob("*")):
                name = str(file.relative_to(folder_path))
                if any(fnmatch(name, pattern) for pattern in allow_patterns):
                    shutil.copy(file, blobs / name.replace("/", "-"))
                    link = tmp_path / "hub" / repo_id / name
                    link.parent.mkdir(exist_ok=True)
                    link.symlink_to(blobs / name.replace("/", "-"))
            return f"hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", LocalApi)
    return tmp_path / "hub"


def test_what_is_pushed_is_loaded_from_the_snapshot(hub, tmp_path):
    made = by_hand()
    folder = lightning_gen.save(made, tmp_path / "model")
    (folder / "samples").mkdir()
    (folder / "samples" / "grid.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="license.*unknown"):
        lightning_gen.push_to_hub(folder, "me/digits")
    assert not hub.exists()
    card = folder / "README.md"
    card.write_text(card.read_text().replace("license: unknown", "license: mit"))
    assert lightning_gen.push_to_hub(folder, "me/digits") == "hub/me/digits"
    names = {str(file.relative_to(hub / "me/digits")) for file in (hub / "me/digits").rglob("*")}
    assert names == {"README.md", "config.yaml", "model.safetensors"}
    assert torch.equal(lightning_gen.load(hub / "me/digits").sample(2, seed=1), made.sample(2, seed=1))


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no export.*stage=export"):
        lightning_gen.push_to_hub(tmp_path, "me/digits")
