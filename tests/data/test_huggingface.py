"""Data sets of Hugging Face's datasets, from parquet and folders that the tests write."""

import io
import sys
from pathlib import Path

import datasets
import numpy
import pytest
import torch
from PIL import Image

from lightning_gen.data import Folder, HuggingFace, huggingface
from lightning_gen.errors import Unreadable
from tests.data.sets import ready
from tests.data.test_folder import NAMES, numbers, picture, png

FEATURES = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b", "c"])})


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The user's cache folder; what is written anywhere else in the home fails the test."""
    folder = tmp_path_factory.mktemp("cache")
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setenv("HOME", str(home))
    elsewhere = Path(datasets.config.HF_CACHE_HOME)
    before = {*elsewhere.rglob("*")}
    yield folder / "lightning_gen" / "datasets"
    assert not [*home.rglob("*")] and {*elsewhere.rglob("*")} == before
    assert [path.name for path in folder.iterdir()] in ([], ["lightning_gen"])


def write(folder, split="train", rows=range(40), features=FEATURES, kind=lambda number: number % 3, parts=2):
    """Parquet files of a split, as the hub has them."""
    names = list(features)
    folder.mkdir(exist_ok=True)
    rows = list(rows)
    for part in range(parts):
        mine = rows[part::parts]
        content = {names[0]: [{"bytes": png(n), "path": None} for n in mine], names[1]: [kind(n) for n in mine]}
        table = datasets.Dataset.from_dict(content, features=features)
        table.to_parquet(str(folder / f"{split}-{part:05}-of-{parts:05}.parquet"))
    return folder


@pytest.mark.parametrize("limit", [0, 2**20])
def test_rows_are_images_with_their_classes_and_splits_are_kept(tmp_path, limit, cache):
    folder = write(tmp_path / "set")
    write(folder, "test", range(40, 50), parts=1)
    data = ready(HuggingFace(str(folder), val_size=5, memory_limit=limit, workers=0))
    assert data.name == "set" and data.shape == (3, 16, 24) and data.classes == 3
    assert sorted(numbers(data, "test")) == list(range(40, 50)) and len(data.split("val")) == 5
    assert sorted(numbers(data, "train") + numbers(data, "val")) == list(range(40))
    for name in NAMES:
        assert data.split(name).labels(slice(None)).tolist() == [number % 3 for number in numbers(data, name)]
    assert [*cache.rglob("*.arrow")]


def test_streamed_batches_equal_those_in_memory_and_resume(tmp_path):
    folder = write(tmp_path / "set")
    options = {"batch_size": 6, "size": 8, "flip": True, "seed": 4}
    kept = ready(HuggingFace(str(folder), **options))
    streamed = ready(HuggingFace(str(folder), memory_limit=0, workers=2, **options))
    assert type(kept.split("train")) is not type(streamed.split("train"))
    whole, resumed = kept.train_dataloader(), streamed.train_dataloader()
    for left, right in zip(list(whole), list(streamed.train_dataloader()), strict=True):
        assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)
    rest = list(kept.train_dataloader())[2:]
    resumed.load_state_dict(whole.state_dict() | {"epoch": 0, "batch": 2})
    for left, right in zip(rest, resumed, strict=True):
        assert torch.equal(left["x"], right["x"]) and torch.equal(left["index"], right["index"])


def test_the_fingerprint_is_of_the_content_wherever_the_copy_lies(tmp_path, monkeypatch, tmp_path_factory):
    folder, cache = write(tmp_path / "set"), tmp_path / "known"

    def identity():
        data = HuggingFace(str(folder), batch_size=2, memory_limit=0, workers=0)
        data.setup()
        return data.split("train").identity(cache)

    first = identity()
    assert first.startswith("files:") and identity() == first
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("another")))
    assert identity() == first
    write(folder, kind=lambda number: (number + 1) % 3)
    changed = identity()
    assert changed != first, "labels are content"
    write(folder, rows=range(100, 140), kind=lambda number: (number + 1) % 3)
    assert identity() not in (first, changed)


def test_a_folder_of_images_is_read_as_datasets_reads_it(tmp_path):
    for number in range(20):
        folder = tmp_path / "set" / ("train" if number < 15 else "test") / ("cats" if number % 3 else "birds")
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"{number:02}.png")
    for limit in (0, 2**20):
        ours = ready(Folder(str(tmp_path / "set"), val_size=3, memory_limit=limit, workers=0))
        theirs = ready(HuggingFace(str(tmp_path / "set"), val_size=3, memory_limit=limit, workers=0))
        for name in NAMES:
            assert sorted(numbers(ours, name)) == sorted(numbers(theirs, name)) or name != "test"
            labels = theirs.split(name).labels(slice(None)).tolist()
            assert labels == [int(number % 3 > 0) for number in numbers(theirs, name)]


