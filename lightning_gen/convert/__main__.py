"""python -m lightning_gen.convert SOURCE TARGET: a folder of diffusers, or a checkpoint of score_sde_pytorch.

Exit codes: 0 done, 2 wrong input.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> int:
    """Read SOURCE, write TARGET, print its files; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lightning_gen.convert", description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="a folder with config.json (diffusers), or a .pth file (score_sde)")
    parser.add_argument("target", type=Path, help="the new folder for lightning_gen.load, stage=sample, init=")
    parser.add_argument("--sde", choices=("vp", "subvp", "ve"), help="of a score_sde checkpoint, if not ve")
    parser.add_argument("--weights", choices=("ema", "raw"), default="ema", help="of a score_sde checkpoint")
    parser.add_argument("--size", type=int, default=32, help="pixels of a side, of a score_sde checkpoint")
    arguments = parser.parse_args(argv)

    from lightning_gen.convert import read_diffusers, read_score_sde, write
    from lightning_gen.errors import ConfigError

    try:
        if arguments.source.is_dir():
            imported = read_diffusers(arguments.source)
        else:
            imported = read_score_sde(arguments.source, arguments.sde, arguments.weights, arguments.size)
        folder = write(imported, arguments.target)
    except (ConfigError, ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"imported: {imported.source}", "written:", *(f"  {file}" for file in folder.files()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
