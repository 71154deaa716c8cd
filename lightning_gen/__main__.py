"""The command `lightning-gen`, and python -m lightning_gen, as torchrun -m starts it in every process."""

import sys

from lightning_gen import garbage, heap
from lightning_gen.runs import signals


def main() -> int:
    """Run what the program's own command line asks for; the exit code."""
    signals.listen()  # before all that takes time
    garbage.pause()
    heap.keep()
    from lightning_gen.stages import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
