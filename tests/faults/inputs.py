"""The files of the bad inputs: pictures, archives, run folders, each wrong in one way."""

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

import run as entry
from tests.test_run import BARE

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def pictures(folder, count=12, ending="png", size=(16, 16), mode="RGB"):
    """Random pictures, 000.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{number:03d}.{ending}")
    return folder


def chunk(kind, content):
    """A part of a PNG file, with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(path, width=16, height=16, bits=8, colour=2, pixels=None):
    """A PNG file as its header says, black where no pixels are given."""
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    rows = b"".join(b"\0" + bytes(width * samples * bits // 8) for _ in range(height)) if pixels is None else pixels
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def make_pictures(folder):
    """Folders of pictures, each wrong in one way."""
    for name in ("many", "cut", "huge", "grey16", "rgb16", "alpha16", "text", "svg", "eps", "beside/a", "broken"):
        pictures(folder / name)
    for number in range(12):
        (folder / "many" / f"{number:03d}.png").write_text("junk")
    whole = (folder / "cut" / "007.png").read_bytes()
    (folder / "cut" / "007.png").write_bytes(whole[:-40])
    png(folder / "huge" / "007.png", 30000, 30000, pixels=b"")
    for name, colour in (("grey16", 0), ("rgb16", 2), ("alpha16", 4)):
        png(folder / name / "007.png", bits=16, colour=colour)
    (folder / "text" / "007.png").write_bytes(
        whole[:33] + chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**21))) + whole[33:]
    )
    for ending in ("gif", "bmp", "tif", "ppm"):
        pictures(folder / ending, ending=ending)
    (folder / "svg" / "x.svg").write_text("<svg/>")
    (folder / "eps" / "007.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    pictures(folder / "beside", 1)
    (folder / "broken" / "100.png").symlink_to(folder / "nowhere.png")
    pictures(folder / "gone" / "a")
    (folder / "gone" / "b").symlink_to(folder / "nowhere")
    pictures(folder / "hollow" / "a")
    (folder / "hollow" / "b").mkdir()
    pictures(folder / "sizes")
    pictures(folder / "sizes" / "x", 1, size=(16, 24))
    (folder / "sizes" / "x" / "000.png").rename(folder / "sizes" / "100.png")
    (folder / "sizes" / "x").rmdir()
    (folder / "none").mkdir()


def make_archives(folder):
    """.npz files, each wrong in one way."""
    images = np.random.default_rng(0).integers(0, 255, (90, 8, 8), dtype=np.uint8)
    rows = {"x_train": images, "x_test": images[:40]}
    np.savez(folder / "good.npz", **rows)
    whole = bytearray((folder / "good.npz").read_bytes())
    (folder / "torn.npz").write_bytes(whole[:-90])
    whole[300:400] = b"\xff" * 100
    (folder / "flipped.npz").write_bytes(whole)
    (folder / "text.npz").write_text("x")
    (folder / "nothing.npz").touch()
    np.savez(folder / "other.npz", a=images)
    np.savez(folder / "half.npz", **rows, y_train=np.zeros(90, int))
    np.savez(folder / "floats.npz", **{key: value / 255 for key, value in rows.items()})
    np.savez(folder / "shapes.npz", x_train=images, x_test=images[:, :7])
    np.savez(folder / "labels.npz", **rows, y_train=np.full(90, -1), y_test=np.zeros(40, int))
    np.savez(folder / "objects.npz", x_train=np.array([{}, {}], object), x_test=images)
    np.savez(folder / "samples.npz", images=images[:, :7])


def make_configs(folder):
    """A folder of experiments, each wrong in one way."""
    (folder / "experiment").mkdir(parents=True)
    laughs = "".join(f"  {line}\n" for line in LAUGHS.splitlines())
    texts = {
        "no-yaml": "a: [b\n: {",
        "laughs": f"# @package _global_\ncallbacks:\n{laughs}",
        "list": "- a\n",
        "empty": "",
    }
    texts |= {"first-line": "seed: 3\n", "tab": "# @package _global_\n\tseed: 1\n"}
    for name, text in texts.items():
        (folder / "experiment" / f"{name}.yaml").write_text(text)


def make_runs(folder):
    """A run and its export, and copies of it that are wrong in one way."""
    done = folder / "done"
    assert entry.main([*BARE, "trainer.max_steps=2", f"run={done}"]) == 0
    assert entry.main(["stage=export", f"run={done}"]) == 0

    def copy(name):
        return Path(shutil.copytree(done, folder / name))

    texts = {"laughs": LAUGHS, "laughs-below": "callbacks:\n" + "".join(f"  {line}\n" for line in LAUGHS.splitlines())}
    texts |= {"empty": "", "no-yaml": "a: [b\n: {", "list": "- a\n", "binary": "\x00\x01", "unknown": "sed: 1\n"}
    for name, text in texts.items():
        (copy(name) / "config.yaml").write_text(text)
    config = yaml.safe_load((done / "config.yaml").read_text())
    config["net"]["channels"] = 16
    for part in ("", "export"):
        (copy(f"other-network{part}") / part / "config.yaml").write_text(yaml.safe_dump(config))
    for name, content in (("weights-flipped", b"\xff" * 64), ("weights-cut", b"")):
        file = copy(name) / "export" / "model.safetensors"
        file.write_bytes(content + file.read_bytes()[64:] if content else b"")
    for name in ("damaged", "damaged-twice"):
        for file in sorted((copy(name) / "checkpoints").glob("last*.ckpt")):
            file.write_bytes(file.read_bytes()[:-100])
    for name, content in (("dict", {}), ("list", [1]), ("text", "hello")):
        checkpoints = copy(f"other-{name}") / "checkpoints"
        for file in checkpoints.glob("last-*.ckpt"):
            file.unlink()
        torch.save(content, checkpoints / "last.ckpt")
    (copy("id-list") / "run.json").write_text("[]")
    (copy("id-text") / "run.json").write_text("{")
    shutil.rmtree(copy("no-checkpoint") / "checkpoints")
    (copy("metrics") / "metrics.json").write_text("{")
    (folder / "inner" / "config.yaml").mkdir(parents=True)
    (folder / "foreign" / "src").mkdir(parents=True)
    for name, file in (("mixed", "holiday.txt"), ("other", "config.yaml")):
        (folder / name).mkdir()
        (folder / name / file).write_text("model: bert\nlr: 1\n")
