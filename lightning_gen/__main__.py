"""python -m lightning_gen: the command `lightning-gen`, as torchrun -m starts it in every process."""

import sys

from lightning_gen.stages import main

if __name__ == "__main__":
    sys.exit(main())
