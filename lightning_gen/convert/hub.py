"""lightning_gen.push_to_hub: an export, or a folder for diffusers, in a repository of Hugging Face's hub."""

import os
from pathlib import Path

from lightning_gen.results.card import CARD, LICENCE, licence

# Samples that were drawn in the folder, and numbers that were measured there, stay here.
CONFIGS = ("config.yaml", "model_index.json")
FILES = (CARD, *CONFIGS, "model.safetensors", "unet/*", "scheduler/*")


def push_to_hub(folder: str | os.PathLike, repository: str, private: bool = False) -> str:
    """Upload the folder's files into a repository, which is made where there is none; the address of the commit.

    Args:
        folder: that stage=export or lightning_gen.save has written.
        repository: owner/name.
        private: whether a new repository is private.

    Raises ValueError for a folder that is no export or has no licence, ImportError without huggingface_hub.
    """
    folder = Path(folder).expanduser()
    if not (folder / CARD).is_file() or not any((folder / name).is_file() for name in CONFIGS):
        raise ValueError(f"{folder} is no export, expected {CARD} and {' or '.join(CONFIGS)}: run stage=export")
    if licence(folder / CARD) == LICENCE:
        raise ValueError(
            f"license in {folder / CARD} is {LICENCE}, and others may not use what has none: write one, as license: mit"
        )
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ImportError("huggingface_hub is not installed: pip install 'lightning-gen[hub]'") from error
    api = HfApi()
    api.create_repo(repository, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=[*FILES]))
