"""The operator page (appliance/page/page.html), in headless Chromium and without script, against a real server."""

from __future__ import annotations

import gzip
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import Server, wait_for

CHROMIUM = "/usr/bin/chromium"
WAIT_S = 60.0
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"> & 'model'"


def admin_of(server: Server) -> str:
    found = re.search(r"admin=(\S+)", server.log_text())
    assert found, server.log_text()
    return f"http://{found[1]}"


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server]) -> Server:
    return start_server({"admin.listen": "127.0.0.1:0", "model_name": HOSTILE, "engine.sequences": "8"})


@pytest.fixture(scope="module")
def admin(server: Server) -> str:
    return admin_of(server)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def ask(server: Server, tokens: int = 4, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/chat/completions", timeout=WAIT_S, headers=headers,
                      json={"messages": [{"role": "user", "content": "hello"}], "max_tokens": tokens,
                            "ignore_eos": True})


def open_page(browser: Browser, url: str, **options: object) -> tuple[Page, list[str], list[str]]:
    """A page with what its console says and what it asks for."""
    said: list[str] = []
    asked: list[str] = []
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(WAIT_S * 1000)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    return page, said, asked


def test_the_document(admin: str) -> None:
    """Small, whole without anything else, and under a policy that allows nothing else."""
    answer = httpx.get(admin)
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    assert "frame-ancestors 'none'" in policy and answer.headers["x-content-type-options"] == "nosniff"
    assert len(gzip.compress(answer.content)) <= 65536
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", answer.text)
    assert "{{" not in answer.text and " style=" not in answer.text and " onclick=" not in answer.text


def test_the_other_paths(admin: str, server: Server) -> None:
    assert httpx.get(f"{admin}/livez").json() == {"live": True}
    for path in ("/readyz", "/health"):
        assert httpx.get(admin + path).json() == httpx.get(server.url + path).json()
    metrics = httpx.get(f"{admin}/metrics", headers={"accept": "application/openmetrics-text"})
    assert metrics.status_code == 200 and metrics.text.endswith("# EOF\n")
    assert httpx.get(f"{admin}/metrics?names=none").status_code == 400
    assert httpx.get(f"{server.url}/metrics").status_code == 404        # they are where operators are
    missing = httpx.get(f"{admin}/v1/models")
    assert missing.status_code == 404 and "/events" in missing.text
    refused = httpx.post(admin)
    assert refused.status_code == 405 and refused.headers["allow"] == "GET, HEAD"
    assert httpx.head(admin).status_code == 200


def test_what_anybody_could_choose_is_escaped(admin: str, server: Server, browser: Browser) -> None:
    for name in ("x-request-id", "traceparent", "user-agent", "authorization"):
        ask(server, **{name: "<script>alert(1)</script>"})
    httpx.get(f"{server.url}/<script>alert(1)</script>")
    page, said, _ = open_page(browser, admin)
    assert page.title() == f"{HOSTILE} · Cairn"
    assert HOSTILE in page.inner_text(".brand")
    assert page.locator("img").count() == 0 and page.locator("script").count() == 1
    assert "<script>alert" not in page.content() and said == []


def test_it_refreshes_and_asks_for_nothing_else(admin: str, server: Server, browser: Browser) -> None:
    page, said, asked = open_page(browser, admin)
    total = page.locator("dt:has-text('Generated tokens') + dd")
    page.wait_for_function("document.querySelector('#tick').textContent.startsWith('Live')")
    before = int(total.inner_text().replace(",", ""))
    ask(server, tokens=7)
    page.wait_for_function("(was) => [...document.querySelectorAll('dt')].some((t) => t.textContent === "
                           "'Generated tokens' && +t.nextSibling.textContent.replace(/,/g, '') === was + 7)",
                           arg=before)
    assert page.locator("table.slow tbody tr").first.is_visible()
    page.click("#pause")
    paused = page.inner_text("#tick")
    assert paused.startswith("Paused") and page.get_attribute("#pause", "aria-pressed") == "true"
    page.click("#pause")
    page.wait_for_function("(was) => !document.querySelector('#tick').textContent.endsWith(was.slice(8))", arg=paused)
    assert said == [] and sorted(set(asked)) == [f"{admin}/", f"{admin}/events"]


def test_it_is_whole_without_script(admin: str, server: Server, browser: Browser) -> None:
    ask(server)

    def shows_it() -> bool:
        page, _, asked = open_page(browser, admin, java_script_enabled=False)
        assert "Ready" in page.inner_text(".state") and page.inner_text("#tick").startswith("As of")
        assert not page.is_visible("#pause") and asked == [f"{admin}/"]
        return page.locator("table.slow .phases rect").count() > 0
    assert wait_for(shows_it, WAIT_S)


