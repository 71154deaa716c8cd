"""Python's collector of cyclic garbage, which is off while a process starts: it would look at all modules and configs
again and again, and they are still in use."""

import atexit
import gc

_paused = False


def pause() -> None:
    """Switch it off until `resume`."""
    global _paused
    _paused = gc.isenabled()
    gc.disable()


def resume() -> None:
    """Switch it on again where `pause` has switched it off; it leaves out what is there by now until the process ends,
    when extension modules look for objects that nobody has freed."""
    global _paused
    if _paused:
        gc.freeze()
        atexit.register(gc.unfreeze)
        gc.enable()
    _paused = False
