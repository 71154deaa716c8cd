"""Generative models under PyTorch Lightning and Hydra: trained, sampled and measured under one roof."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_gen.convert.hub import push_to_hub
    from lightning_gen.convert.save import save
    from lightning_gen.questions import Questions as ask
    from lightning_gen.runs.load import load

__version__ = "0.1.0"
__all__ = ["__version__", "ask", "load", "push_to_hub", "save"]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # for TAB, before they are loaded


def __getattr__(name: str) -> Any:
    # Lazily: a config error must not wait for torch.
    if name == "load":
        from lightning_gen.runs.load import load

        return load
    if name == "save":
        from lightning_gen.convert.save import save

        return save
    if name == "push_to_hub":
        from lightning_gen.convert.hub import push_to_hub

        return push_to_hub
    if name == "ask":
        from lightning_gen.questions import Questions

        return Questions
    raise AttributeError(f"module lightning_gen has no attribute {name}")
