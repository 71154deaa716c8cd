"""A folder of images, in memory and streamed."""

import io
import os
import shutil
import struct
import zlib

import numpy
import pytest
import torch
from PIL import Image

from lightning_gen.data import Folder, files
from lightning_gen.data.image_files import image_files
from lightning_gen.errors import Unreadable
from tests.data.sets import ready

NAMES = ("train", "val", "test")


def picture(number: int, width: int = 24, height: int = 16) -> Image.Image:
    """A gradient that no other number has."""
    y, x = numpy.mgrid[:height, :width]
    return Image.fromarray(numpy.stack([x * 9, y * 13, 0 * x + number], axis=-1).astype(numpy.uint8))


def png(number: int) -> bytes:
    """The same as a file's content."""
    stream = io.BytesIO()
    picture(number).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def classes(tmp_path):
    """40 PNG in two nested classes, with files and folders that are no images."""
    for number in range(40):
        folder = tmp_path / ("cats" if number % 4 else "birds") / f"set{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"{number:02}.{'PNG' if number % 3 else 'png'}")
    (tmp_path / "cats" / "notes.txt").write_text("no image")
    (tmp_path / "cats" / "._00.png").write_bytes(b"no image")
    return tmp_path


def numbers(data, name) -> list[int]:
    return data.split(name).images(slice(None))[:, 2, 0, 0].tolist()


@pytest.mark.parametrize("limit", [0, 2**20])
def test_every_image_is_in_one_split_with_its_class(classes, limit):
    data = ready(Folder(str(classes), val_size=5, test_size=0.2, memory_limit=limit, workers=0))
    assert data.shape == (3, 16, 24) and data.classes == 2
    assert [len(data.split(name)) for name in NAMES] == [27, 5, 8]
    assert sorted(number for name in NAMES for number in numbers(data, name)) == list(range(40))
    for name in NAMES:
        assert data.split(name).labels(slice(None)).tolist() == [int(number % 4 > 0) for number in numbers(data, name)]


def test_streamed_batches_equal_those_in_memory(classes):
    options = {"batch_size": 6, "size": 8, "flip": True, "seed": 4}
    kept = ready(Folder(str(classes), **options))
    streamed = ready(Folder(str(classes), memory_limit=0, workers=2, **options))
    assert type(kept.split("train")) is not type(streamed.split("train"))
    assert kept.split("train").fingerprint() == streamed.split("train").fingerprint()
    before = torch.get_rng_state()
    for make in ("train_dataloader", "train_dataloader", "val_dataloader", "test_dataloader"):
        pairs = list(zip(getattr(kept, make)(), getattr(streamed, make)(), strict=True))
        assert pairs
        for left, right in pairs:
            assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)
    assert torch.equal(before, torch.get_rng_state())
    whole, resumed = kept.train_dataloader(), streamed.train_dataloader()
    rest = list(whole)[2:]
    resumed.load_state_dict(whole.state_dict() | {"epoch": 0, "batch": 2})
    for left, right in zip(rest, resumed, strict=True):
        assert torch.equal(left["x"], right["x"]) and torch.equal(left["index"], right["index"])


