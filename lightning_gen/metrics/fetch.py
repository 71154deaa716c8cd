"""python -m lightning_gen.metrics.fetch: download Inception's weights, check them, print path and SHA-256."""

import argparse
from pathlib import Path

from lightning_gen.metrics.cache import file_digest
from lightning_gen.metrics.inception import SHA256, downloaded


def fetch_inception(to: Path | None = None, url: str | None = None, sha256: str = SHA256) -> Path:
    """Where the checked file stands; it is downloaded only if it is not there."""
    from torch.hub import download_url_to_file
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = downloaded() if to is None else to.expanduser()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(URL_INCEPTION_V3 if url is None else url, str(path), hash_prefix=sha256)
    found = file_digest(path)
    if found != sha256:
        raise ValueError(f"{path} has SHA-256 {found}, expected {sha256}: delete it and fetch it again")
    return path


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lightning_gen.metrics.fetch", description=__doc__)
    parser.add_argument("--to", type=Path, help="the file to write (default: where a run looks for it)")
    try:
        path = fetch_inception(parser.parse_args(arguments).to)
    except (OSError, ValueError, RuntimeError) as error:
        parser.exit(1, f"Inception's weights could not be fetched: {error}\n")
    print(f"{path}\nSHA-256 {file_digest(path)}")


if __name__ == "__main__":
    main()
