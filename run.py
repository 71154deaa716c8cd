#!/usr/bin/env python
"""The command of a checkout: python run.py experiment=ddpm_cifar; README.md says what else it takes."""

import sys

from lightning_gen import garbage, heap
from lightning_gen.runs import signals

if __name__ == "__main__":
    signals.listen()  # before all that takes time
    garbage.pause()
    heap.keep()

from lightning_gen.stages import Session, main

__all__ = ["Session", "main"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