@pytest.mark.parametrize("limit", [0, 2**20])
def test_a_damaged_file_is_named(classes, limit):
    path = next(classes.rglob("17.*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"^{path} cannot be read, it is damaged .*: replace or delete it$"):
        list(ready(Folder(str(classes), batch_size=4, memory_limit=limit, val_size=0, test_size=0)).train_dataloader())


def test_a_flat_folder_has_no_labels_and_reads_every_format(tmp_path):
    for number, suffix in enumerate(("png", "jpg", "JPEG", "webp", "WebP")):
        picture(40 * number).save(tmp_path / f"{number}.{suffix}", quality=95)
    data = ready(Folder(str(tmp_path), batch_size=5, val_size=0, test_size=0))
    assert data.classes is None and set(next(iter(data.train_dataloader()))) == {"x", "index"}
    expected = torch.stack([torch.from_numpy(numpy.array(picture(40 * number))) for number in range(5)])
    difference = data.split("train").images(slice(None)).permute(0, 2, 3, 1).int() - expected.int()
    assert difference[0].abs().max() == 0
    assert difference.abs().float().mean() < 4


def one(folder, image, **options) -> torch.Tensor:
    """The image as the data set reads it."""
    image.save(folder / "one.png")
    return ready(Folder(str(folder), val_size=0, test_size=0, **options)).split("train").images(slice(None))[0]


def test_crop_takes_the_centre_of_the_shorter_side(tmp_path):
    wide = Image.new("RGB", (40, 16))
    wide.paste((255, 0, 0), (12, 0, 28, 16))
    image = one(tmp_path, wide, size=16)
    assert image.shape == (3, 16, 16)
    assert (image[0] == 255).all() and (image[1:] == 0).all()
    assert one(tmp_path, wide, size=8, fit=None).shape == (3, 8, 20)
    assert one(tmp_path, wide).shape == (3, 16, 40)
    assert one(tmp_path, wide, size=32).shape == (3, 32, 32)


def test_padding_keeps_the_whole_picture_in_the_middle(tmp_path):
    image = one(tmp_path, Image.new("RGB", (40, 20), (255, 0, 0)), size=16, fit="pad")
    assert image.shape == (3, 16, 16) and (image[0] == 255).all()
    assert image[1].float().mean(1).tolist() == [255] * 4 + [0] * 8 + [255] * 4


@pytest.mark.parametrize("limit", [0, 2**20])
def test_the_splits_of_the_person_are_the_splits(tmp_path, limit):
    for number in range(40):
        split = "train" if number < 30 else "test"
        folder = tmp_path / split / ("cats" if number % 3 else "birds")
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"{number}.png")
    data = ready(Folder(str(tmp_path), val_size=3, memory_limit=limit, workers=0))
    assert sorted(numbers(data, "test")) == list(range(30, 40)) and data.classes == 2
    assert sorted(numbers(data, "train") + numbers(data, "val")) == list(range(30)) and len(data.split("val")) == 3
    for name in NAMES:
        assert data.split(name).labels(slice(None)).tolist() == [int(number % 3 > 0) for number in numbers(data, name)]
    (tmp_path / "Valid" / "cats").mkdir(parents=True)
    picture(50).save(tmp_path / "Valid" / "cats" / "50.png")
    data = ready(Folder(str(tmp_path), memory_limit=limit, workers=0))
    assert [len(data.split(name)) for name in NAMES] == [30, 1, 10] and numbers(data, "val") == [50]
    assert "30 train, 1 val, 10 test (val and test as the data have them, whatever" in data.introduced()
    (tmp_path / "Valid" / "cats").rename(tmp_path / "Valid" / "dogs")
    with pytest.raises(ValueError, match="val holds the classes dogs, expected those of train, birds, cats"):
        ready(Folder(str(tmp_path)))
    (tmp_path / "Valid" / "dogs" / "50.png").rename(tmp_path / "Valid" / "50.png")
    (tmp_path / "Valid" / "dogs").rmdir()
    with pytest.raises(ValueError, match="val lies flat, expected class folders"):
        ready(Folder(str(tmp_path)))


def test_what_is_auto_is_chosen_from_the_pictures(tmp_path):
    auto = {"size": "auto", "mode": "auto", "batch_size": "auto"}
    for number in range(90):
        picture(number, width=20 + number % 7, height=40).convert("L").save(tmp_path / f"{number}.png")
    data = Folder(str(tmp_path), val_size=5, test_size=5, **auto)
    assert data.chosen() == {"size": 16, "mode": "L", "batch_size": 8} and data.shape == (1, 16, 16)
    assert "90 grey pictures of 20x40 to 26x40 pixels" in str(data.survey)
    assert len(data.train_dataloader()) == 10
    picture(91, 100, 200).save(tmp_path / "91.png")
    assert Folder(str(tmp_path), **auto | {"size": 8}).chosen() == {"mode": "RGB", "batch_size": 8}
    assert Folder(str(tmp_path), size=8).chosen() == {}
    told = Folder(str(tmp_path), size=8, batch_size="auto").introduced()
    assert "91 colour pictures" in told and "data.batch_size=8" in told


def test_a_class_may_be_called_train(tmp_path):
    for name in ("plane", "train"):
        (tmp_path / name).mkdir()
        picture(1).save(tmp_path / name / "1.png")
    assert ready(Folder(str(tmp_path), val_size=0, test_size=0)).classes == 2


def test_grey_and_colour_are_converted(tmp_path):
    colour = Image.new("RGB", (8, 8), (10, 200, 60))
    grey = one(tmp_path, colour, mode="L")
    assert grey.shape == (1, 8, 8)
    assert (grey - round(0.299 * 10 + 0.587 * 200 + 0.114 * 60)).abs().max() <= 1
    back = one(tmp_path, colour.convert("L"))
    assert back.shape == (3, 8, 8) and torch.equal(back[0], back[2])


def test_transparent_pixels_are_white_and_palettes_are_looked_up(tmp_path):
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 8, 4))
    assert one(tmp_path, image)[:, 7, 0].tolist() == [255, 255, 255]
    assert one(tmp_path, image)[:, 0, 0].tolist() == [255, 0, 0]
    assert one(tmp_path, image.convert("RGB").convert("P"))[:, 0, 0].tolist() == [255, 0, 0]


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path):
    image = picture(3)
    turned = image.getexif()
    turned[0x0112] = 6
    image.save(tmp_path / "one.png", exif=turned)
    data = ready(Folder(str(tmp_path), val_size=0, test_size=0))
    expected = torch.from_numpy(numpy.array(image.rotate(-90, expand=True))).permute(2, 0, 1)
    assert torch.equal(data.split("train").images(slice(None))[0], expected)