CONTRASTS = """() => {
  const lum = (c) => { const v = c.map((x) => { x /= 255; return x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4; });
    return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
  const rgba = (s) => s.match(/[\\d.]+/g).map(Number);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('svg')) {
      const s = getComputedStyle(e), paint = s.fill !== 'none' ? s.fill : s.stroke;
      if (!e.matches('rect, path, circle, ellipse') || e.matches('.track, .area') || paint === 'none') continue;
      const r = ratio(rgba(paint).slice(0, 3), ground(e.closest('svg').parentElement));
      if (r < 3) bad.push(['graphic', e.getAttribute('class'), r]);
    } else if ([...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) {
      const r = ratio(rgba(getComputedStyle(e).color).slice(0, 3), ground(e));
      if (r < 4.5) bad.push([e.tagName, e.textContent.slice(0, 40), r]);
    }
  }
  return bad;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_aa(admin: str, browser: Browser, scheme: str) -> None:
    """Text 4.5:1, drawings 3:1 (WCAG 2.2, 1.4.3 and 1.4.11), measured on what the browser shows."""
    page, _, _ = open_page(browser, admin, color_scheme=scheme)
    assert page.evaluate(CONTRASTS) == []


def test_everything_has_a_name(admin: str, browser: Browser) -> None:
    page, _, _ = open_page(browser, admin)
    unnamed = page.evaluate("""() => {
      const name = (e) => (e.getAttribute('aria-label') || document.getElementById(e.getAttribute('aria-labelledby'))
        ?.textContent || e.textContent || '').trim();
      const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
      return [...document.querySelectorAll('section, button, a, [role=img], [role=region]')].filter((e) => !name(e))
        .map((e) => e.outerHTML.slice(0, 80))
        .concat([...document.querySelectorAll('svg')].filter((e) => !e.hasAttribute('aria-hidden') &&
          e.getAttribute('role') !== 'img').map((e) => e.outerHTML.slice(0, 80)))
        .concat([...document.querySelectorAll('th')].filter((e) => !e.scope).map((e) => e.outerHTML))
        .concat(ids.filter((id, i) => ids.indexOf(id) !== i))
        .concat([...document.querySelectorAll('button, summary, footer a')].filter((e) =>
          e.offsetParent && e.getBoundingClientRect().height < 24).map((e) => 'small: ' + e.outerHTML));
    }""")
    assert unnamed == []
    assert page.get_attribute("html", "lang") == "en"
    assert page.locator("h1").count() == 1 and page.locator("main").count() == 1
    assert page.locator("[role=status]").count() == 1


@pytest.mark.parametrize("width", [320, 390, 768, 1240])
def test_it_fits(admin: str, browser: Browser, width: int) -> None:
    page, _, _ = open_page(browser, admin, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_viewers_are_bounded(admin: str) -> None:
    streams = []
    client = httpx.Client(limits=httpx.Limits(max_connections=40), timeout=WAIT_S)

    def refused() -> bool:
        stream = client.send(client.build_request("GET", f"{admin}/events"), stream=True)
        streams.append(stream)
        return stream.status_code == 503
    assert any(refused() for _ in range(17))
    assert streams[-1].headers["retry-after"] == "10"
    for stream in streams:
        stream.close()
    client.close()
    assert wait_for(lambda: not refused_again(admin), WAIT_S)


def refused_again(admin: str) -> bool:
    with httpx.stream("GET", f"{admin}/events", timeout=WAIT_S) as stream:
        return stream.status_code == 503


def test_an_event_is_the_page(admin: str) -> None:
    with httpx.stream("GET", f"{admin}/events", timeout=WAIT_S) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        lines = stream.iter_lines()
        assert next(lines).startswith("retry: ")
        assert re.fullmatch(r"id: \d\d:\d\d:\d\d UTC", next(lines))
        data = []
        for line in lines:
            if not line:
                break
            assert line.startswith("data: ")
            data.append(line[6:])
    text = httpx.get(admin).text
    assert data[0].startswith("<p class=\"state ") and data[-1] == "</div>"
    assert [line for line in data if line.startswith("<h2")] == re.findall(r"^<h2.*$", text, re.M)


def test_it_says_what_is_wrong(start_server: Callable[..., Server]) -> None:
    """Without its Redis, and while it drains."""
    server = start_server({"admin.listen": "127.0.0.1:0", "state.store": "redis", "state.log": "127.0.0.1:1",
                           "drain.notice_ms": "8000"})
    admin = admin_of(server)
    assert wait_for(lambda: "Degraded" in httpx.get(admin).text, WAIT_S)
    text = httpx.get(admin).text
    assert "class=\"state bad\"" in text and "<span class=\"down\">away</span>" in text
    server.process.send_signal(signal.SIGTERM)
    assert wait_for(lambda: "Draining" in httpx.get(admin).text, WAIT_S)
    assert server.process.wait(WAIT_S) == 0


def test_a_trace(start_server: Callable[..., Server], tmp_path: Path) -> None:
    """The client's trace in the answer, the log and the file; a trace that is not sampled only in the first two."""
    file = tmp_path / "traces.jsonl"
    server = start_server({"trace.otlp_file": str(file)})
    trace, quiet = "4bf92f3577b34da6a3ce929d0e0e4736", "5bf92f3577b34da6a3ce929d0e0e4736"
    answer = ask(server, traceparent=f"00-{trace}-00f067aa0ba902b7-01", **{"cairn-phases": "1", "x-request-id": "mine"})
    found = re.fullmatch(rf"00-{trace}-([0-9a-f]{{16}})-01", answer.headers["traceparent"])
    assert found and found[1] != "00f067aa0ba902b7"
    phases = answer.json()["usage"]["phases_ms"]
    assert list(phases) == ["prepare", "queue", "restore", "prefill", "decode", "write", "network"]
    assert phases["prefill"] > 0 and phases["decode"] > 0
    ask(server, traceparent=f"00-{quiet}-00f067aa0ba902b7-00")
    assert wait_for(lambda: quiet in server.log_text(), WAIT_S)
    line = next(line for line in server.log_text().splitlines() if "id=mine " in line)
    assert f"trace={trace}" in line
    told = {name: int(re.search(rf"{name}_us=(\d+)", line)[1]) for name in phases}
    # `total` begins with the last byte of the request, and each phase is rounded down.
    assert sum(told.values()) >= int(re.search(r"total_us=(\d+)", line)[1]) - len(told)
    assert server.drain(WAIT_S) == 0
    lines = [json.loads(text) for text in file.read_text().splitlines()]
    spans = [line["resourceSpans"][0]["scopeSpans"][0]["spans"] for line in lines]
    mine = next(each for each in spans if each[0]["traceId"] == trace)
    assert mine[0]["parentSpanId"] == "00f067aa0ba902b7" and mine[0]["spanId"] == found[1]
    assert mine[0]["name"] == "POST /v1/chat/completions"
    assert {"prefill", "decode"} <= {span["name"] for span in mine[1:]}
    assert all(span["parentSpanId"] == found[1] for span in mine[1:])
    assert all(each[0]["traceId"] != quiet for each in spans)


