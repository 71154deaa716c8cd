"""python -m lightning_gen.convert SOURCE TARGET: a folder of diffusers, or a checkpoint of other code.

Exit codes: 0 done, 2 wrong input.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> int:
    """Read SOURCE, write TARGET, print its files; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lightning_gen.convert", description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="a folder of diffusers, or a file of EDM, pytorch-ddpm or score_sde")
    parser.add_argument("target", type=Path, help="the new folder for lightning_gen.load, stage=sample, init=")
    parser.add_argument("--sde", choices=("vp", "subvp", "ve"), help="of score_sde, if not ve; of EDM, if not EDM's")
    parser.add_argument("--weights", choices=("ema", "raw"), help="of score_sde or pytorch-ddpm, if not ema")
    parser.add_argument("--size", type=int, help="pixels of a side, of score_sde or pytorch-ddpm, if not 32")
    arguments = parser.parse_args(argv)
    options = {key: value for key in ("sde", "weights", "size") if (value := getattr(arguments, key)) is not None}

    from lightning_gen.convert import read_checkpoint, read_diffusers, write
    from lightning_gen.errors import ConfigError

    try:
        if arguments.source.is_dir():
            if options:
                given = f"--{[*options][0]} is given, and {arguments.source} is a folder of diffusers"
                raise ValueError(f"{given}, whose files say it: leave it out")
            imported = read_diffusers(arguments.source)
        else:
            imported = read_checkpoint(arguments.source, **options)
        folder = write(imported, arguments.target)
    except (ConfigError, ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"imported: {imported.source}", "written:", *(f"  {file}" for file in folder.files()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
