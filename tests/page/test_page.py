import json
import math
import re
import subprocess
from base64 import b64encode
from html.parser import HTMLParser

import pytest

from effxfer.page import Section, write_page
from effxfer.page.page import headline
from effxfer.report import Curve, Measurement, Report, Table
from tests.deploy.browser import BROWSER

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&{{ 7*7 }}"
SUMMARY = Table(
    title="Models",
    rows=(
        {"model": "dense fp32", "accuracy %": 84.1, "p50 ms": 33.9, "p50 ratio": 1.0, "size MB": 44.8},
        {"model": "pruned int8", "accuracy %": 83.6, "p50 ms": 4.75, "p50 ratio": 0.14, "size MB": 3.3},
    ),
)


class Page(HTMLParser):
    """The page as a browser sees it: tags, text outside scripts, scripts."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.scripts, self.inside = [], [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif not self.inside:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def figures(self):
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id") == "figures"))


def write(tmp_path, **given):
    settings = {"title": "Run", "sections": [], "summary": SUMMARY, "facts": {}, **given}
    return Page(write_page(tmp_path / "page.html", **settings).read_text())


def evil_section():
    report = Report(
        rows=(Measurement(name=EVIL, value=1.0, unit="%", of=EVIL),),
        notes=(EVIL,),
        tables=(Table(title=EVIL, rows=({EVIL: EVIL},)),),
        curves=(Curve(title=EVIL, name=EVIL, x=EVIL, y=EVIL, points=((1.0, 2.0),)),),
    )
    return Section(title=EVIL, report=report, command=EVIL)


def test_names_given_by_users_are_text_never_markup(tmp_path):
    summary = Table(title=EVIL, rows=({"model": EVIL, "accuracy %": 1.0, "p50 ms": 1.0, "size MB": 1.0},))
    page = write(
        tmp_path,
        title=EVIL,
        sections=[evil_section()],
        summary=summary,
        facts={EVIL: EVIL, "list": [EVIL], "table": {EVIL: EVIL}},
        chosen=EVIL,
        command=EVIL,
    )
    assert len(page.scripts) == 3
    assert page.all("img") == []
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert page.texts.count(EVIL) >= 12
    assert page.figures[0]["data"][1]["name"] == (
        "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&#39;&#34;&amp;{{ 7*7 }}"
    )


def test_the_page_asks_nobody_for_anything(tmp_path):
    page = write(tmp_path, sections=[evil_section()])
    assert page.all("link") == []
    assert not [attrs for _, attrs in page.tags if "src" in attrs]
    assert all(attrs["href"].startswith("#") for attrs in page.all("a"))
    policy = next(attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "form-action 'none'" in policy
    own = page.scripts[-1][1]
    assert "showSendToCloud: false" in own
    assert 'plotlyServerURL: ""' in own


def test_every_measurement_is_shown_with_range_n_and_denominator(tmp_path):
    row = Measurement(name="accuracy/test", value=84.126, unit="%", low=82.1, high=86.0, n=1499, of="test images")
    page = write(tmp_path, sections=[Section(title="Fine-tune", report=Report(rows=(row,)), command="effxfer x")])
    assert "accuracy/test 84.13 % 82.1 to 86 1499 test images" in page.text
    assert "effxfer x" in page.texts


def test_the_summary_marks_the_chosen_and_the_front(tmp_path):
    page = write(tmp_path, chosen="pruned int8")
    assert page.text.count("chosen") == 1
    assert page.text.count("Pareto") == 2
    assert "7.1\u00d7 faster than dense fp32" in page.text


@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
def test_the_summary_of_a_bench_fits_a_window_of_1300_pixels(tmp_path):
    columns = {
        "accuracy val %": 99.17, "accuracy test %": 98.32, "p50 ms": 0.406, "p95 ms": 10.64, "p50 ratio": 5.272,
        "ratio 95 %": "5.189 to 5.357", "size MB": 1.1, "compressed MB": 0.0803, "zeros %": 46.44,
    }  # fmt: skip
    summary = Table(title="Models", rows=tuple({"model": m, **columns} for m in ("dense-onnx fp32", "small-onnx int8")))
    page = write_page(
        tmp_path / "page.html", title="", sections=[], summary=summary, facts={}, chosen="small-onnx int8"
    )
    with page.open("a") as stream:
        stream.write("<script>const table = document.querySelector('.scroll');")
        stream.write("document.title = `${table.scrollWidth} of ${table.clientWidth}`</script>")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1300,900"]
    command = [BROWSER, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    needed, given = map(int, re.search(r"<title>(\d+) of (\d+)</title>", dom).groups())
    assert needed == given


def test_links_lead_to_sections(tmp_path):
    page = write(tmp_path, sections=[Section(title=str(i), report=Report()) for i in range(3)], command="x")
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {attrs["href"][1:] for attrs in page.all("a")} <= ids


def test_every_place_for_a_plot_has_its_figure(tmp_path):
    curve = Curve(title="Loss", name="train", x="epoch", y="loss", points=((1.0, 1.0),))
    page = write(tmp_path, sections=[Section(title="a", report=Report(curves=(curve,))), evil_section()])
    places = [int(attrs["data-figure"]) for _, attrs in page.tags if "data-figure" in attrs]
    assert places == list(range(len(page.figures)))


def test_an_empty_run_says_so_and_carries_no_plotly(tmp_path):
    page = write(tmp_path, summary=Table(title="t", rows=()), sections=[Section(title="a", report=Report())])
    assert "No models were compared" in page.text
    assert "measured nothing" in page.text
    assert "Nothing was recorded about the machine" in page.text
    assert len(page.scripts) == 1
    assert (tmp_path / "page.html").stat().st_size < 50_000


def test_what_json_cannot_say_does_not_break_the_plots(tmp_path):
    rows = ({"model": "a", "accuracy %": 1.0, "p50 ms": 1.0, "size MB": math.nan},)
    curve = Curve(title="t", name="n", x="x", y="y", points=((1.0, math.inf), (2.0, 1.0)))
    report = Report(curves=(curve,), rows=(Measurement(name="nan", value=math.nan),))
    page = write(tmp_path, summary=Table(title="t", rows=rows), sections=[Section(title="a", report=report)])
    assert len(page.figures) == 2
    assert not re.search(r"\b(NaN|Infinity)\b", json.dumps(page.figures))


def test_the_same_run_gives_the_same_page(tmp_path):
    first = write_page(tmp_path / "a.html", title="t", sections=[evil_section()], summary=SUMMARY, facts={})
    again = write_page(tmp_path / "b.html", title="t", sections=[evil_section()], summary=SUMMARY, facts={})
    assert first.read_bytes() == again.read_bytes()


def test_facts_of_every_kind_are_shown(tmp_path):
    page = write(tmp_path, facts={"cpu": "X", "quota": None, "flags": ["avx2"], "none": [], "packages": {"torch": "2"}})
    assert "cpu X" in page.text
    assert "avx2" in page.texts
    assert "torch" in page.text
    assert "container limit, cores" in page.texts


def test_headline_compares_with_the_first_row():
    cards = {card["label"]: card for card in headline(SUMMARY, "pruned int8")}
    assert cards["accuracy"]["against"] == "\u22120.5 points against dense fp32"
    assert (cards["accuracy"]["good"], cards["p50 latency"]["good"]) == (False, True)
    assert (cards["size"]["value"], cards["size"]["unit"]) == ("3.3", "MB")
    assert cards["size"]["against"] == "13.6\u00d7 smaller than dense fp32"


def test_a_model_that_got_worse_is_called_slower_and_larger():
    rows = tuple(reversed(SUMMARY.rows))
    cards = {card["label"]: card for card in headline(Table(title="t", rows=rows), "dense fp32")}
    assert cards["p50 latency"]["against"] == "7.1\u00d7 slower than pruned int8"
    assert cards["size"]["against"].startswith("13.6\u00d7 larger")
    assert not cards["size"]["good"]


@pytest.mark.parametrize("chosen", ["", "unknown"])
def test_without_a_chosen_model_there_is_no_headline(chosen):
    assert headline(SUMMARY, chosen) == []
    assert headline(Table(title="t", rows=()), chosen) == []


def test_a_picture_is_part_of_the_page(tmp_path):
    picture = b"\xff\xd8 any bytes <script>"
    sections = [Section(title="onnx", report=Report(), picture=picture), Section(title="bench", report=Report())]
    file = write_page(tmp_path / "p.html", title="t", sections=sections, summary=SUMMARY, facts={})
    sources = [attrs["src"] for tag, attrs in Page(file.read_text()).tags if tag == "img"]
    assert sources == [f"data:image/jpeg;base64,{b64encode(picture).decode()}"]
