"""Ranks that watch each other: one that fails, dies, stands still or never comes is named, and the job ends.

A collective's own timeout names nobody, and would also end a run in which rank 0 measures while the others wait. So
each rank tells by a thread, about once a second, in the store by which the ranks have met, how far it is: the number
of its last collective, and where its main thread is in the program. Behind the others and unmoved, it hangs.
"""

import atexit
import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any, NoReturn

from lightning_gen.runs import signals
from lightning_gen.runs.devices import Place

GRACE = 5.0  # seconds for a rank to end by its own exception, once it is known that one has failed
LOST = 3.0  # seconds without a sign of life, of a rank whose connection is closed
RESUMES = "the same command resumes at the last checkpoint"


class Watch:
    """The ranks of one job, from their meeting to the end of one stage.

    Args:
        here: this rank's place.
        timeout: seconds that a rank may stand still, or be late for the meeting.
    """

    def __init__(self, here: Place, timeout: float) -> None:
        self.here, self.timeout, self.where = here, timeout, "the time before step 1"
        self.working = False
        self.host = f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
        self.main, self.lock = threading.main_thread().ident, threading.Lock()
        self.seen: dict[int, tuple[Any, float, Any, float]] = {}
        self.count, self.failed_at, self.over = 0, 0.0, threading.Event()
        self.agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun holds the store
        self.hosting = here.rank == 0 and not self.agent

    def meet(self, backend: str, device: Any) -> None:
        """Wait for all ranks, form torch's process group, and start to watch; RuntimeError names who is late."""
        import torch.distributed as dist

        key = f"lightning_gen/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
        patience = timedelta(seconds=self.timeout)

        def connect(first: bool) -> Any:
            master = first and self.hosting
            address = (self.here.address, self.here.port, self.here.world)
            return dist.TCPStore(*address, master, patience, wait_for_workers=False)

        try:
            base = connect(True)
            self.store = dist.PrefixStore(f"{key}/watch", connect(False))
        except RuntimeError as error:
            raise RuntimeError(
                f"rank 0 did not come to {self.here.address}:{self.here.port} within {self.timeout:g} s "
                f"(trainer.timeout), rank {self.here.rank} waited: {' '.join(str(error).split())[:200]}"
            ) from None
        self.tell()
        deadline = time.monotonic() + self.timeout
        while late := [rank for rank in range(self.here.world) if not self.store.check([f"beat/{rank}"])]:
            if time.monotonic() > deadline:
                who = ", ".join(f"rank {rank}" for rank in late)
                raise RuntimeError(f"{who} did not come within {self.timeout:g} s (trainer.timeout), before step 1")
            time.sleep(0.05)
        # The group's own timeout is no use, as said above; a day is for what the threads cannot see.
        dist.init_process_group(
            backend,
            store=dist.PrefixStore(f"{key}/group", base),
            rank=self.here.rank,
            world_size=self.here.world,
            timeout=timedelta(days=1),
            device_id=device if device.type == "cuda" else None,
        )
        self.thread = threading.Thread(target=self.watch, daemon=True, name="ranks")
        self.thread.start()
        atexit.register(self.finish)

    def begin(self, where: str) -> None:
        """What this rank does from now on, as "step 7"."""
        self.where, self.working = where, True
        self.tell()

    def tell(self, done: bool = False) -> None:
        """Say how far this rank is, to the others and to torchrun, which repeats it where the rank is killed."""
        self.count += 1
        group = sys.modules["torch.distributed"].group.WORLD
        sequence = 0 if group is None else group._get_sequence_number_for_group()
        frame, stack = sys._current_frames().get(self.main), []
        while frame is not None:
            stack.append((id(frame.f_code), frame.f_lasti))
            frame = frame.f_back
        told = {"count": self.count, "sequence": sequence, "stack": hash(tuple(stack)), "where": self.where}
        told |= {"pid": os.getpid(), "host": self.host, "done": done}
        self.store.set(f"beat/{self.here.rank}", json.dumps(told))
        if not self.failed_at:
            report(f"rank {self.here.rank} was killed in {told['where']}; {RESUMES}")

    def look(self) -> dict[int, dict[str, Any]]:
        """What every rank has told last, and since when each stands still."""
        ranks = range(self.here.world)
        told = dict(enumerate(map(json.loads, self.store.multi_get([f"beat/{rank}" for rank in ranks]))))
        now = time.monotonic()
        for rank, one in told.items():
            count, alive, state, moved = self.seen.get(rank, (None, now, None, now))
            alive = now if one["count"] != count else alive
            at = (one["sequence"], one["stack"], one["where"])
            self.seen[rank] = (one["count"], alive, at, now if at != state else moved)
        return told

    def watch(self) -> None:
        """The thread: tell, look, and end the process where a rank is lost and its own program does not."""
        pause = min(1.0, self.timeout / 10)
        while not self.over.wait(pause):
            try:
                self.round()
            except RuntimeError:  # the store is gone, and rank 0 with it
                if self.over.wait(GRACE):
                    return
                self.end(self.store_lost())

    def round(self) -> None:
        """One look of the thread."""
        self.tell()
        told, now = self.look(), time.monotonic()
        if self.store.check(["failed"]):
            self.failed_at = self.failed_at or now
            if now - self.failed_at > GRACE:
                self.end(self.store.get("failed").decode())
            return
        if any(one["done"] for one in told.values()):
            return
        behind = min(one["sequence"] for one in told.values())
        for rank, one in told.items():
            _, alive, _, moved = self.seen[rank]
            if now - alive > self.timeout:
                self.convict(rank, one, f"gives no sign of life for {self.timeout:g} s")
            elif one["sequence"] == behind and now - moved > self.timeout:
                self.convict(rank, one, f"stands still for {self.timeout:g} s")

    def convict(self, rank: int, told: dict[str, Any], how: str) -> NoReturn:
        """Name a rank that hangs, see to it that it ends, and end."""
        sentence = self.post(f"rank {rank} {how} (trainer.timeout) in {told['where']}; {RESUMES}")
        time.sleep(min(2.0, GRACE))  # in which it may read of it itself
        if rank != self.here.rank and told["host"] == self.host and f"rank {rank} " in sentence:
            with suppress(ProcessLookupError):
                os.kill(told["pid"], signal.SIGKILL)
        self.end(sentence)

    def post(self, sentence: str) -> str:
        """Say that the job fails, and why; what was said first."""
        self.failed_at = self.failed_at or time.monotonic()
        try:
            return self.store.compare_set("failed", "", sentence).decode()
        except RuntimeError:
            return sentence

    def stop(self, reason: str) -> str:
        """The sentence about a job of which a rank is stopped: where another one has failed, torchrun has done it."""
        with suppress(RuntimeError):
            for rank, one in self.look().items():
                if not one["done"] and self.gone(one):
                    return self.post(f"rank {rank} was killed, or lost, in {one['where']}; {RESUMES}")
        return self.post(f"stopped: {reason}")

    def gone(self, told: dict[str, Any]) -> bool:
        """Whether a rank's process, being one of this machine, is no more."""
        return told["host"] == self.host and not os.path.exists(f"/proc/{told['pid']}")

    def fail(self, error: BaseException) -> str:
        """The sentence about a job whose rank got this error: its own, or that of a rank that is lost."""
        if not lost_connection(error):
            message = " ".join(str(error).split())[:500]
            return self.post(f"rank {self.here.rank} in {self.where}: {type(error).__name__}: {message}")
        until = time.monotonic() + LOST + 2
        while time.monotonic() < until:
            try:
                if self.store.check(["failed"]):
                    return self.store.get("failed").decode()
                for rank, one in self.look().items():
                    if not one["done"] and (self.gone(one) or time.monotonic() - self.seen[rank][1] > LOST):
                        return self.post(f"rank {rank} was killed, or lost, in {one['where']}; {RESUMES}")
            except RuntimeError:
                return self.store_lost()
            time.sleep(0.1)
        return self.post(f"a rank was lost in {self.where}: {' '.join(str(error).split())[:300]}")

    def store_lost(self) -> str:
        """The sentence where the store does not answer."""
        return f"rank 0 was killed, or lost, in {self.where}; {RESUMES}"

    def finish(self) -> None:
        """This rank is done, and need not be watched; where the others' store is in it, it waits for them."""
        self.over.set()
        self.thread.join(GRACE)  # a thread that lives while Python ends can abort the process
        with suppress(RuntimeError):
            self.tell(done=True)
            while self.hosting and not self.failed_at:
                told, now = self.look(), time.monotonic()
                if all(one["done"] or now - self.seen[rank][1] > GRACE for rank, one in told.items()):
                    break
                time.sleep(0.1)
        dist = sys.modules["torch.distributed"]
        if not self.failed_at and dist.is_initialized():
            dist.destroy_process_group()

    def end(self, sentence: str) -> NoReturn:
        """End this process, whatever its main thread does."""
        with self.lock:
            report(sentence)
            stopped = sentence.startswith("stopped: ")
            for call in signals.leaving:  # the lock is given back; a note is left by a stop alone
                with suppress(OSError):
                    call(sentence.removeprefix("stopped: ") if stopped else "")
            os.write(2, f"{sentence if stopped else f'error: {sentence}'}\n".encode())
            os._exit(75 if stopped else 1)


def lost_connection(error: BaseException) -> bool:
    """Whether an error is of another rank: of torch's collectives, none of our own."""
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset", "Broken pipe", "TCPStore")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def report(sentence: str) -> None:
    """Leave the sentence where torchrun looks for what a rank died of: it stands in the last lines that it prints."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        found = {
            "message": {"message": sentence, "extraInfo": {"py_callstack": sentence, "timestamp": int(time.time())}}
        }
        partial = f"{path}.part"
        try:
            with open(partial, "w") as file:
                json.dump(found, file)
            os.replace(partial, path)
        except OSError:
            return
