"""One page that needs nothing but itself, with every number, picture and difference of protocols on it."""

import base64
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_gen.metrics.registry import metrics
from lightning_gen.results.compare import write_comparison
from lightning_gen.results.compared import names
from lightning_gen.results.page import pieces
from lightning_gen.results.ranking import Verdict
from lightning_gen.results.report import write_report
from lightning_gen.results.result import Result
from lightning_gen.results.tables import Block, Cell, Row, Table, html, markdown
from tests.results.compare_parts import bits, fid, folder
from tests.results.test_report import Reader
from tests.results.test_report import table as samplers

EVIL = '"><script>alert(1)</script><img src=http://example.org/x.png>|'


@pytest.fixture
def runs(tmp_path):
    """Three runs: two alike, with samples and curves, and one of another N and family, its texts malicious."""
    first = {"fid/digits/ema": fid(52.3, 0.4), "fid/digits/held-out": fid(0.9), "vlb/bits_per_dim/ema": bits(8.275)}
    second = {"fid/digits/ema": fid(49.4, 0.4), "kid/digits/ema": fid(float("nan")), "vlb/decoder/ema": bits(1.6)}
    third = {"fid/digits/raw": fid(9.0, 0.1, n=100, resize=EVIL), f"{EVIL}/x": Result(1.0, "estimate")}
    paths = [
        folder(tmp_path / "a", first, losses=40, level=10),
        folder(tmp_path / "b", second, losses=10, level=200, seed=1),
        folder(tmp_path / "<i>c", third, family="RBM", losses=5),
    ]
    (paths[0] / "samplers.json").write_text(json.dumps(samplers("ddim")))
    return paths


@pytest.fixture
def written(runs, tmp_path):
    """The folder of the comparison."""
    write_comparison(tmp_path / "out", runs)
    return tmp_path / "out"


def test_nothing_outside_is_asked_for_and_no_script_runs(written):
    page = (written / "comparison.html").read_text()
    found = Reader(page)
    assert {tag for tag, _ in found.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "section", "h1", "h2", "p", "div", "span", "sup", "ul"),
        *("li", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img", "details", "summary"),
        "wbr",
    }
    for tag, attributes in found.tags:
        assert not {"href", "onload", "onerror", "srcset"} & set(attributes), tag
        assert tag != "img" or attributes["src"].startswith("data:image/png;base64,")
    assert "url(" not in page and "@import" not in page and "Content-Security-Policy" in page
    assert EVIL in found.text


def test_markdown_shows_what_a_user_wrote_as_text(written):
    text = (written / "comparison.md").read_text()
    assert not re.search(r"(?<!\\)<(script|img|i)\b", text)
    widths = {
        len(re.findall(r"(?<!\\)\|", line)) for line in text.split("## Likelihood")[1].splitlines() if line[:1] == "|"
    }
    assert widths == {5}  # three runs, or nats, bits/dim and kind, after what a row is


def test_a_page_has_at_most_so_many_columns_side_by_side():
    """Another table follows with the others, and its rows have their names again."""
    columns = [f"column {i}" for i in range(30)]
    rows = [Row(i, "ema", [Cell(float(i * 100 + j), 0.5) for j in range(30)], f"run{i}") for i in range(2)]
    notes, unranked = ["a note of what is not ranked"], ["a and b are apart"]
    whole = Table("All", "", columns, [Block("N = 9", rows)], notes, unranked)
    page = html(whole).replace("<wbr>", "")
    assert page.count("<table") == 3 and page.count("run1") == 3 and page.count("<li>a note") == 1
    assert page.count('<li class="unranked">a and b') == 1
    assert re.findall("apart|a note", markdown(whole)) == ["apart", "a note"]
    for j, column in enumerate(columns):
        assert page.count(column + "<") == 1 and page.count(f"<span>{100 + j}.00</span>") == 1


