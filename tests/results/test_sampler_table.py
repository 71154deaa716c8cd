"""The table of samplers as text, page and picture: each cell in its column, the best marked, nothing unescaped."""

import json
import re

import pytest
from matplotlib.axes import Axes

from lightning_gen.results.pictures.samplers import samplers_picture
from lightning_gen.results.report import write_report
from lightning_gen.results.sampler_table import markdown, tables


def content() -> dict:
    """Two samplers and three budgets, one of them adaptive."""
    machine = {"machine": "an abacus"}
    protocol = {"n": 90, "seed": 0, "step": 70, "weights": "ema", "reference": "train", "data": "digits"}

    def row(name, spent, fid, kid, seconds):
        values = {"evaluations": (spent, None), "fid": (fid, 0.11), "kid": (kid, 0.02), "seconds": (seconds, None)}
        numbers = {key: {"value": v, "error": e, "protocol": machine | {"n": 90}} for key, (v, e) in values.items()}
        return {"sampler": name, "protocol": protocol, **numbers}

    rows = [row("a<b>", 10, 5.0, 0.5, 1.0), row("a<b>", 20, 3.0, 0.1, 2.0), row("rk45", 12.5, 4.0, -0.01, 1.5),
            row("rk45", 18, 3.5, 0.2, 1.9), row("rk45", 40, 2.0, 0.3, 4.0)]  # fmt: skip
    held_out = {key: rows[0][key] for key in ("fid", "kid")}
    return {"budgets": [10, 20], "rows": rows, "left_out": {"mala": "needs & wants"}, "held_out": held_out}


def test_a_cell_is_the_best_that_its_budget_buys_and_the_best_of_a_column_is_marked():
    fid, kid, seconds = tables(content())
    assert (fid.title, fid.head, fid.columns) == ("FID", "sampler", ["10", "20", "40"])
    assert [(row.label, row.texts()) for row in fid.rows()] == [
        ("a<b>", ["5.00 ± 0.11", "3.00 ± 0.11", ""]),
        ("rk45", ["", "3.50 ± 0.11 (18)", "2.00 ± 0.11"]),
    ]

    def least(table):
        return [[cell is not None and cell.verdict.mark == "least" for cell in row.cells] for row in table.rows()]

    assert least(fid) == [[True, True, False], [False, False, True]]
    assert least(kid) == [[True, True, False], [False, False, True]]
    assert least(seconds) == [[True, False, False], [False, True, True]]
    text = markdown(content())
    assert "| a\\<b\\> | **5.00 ± 0.11** | **3.00 ± 0.11** |  |" in text
    assert "- mala is left out: needs & wants" in text and "an abacus" in text and "N = 90" in text


def test_the_page_has_the_same_cells_escaped(tmp_path):
    assert "is left out" not in write_report(tmp_path).read_text()
    (tmp_path / "samplers.json").write_text(json.dumps(content()))
    page = write_report(tmp_path).read_text().split("<h2>Samplers</h2>")[1].split("</section>")[0]
    assert re.search(r'<td class="number least"[^>]*><span>5.00</span> <span>± 0.11</span></td>', page)
    assert "a&lt;b&gt;" in page and "needs &amp; wants" in page and "a<b>" not in page
    assert len(re.findall("<tr>", page)) == 3 * 3


@pytest.mark.parametrize(("n", "lines"), [(90, 2), (45, 1)])
def test_real_data_are_a_line_where_their_bias_is_the_samples_own(n, lines, monkeypatch):
    """KID has none; FID's depends on N."""
    drawn, draw = [], Axes.axhline
    monkeypatch.setattr(Axes, "axhline", lambda *a, **k: (drawn.append((a[1], k["label"])), draw(*a, **k))[1])
    whole = json.loads(json.dumps(content()))
    for result in whole["held_out"].values():
        result["protocol"]["n"] = n
    samplers_picture(whole)
    assert drawn == [(5.0, f"real data, N = {n}"), (0.5, f"real data, N = {n}")][-lines:]
