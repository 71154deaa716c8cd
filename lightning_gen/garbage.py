"""Python's collector of cyclic garbage, without which a process starts: modules and configs stay, and are many."""

import atexit
import gc


def wait() -> None:
    """Collect nothing until `collect`."""
    gc.disable()


def collect() -> None:
    """Collect again where `wait` has stopped it; what is there by now is looked at again only at the process's end."""
    if not gc.isenabled():
        gc.freeze()
        atexit.register(gc.unfreeze)
        gc.enable()