@pytest.mark.parametrize("words", ["", "a_b/c-d", "FID ↓, estimate", "x" * 99, "a/" * 50, "  spaced  out_"])
def test_pieces_are_short_and_lose_nothing(words):
    assert "".join(pieces(words)) == words and max(map(len, pieces(words)), default=0) <= 32


def test_markdown_is_escaped_but_for_what_the_template_writes():
    cell = Cell(1.0, None, " (_w_)", Verdict("best", "a"))
    table = Table("T|", "<b>", ["c|"], [Block("[x]", [Row(None, "*r*", [cell])])])
    lines = markdown(table, 3).splitlines()
    assert lines[:5] == ["### T\\|", "", "\\<b\\>", "", "**\\[x\\]**"]
    assert "| \\*r\\* | **1 (\\_w\\_)**<sup>a</sup> (best) |" in lines and "|---|---:|" in lines


def test_the_best_is_bold_and_the_verdicts_are_in_all_three_files(written):
    page, text = (written / "comparison.html").read_text(), (written / "comparison.md").read_text()
    content = json.loads((written / "comparison.json").read_text())
    best = '<td class="number best" data-head="FID ↓, estimate"><span>49.40</span> <span>± 0.40</span>'
    assert f'{best} <span class="tag">best</span></td>' in page.replace("<sup>a</sup>", "").replace("<wbr>", "")
    assert "**49.40 ± 0.40** (best)" in text and "**52.30" not in text and "**9.00" not in text
    ranks = {(row["run"], row["name"]): row for row in content["numbers"] if row["weights"] != "held-out"}
    assert ranks["b", "fid/digits"]["rank"] == "best" and ranks["a", "fid/digits"]["rank"] == ""
    assert ranks["<i>c", "fid/digits"]["not_ranked"]
    assert ranks["b", "kid/digits"]["value"] == "nan"
    assert ranks["a", "fid/digits"]["protocol"]["features_sha256"] == "ab" * 32
    assert ranks["a", "fid/digits"]["value"] == 52.3 and ranks["a", "fid/digits"]["error"] == 0.4


def test_another_n_is_a_block_of_its_own_with_a_sentence(written):
    text = Reader((written / "comparison.html").read_text()).text
    assert "N = 400" in text and "<i>c alone has N = 100: not ranked with the others." in text


def test_real_data_stand_once_for_runs_that_share_them(tmp_path):
    held = {"fid/digits/ema": fid(5.0), "fid/digits/held-out": fid(0.9, n=360)}
    paths = [folder(tmp_path / name, held) for name in "ab"] + [
        folder(tmp_path / "c", held | {"fid/digits/held-out": fid(0.8, n=360)})
    ]
    write_comparison(tmp_path / "out", paths)
    assert (tmp_path / "out" / "comparison.md").read_text().count("real data held out, for ") == 2


def test_the_grids_are_the_runs_samples_at_one_scale(written):
    page = (written / "comparison.html").read_text().split("<h2>Samples</h2>")[1].split("</section>")[0]
    images = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)", page)]
    assert len(images) == 2 and images[0].size == images[1].size
    pixels = [np.asarray(image) for image in images]
    assert [int(np.bincount(x.ravel()).argmax()) for x in pixels] == [10, 200]
    side = pixels[0].shape[0]
    beside = [np.asarray(Image.open(written / f"comparison-samples-{i}.png")) for i in (1, 2)]
    assert side > 300 and all((x == y).all() for x, y in zip(beside, pixels, strict=True))


def test_losses_of_two_families_do_not_share_a_panel(runs):
    from lightning_gen.results.compare import Comparison

    (curves,) = [picture for picture in Comparison(runs).pictures if picture.section == "curves"]
    assert "scales of their own" in curves.caption
    alike = [picture for picture in Comparison(runs[:2]).pictures if picture.section == "curves"]
    assert "scales of their own" not in alike[0].caption
    # a panel more is a wider picture
    assert Image.open(io.BytesIO(curves.data)).width > Image.open(io.BytesIO(alike[0].data)).width


