"""TensorBoard as a mirror of the record."""

from importlib.util import find_spec

from pytorch_lightning.loggers import TensorBoardLogger


class TensorBoard(TensorBoardLogger):
    """Numbers and pictures in <folder>/tensorboard, which `tensorboard --logdir <folder>` shows."""

    def __init__(self, folder: str = ".") -> None:
        if find_spec("tensorboard") is None:
            raise ValueError("logger=tensorboard needs the package tensorboard: install it, or take logger=none")
        super().__init__(save_dir=folder, name="tensorboard", version="", default_hp_metric=False)
