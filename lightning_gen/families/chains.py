"""What the families with Markov chains in training share: chains that outlive a kill, and a limit of their energy."""

from typing import Any

import torch

from lightning_gen.errors import Diverged
from lightning_gen.families.base import GenerativeModule


class Chains(GenerativeModule):
    """GenerativeModule whose loss may keep chains; they stand in the checkpoint, all ranks' of them."""

    def watch(self, step: int) -> None:
        """Raise Diverged on all ranks where a chain of any has been beyond the loss's limit since the last call."""
        far, limit = self.loss.farthest, self.loss.limit
        self.loss.forget()
        if far is None or limit is None:
            return
        ranks = self.trainer.strategy.all_gather(far.float()).reshape(-1).tolist()
        if max(ranks) > limit:
            where, every = ranks.index(max(ranks)), self.trainer.log_every_n_steps
            raise Diverged(
                f"a chain of rank {where} was {max(ranks):.3g} nats a dimension from the data's mean energy, above the "
                f"limit of {limit:g}, at one of the optimizer steps {step - every + 1} to {step}: no sample of the "
                "model lies there; take a smaller step_size for the chains or a lower module.optimizer.lr, or raise "
                "the loss's limit"
            )

    def training_state(self) -> dict[str, Any]:
        """Every rank's chains, (ranks, n, ...)."""
        chains = self.loss.chains
        if chains is None:
            return {}
        gathered = self.trainer.strategy.all_gather(chains)
        return {"chains": gathered.view(self.trainer.world_size, *chains.shape).cpu()}

    def load_training_state(self, checkpoint: dict[str, Any]) -> None:
        """This rank's chains; ValueError where they were another number of ranks'."""
        chains = checkpoint.get("chains")
        if chains is None:
            return
        if len(chains) != self.trainer.world_size:
            raise ValueError(
                f"the checkpoint holds the persistent chains of {len(chains)} ranks, and this run has "
                f"{self.trainer.world_size}: resume with {len(chains)}, or start a new run from it with init="
            )
        self.loss.chains = torch.as_tensor(chains[self.trainer.global_rank]).to(self.device)
