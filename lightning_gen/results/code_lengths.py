"""Images as bits: the table and the picture of code lengths beside common formats."""

from collections.abc import Mapping
from dataclasses import dataclass

from lightning_gen.results.pictures.figures import light_frame, new_figure, png
from lightning_gen.results.tables import COLOURS, Block, Cell, Row, Table


@dataclass
class CodeLengths:
    """How many bits n images need.

    Args:
        name: of the images.
        n: number of images.
        dim: values of an image.
        levels: K, the values that each may have.
        bytes: of each format, and of the model's file where there is one.
        model: what the model's bits are: -log2 p, or a bound.
        bits: those of the model.
    """

    name: str
    n: int
    dim: int
    levels: int
    bytes: Mapping[str, int]
    model: str
    bits: float

    def per_dim(self) -> dict[str, float]:
        """Bits a value of an image by each."""
        each = {label: 8 * size for label, size in self.bytes.items()} | {self.model: self.bits}
        return {label: bits / self.n / self.dim for label, bits in each.items()}

    def table(self) -> Table:
        """A row each: bytes, bits an image and bits/dim."""
        rows = [
            Row(None, label, [Cell(bits * self.n * self.dim / 8), Cell(bits * self.dim), Cell(bits)])
            for label, bits in self.per_dim().items()
        ]
        about = f"{self.n:,} images of {self.dim:,} values out of {self.levels}; PNG and WebP: one sheet of all images."
        return Table(f"Compression of {self.name}", about, ["bytes", "bits an image", "bits/dim"], [Block("", rows)])

    def picture(self) -> bytes:
        """A bar each, as a PNG."""
        each = self.per_dim()
        figure = new_figure(7, 0.8 + 0.36 * len(each), dpi=120)
        axes = figure.add_subplot()
        bars = axes.barh([*each], [*each.values()], color=COLOURS[0])
        bars[-1].set_color(COLOURS[1])
        axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel("bits/dim")
        axes.set_title(f"{self.name}: {self.n:,} images", fontsize=9)
        light_frame(axes)
        return png(figure)