@pytest.mark.parametrize("limit", [0, 2**20])
@pytest.mark.parametrize("options", [{}, {"size": 8, "fit": None}])
def test_unequal_sizes_are_refused_with_the_remedy(classes, options, limit):
    picture(50, width=30).save(classes / "cats" / "odd.png")
    with pytest.raises(ValueError, match="odd.png is .* pixels, expected .*: set size, with fit=crop"):
        data = ready(Folder(str(classes), batch_size=4, val_size=0, test_size=0, memory_limit=limit, **options))
        list(data.train_dataloader())
    assert ready(Folder(str(classes), size=8)).shape == (3, 8, 8)


def test_a_folder_that_means_something_else_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="none is not a folder: set data.path"):
        ready(Folder(str(tmp_path / "none")))
    with pytest.raises(FileNotFoundError, match="holds no PNG, JPEG or WebP image: set data.path"):
        ready(Folder(str(tmp_path)))
    for name in ("val", "test"):
        (tmp_path / name).mkdir()
        picture(1).save(tmp_path / name / "1.png")
    with pytest.raises(ValueError, match="holds the splits test, val, expected train.*: mend the folders, or set"):
        ready(Folder(str(tmp_path)))
    (tmp_path / "val").rename(tmp_path / "cats")
    (tmp_path / "test").rename(tmp_path / "train")
    picture(1).save(tmp_path / "2.png")
    with pytest.raises(ValueError, match="2.png lies beside class folders"):
        ready(Folder(str(tmp_path)))
    picture(1).save(tmp_path / "3.bmp")
    with pytest.raises(ValueError, match="3.bmp is not PNG, JPEG or WebP: convert it"):
        ready(Folder(str(tmp_path)))


def test_sixteen_bits_are_refused_because_they_would_be_clipped(tmp_path):
    Image.fromarray(numpy.full((8, 8), 40_000, dtype=numpy.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="deep.png has more than 8 bits a channel"):
        ready(Folder(str(tmp_path)))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"mode": "RGBA"}, ValueError, "mode is 'RGBA'"),
        ({"size": 0}, ValueError, "size is 0"),
        ({"test_size": 1.0}, ValueError, r"test_size is 1\.0"),
        ({"val_size": "5"}, TypeError, "val_size"),
        ({"workers": -1}, ValueError, "workers"),
        ({"memory_limit": 1.5}, TypeError, "memory_limit"),
        ({"fit": 1}, (TypeError, ValueError), "fit is 1"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(options, error, words):
    with pytest.raises(error, match=words):
        Folder("nowhere", **options)


def test_shares_that_leave_nothing_to_train_on_are_refused(classes):
    with pytest.raises(ValueError, match="val_size is 10, expected 0 to 9 of the 10 samples"):
        ready(Folder(str(classes), test_size=30, val_size=10))


def test_folders_that_are_links_are_followed_and_loops_end(tmp_path):
    for folder in ("set/a", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(4):
            picture(number).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "a" / "loop").symlink_to(tmp_path / "set")
    data = Folder(str(tmp_path / "set"), batch_size=2)
    data.setup()
    assert data.classes == 2
    assert sum(len(data.split(name)) for name in ("train", "val", "test")) == 8


def test_every_damaged_file_is_named_up_to_ten(tmp_path):
    for number in range(30):
        picture(number).save(tmp_path / f"{number:02d}.png")
    for number in range(3, 15):
        (tmp_path / f"{number:02d}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"(?s)03\.png.*04\.png.*12\.png.*and 2 more files"):
        Folder(str(tmp_path), batch_size=2).setup()


def test_a_png_of_16_bits_a_channel_is_refused(tmp_path):
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + b"\x01\x02" * 3)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(ValueError, match=r"deep\.png has more than 8 bits a channel"):
        Folder(str(tmp_path), batch_size=1).setup()


def test_a_picture_of_too_many_pixels_is_called_large_not_damaged(tmp_path, monkeypatch):
    picture(0).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"big\.png is too large"):
        Folder(str(tmp_path), batch_size=1).setup()


