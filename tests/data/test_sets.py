"""Each data set: what it holds, and that its splits never overlap."""

import struct
from urllib.error import URLError

import numpy
import pytest
import torch

from lightning_gen.data import CIFAR10, MNIST, Checkerboard, Digits, FashionMNIST, Gaussians, Moons, Npz, Patches, Rings
from lightning_gen.data import patches as patches_module
from tests.data.sets import ready

NAMES = ("train", "val", "test")


def everything(data, name) -> torch.Tensor:
    return data.split(name).take(slice(None))


def test_nothing_is_read_before_setup(monkeypatch):
    monkeypatch.setattr(Digits, "load", lambda self: pytest.fail("read"))
    data = Digits()
    assert data.shape == (1, 8, 8)
    with pytest.raises(RuntimeError, match="prepare_data.* and setup"):
        data.split("train")


def test_digits_are_those_of_scikit_learn_each_in_one_split():
    from sklearn.datasets import load_digits

    data = ready(Digits(seed=5))
    assert [len(data.split(name)) for name in NAMES] == [1300, 137, 360]
    mine = torch.cat([everything(data, name) for name in NAMES]).flatten(1)
    expected = torch.tensor(numpy.floor(load_digits().data * 255 / 16 + 0.5)).to(torch.uint8)
    assert sorted(map(tuple, mine.tolist())) == sorted(map(tuple, expected.tolist()))
    assert len(torch.unique(mine, dim=0)) == 1797
    sums = {tuple(image.tolist()): int(label) for image, label in zip(expected, load_digits().target, strict=True)}
    images, labels = everything(data, "test").flatten(1).tolist(), data.split("test").labels(slice(None)).tolist()
    assert [sums[tuple(image)] for image in images] == labels
    assert torch.bincount(torch.tensor(labels)).min() >= 14


def test_splits_do_not_move_with_the_seed_and_val_size_only_takes_from_train():
    first, second = ready(Digits(seed=0)), ready(Digits(seed=1, val_size=300))
    assert first.split("test").fingerprint() == second.split("test").fingerprint()
    assert ready(Digits(seed=2)).split("val").fingerprint() == first.split("val").fingerprint()
    assert len(second.split("train")) == 1137