class Feature:
    """Features of data sets whose columns are found, or named."""

    WHOLE = datasets.Features({"x": datasets.Image(), "label": datasets.Value("int64")})
    TEXT = datasets.Features({"x": datasets.Image(), "labels": datasets.Value("string")})
    BYTES = datasets.Features({"image": datasets.Value("binary"), "label": datasets.Value("int8")})
    STRUCT = datasets.Features(
        {"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}, "l": datasets.Value("float32")}
    )


def test_columns_are_found_or_given(tmp_path):
    folder = write(tmp_path / "whole", features=Feature.WHOLE)
    assert ready(HuggingFace(str(folder))).classes == 3
    assert ready(HuggingFace(str(folder), label=None)).split("train").labels(slice(None)) is None
    folder = write(tmp_path / "text", features=Feature.TEXT, kind="cab".__getitem__, rows=range(3), parts=1)
    data = ready(HuggingFace(str(folder), val_size=0, test_size=0))
    assert data.classes == 3 and data.split("train").labels(slice(None)).tolist() == [2, 0, 1]
    folder = write(tmp_path / "struct", features=Feature.STRUCT)
    data = ready(HuggingFace(str(folder)))
    assert data.classes is None and data.split("train").labels(slice(None)) is None
    with pytest.raises(ValueError, match="data.label=l holds .*float32.*expected class names"):
        ready(HuggingFace(str(folder), label="l"))
    plain = datasets.Dataset.from_dict({"image": [png(n) for n in range(9)], "label": [n % 2 for n in range(9)]})
    plain.cast(Feature.BYTES).to_parquet(str(tmp_path / "struct" / "x.parquet"))
    (tmp_path / "bytes").mkdir()
    (tmp_path / "struct" / "x.parquet").rename(tmp_path / "bytes" / "x.parquet")
    data = ready(HuggingFace(str(tmp_path / "bytes"), val_size=0, test_size=0))
    assert data.classes == 2 and numbers(data, "train") == list(range(9))


def test_what_may_be_read_in_two_ways_is_asked(tmp_path):
    names = datasets.ClassLabel(names=["a", "b"])
    features = datasets.Features({"one": datasets.Image(), "two": datasets.Image(), "fine": names, "coarse": names})
    rows = {name: [{"bytes": png(0), "path": None}] * 4 for name in ("one", "two")}
    rows |= {"fine": [0] * 4, "coarse": [1] * 4}
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "set" / "train.parquet"))
    path, options = str(tmp_path / "set"), {"val_size": 0, "test_size": 0}
    with pytest.raises(ValueError, match="2 columns hold encoded images.*set data.image to one of one, two"):
        ready(HuggingFace(path))
    with pytest.raises(ValueError, match="2 columns are of labels.*set data.label to one, or null"):
        ready(HuggingFace(path, image="one"))
    with pytest.raises(ValueError, match="data.label is colour.*columns one, two, fine, coarse.*set data.label"):
        ready(HuggingFace(path, image="one", label="colour"))
    with pytest.raises(ValueError, match="data.image is fine.*columns one, two, fine, coarse.*set data.image"):
        ready(HuggingFace(path, image="fine"))
    assert ready(HuggingFace(path, image="two", label="coarse", **options)).classes == 2


def test_two_splits_that_mean_one_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(HuggingFace, "_read_dataset", lambda self: dict.fromkeys(("train", "val", "validation"), [0]))
    with pytest.raises(ValueError, match="splits train, val, validation, expected one of each"):
        HuggingFace(str(tmp_path)).parts()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (lambda number: -1, "train has the label -1 in label.*data.label=null"),
        (lambda number: None, "40 of 40 rows of train have no label.*data.label=null"),
    ],
)
def test_labels_that_are_missing_are_not_classes(tmp_path, kind, says):
    folder = write(tmp_path / "set", features=Feature.WHOLE, kind=kind)
    with pytest.raises(ValueError, match=says):
        ready(HuggingFace(str(folder)))


def test_a_damaged_row_is_named(tmp_path):
    good = png(3)
    content = {"image": [{"bytes": good, "path": None}, {"bytes": good[:60], "path": None}, None]}
    (tmp_path / "set").mkdir()
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(content, features=features).to_parquet(str(tmp_path / "set" / "train.parquet"))
    with pytest.raises(Unreadable, match="split train, row 1 cannot be read, it is damaged.*; .*row 2 .*null"):
        ready(HuggingFace(str(tmp_path / "set"), val_size=0, test_size=0))


def test_what_datasets_cannot_read_is_said_in_one_sentence(tmp_path):
    folder = write(tmp_path / "set", "test")
    with pytest.raises(ValueError, match="has the splits test, expected images in train"):
        ready(HuggingFace(str(folder)))
    write(folder)
    (folder / "train-00001-of-00002.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(Unreadable, match=r"data.path=.*set cannot be read by datasets \(.*arquet.*\): mend the folder"):
        ready(HuggingFace(str(folder)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unreadable, match="empty cannot be read by datasets"):
        ready(HuggingFace(str(tmp_path / "empty")))
    with pytest.raises(FileNotFoundError, match="/nowhere/at/all is neither a folder nor a hub's name"):
        HuggingFace("/nowhere/at/all").check_files()


def test_without_a_network_the_hub_is_named(monkeypatch):
    with pytest.raises(Unreadable, match="no/where, which is no folder here, cannot be read.*: connect to the network"):
        ready(HuggingFace("no/where"))


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'lightning-gen\[hf\]'"):
        HuggingFace("owner/name").check_files()
    assert huggingface.HUB.fullmatch("mnist")


def test_grey_images_of_any_size_are_fitted_as_those_of_a_folder(tmp_path):
    folder = write(tmp_path / "set")
    auto = {"size": "auto", "mode": "L", "batch_size": "auto", "fit": "pad"}
    data = HuggingFace(str(folder), **auto)
    assert data.chosen() == {"size": 16, "batch_size": 4} and data.shape == (1, 16, 16)
    assert "3 classes" in data.introduced()
    image = data.split("train").images(slice(None))[0, 0]
    assert (image[:2] == 255).all() and numpy.asarray(image[3:12]).mean() < 255
    assert Image.open(io.BytesIO(png(0))).size == (24, 16)