def test_streamed_files_are_told_apart_by_content(classes, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def identity(folder=classes, cache=cache):
        data = Folder(str(folder), batch_size=2, memory_limit=0, val_size=0, test_size=0)
        data.setup()
        return data.split("train").identity(cache)

    first = identity()
    assert first.startswith("files:") and identity() == identity(cache=None) == first
    moved = shutil.copytree(classes, tmp_path_factory.mktemp("moved") / "elsewhere")
    assert identity(moved) == first, "where the files lie is free"
    path = next(classes.rglob("17.*"))
    content, times = path.read_bytes(), path.stat()
    flipped = bytes([*content[:-1], content[-1] ^ 1])
    path.write_bytes(flipped)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns and path.stat().st_size == times.st_size
    assert identity() == identity(cache=None) != first
    path.write_bytes(content)
    assert identity() == first
    path.rename(path.parents[2] / "cats" / path.name if "birds" in path.parts else classes / "birds" / path.name)
    assert identity() != first, "the labels are content"


def test_known_content_is_read_again_only_where_a_file_may_have_changed(classes, tmp_path_factory, monkeypatch):
    cache, paths, read = tmp_path_factory.mktemp("cache"), image_files(classes), []
    digest = files._digest
    monkeypatch.setattr(files, "_digest", lambda path: read.append(path) or digest(path))

    def count():
        read.clear()
        return files.content_digest(paths, None, cache), len(read)

    monkeypatch.setattr(files, "RECENT", 10**18)
    first, many = count()
    assert many == len(paths) == 40 and count() == (first, 40), "a file as new as this may keep its time stamps"
    monkeypatch.setattr(files, "RECENT", 0)
    assert count() == (first, 40) and count() == (first, 0)
    for file in cache.rglob("*/*"):
        file.write_text("no digest")
    assert count() == (first, 40), "a damaged cache is none"
    os.utime(paths[3])
    assert count() == (first, 40) and count() == (first, 0)
    paths[5].chmod(0)
    if not os.access(paths[5], os.R_OK):
        with pytest.raises(Unreadable, match=f"{paths[5]} cannot be opened"):
            count()


def test_where_no_file_can_be_read_all_are_named(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("junk")
    with pytest.raises(ValueError, match=r"a\.png cannot be read.*b\.png cannot be read"):
        Folder(str(tmp_path), batch_size=1).setup()


@pytest.mark.parametrize("error", [ValueError("a"), IndexError("b"), zlib.error("c"), MemoryError("d"), OSError("e")])
def test_whatever_a_reader_raises_names_the_file(tmp_path, monkeypatch, error):
    picture(0).save(tmp_path / "a.png")

    def read(*_, **__):
        raise error

    monkeypatch.setattr(Image, "open", read)
    with pytest.raises(ValueError, match=rf"a\.png .*{error}"):
        Folder(str(tmp_path), batch_size=1).setup()


def test_a_class_does_not_vanish_without_a_word(tmp_path):
    (tmp_path / "a").mkdir()
    picture(0).save(tmp_path / "a" / "0.png")
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="b is a link to nothing"):
        Folder(str(tmp_path), batch_size=1).setup()
    (tmp_path / "b").unlink()
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(ValueError, match="b holds no PNG"):
        Folder(str(tmp_path), batch_size=1).setup()
