"""Python's collector of cyclic garbage, without which a process starts: modules and configs stay, and are many."""

import gc


def wait() -> None:
    """Collect nothing until `collect`."""
    gc.disable()


def collect() -> None:
    """Collect again where `wait` has stopped it; what is there by now is not looked at again."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