def test_phases_of_a_stored_turn(server: Server) -> None:
    """A response tells them with its usage, streamed chat with its last chunk; without the field nobody does."""
    body = {"input": "hello", "max_output_tokens": 16}
    told = httpx.post(f"{server.url}/v1/responses", json=body, headers={"cairn-phases": "1"}, timeout=WAIT_S).json()
    assert told["usage"]["phases_ms"]["prefill"] > 0
    stored = httpx.get(f"{server.url}/v1/responses/{told['id']}", timeout=WAIT_S).json()
    assert stored["usage"] == told["usage"]
    assert "phases_ms" not in httpx.post(f"{server.url}/v1/responses", json=body, timeout=WAIT_S).json()["usage"]
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stream": True,
            "stream_options": {"include_usage": True}}
    text = httpx.post(f"{server.url}/v1/chat/completions", json=chat, headers={"cairn-phases": "1"}, timeout=WAIT_S).text
    last = json.loads(text.split("data: ")[-2])
    assert last["usage"]["phases_ms"]["decode"] > 0


@pytest.mark.parametrize("flags, text", [
    ({"trace.otlp_file": "/tmp/none/such/file"}, "trace.otlp_file: /tmp/none/such/file: No such file or directory"),
    ({"admin.listen": "nonsense"}, "admin.listen: address: \"nonsense\" has no port"),
    ({"admin.listen": "127.0.0.1:99999"}, "admin.listen: address: .* has a port that is not 0 to 65535"),
])
def test_what_cannot_be_opened_is_named(flags: dict[str, str], text: str) -> None:
    with pytest.raises(RuntimeError, match=text):
        Server(flags)
