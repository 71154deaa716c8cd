"""stage=sample: n samples as an archive and a picture."""

from typing import TYPE_CHECKING

from lightning_gen.bar import bar
from lightning_gen.runs.folder import list_files

if TYPE_CHECKING:
    from lightning_gen.stages.session import Session


def sample(session: "Session") -> None:
    """Draw n samples with progress, and write grid and archive."""
    import torch

    from lightning_gen.results.drawing import check_finite, save_samples, to_uint8

    n, seed, label = (session.config.get(key) for key in ("n", "seed", "label"))
    trainer, module = session.trainer, session.module.to(session.trainer.strategy.root_device)
    with trainer.precision_plugin.forward_context(), bar("sampling", module.work(n), "step") as shown:
        x = torch.cat([x for _, x in module.blocks(n, seed, progress=shown.update, label=label)])
    check_finite(x, "samples")
    images = to_uint8(module.decode(x)) if module.value_range is not None else x.cpu().numpy()
    name = f"{module.sampler.word}-seed{seed}-n{n}" + ("" if label is None else f"-label{label}")
    list_files(save_samples(session.folder.path, name, images, seed, str(module.sampler.describe()), keep=True))
