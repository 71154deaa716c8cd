"""python -m lightning_gen.metrics.fetch: download Inception's weights, or a timm model's, print path and SHA-256."""

import argparse
from pathlib import Path

from lightning_gen.caching import cache_folder
from lightning_gen.metrics.cache import file_digest
from lightning_gen.metrics.features.inception import SHA256, downloaded


def fetch_inception(to: Path | None = None, url: str | None = None, sha256: str = SHA256) -> Path:
    """Where the checked file stands; it is downloaded only if it is not there."""
    from torch.hub import download_url_to_file
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = downloaded() if to is None else to.expanduser()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(URL_INCEPTION_V3 if url is None else url, str(path), hash_prefix=sha256)
    actual = file_digest(path)
    if actual != sha256:
        raise ValueError(f"{path} has SHA-256 {actual}, expected {sha256}: delete it and fetch it again")
    return path


def fetch_timm(model: str, to: Path | None = None) -> Path:
    """Where the pretrained tensors of a timm model stand, as a .safetensors file; written only if it is not there.

    Nobody publishes its hash: the one printed is of what came, for quality.features.sha256 to hold later copies to.
    """
    from safetensors.torch import save

    from lightning_gen.metrics.features.networks import timm

    path = cache_folder() / "timm" / f"{model}.safetensors" if to is None else to.expanduser()
    if path.suffix != ".safetensors":
        raise ValueError(f"--to needs a name that ends in .safetensors for --timm, got {path}")
    if not path.exists():
        tensors = timm().create_model(model, pretrained=True).state_dict()
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.part")
        # Not save_file, whose files nobody else may read.
        staged.write_bytes(save({name: x.contiguous() for name, x in tensors.items()}))
        staged.replace(path)
    return path


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lightning_gen.metrics.fetch", description=__doc__)
    parser.add_argument("--to", type=Path, help="the file to write (default: where a run looks for it)")
    parser.add_argument("--timm", metavar="MODEL", help="a pretrained model of timm for TimmFeatures, not Inception")
    options = parser.parse_args(arguments)
    try:
        path = fetch_timm(options.timm, options.to) if options.timm else fetch_inception(options.to)
    except Exception as error:  # a network fails in the ways of several libraries
        what = f"the weights of {options.timm}" if options.timm else "Inception's weights"
        parser.exit(1, f"{what} could not be fetched: {' '.join(str(error).split())}\n")
    print(f"{path}\nSHA-256 {file_digest(path)}")


if __name__ == "__main__":
    main()
