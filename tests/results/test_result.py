"""A number's name says the same as its published string, and is read back from old files and new."""

import json

import pytest

from lightning_gen.metrics.registry import QUANTITIES, Quantity, metrics, quantity_of, register
from lightning_gen.results.result import Name, Result, name_of

PUBLISHED = {
    "fid/digits/ema": Name("fid", "digits", "ema"),
    "fid_inf/inception/raw": Name("fid_inf", "inception", "raw"),
    "fid/digits/ema-n360": Name("fid", "digits", "ema", n=360),
    "fid/digits/held-out": Name("fid", "digits", "held-out"),
    "sharpness/digits/samples": Name("sharpness", "digits", "samples"),
    "kid/samples/samples-n9": Name("kid", "samples", "samples", n=9),
    "vlb/bits_per_dim/ema": Name("vlb/bits_per_dim", None, "ema"),
    "ais/log_likelihood/forward/ema": Name("ais/log_likelihood", None, "ema", "forward"),
    "ais/log_z/reverse/raw": Name("ais/log_z", None, "raw", "reverse"),
    "exact/log_z/raw": Name("exact/log_z", None, "raw"),
    "kde/log_likelihood/held-out": Name("kde/log_likelihood", None, "held-out"),
    "score/relative_error/ema": Name("score/relative_error", None, "ema"),
    "score/relative_error/t=0.05/ema": Name("score/relative_error", None, "ema", "t=0.05"),
    "probe_accuracy/latent/ema": Name("probe_accuracy", "latent", "ema"),
    "energy/gap": Name("energy/gap"),
    "health/r_hat": Name("health/r_hat"),
    "train/loss": Name("train/loss"),
    "val/loss/ema": Name("val/loss", None, "ema"),
}
STRANGE = ["", "gap", "a/b/c", "ema", "/", "fid/", "fid/a/b/ema", "fid/digits/ema-n007", "x/forward", "t=1", "fid//raw"]


@pytest.mark.parametrize("text", PUBLISHED)
def test_a_published_string_has_its_parts(text):
    assert Name.parse(text) == PUBLISHED[text] and str(PUBLISHED[text]) == text


@pytest.mark.parametrize("text", [*PUBLISHED, *STRANGE])
def test_any_string_is_that_of_its_name(text):
    name = Name.parse(text)
    assert str(name) == text
    assert text == "/".join(part for part in (name.subject, name.label) if part) or not name.label
    assert name_of("whatever", json.loads(json.dumps({"name": name.parts()}))) == name


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("fid/digits/ema", "lower"), ("is/digits/ema", "higher"), ("diversity/x/held-out", "higher"),
        ("val/loss/ema", "lower"), ("ais/log_likelihood/forward/raw", "higher"), ("ode/bits_per_dim/ema", "lower"),
        ("score/relative_error/t=0.1/ema", "lower"), ("straightness/ema", "lower"),
        ("vlb/decoder/ema", None), ("energy/gap", None),
        ("memorised/digits/ema", "lower"), ("dci_completeness/latent/ema", "higher"), ("nobody/knows", None),
        # the features' name says nothing of the quantity
        ("unknown/fid/ema", "lower"), ("fid/is/ema", "lower"),
    ],
)  # fmt: skip
def test_a_names_direction_is_its_quantitys(text, better):
    assert Name.parse(text).about.better == better


def test_a_quantity_has_one_meaning():
    assert all(metrics()[name].quantity is QUANTITIES[name] for name in metrics())
    with pytest.raises(ValueError, match="fid"):
        register(Quantity("fid", "another", "higher"))
    assert quantity_of("fid").better == "lower"


def test_a_number_is_stored_with_the_parts_of_its_name():
    stored = Result(1.0, "estimate", name=Name("fid", "digits", "ema", n=360)).as_dict()
    assert stored["name"] == {"quantity": "fid", "features": "digits", "weights": "ema", "n": 360}
    assert "name" not in Result(1.0, "exact").as_dict()