def test_samplers_under_two_protocols_are_two_pictures(runs):
    from lightning_gen.results.compare import Comparison

    content = samplers("ddim")
    for row in content["rows"]:
        row["protocol"] = dict(row.get("protocol") or {}) | {"n": 77}
    (runs[1] / "samplers.json").write_text(json.dumps(content))
    shown = [picture for picture in Comparison(runs).pictures if picture.section == "samplers"]
    assert len(shown) == 2 and "N 77" in shown[1].caption and "not ranked" in shown[1].caption
    (runs[1] / "samplers.json").write_text(json.dumps(samplers("ddim")))
    assert len([picture for picture in Comparison(runs).pictures if picture.section == "samplers"]) == 1


def test_the_configs_differences_are_listed(written):
    assert "| seed | 0 | 1 | 0 |" in (written / "comparison.md").read_text()


def test_pictures_of_an_earlier_comparison_go(written, runs):
    assert (written / "comparison-samplers-1.png").is_file()
    write_comparison(written, runs[1:])
    assert not (written / "comparison-samplers-1.png").exists()
    assert not (written / "comparison-samples-2.png").exists()


def test_names_are_as_long_as_they_must_be():
    assert names([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert names([Path("/x/a/export"), Path("/x/b/export")]) == ["a/export", "b/export"]


HARNESS = """<!doctype html><body><iframe id="f" style="width:%dpx;height:900px;border:0" srcdoc="%s"></iframe>
<script>f.onload = () => { const d = f.contentDocument, e = d.documentElement;
  d.querySelectorAll("details").forEach(x => x.open = true);
  const cut = [...d.querySelectorAll(".wide:has(table)")].filter(x => x.scrollWidth > x.clientWidth);
  const shown = [...d.images].every(i => i.naturalWidth > 0);
  document.title = [e.scrollWidth, e.clientWidth, cut.length, shown].join(" "); }</script>"""


def looked_at(page, width, folder):
    """Of a page in a browser of that width: how wide it is, how much of that is seen, tables that are cut, and whether
    all pictures are shown."""
    program = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    assert program, "this test looks at the page in a browser: install chromium (apt-get install chromium)"
    quoted = page.replace("&", "&amp;").replace('"', "&quot;")
    (folder / "harness.html").write_text(HARNESS % (width, quoted))
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    words += ["--virtual-time-budget=5000", "--dump-dom", (folder / "harness.html").as_uri()]
    dom = subprocess.run([program, *words], capture_output=True, text=True, check=True, timeout=300).stdout
    wide, seen, cut, shown = re.search(r"<title>(\d+) (\d+) (\d+) (\w+)</title>", dom).groups()
    return int(wide), int(seen), int(cut), shown == "true"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_without_scrolling_sideways(written, tmp_path, width):
    wide, seen, cut, shown = looked_at((written / "comparison.html").read_text(), width, tmp_path)
    assert wide <= seen <= width and not cut and shown


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_twelve_metrics_of_long_names_uncut(tmp_path, width):
    """In a comparison a column a metric, in a report a row."""
    names = [*metrics(), *(f"{'long_' * 9}{i}" for i in range(3))]
    numbers = {f"{name}/digits/{w}": fid(0.00123, 0.00045, n=n) for name in names
               for w, n in (("ema", 400), ("ema-n36", 36), ("held-out", 36))}  # fmt: skip
    long = f"a_run_with_a_{'long_' * 9}name"
    paths = [folder(tmp_path / name, numbers, level=9, losses=9) for name in (long, "b")]
    write_comparison(tmp_path / "out", paths)
    for file in (tmp_path / "out" / "comparison.html", write_report(paths[0])):
        wide, seen, cut, shown = looked_at(file.read_text(), width, tmp_path)
        assert wide <= seen <= width and not cut and shown, file
