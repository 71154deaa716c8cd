"""Base of the families with Markov chains in training: checkpointed chains, and a check for divergence."""

from typing import Any

import torch

from lightning_gen.errors import Diverged
from lightning_gen.families.base import GenerativeModule


class Chains(GenerativeModule):
    """GenerativeModule whose loss may have persistent chains; a checkpoint holds those of all ranks."""

    def watch(self, step: int) -> None:
        """Diverged on all ranks if the energy of a chain on any rank exceeded the loss's limit since the last call."""
        deviation, limit = self.loss.max_deviation, self.loss.limit
        self.loss.max_deviation = None
        if deviation is None or limit is None:
            return
        ranks = self.trainer.strategy.all_gather(deviation.float()).reshape(-1).tolist()
        if max(ranks) > limit:
            rank, every = ranks.index(max(ranks)), self.trainer.log_every_n_steps
            raise Diverged(
                f"the energy of a model's sample on rank {rank} is {max(ranks):.3g} nats per dimension from data's, "
                f"expected at most the limit {limit:g}, at one of the optimizer steps {step - every + 1} to {step}: "
                "lower module.optimizer.lr or, of chains, the step_size, or raise the loss's limit"
            )

    def training_state(self) -> dict[str, Any]:
        """The chains of all ranks, (ranks, n, ...)."""
        chains = self.loss.chains
        if chains is None:
            return {}
        gathered = self.trainer.strategy.all_gather(chains)
        return {"chains": gathered.view(self.trainer.world_size, *chains.shape).cpu()}

    def load_training_state(self, checkpoint: dict[str, Any]) -> None:
        """Restore this rank's chains; ValueError for a checkpoint of another number of ranks."""
        chains = checkpoint.get("chains")
        if chains is None:
            return
        if len(chains) != self.trainer.world_size:
            raise ValueError(
                f"the checkpoint holds persistent chains of {len(chains)} ranks, expected {self.trainer.world_size} "
                f"as in this run: resume with {len(chains)} ranks, or start a new run from it with init="
            )
        self.loss.chains = torch.as_tensor(chains[self.trainer.global_rank]).to(self.device)
