"""The file of a range coder's bits: read as written, or refused with what is unlike."""

import dataclasses

import numpy as np
import pytest
import torch

from lightning_gen.compression import Header, arithmetic, image_digest, model_digest, read_code, unlike, write_code
from lightning_gen.compression.file import MAGIC, short_digest
from lightning_gen.errors import Unreadable
from lightning_gen.models import Autoregressive
from lightning_gen.nets import MADE

HEADER = Header("0123456789abcdef", 3, 64, 1, "float32", "AVX2", "2.15.0", "0.5.0", "fedcba9876543210")
BITS = bytes(range(256)) * 2 + b"\n\n\n\n"


@pytest.fixture
def path(tmp_path):
    return write_code(tmp_path / "x.bits", HEADER, BITS)


def test_a_file_is_read_as_it_was_written(path):
    assert read_code(path) == (HEADER, BITS)
    assert path.stat().st_size - len(BITS) < 260


def test_every_damaged_byte_and_every_length_is_found(path):
    whole = path.read_bytes()
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"x\.bits"):
            read_code(path)
        path.write_bytes(whole[:place])
        with pytest.raises(ValueError, match=r"x\.bits"):
            read_code(path)


def test_other_files_are_refused(path, tmp_path):
    (tmp_path / "other").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"other.*PK.*lightning-gen"):
        read_code(tmp_path / "other")
    with pytest.raises(Unreadable, match="nowhere"):
        read_code(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("header", "bits", "words"),
    [
        ({"n": -3}, BITS, "n -3"),
        ({"n": "7"}, BITS, "n '7'"),
        ({"batch": 0}, BITS, "batch 0"),
        ({"batch": 10**9}, BITS, "batch 1000000000"),
        ({}, BITS[:-1], "multiple of 4"),
    ],
)
def test_a_sealed_file_of_wrong_content_is_refused(header, bits, words, tmp_path):
    """The digest is no signature: whoever writes a file can seal it."""
    file = write_code(tmp_path / "x.bits", dataclasses.replace(HEADER, **header), bits)
    with pytest.raises(ValueError, match=rf"x\.bits.*{words}"):
        read_code(file)


@pytest.mark.parametrize("line", [b"[1,2]", b"3", b"{x", b"\xff\xfe"])
def test_a_sealed_file_without_a_header_is_refused(line, tmp_path):
    content = line + b"\n" + BITS
    (tmp_path / "x.bits").write_bytes(MAGIC + short_digest(content).encode() + b"\n" + content)
    with pytest.raises(ValueError, match=r"x\.bits.*header"):
        read_code(tmp_path / "x.bits")


def test_what_is_unlike_is_said_with_both_values():
    own = {"threads": 1, "dtype": "float32", "processor": "AVX2", "torch": "2.15.0", "constriction": "0.5.0"}
    assert unlike(HEADER, "x.bits", HEADER.model, own) == []
    others = {"threads": 4, "dtype": "bfloat16", "processor": "AVX512", "torch": "2.10.0", "constriction": "0.4.1"}
    for key, value in {"model": "00112233", **others}.items():
        (fault,) = unlike(dataclasses.replace(HEADER, **{key: value}), "x.bits", HEADER.model, own)
        assert all(str(word) in fault for word in ("x.bits", key, value, {"model": HEADER.model, **own}[key])), fault
    assert len(unlike(dataclasses.replace(HEADER, **others), "x.bits", "another", own)) == 6


def test_what_sums_depend_on_is_known():
    model, before = Autoregressive(MADE((4,), 2, width=3)), torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert arithmetic(model)["threads"] == threads
    finally:
        torch.set_num_threads(before)
    assert arithmetic(model)["dtype"] == "float32" and arithmetic(model.double())["dtype"] == "float64"
    assert arithmetic(model)["torch"] == torch.__version__


def test_a_model_is_its_weights_and_its_network():
    torch.manual_seed(0)
    model, net = Autoregressive(MADE((4,), 2, width=3, orderings=2)), {"heads": 2}
    known = model_digest(model, net)
    assert model_digest(model, dict(net)) == known != model_digest(model, {"heads": 4})
    for tensor in (*model.parameters(), *model.buffers()):
        kept = tensor.data.clone()
        tensor.data.view(-1)[0] += 1
        assert model_digest(model, net) != known
        tensor.data.copy_(kept)
    assert model_digest(model, net) == known


def test_images_are_known_by_every_value_and_their_shape():
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
    other = x.copy()
    other[1, 2, 3] = 0
    assert image_digest(x.copy()) == image_digest(x)
    assert len({image_digest(x), image_digest(other), image_digest(x.reshape(2, 4, 3, 1))}) == 3
