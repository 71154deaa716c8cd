"""Tar shards of WebDataset's layout, which the tests write."""

import io
import tarfile

import pytest
import torch

from lightning_gen.data import WebDataset
from lightning_gen.data.tar_shards import samples
from tests.data.sets import ready
from tests.data.test_folder import NAMES, numbers, picture, png


def shard(path, files):
    """A tar of (name, content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(number, label=True):
    """The files of a sample."""
    texts = [(f"d/{number:04}.cls", b"%d\n" % (number % 3))] if label else []
    return [(f"d/{number:04}.png", png(number)), *texts, (f"d/{number:04}.json", b"{}")]


@pytest.fixture
def shards(tmp_path):
    """Shards of 7, 13 and 20 samples, the last with a file that is no sample."""
    folder = tmp_path / "set"
    for name, rows in {"000": range(7), "001": range(7, 20), "002": range(20, 40)}.items():
        shard(folder / f"{name}.tar", [file for number in rows for file in sample(number)])
    with tarfile.open(folder / "002.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("README"))
    return folder


@pytest.mark.parametrize("limit", [0, 2**20])
def test_every_sample_is_in_one_split_with_its_class(shards, limit):
    data = ready(WebDataset(str(shards), val_size=5, test_size=0.2, memory_limit=limit, workers=0))
    assert data.name == "set" and data.shape == (3, 16, 24) and data.classes == 3
    assert [len(data.split(name)) for name in NAMES] == [27, 5, 8]
    assert sorted(number for name in NAMES for number in numbers(data, name)) == list(range(40))
    for name in NAMES:
        assert data.split(name).labels(slice(None)).tolist() == [number % 3 for number in numbers(data, name)]


@pytest.mark.parametrize("names", [("a-train-00.tar", "a-val-00.tar"), ("train/00.tar", "validation/00.tar")])
def test_splits_are_told_by_words_of_the_names(tmp_path, names):
    shard(tmp_path / names[0], [file for number in range(20) for file in sample(number)])
    shard(tmp_path / names[1], [file for number in range(20, 26) for file in sample(number)])
    data = ready(WebDataset(str(tmp_path), test_size=4))
    assert numbers(data, "val") == list(range(20, 26)) and len(data.split("test")) == 4
    assert sorted(numbers(data, "train") + numbers(data, "test")) == list(range(20))
    shard(tmp_path / "more.tar", sample(30))
    with pytest.raises(ValueError, match="more.tar names no split.*: rename or move it"):
        ready(WebDataset(str(tmp_path)))
    (tmp_path / "more.tar").unlink()
    (tmp_path / names[0]).unlink()
    with pytest.raises(ValueError, match="holds shards of val alone, expected train"):
        ready(WebDataset(str(tmp_path)))


@pytest.mark.parametrize("world", [1, 2])
def test_a_killed_job_continues_with_what_it_had_not_seen(shards, world):
    """Two workers stream the shards; the global batches are those of one rank, whatever shard a sample is in."""
    options = {"batch_size": 6, "size": 8, "flip": True, "seed": 4, "workers": 2}

    def loaders():
        data = ready(WebDataset(str(shards), memory_limit=0, **options))
        found = []
        for rank in range(world):
            data._rank_and_device = lambda rank=rank: (rank, world, torch.device("cpu"))
            found.append(data.train_dataloader())
        return found

    def seen(loader, epochs=2):
        return [(batch["index"], batch["x"], batch["label"]) for _ in range(epochs) for batch in loader]

    kept = ready(WebDataset(str(shards), **options)).train_dataloader()
    whole = [seen(loader) for loader in loaders()]
    for batches, expected in zip(zip(*whole, strict=True), seen(kept), strict=True):
        assert torch.equal(torch.cat([batch[0] for batch in batches]), expected[0])
    for rank, loader in enumerate(loaders()):
        iterator = iter(loader)
        for _ in range(3):
            next(iterator)
        state = loader.state_dict()
        resumed = loaders()[rank]
        resumed.load_state_dict(state)
        rest = seen(resumed)[: len(whole[rank]) - 3]
        for left, right in zip(whole[rank][3:], rest, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_the_fingerprint_is_of_the_images_and_labels_not_of_the_shards(shards, tmp_path):
    def identity(folder):
        data = WebDataset(str(folder), batch_size=2, memory_limit=0, val_size=0, test_size=0)
        data.setup()
        return data.split("train").identity(tmp_path / "cache")

    first = identity(shards)
    assert first == identity(shards)
    other = tmp_path / "other"
    shard(other / "0.tar", [file for number in range(40) for file in sample(number)])
    assert identity(other) == first
    shard(other / "0.tar", [file for number in range(40) for file in sample((number + 1) % 40)])
    assert identity(other) != first


def test_images_and_labels_may_have_other_endings(tmp_path):
    files = [(f"{n}.{end}", png(10 * n + i)) for n in range(9) for i, end in enumerate(("left.png", "right.PNG"))]
    files = sorted(files + [(f"{n}.id", b"%d" % n) for n in range(9)])
    shard(tmp_path / "0.tar", files)
    data = ready(WebDataset(str(tmp_path), image="right.png", label="id", val_size=0, test_size=0))
    assert numbers(data, "train") == [10 * n + 1 for n in range(9)] and data.classes == 9
    data = ready(WebDataset(str(tmp_path), image="left.png", val_size=0, test_size=0))
    assert numbers(data, "train") == [10 * n for n in range(9)] and data.classes is None
    with pytest.raises(ValueError, match="sample 0 in .*0.tar holds .*several are images: set data.image to one"):
        ready(WebDataset(str(tmp_path)))
    with pytest.raises(ValueError, match=r"no \.jpg, as data.image says"):
        ready(WebDataset(str(tmp_path), image="jpg"))


def head(path):
    """Where the seventh file begins."""
    with tarfile.open(path) as tar:
        return tar.getmembers()[6].offset


def spoil(folder, what):
    """A folder of shards with one fault."""
    path, content = folder / "001.tar", (folder / "001.tar").read_bytes()
    match what:
        case "cut within a file":
            path.write_bytes(content[: len(content) // 2 - len(content) // 2 % 512 + 100])
        case "cut between two files":
            path.write_bytes(content[: head(path)])
        case "damaged head":
            at = head(path)
            path.write_bytes(content[:at] + bytes([1]) * 512 + content[at + 512 :])
        case "empty":
            path.write_bytes(b"")
        case "no tar":
            path.write_bytes(b"no tar at all" * 100)
        case "no image":
            shard(path, [*sample(7), ("d/0008.json", b"{}"), ("d/0008.txt", b"text")])
        case "unknown format":
            shard(path, [*sample(7), ("d/0008.tiff", b"II*"), ("d/0008.cls", b"1")])
        case "no label":
            shard(path, [*sample(7), ("d/0008.png", png(8))])
        case "label in words":
            shard(path, [("d/0008.png", png(8)), ("d/0008.cls", b"cat")])
        case "twice":
            shard(path, [*sample(7), *sample(8), *sample(7)])
        case "unequal":
            stream = io.BytesIO()
            picture(9, width=30).save(stream, "PNG")
            shard(path, [("d/0009.png", stream.getvalue()), ("d/0009.cls", b"1")])
        case "damaged image":
            shard(path, [("d/0009.png", png(9)[:60]), ("d/0009.cls", b"1")])
        case "compressed":
            path.rename(folder / "001.tar.gz")
    return folder


@pytest.mark.parametrize("limit", [0, 2**20])
@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("cut within a file", r"001\.tar cannot be read as a tar \(.*\): write it anew, or take it out"),
        ("cut between two files", r"001\.tar cannot be read as a tar \(it is damaged or cut off after d/0008\): write"),
        ("damaged head", r"001\.tar cannot be read as a tar \(it is damaged or cut off after d/0008\): write"),
        ("empty", r"001\.tar cannot be read as a tar \(empty file\): write"),
        ("no tar", r"001\.tar cannot be read as a tar \(.*\): write"),
        ("no image", r"sample d/0008 in .*001\.tar holds \.json, \.txt, and no image as PNG, JPEG or WebP: add it"),
        ("unknown format", r"sample d/0008 in .*001\.tar holds \.tiff, .*\.tiff is not PNG, JPEG or WebP: convert it"),
        ("no label", r"sample d/0008 in .*001\.tar has no label, \.cls, as others have: add it, or set data.label"),
        ("label in words", r"sample d/0008 in .*001\.tar has the label b'cat', expected a whole number >= 0: mend it"),
        ("twice", r"001\.tar cannot be read as a tar \(d/0007\.png belongs to sample d/0007, which was complete"),
        ("unequal", r"d/0009\.png in .*001\.tar is 30x16 pixels, expected 24x16 as the others: set size"),
        ("damaged image", r"d/0009\.png in .*001\.tar cannot be read, it is damaged .*: replace or delete it"),
        ("compressed", r"001\.tar\.gz is compressed.*: unpack it to a \.tar"),
    ],
)
def test_a_bad_shard_is_refused_in_one_sentence(shards, what, says, limit):
    with pytest.raises(ValueError, match=says) as caught:
        data = WebDataset(str(spoil(shards, what)), batch_size=4, val_size=0, test_size=0, memory_limit=limit)
        list(ready(data).train_dataloader())
    assert "\n" not in str(caught.value)


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="none is not a folder: set data.path"):
        WebDataset(str(tmp_path / "none")).check_files()
    with pytest.raises(FileNotFoundError, match=r"holds no \.tar: set data.path"):
        WebDataset(str(tmp_path)).check_files()
    shard(tmp_path / "0.tar", [])
    with pytest.raises(ValueError, match=r"0\.tar holds no sample"):
        WebDataset(str(tmp_path)).check_files()


def test_a_shard_that_shrinks_while_it_is_read_is_named(shards):
    (_, files), *_ = samples(shards / "000.tar")
    (shards / "000.tar").write_bytes(b"")
    with pytest.raises(ValueError, match="the shard ends within it"):
        files["png"].open("rb")