@pytest.fixture
def numbered_photographs(monkeypatch):
    """Photographs whose pixels are their own address."""
    address = torch.arange(2 * 427 * 640).reshape(2, 427, 640)
    photos = torch.stack([address % 256, address // 256 % 256, address // 65536], dim=1).to(torch.uint8)
    monkeypatch.setattr(patches_module, "photographs", lambda: photos)


def addresses(images: torch.Tensor) -> torch.Tensor:
    low, middle, high = images.long().unbind(1)
    return low + 256 * middle + 65536 * high


@pytest.mark.parametrize("size", [5, 32, 64])
def test_patches_are_windows_and_no_pixel_is_in_two_splits(numbered_photographs, size):
    data = ready(Patches(n=3000, val_size=90, test_size=190, size=size, seed=7))
    pixels = {name: addresses(everything(data, name)) for name in NAMES}
    for name, count in zip(NAMES, (3000, 90, 190), strict=True):
        corner = pixels[name][:, :1, :1]
        window = 640 * torch.arange(size)[:, None] + torch.arange(size)
        assert torch.equal(pixels[name], corner + window)
        assert ((corner % 640) + size <= 640).all()
        assert len(torch.unique(corner)) == count
        assert torch.equal(data.split(name).labels(slice(None)), corner.flatten() // (427 * 640))
    owned = torch.zeros(3, 2 * 427 * 640, dtype=torch.long)
    for place, name in enumerate(NAMES):
        owned[place, pixels[name].flatten()] = 1
    assert owned.sum(1).min() > 0 and owned.sum(0).max() == 1


def test_every_position_of_a_split_can_be_drawn(numbered_photographs):
    data = ready(Patches(n=100, val_size=0, test_size=196, size=64))
    assert len(data.split("val")) == 0
    with pytest.raises(ValueError, match="test_size is 197, expected at most 196, .* 64x64 patches"):
        ready(Patches(n=100, val_size=0, test_size=197, size=64))
    with pytest.raises(ValueError, match="size is 65"):
        Patches(size=65)


def test_patches_move_with_the_seed_and_are_the_photographs_in_rgb():
    first, second = (ready(Patches(n=500, val_size=10, test_size=20, seed=seed)) for seed in (0, 1))
    assert first.split("train").fingerprint() != second.split("train").fingerprint()
    images, photo = everything(first, "train").float(), first.split("train").labels(slice(None))
    # The flower is orange before a teal ground, and there is white sky over China but none over the flower.
    mean = images.mean((2, 3))
    flower, china = mean[photo == 1], mean[photo == 0]
    assert (flower[:, 0] > flower[:, 2] + 80).float().mean() > 0.1
    assert (flower[:, 2] > flower[:, 0] + 40).float().mean() > 0.2
    assert (china.amin(1) > 210).float().mean() > 0.2 and (flower.amin(1) < 210).all()


def radius(points):
    return points.norm(dim=1)


def test_rings_have_their_radii():
    data = ready(Rings(noise=0.0))
    points, label = everything(data, "train"), data.split("train").labels(slice(None))
    assert torch.allclose(radius(points), (label + 1) / 2, atol=1e-6)
    assert (points.mean(0).abs() <= 4 * (0.9375 / 20_000) ** 0.5).all()


def test_moons_lie_on_their_half_circles_and_interleave():
    data = ready(Moons(noise=0.0))
    points, label = everything(data, "train"), data.split("train").labels(slice(None))
    centre = torch.tensor([[-0.5, -0.25], [0.5, 0.25]])[label]
    assert torch.allclose(radius(points - centre), torch.ones(20_000), atol=1e-6)
    assert ((points - centre)[:, 1] * (1 - 2 * label) >= -1e-6).all()
    assert points[label == 1][:, 1].max() > points[label == 0][:, 1].min()


def test_gaussians_have_their_means_and_their_noise():
    data = ready(Gaussians(noise=0.2))
    points, label = data.split("train").points(slice(None)), data.split("train").labels(slice(None))
    for k in range(8):
        own = points[label == k]
        angle = torch.tensor(torch.pi * k / 4)
        mean = 1.5 * torch.stack([angle.cos(), angle.sin()])
        assert ((own.mean(0) - mean).abs() <= 5 * 0.2 / len(own) ** 0.5).all()
        assert ((own.var(0) / 0.04 - 1).abs() <= 5 * (2 / len(own)) ** 0.5).all()


def test_the_checkerboard_is_uniform_on_its_dark_squares():
    points = everything(ready(Checkerboard()), "train")
    square = points.floor().long()
    assert (square.sum(1) % 2 == 0).all() and square.min() == -2 and square.max() == 1
    counts = torch.bincount(4 * (square[:, 0] + 2) + square[:, 1] + 2, minlength=16)
    assert (counts > 0).sum() == 8
    assert ((counts[counts > 0] - 2500).abs() <= 5 * 2500**0.5).all()
    inside = points - square
    assert ((inside.mean(0) - 0.5).abs() <= 4 * (1 / 12 / 20_000) ** 0.5).all()


@pytest.mark.parametrize("toy", [Rings, Moons, Gaussians, Checkerboard])
def test_toy_splits_are_different_draws_and_x_is_the_point_itself(toy):
    data = ready(toy(n=500, val_size=300, test_size=300, seed=2))
    assert data.value_range is None and data.shape == (2,)
    drawn = torch.cat([everything(data, name) for name in NAMES])
    assert len(torch.unique(drawn, dim=0)) == 1100
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(data.decode(batch["x"]), data.split("train").points(batch["index"]))
    assert not torch.equal(drawn[:500], everything(ready(toy(n=500, seed=3)), "train"))
    with pytest.raises(ValueError, match="noise is -1"):
        toy(noise=-1)


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def write_mnist(root, folder="MNIST", train=40, test=10):
    """Files as torchvision keeps them, image i filled with the number i, label i mod 10; test images from 100 on."""
    for part, first, count in (("train", 0, train), ("t10k", 100, test)):
        index = numpy.arange(first, first + count, dtype=numpy.uint8)
        images = numpy.broadcast_to(index[:, None, None], (count, 28, 28))
        write_idx(root / folder / "raw" / f"{part}-images-idx3-ubyte", numpy.ascontiguousarray(images))
        write_idx(root / folder / "raw" / f"{part}-labels-idx1-ubyte", index % 10)


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_mnist_holds_out_of_train_only_and_the_same_for_every_seed(tmp_path, kind):
    write_mnist(tmp_path, kind.folder)
    data, other = (ready(kind(str(tmp_path), val_size=15, seed=seed)) for seed in (0, 1))
    numbers = {name: everything(data, name)[:, 0, 0, 0].tolist() for name in NAMES}
    assert sorted(numbers["train"] + numbers["val"]) == list(range(40))
    assert len(numbers["val"]) == 15 and numbers["test"] == list(range(100, 110))
    assert [data.split(name).fingerprint() for name in NAMES] == [other.split(name).fingerprint() for name in NAMES]
    assert data.split("val").labels(slice(None)).tolist() == [number % 10 for number in numbers["val"]]


def test_pad_puts_black_around_the_image(tmp_path):
    write_mnist(tmp_path)
    data = MNIST(str(tmp_path), val_size=0, pad=2)
    assert data.shape == (1, 32, 32)
    images = everything(ready(data), "test")
    assert images.shape[1:] == data.shape
    assert (images[:, 0, 2:-2, 2:-2] >= 100).all()
    assert images.long().sum() == images[:, :, 2:-2, 2:-2].long().sum()


def test_missing_data_is_one_sentence_with_folder_and_remedy(tmp_path, monkeypatch):
    from torchvision import datasets

    def no_network(self):
        (tmp_path / "half").touch()
        raise URLError("no network")

    with pytest.raises(FileNotFoundError, match=f"MNIST is not in {tmp_path} and download is false: .*download=true"):
        MNIST(str(tmp_path), download=False).prepare_data()
    monkeypatch.setattr(datasets.MNIST, "download", no_network)
    with pytest.raises(FileNotFoundError, match=f"not in {tmp_path} .*no network.*copy {tmp_path}/MNIST"):
        MNIST(str(tmp_path)).prepare_data()
    assert [path.name for path in tmp_path.iterdir()] == ["half"]
    write_mnist(tmp_path)
    (tmp_path / "MNIST/raw/t10k-images-idx3-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/MNIST is incomplete or damaged: delete"):
        MNIST(str(tmp_path)).prepare_data()


def test_a_truncated_file_is_named_as_damaged(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/MNIST is incomplete or damaged: delete"):
        MNIST(str(tmp_path)).prepare_data()


def test_a_download_happens_once_and_appears_whole(tmp_path, monkeypatch):
    from torchvision import datasets

    calls = []

    def download(self):
        assert not (tmp_path / "MNIST").exists()
        calls.append(self.root)
        write_mnist(type(tmp_path)(self.root))

    monkeypatch.setattr(datasets.MNIST, "download", download)
    for _ in range(2):
        ready(MNIST(str(tmp_path), val_size=5))
    assert len(set(calls)) == 1 and str(calls[0]) != str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["MNIST"]


def test_cifar_trains_on_all_of_train_by_default(monkeypatch, tmp_path):
    from torchvision import datasets

    class Fake:
        def __init__(self, root, train, download):
            self.data = numpy.random.default_rng(train).integers(0, 256, (50, 32, 32, 3), dtype=numpy.uint8)
            self.targets = [index % 10 for index in range(50)]

    monkeypatch.setattr(datasets, "CIFAR10", Fake)
    data = ready(CIFAR10(str(tmp_path)))
    assert torch.equal(everything(data, "train"), torch.tensor(Fake("", True, False).data).permute(0, 3, 1, 2))
    assert data.val_dataloader() == [] and len(data.test_dataloader()) == 1
    with pytest.raises(ValueError, match="val_size is 50000"):
        CIFAR10(val_size=50_000)


def arrays(**changes):
    number = numpy.arange(30, dtype=numpy.uint8)
    known = {
        "x_train": numpy.broadcast_to(number[:, None, None, None], (30, 6, 5, 3)),
        "y_train": number % 4,
        "x_test": numpy.full((8, 6, 5, 3), 200, dtype=numpy.uint8),
        "y_test": numpy.full((8, 1), 6),
    }
    return {key: value for key, value in (known | changes).items() if value is not None}


def test_npz_reads_grey_and_colour_with_and_without_labels(tmp_path):
    numpy.savez(tmp_path / "own.npz", **arrays())
    data = ready(Npz(str(tmp_path / "own.npz"), val_size=10))
    assert (data.name, data.shape, data.classes) == ("own", (3, 6, 5), 7)
    numbers = [everything(data, name)[:, 0, 0, 0] for name in ("train", "val")]
    assert sorted(torch.cat(numbers).tolist()) == list(range(30)) and len(numbers[1]) == 10
    assert torch.equal(data.split("val").labels(slice(None)), numbers[1].long() % 4)
    grey = {"x_train": arrays()["x_train"][..., 0], "x_test": arrays()["x_test"][..., 0]}
    numpy.savez(tmp_path / "grey.npz", **grey)
    data = ready(Npz(str(tmp_path / "grey.npz"), batch_size=10))
    assert data.shape == (1, 6, 5) and data.classes is None
    assert set(next(iter(data.train_dataloader()))) == {"x", "index"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_test": None}, "holds x_train.*, expected x_train and x_test.*: write"),
        ({"y_test": None}, "both or neither: write"),
        ({"x_train": numpy.zeros((30, 6, 5, 3))}, r"x_train is float64 \(30, 6, 5, 3\), expected .*uint8.*: convert"),
        ({"x_train": numpy.zeros((30, 3, 6, 5), dtype=numpy.uint8)}, r"is uint8 \(30, 3, 6, 5\), expected .*: convert"),
        ({"x_test": numpy.zeros((8, 6, 6, 3), dtype=numpy.uint8)}, r"5\) and \(3, 6, 6\), expected one shape: write"),
        ({"y_train": numpy.zeros(29, dtype=int)}, r"y_train is int64 \(29,\), expected 30 whole numbers >= 0: write"),
        ({"y_train": numpy.zeros(30)}, "y_train is float64 .*, expected 30 whole numbers >= 0: write"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, changes, words):
    numpy.savez(tmp_path / "own.npz", **arrays(**changes))
    with pytest.raises(ValueError, match=words):
        ready(Npz(str(tmp_path / "own.npz")))


def test_a_missing_or_torn_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="own.npz is not a file: set data.path"):
        Npz(str(tmp_path / "own.npz")).prepare_data()
    numpy.savez(tmp_path / "own.npz", **arrays())
    (tmp_path / "own.npz").write_bytes((tmp_path / "own.npz").read_bytes()[:-50])
    with pytest.raises(ValueError, match="own.npz cannot be read as an .npz"):
        Npz(str(tmp_path / "own.npz")).setup()
    numpy.savez(tmp_path / "own.npz", **arrays())
    with pytest.raises(ValueError, match="val_size is 30, expected 0 to 29"):
        ready(Npz(str(tmp_path / "own.npz"), val_size=30))


def test_a_trainer_is_refused_an_empty_test_split():
    """Trap: Lightning's test loop over nothing runs no hook, and the evaluation would be skipped in silence."""
    data = Rings(batch_size=4, n=40, val_size=4, test_size=4)
    data.setup("fit")
    data._splits = {**data._splits, "test": data.split("test").take(torch.arange(0))}
    with pytest.raises(ValueError, match="the test split of rings is empty.*set data.test_size"):
        data.setup("test")
