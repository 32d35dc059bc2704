"""The page of a run, read as a machine for accessibility reads it; and verdicts of comparisons."""
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from .sink import bench, load, sink

VOID = {"meta", "link", "br", "path", "rect"}


class Page(HTMLParser):
    """Elements with their attributes and texts; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.texts: dict[int, str] = {}
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes), list(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes), list(self.open)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    digits = colour.lstrip("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    channels = [int(digits[i:i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """JSON of the same load on a sink, again, and on a slower sink; and the page of the first."""
    top = tmp_path_factory.mktemp("runs")
    paths = {name: top / f"{name}.json" for name in ("first", "again", "slow", "other")}
    flags = ("--rate", 150, "--sessions", 200, "--turns", 2, "--output-tokens", 8, "--goodput", "ttft:50",
             "--label", "A & <b>", "--html", top / "page.html")
    with sink("--ttft", 3, "--itl", 1) as url:
        for name in ("first", "again"):
            load(top, url, *flags)
            (top / "run.json").rename(paths[name])
        load(top, url, *flags, "--seed", 9)
        (top / "run.json").rename(paths["other"])
    with sink("--ttft", 9, "--itl", 3) as url:
        load(top, url, *flags)
        (top / "run.json").rename(paths["slow"])
    for path in paths.values():      # whether this machine was late is no matter of these tests
        found = json.loads(path.read_text())
        found["cairn"]["valid"] = True
        path.write_text(json.dumps(found))
    return paths | {"page": top / "page.html"}


def test_the_page_stands_alone_and_needs_no_script(runs: dict[str, Path]) -> None:
    text = runs["page"].read_text()
    page = Page(text)
    assert page.all("script") == [] and not re.search(r"\son\w+=", text)
    references = [value for _, attributes, _ in page.elements for key, value in attributes.items()
                  if key in ("src", "href", "xlink:href", "action")]
    assert references == ["data:,"]
    assert "default-src 'none'" in text and "url(" not in text and "@import" not in text
    assert len(text) < 64 * 1024
    assert "A &amp; &lt;b&gt;" in text and "<b>" not in text


def test_the_page_can_be_read_without_eyes(runs: dict[str, Path]) -> None:
    page = Page(runs["page"].read_text())
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.all("html")[0]["lang"] == "en" and len(page.all("h1")) == 1
    charts = [a for a in page.all("svg") if a.get("aria-hidden") != "true"]
    assert len(charts) == 6
    for chart in charts:
        assert chart["role"] == "img" and set(chart["aria-labelledby"].split()) <= set(ids)
    assert len(page.all("title")) == 1 + len(charts) and len(page.all("desc")) == len(charts)
    assert len(page.all("caption")) == len(page.all("table")) >= 5
    assert all(a.get("scope") in ("row", "col") for a in page.all("th"))
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))


def test_colours_have_contrast_in_both_schemes(runs: dict[str, Path]) -> None:
    schemes = re.findall(r":root\{([^}]*)\}", runs["page"].read_text())
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", scheme))
        for name in ("fg", "soft", "a", "b", "c", "bad"):
            assert contrast(colours[name], colours["bg"]) >= 4.5, (name, colours)
        assert contrast(colours["rule"], colours["bg"]) >= 3


def test_a_page_of_several_runs(runs: dict[str, Path], tmp_path: Path) -> None:
    result = bench("report", runs["first"], runs["slow"], "--out", tmp_path / "both.html")
    assert result.returncode == 0, result.stderr
    page = Page((tmp_path / "both.html").read_text())
    assert len(page.all("article")) == 2
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_an_invalid_run_is_told_in_words(runs: dict[str, Path], tmp_path: Path) -> None:
    found = json.loads(runs["first"].read_text())
    found["cairn"] |= {"valid": False, "invalid_why": "the generator was late."}
    path = tmp_path / "late.json"
    path.write_text(json.dumps(found))
    text = bench("report", path).stdout
    assert "<strong>INVALID:</strong> the generator was late." in text
    result = bench("compare", "--json", runs["first"], path)
    assert result.returncode == 3
    assert json.loads(result.stdout)["why_none"] == "the second run is INVALID"


def compare(a: Path, b: Path) -> dict:
    result = bench("compare", a, b, "--json")
    assert result.returncode in (0, 3), result.stderr
    return json.loads(result.stdout)


def test_a_slower_server_is_worse_and_the_reverse_is_better(runs: dict[str, Path]) -> None:
    found = compare(runs["first"], runs["slow"])
    assert found["verdict"] == "worse" and found["same_answers"] is True
    # 3 ms of waiting became 9, and 1 ms per token became 3; both grow by the same noise of the machine.
    ttft, e2el, tpot, _ = found["metrics"]
    assert ttft["low"] <= ttft["difference"] <= ttft["high"] and ttft["difference"] == pytest.approx(6, abs=3)
    assert tpot["difference"] == pytest.approx(2, abs=1) and e2el["p_value"] < 1e-4
    assert compare(runs["slow"], runs["first"])["verdict"] == "better"
    text = bench("compare", runs["first"], runs["slow"]).stdout
    assert "B is worse." in text and "The answers are the same." in text


def test_a_run_and_itself_do_not_differ(runs: dict[str, Path]) -> None:
    found = compare(runs["first"], runs["first"])
    assert found["verdict"] == "same" and {m["p_value"] for m in found["metrics"]} == {1}


def test_runs_that_asked_something_else_have_no_verdict(runs: dict[str, Path]) -> None:
    found = compare(runs["first"], runs["other"])
    assert found["verdict"] == "none" and "did not ask the same" in found["why_none"]
