"""Which families can train with their weights in shards over the processes."""

from lightning_gen.families.base import GenerativeModule


def why_unshardable(module: GenerativeModule) -> str | None:
    """Why a family cannot train with weights in shards, and the remedy; None where it can."""
    for key, option in {"compile": module.compiled, "checkpointing": module.checkpointing}.items():
        if option:
            return f"module.{key} is true, expected false: write module.{key}=false"
    reason = _why_whole(module)
    return reason and f"{reason}: write trainer=ddp"


def _why_whole(module: GenerativeModule) -> str | None:
    """Why the weights have to be whole: in shards they are so in a network's forward and backward pass alone."""
    if len(players := module.players()) > 1:
        return f"{type(module).__name__} has {len(players)} players"
    if module.autoencoder is not None:
        return f"{type(module).__name__} has an autoencoder beside its model"
    if type(module).objective is not GenerativeModule.objective:
        return f"{type(module).__name__} has an objective of its own"
    for role, part in (("model", module.model), ("loss", module.loss)):
        if part.unshardable is not None:
            return f"the {role} {type(part).__name__} {part.unshardable}"
    networks = [parameter for net in module.model.networks() for parameter in net.parameters()]
    known = {id(parameter) for parameter in networks}
    if any(id(parameter) not in known for parameter in players[0].parameters):
        return "parameters are trained that no network of the model has"
    if len(known) < sum(1 for net in module.model.networks() for _ in net.named_parameters(remove_duplicate=False)):
        return "two layers of the network have the same parameter"
    if any(not parameter.ndim for parameter in networks):
        return "the network has a parameter that is a single number"
    return None
