"""Run as two processes in test_fsdp.py: run.py's own path for several commands, one after the other."""

import json
import os
import signal
import sys
from pathlib import Path

import run as entry
from lightning_gen.families.optimisation import Optimisation
from lightning_gen.families.shards import local
from lightning_gen.stages.fully_sharded import FullyShardedStrategy


def main(folder: str, stop: int = 0) -> int:
    """Run each of folder/commands.json, and write how many numbers of all this rank keeps when an FSDP run steps.

    Rank 1 has a signal in step `stop`.
    """
    check, end = Optimisation.check, FullyShardedStrategy.on_train_end

    def witness(self):
        check(self)
        module, moments = self.module, [m for state in self.main.optimizer.state.values() for m in state.values()]
        groups = {
            "model": [*module.model.parameters()],
            "ema": [*module.averaged.parameters()],
            "gradient": self.main.gradients(),
            "moments": [moment for moment in moments if moment.ndim],
        }
        kept = {
            name: [sum(local(t).numel() for t in tensors), sum(t.numel() for t in tensors)]
            for name, tensors in groups.items()
        }
        if isinstance(module.trainer.strategy, FullyShardedStrategy):
            if module.global_rank == 1 and module.trainer.global_step + 1 == stop:
                os.kill(os.getpid(), signal.SIGTERM)
            Path(folder, f"kept-{module.global_rank}.json").write_text(json.dumps(kept))

    def final(self):
        end(self)
        assert all(local(p) is p for p in self.lightning_module.parameters()), "the module is left with whole weights"

    Optimisation.check, FullyShardedStrategy.on_train_end = witness, final
    for words in json.loads(Path(folder, "commands.json").read_text()):
        if (code := entry.main(words)) != 0:
            return code
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # the processes have met: the port is theirs
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
