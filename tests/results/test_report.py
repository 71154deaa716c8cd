"""report.html needs nothing but itself, lets nothing through unescaped, and gives numbers with error and kind."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from lightning_gen.callbacks import RecordLogger
from lightning_gen.results.curves import draw_curves
from lightning_gen.results.drawing import save_png, save_samples
from lightning_gen.results.metrics_table import first_rows, metrics_table
from lightning_gen.results.report import closing_table, number, write_report
from lightning_gen.results.result import Result
from lightning_gen.runs.metrics_file import read_metrics

EVIL = '"><script>alert(1)</script><img src=http://example.org/x.png>'


class Reader(HTMLParser):
    """All tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture
def run(tmp_path):
    """A run folder with everything, and malice in every place that a user writes."""
    folder = tmp_path / "ddpm_digits"
    logger = RecordLogger(folder)
    for step in range(1, 41):
        logger.log_metrics({"train/loss": 1 / step, EVIL: 1.0, "epoch": step // 10}, step)
    results = {
        "fid/digits/ema": Result(12.3456, "estimate", 0.0789, "", {"n": 1797, "features": EVIL}),
        "fid/digits/held-out": Result(4.5, "estimate", 0.25, "", {"n": 1797}),
        "vlb/bits_per_dim/ema": Result(2.5, "upper bound", None, "bits/dim"),
        EVIL: Result(float("nan"), "estimate"),
    }
    entries = {name: result.as_dict() for name, result in results.items()}
    entries[EVIL]["value"] = "nan"
    (folder / "metrics.json").write_text(json.dumps(entries))
    (folder / "config.yaml").write_text(f"seed: 0\nnote: '{EVIL}'\n")
    old, new = (np.full((4, 8, 8, 1), level, np.uint8) for level in (10, 240))
    save_samples(folder, "00000900", old, 0, "DDIM")
    save_samples(folder, "00001000", new, 0, "DDIM")
    draw_curves(folder)
    (folder / "samplers.json").write_text(json.dumps(table(EVIL)))
    for name in ("samplers.png", "samples/field-00000900.png", "samples/field-00001000.png"):
        save_png(folder / name, np.full((4, 4, 3), len(name), np.uint8) + name.count("9"))
    return folder


def table(name):
    """samplers.json with one row."""
    protocol = {"n": 90, "step": 70, "weights": "ema", "reference": "train", "data": name, "machine": name}
    number = {"value": 12.0, "error": 0.5, "protocol": protocol}
    row = {"sampler": name, "protocol": protocol, **dict.fromkeys(("evaluations", "fid", "kid", "seconds"), number)}
    return {"budgets": [20], "rows": [row], "left_out": {name: name}, "held_out": {"fid": number, "kid": number}}


def test_nothing_outside_is_asked_for_and_no_script_runs(run):
    page = Reader(write_report(run).read_text())
    assert not page.open, "every tag is closed"
    assert "script" not in {tag for tag, _ in page.tags} and "link" not in {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import", run.joinpath("report.html").read_text().split("</style>")[0])
    policy = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and "default-src 'none'" in policy[0]


def test_what_a_user_wrote_is_text(run):
    text = Reader(write_report(run).read_text()).text
    assert text.count(EVIL) >= 11, (
        "in the config, a metric's name, its protocol, the record, and seven times the samplers"
    )


def test_the_newest_grid_is_shown_as_it_is_on_disk(run):
    sources = [a["src"] for tag, a in Reader(write_report(run).read_text()).tags if tag == "img"]
    files = [base64.b64decode(source.split(",")[1]) for source in sources]
    assert (run / "samples" / "grid-00001000.png").read_bytes() in files
    assert (run / "samples" / "grid-00000900.png").read_bytes() not in files
    assert (run / "curves.png").read_bytes() in files and (run / "samplers.png").read_bytes() in files
    fields = [(run / "samples" / f"field-{step}.png").read_bytes() for step in ("00000900", "00001000")]
    assert fields[0] != fields[1] and fields[1] in files and fields[0] not in files


def test_the_table_of_samplers_is_shown(run):
    text = Reader(write_report(run).read_text()).text
    assert "12.00 ± 0.50 (12)" in text and "is left out" in text
    (run / "samplers.json").unlink()
    assert "is left out" not in Reader(write_report(run).read_text()).text


def test_a_number_comes_with_error_kind_unit_n_and_held_out(run):
    metrics = read_metrics(run / "metrics.json")
    (row,) = [row for row in metrics_table(metrics).rows() if row.label == "FID ↓"]
    assert row.texts() == ["12.346 ± 0.079", "", "4.50 ± 0.25"]
    assert row.details["kind"] == "estimate" and row.details["in metrics.json"] == "fid/digits/ema"
    page, printed = Reader(write_report(run).read_text()).text, closing_table(metrics)
    for word in ("12.346 ± 0.079", "4.50 ± 0.25", "N = 1,797", "bits/dim, variational bound ↓", "(upper bound)"):
        assert word in printed and word in page
    assert "fid/digits" not in printed and page.count("fid/digits/ema") == 1


def entries(**values):
    """Entries of metrics.json by name, of n samples where `n` says so."""
    return {
        name: Result(value, "estimate", None, "", {"n": n, "features": "x"}).as_dict()
        for name, (value, n) in values.items()
    }


def test_a_metric_is_one_row_and_held_out_stands_beside_as_many_samples():
    both = entries(**{"fid/x/ema": (1.5, 900), "fid/x/ema-n36": (2.5, 36), "fid/x/held-out": (3.5, 36)})
    (row,) = metrics_table(both).rows()
    assert row.texts() == ["1.5", "2.5", "3.5"]
    alike = entries(**{"fid/x/ema": (1.5, 36), "fid/x/held-out": (3.5, 36)})
    assert [row.texts() for row in metrics_table(alike).rows()] == [["1.5", "", "3.5"]]
    unlike = entries(**{"fid/x/ema": (1.5, 900), "fid/x/held-out": (3.5, 36)})
    assert [row.texts() for row in metrics_table(unlike).rows()] == [["1.5", "", ""], ["", "", "3.5"]]
    raw = both | entries(**{"fid/x/raw": (4.5, 36)})
    assert [(row.label, row.texts()) for row in metrics_table(raw).rows()] == [
        ("FID, ema ↓", ["1.5", "2.5", "3.5"]), ("FID, raw ↓", ["4.5", "", "3.5"]),
    ]  # fmt: skip


def test_quality_stands_first_and_five_numbers_at_the_top(run):
    metrics = {
        "a/b": Result(1.0, "estimate").as_dict(),
        "elbo/log_likelihood/ema": Result(2.0, "lower bound", None, "nats").as_dict(),
    }
    metrics |= entries(**{f"{name}/x/ema": (3.0, 9) for name in ("kid", "fid", "recall", "precision")})
    metrics |= {f"health/{name}": Result(1.0, "estimate").as_dict() for name in ("r_hat", "ess")}
    table = metrics_table(metrics)
    assert [row.label for row in table.rows()] == [
        "KID ↓", "FID ↓", "recall ↑", "precision ↑", "log likelihood, ELBO, nats ↑", "b, a", "R-hat",
        "effective sample size",
    ]  # fmt: skip
    first = ["KID ↓", "FID ↓", "recall ↑", "log likelihood, ELBO, nats ↑", "precision ↑"]
    assert [row.label for row in first_rows(table)] == first
    (run / "metrics.json").write_text(json.dumps(metrics))
    page = write_report(run).read_text()
    assert page.index("<img") < page.index('<dl class="first">') < page.index("<h2>Metrics</h2>")
    assert page.split('<dl class="first">')[1].split("</dl>")[0].count("<dt>") == 5


@pytest.mark.parametrize("extra", ["", "a_very_long_quantity_" * 9, "words of somebody " * 9])
def test_the_closing_table_has_at_most_100_columns(run, extra):
    metrics = read_metrics(run / "metrics.json") | entries(
        **{f"{extra}/x/{w}": (0.00123456789, n) for w, n in (("ema", 900), ("ema-n36", 36), ("held-out", 36))}
    )
    for entry in metrics.values():
        entry.update(error=0.000123, kind="upper bound", unit="bits/dim")
        entry["protocol"]["flags"] = ["fewer images than dimensions, so that it is singular"] * 9
    lines = closing_table(metrics).splitlines()
    assert max(map(len, lines)) <= 100
    assert any("↓" in line for line in lines) and "alert(1)" in "".join("".join(lines).split())


@pytest.mark.parametrize(("value", "error", "text"), [
    (3.17159, 0.0213, "3.172 ± 0.021"), (1234.5, 12.0, "1,234 ± 12"), (0.00123, 0.00045, "0.00123 ± 0.00045"),
    (2.5, None, "2.5"), (float("nan"), 0.1, "nan"), (float("inf"), None, "inf"), (35746307.0, None, "35,746,307"),
])  # fmt: skip
def test_a_value_is_written_to_two_digits_of_its_error(value, error, text):
    assert number(value, error) == text


def test_an_empty_folder_gives_a_page_and_a_missing_one_a_sentence(tmp_path):
    Reader(write_report(tmp_path).read_text())
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        write_report(tmp_path / "absent")
