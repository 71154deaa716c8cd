"""stage=compress: images as a file of about -log2 p bits; stage=decompress: the images of such a file."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gen.bar import bar
from lightning_gen.config.instantiate import refusing
from lightning_gen.errors import ConfigError, Unreadable
from lightning_gen.runs.folder import list_files

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lightning_gen.compression import Code, Header, RangeCoder
    from lightning_gen.stages.session import Session


def compress(session: "Session") -> None:
    """Write the file, read it back, and show its size beside other formats; of a density its bound, and no file."""
    from lightning_gen.compression import RangeCoder, format_sizes
    from lightning_gen.models import fits
    from lightning_gen.results.code_lengths import CodeLengths
    from lightning_gen.results.store import write_atomically
    from lightning_gen.results.tables import markdown, text

    data, model = session.data, session.module.averaged.eval()
    code = refusing(code_of, model)
    name, rows = refusing(images_of, session)
    refusing(check_levels, data, rows)
    x = data.encode(rows).to(next(model.parameters()).dtype)
    images = rows.permute(0, 2, 3, 1).numpy()
    files, sizes = [], {"8 bits": images.size, **format_sizes(images, model.levels)}
    folder, label = session.folder.path / "compressed", "bound on -log2 p"
    if fits(RangeCoder, model):
        path, content = coded(session, code, folder / f"{name}.bits", images, x)
        sizes |= {"the file": path.stat().st_size, "without its header": len(content)}
        files.append(path)
        label = "-log2 p"
    else:
        print(f"{type(model).__name__} has a density, of which no file can be written: its bits are a bound")
    bits = code.length(model, x, session.config["seed"])
    lengths = CodeLengths(f"{data.name}, {name}", len(rows), images[0].size, model.levels, sizes, label, bits)
    print(text(lengths.table()))
    for file, content in (("md", markdown(lengths.table()).encode()), ("png", lengths.picture())):
        files.append(write_atomically(folder / f"{name}.{file}", content))
    list_files(files)


def code_of(model: Any) -> "Code":
    """The range coder for a model that has probabilities, the bound for a density of dequantised images."""
    from lightning_gen.compression import DequantisedBound, RangeCoder
    from lightning_gen.models import fits

    bound = not fits(RangeCoder, model) and fits(DequantisedBound, model)
    code = DequantisedBound() if bound else RangeCoder()
    code.check(model)
    return code


def images_of(session: "Session") -> "tuple[str, Tensor]":
    """The name and the uint8 images (N, C, H, W) of `samples`, or of the split."""
    from lightning_gen.data.samples import read_samples

    data, samples, split = session.data, session.config["samples"], session.config["split"]
    if samples:
        path = Path(samples).expanduser()
        given = read_samples(path, data.shape, data.name)
        print(given.understood)
        name, rows = path.stem, given.rows
    else:
        data.prepare_data()
        data.setup()
        name, rows = split, data.split(split).images(slice(None))
    if not len(rows):
        found = f"samples={samples} holds no image" if samples else f"split={split} of {data.name} is empty"
        raise ValueError(f"{found}, expected one or more: write another {'samples=' if samples else 'split='}")
    return name, rows.cpu()


def check_levels(data: Any, rows: "Tensor") -> None:
    """ValueError for uint8 images (N, C, H, W) with a value that is none of the data's levels."""
    import torch

    levels = (255 * torch.arange(data.levels, dtype=torch.float64) / (data.levels - 1)).round().to(rows.dtype)
    wrong = (~torch.isin(rows, levels)).nonzero().tolist()
    if wrong:
        index, value = wrong[0][0], int(rows[tuple(wrong[0])])
        known = ", ".join(map(str, levels[:4].tolist()))
        raise ValueError(
            f"image {index} has the value {value}, expected one of the {data.levels} levels of {data.name} ({known}, "
            "...), which the model knows: give images of these levels"
        )


def coded(session: "Session", code: "RangeCoder", path: Path, images: "np.ndarray", x: "Tensor") -> tuple[Path, bytes]:
    """Write the file of images (N, H, W, C), which are x to the model, and read it back; its path, and its bits."""
    from lightning_gen.compression import Header, arithmetic, image_digest, model_digest, write_code

    model = session.module.averaged
    digest = model_digest(model, session.config["net"])
    header = Header(digest, len(x), code.batch, images=image_digest(images), **arithmetic(model))
    with bar("coding", work(header, x[0].numel()), "value") as shown:
        bits = code.encode(model, x, shown.update)
    write_code(path, header, bits)
    read(session, path)
    return path, bits


def read(session: "Session", path: Path) -> "np.ndarray":
    """The images (N, H, W, C) of a file of this run; ConfigError for another one, Unreadable for other images."""
    from lightning_gen.compression import RangeCoder, arithmetic, image_digest, model_digest, read_code, unlike
    from lightning_gen.models import fits
    from lightning_gen.results.drawing import to_uint8

    module = session.module
    model = module.averaged.eval()
    if not fits(RangeCoder, model):
        raise ConfigError(
            [
                f"stage is decompress for {type(module).__name__}, which has no probabilities of whole levels and "
                "so no code: name the run of an autoregressive model that wrote the file"
            ]
        )
    header, bits = refusing(read_code, path)
    faults = unlike(header, path, model_digest(model, session.config["net"]), arithmetic(model))
    if faults:
        raise ConfigError(faults)
    with bar("decoding", work(header, math.prod(module.shape)), "value") as shown:
        x = RangeCoder(header.batch).decode(model, bits, header.n, shown.update)
    images = to_uint8(module.decode(x))
    if image_digest(images) != header.images:
        raise Unreadable(
            f"{path} gives other images than were compressed, for sums are rounded otherwise here: read it on the "
            "machine that wrote it, or compress them again"
        )
    return images


def work(header: "Header", dim: int) -> int:
    """Values of all batches."""
    return dim * -(-header.n // header.batch)


def decompress(session: "Session") -> None:
    """Write the images of the file as an archive and a picture."""
    import numpy as np

    from lightning_gen.results.drawing import grid, save_png
    from lightning_gen.results.store import write_atomically

    path = Path(session.config["file"]).expanduser()
    images, buffer = read(session, path), io.BytesIO()
    np.savez_compressed(buffer, images=images)
    folder = session.folder.path / "compressed"
    archive = write_atomically(folder / f"{path.stem}-images.npz", buffer.getvalue())
    list_files([save_png(folder / f"{path.stem}-images.png", grid(images[:64])), archive])
