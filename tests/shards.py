"""Run as two processes in test_fsdp.py: run.py's own path for several commands, one after the other."""

import json
import os
import sys
from pathlib import Path

import run as entry
from lightning_gen.families.optimisation import Optimisation
from lightning_gen.families.shards import local
from lightning_gen.stages.fully_sharded import FullyShardedStrategy


def main(folder: str) -> int:
    """Run folder/commands.json, a list of lists of words; each rank writes what it keeps of the last step's tensors."""
    check, end = Optimisation.check, FullyShardedStrategy.on_train_end

    def witness(self):
        check(self)
        module, optimizer = self.module, self.main.optimizer
        groups = {
            "model": [*module.model.parameters()],
            "ema": [*module.ema.parameters()],
            "gradient": self.main.gradients(),
            "moment": [value for state in optimizer.state.values() for value in state.values() if value.ndim],
        }
        kept = {
            name: [sum(local(p).numel() for p in group), sum(p.numel() for p in group)]
            for name, group in groups.items()
        }
        if module.trainer.global_step == 5 and isinstance(module.trainer.strategy, FullyShardedStrategy):
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
    sys.exit(main(sys.argv[1]))
