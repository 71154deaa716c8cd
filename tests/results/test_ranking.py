"""Numbers are ranked only within one protocol and one kind, and only beyond their errors."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest

from lightning_gen.results.compared import read
from lightning_gen.results.likelihood_table import likelihood_tables
from lightning_gen.results.quality_table import quality_tables
from lightning_gen.results.ranking import Entry, classes, entries, protocol, verdicts
from lightning_gen.results.result import Name, Result
from tests.results.compare_parts import NATS, QUALITY, bits, fid, folder


def many(values, errors, quantity="fid/digits"):
    """Numbers of one protocol."""
    pairs = zip(values, errors, strict=True)
    return [Entry(i, Name.parse(f"{quantity}/ema"), v, e, "estimate", "", QUALITY) for i, (v, e) in enumerate(pairs)]


def marks(found):
    """The marks, in order."""
    ranked = verdicts(found)
    return [ranked[entry].mark for entry in found]


@pytest.mark.parametrize(("quantity", "sign"), [("fid/digits", 1), ("is/digits", -1)])
def test_a_winner_is_further_than_two_combined_errors_from_everybody(quantity, sign):
    """Against the definition, by looking at every pair, for numbers that are often close."""
    draw, seen = np.random.default_rng(0), set()
    for _ in range(300):
        values, errors = draw.normal(5, 1, 4), draw.uniform(0.02, 1, 4)
        best = int(np.argmin(sign * values))
        close = [
            abs(v - values[best]) <= 2 * math.sqrt(e**2 + errors[best] ** 2)
            for v, e in zip(values, errors, strict=True)
        ]
        expected = ["tie" if near else "" for near in close] if sum(close) > 1 else [""] * 4
        if sum(close) == 1:
            expected[best] = "best"
        assert marks(many(values, errors, quantity)) == expected
        seen.add(sum(close))
    assert {1, 2, 3} <= seen


def test_two_errors_apart_is_a_tie_and_a_little_more_a_win():
    error = 0.1 / math.sqrt(2)  # two of them combine to 0.1
    assert marks(many([1.0, 1.199], [error, error])) == ["tie", "tie"]
    assert marks(many([1.0, 1.201], [error, error])) == ["best", ""]


def test_without_an_error_nobody_wins():
    assert marks(many([1.0, 2.0], [None, 0.1])) == ["leads", ""]
    assert marks(many([1.0, 2.0, 1.1], [0.1, None, 0.1])) == ["tie", "", "tie"]


def test_an_exact_number_has_no_error():
    pair = [Entry(i, Name("-log p", None, "raw"), v, None, "exact", "nats", {}) for i, v in enumerate((80.0, 81.0))]
    assert marks(pair) == ["best", ""]


def test_what_is_not_finite_or_without_a_direction_is_not_ranked():
    assert marks(many([math.nan, 1.0, 3.0], [0.1, 0.1, 0.1])) == ["", "best", ""]
    assert marks(many([math.nan, math.nan], [0.1, 0.1])) == ["", ""]
    found = many([1.0, 3.0], [0.1, 0.1], "vlb/decoder")
    assert {verdicts(found)[entry].why for entry in found} == {"neither more nor less of it is better"}


def test_real_data_win_nothing():
    found = many([5.0, 4.0], [0.1, 0.1])
    real = Entry(0, Name("fid", "digits", "held-out"), 0.1, 0.01, "estimate", "", QUALITY)
    ranked = verdicts([real, *found])
    assert [ranked[entry].mark for entry in (real, *found)] == ["", "", "best"]


@pytest.mark.parametrize(
    "key", ["sampler", "evaluations", "guidance", "weights", "seed", "block", "torch", "std_over_subsets", "bias"]
)
def test_what_is_compared_or_came_by_chance_makes_no_class(key):
    found = many([1.0, 3.0], [0.1, 0.1])
    other = Entry(1, Name("fid", "digits", "ema"), 3.0, 0.1, "estimate", "", QUALITY | {key: "another"})
    assert marks([found[0], other]) == ["best", ""]


@pytest.mark.parametrize(
    "key",
    [
        "n",
        "features",
        "features_sha256",
        "resize",
        "reference",
        "reference_fingerprint",
        "n_reference",
        "data",
        "quantisation",
        "kid_subsets",
        "a_key_that_nobody_knows",
    ],
)
def test_any_other_key_parts_numbers_and_is_named(tmp_path, key):
    a = folder(tmp_path / "a", {"fid/digits/ema": fid(1.0, 0.1)})
    b = folder(tmp_path / "b", {"fid/digits/ema": fid(3.0, 0.1, **{key: 399 if key == "n" else "another"})})
    runs = [read(place, path.name, path) for place, path in enumerate((a, b))]
    numbers = [run.entries[0] for run in runs]
    assert marks(numbers) == ["", ""] and len(classes(numbers)) == 2
    (table,) = quality_tables(runs)
    told = " ".join(table.unranked)
    assert ("N = 399" if key == "n" else key.replace("_", " ")) in told


def test_another_kind_or_unit_is_another_class():
    a = Entry(0, Name("-log p", None, "ema"), 1.0, 0.1, "exact", "nats", {})
    for other in (
        Entry(1, Name("-log p", None, "ema"), 9.0, 0.1, "KDE", "nats", {}),
        Entry(1, Name("-log p", None, "ema"), 9.0, 0.1, "exact", "bits/dim", {}),
    ):
        assert marks([a, other]) == ["", ""]


def test_a_name_is_quantity_and_weights():
    found = entries(3, {name: fid(1.0).as_dict() for name in ("fid/digits/ema-n360", "ais/log_z/forward/raw", "gap")})
    assert [(e.name.subject, e.name.label, e.name.weights) for e in found] == [
        ("fid/digits", "ema-n360", "ema"),
        ("ais/log_z/forward", "raw", "raw"),
        ("gap", "", None),
    ]
    assert all(e.run == 3 and "kind" in protocol(e) for e in found)


def table(tmp_path: Path, *runs):
    """The one table of likelihoods of runs given as (results, options), and its rows by (run, label)."""
    paths = [folder(tmp_path / str(i), results, **options) for i, (results, options) in enumerate(runs)]
    (found,) = likelihood_tables([read(i, path.name, path) for i, path in enumerate(paths)])
    return found, {(row.run, row.label): row for block in found.blocks for row in block.rows}


def mark(row):
    """What is said of a row."""
    return next(cell.verdict.mark for cell in row.cells if getattr(cell, "entry", None))


def test_an_elbo_is_ranked_with_a_variational_bound_and_not_with_forward_ais(tmp_path):
    """A lower bound of log p is an upper one of -log p; forward AIS bounds from the other side."""
    lower = Result(-2 * NATS, "lower bound", 0.1, "nats", {**bits(0).protocol})
    forward = Result(-1.0 * NATS, "upper bound", 0.1, "nats", {**bits(0).protocol})
    found, rows = table(
        tmp_path,
        ({"vlb/bits_per_dim/ema": bits(3.0)}, {}),
        ({"elbo/log_likelihood/raw": lower}, {"family": "VAE"}),
        ({"ais/log_likelihood/forward/raw": forward}, {"family": "EBM"}),
    )
    vlb, elbo, ais = rows[0, "ema by vlb"], rows[1, "raw by elbo"], rows[2, "raw by ais/forward"]
    assert (vlb.cells[2], elbo.cells[2], ais.cells[2]) == ("upper bound", "upper bound", "lower bound")
    assert (mark(vlb), mark(elbo), mark(ais)) == ("", "best", "")
    assert elbo.cells[0].value == pytest.approx(2 * NATS) and ais.cells[0].value == pytest.approx(NATS)
    assert len(found.blocks) == 2 and "kind" in found.unranked[0]


def test_nats_and_bits_are_one_number(tmp_path):
    """nats = bits d ln 2 for an 8x8 image; where a method gave both, there is one row."""
    both = {"ode/bits_per_dim/ema": bits(2.0, "estimate", of="upper bound (Jensen)")}
    both["ode/nll/ema"] = Result(2 * NATS, "estimate", 0.01 * NATS, "nats", both["ode/bits_per_dim/ema"].protocol)
    both["vlb/bits_per_dim/ema"] = bits(3.0, error=0.01)
    found, rows = table(tmp_path, (both, {}))
    assert len(rows) == 2
    assert rows[0, "ema by ode"].cells[0].text == f"{2 * NATS:.2f} ± {0.01 * NATS:.2f}"
    assert rows[0, "ema by vlb"].cells[0].text == f"{3 * NATS:.2f} ± {0.01 * NATS:.2f}"
    assert rows[0, "ema by ode"].cells[2] == "estimate, of an upper bound (Jensen)"


def test_binary_nats_are_bits_and_densities_are_none(tmp_path):
    binary = Result(-64.0 * math.log(2), "exact", 0.1, "nats", {"split": "test", "n": 9, "dequantisation": "none"})
    density = Result(-20.0, "exact", 0.1, "nats", {"split": "test", "n": 9, "dequantisation": "uniform"})
    _, rows = table(
        tmp_path,
        ({"exact/log_likelihood/raw": binary}, {"data": {"binarise": "fixed"}}),
        ({"exact/log_likelihood/raw": density}, {}),
    )
    first, second = rows[0, "raw by exact"], rows[1, "raw by exact"]
    assert first.cells[1].entry.value == pytest.approx(1.0, rel=1e-12) and first.cells[1].text.startswith("1.000")
    assert second.cells[1] is None and second.cells[0].text == "20.00 ± 0.10"


def test_binary_nats_and_bits_of_two_levels_are_one_number(tmp_path):
    protocol = {"split": "test", "n": 9, "binarisation": "fixed", "dequantisation": "none"}
    both = {
        "iwae/log_likelihood/ema": Result(-0.5 * NATS, "lower bound", 0.1, "nats", protocol),
        "iwae/bits_per_dim/ema": Result(0.5, "upper bound", 0.1, "bits/dim", protocol | {"levels": 2}),
    }
    found, _ = table(tmp_path, (both, {}))
    assert [len(block.rows) for block in found.blocks] == [1]


@pytest.mark.parametrize(
    ("protocol", "data", "word"),
    [
        ({"data": "ffff"}, {}, "data"),
        ({"split": "val"}, {}, "split"),
        ({"n": 33}, {}, "N"),
        ({"dequantisation": "uniform"}, {}, "dequantisation"),
        ({"levels": 16}, {}, "levels"),
        ({"conditional": True}, {}, "conditional"),
        ({"of": "upper bound (Jensen)"}, {}, "what is estimated"),
        ({}, {"binarise": "stochastic"}, "binarisation"),
    ],
)
def test_likelihoods_of_unlike_things_are_not_ranked_and_the_reason_is_given(tmp_path, protocol, data, word):
    one = {"vlb/bits_per_dim/ema": bits(3.0)}
    other = {"vlb/bits_per_dim/ema": bits(2.0, **protocol)}
    found, rows = table(tmp_path, (one, {}), (other, {"data": data}))
    assert [mark(row) for row in rows.values()] == ["", ""]
    assert len(found.blocks) == 2 and re.search(rf"\b{word}\b", found.unranked[0])


def test_both_ways_of_sampling_binary_training_images_are_ranked_for_their_test_images_are_the_same(tmp_path):
    how = {"split": "test", "n": 9, "dequantisation": "none"}
    one, other = (Result(-nats, "exact", 0.1, "nats", how) for nats in (90.0, 80.0))
    _, rows = table(
        tmp_path,
        ({"exact/log_likelihood/raw": one}, {"data": {"binarise": "fixed"}}),
        ({"exact/log_likelihood/raw": other}, {"data": {"binarise": "stochastic"}}),
    )
    assert [mark(row) for row in rows.values()] == ["", "best"]


def test_how_a_likelihood_was_computed_does_not_prevent_ranking(tmp_path):
    one = {"ode/bits_per_dim/ema": bits(3.0, "estimate", evaluations=90.0, t_start=1e-5)}
    other = {"ode/bits_per_dim/ema": bits(2.0, "estimate", evaluations=44.0, t_start=1e-3, seed=5)}
    _, rows = table(tmp_path, (one, {}), (other, {}))
    assert [mark(row) for row in rows.values()] == ["", "best"]


def test_a_density_of_dequantised_values_stands_apart_from_the_images_bits(tmp_path):
    """The two are a change of variables apart: of one run, in two blocks; with the range named."""
    how = bits(0).protocol | {"dequantisation": "uniform"}
    density = {key: value for key, value in how.items() if key != "levels"}
    results = {
        "ais/log_likelihood/forward/raw": Result(50.0, "upper bound", 0.5, "nats", density),
        "ais/bits_per_dim/forward/raw": Result(4.0, "estimate", 0.1, "bits/dim", how),
    }
    found, _ = table(tmp_path, (results, {}), (results, {}))
    assert len(found.blocks) == 2
    assert ["density in [-1.0, 1.0]" in block.title for block in found.blocks] == [True, False]


def test_a_density_is_in_the_range_of_the_module_where_the_data_are_latent(tmp_path):
    density = {key: value for key, value in bits(0).protocol.items() if key != "levels"} | {"dequantisation": "uniform"}
    results = {"elbo/log_likelihood/ema": Result(50.0, "lower bound", 0.5, "nats", density)}
    latent = {"data": {"value_range": None}, "module": {"value_range": [-1.0, 1.0]}}
    found, _ = table(tmp_path, (results, {}), (results, latent))
    assert ["density in [-1.0, 1.0]" in block.title for block in found.blocks] == [True]


def test_every_pair_of_two_classes_is_unranked(tmp_path):
    """However good one class is, the best of the other is the best of its own."""
    found = [
        Entry(i, Name("fid", "digits", "ema"), value, 0.01, "estimate", "", QUALITY | {"n": n})
        for i, (value, n) in enumerate(itertools.product((1.0, 2.0), (100, 200)))
    ]
    assert marks(found) == ["best", "best", "", ""]
    assert [verdicts(found)[entry].group for entry in found] == ["a", "b", "a", "b"]
