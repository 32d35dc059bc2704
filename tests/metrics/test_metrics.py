"""GET /metrics as Prometheus, its linter and other parsers see it; dashboards and alerts on what a real Prometheus
has scraped from a server that has worked."""
import collections
import http.client
import json
import os
import random
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.e2e.server import CAIRN, Server, serve

from .prometheus import TOP, Prometheus, prometheus

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
DASHBOARDS = sorted((TOP / "deploy/grafana").glob("*.json"))
ANSWERS = 6


def post(server: Server, path: str, body: dict, **headers: str) -> dict:
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json"} | headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def page(server: Server, accept: str = "", query: str = "") -> str:
    request = urllib.request.Request(f"{server.url}/metrics{query}", headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def turns(server: Server, count: int, last: str | None = None) -> str:
    """Turns that go on from each other; the id of the last one."""
    for i in range(count):
        body = {"input": f"Hello for the {i}th time, and tell me a story.", "max_output_tokens": 24}
        last = post(server, "/v1/responses", body | ({"previous_response_id": last} if last else {}),
                    **{"X-Request-Id": f"turn-{i}"})["id"]
    return last


def work(server: Server) -> None:
    """What succeeds, and an answer for each way to fail."""
    turns(server, ANSWERS)
    for path, body in (("/v1/chat/completions", {"messages": []}), ("/v1/nothing", {}), ("/v1/responses", {"input": 5})):
        with pytest.raises(urllib.error.HTTPError):
            post(server, path, body)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        work(running)
        yield running


@pytest.fixture(scope="module")
def scraped(server: Server) -> Iterator[Prometheus]:
    with prometheus(server.url.removeprefix("http://"), "exemplar-storage") as found:
        found.wait_for("count_over_time(cairn_build_info[1m]) > 2")
        found.wait_for("count_over_time(job:cairn_request_errors:ratio_rate3d[1m]) > 1")
        yield found


def series(text: str, read=read_text) -> dict[tuple, float]:
    found = {}
    for family in read(text):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


# ---- the page

@pytest.mark.parametrize("query", ["", "?names=cairn"])
def test_the_linter_has_nothing_to_say(server: Server, query: str) -> None:
    check = subprocess.run(["promtool", "check", "metrics"], input=page(server, query=query), text=True,
                           capture_output=True)
    assert check.returncode == 0 and check.stdout + check.stderr == ""


def test_openmetrics_and_text_say_the_same(server: Server) -> None:
    """By another parser of both, which is strict about OpenMetrics."""
    openmetrics, text = series(page(server, OPENMETRICS), read_openmetrics), series(page(server))
    own = {key for key in openmetrics if not key[0].endswith("_created")}
    assert own == set(text)
    still = [key for key in own if re.match(r"cairn_(generation|step|turns|resumed|inter_token|store_pages|limit)", key[0])]
    assert len(still) > 100 and [openmetrics[key] for key in still] == [text[key] for key in still]


def test_sessions_are_counted(server: Server) -> None:
    found = series(page(server))
    resumed = {key[1][1]: value for key, value in found.items() if key[0] == "cairn_turns_resumed_total"}
    assert resumed == {"device": ANSWERS - 1, "host": 0, "redis": 0, "none": 0}
    tokens = {key[1][1]: value for key, value in found.items() if key[0] == "cairn_resumed_tokens_total"}
    assert tokens["device"] > 0 and tokens["none"] > 0 and tokens["redis"] == 0
    assert found[("cairn_turns_stored_total", ("result", "stored"))] == ANSWERS
    assert found[("cairn_resumed_idle_seconds_count",)] == ANSWERS - 1
    assert found[("cairn_generation_seconds_count",)] == ANSWERS
    assert found[("cairn_time_to_first_token_seconds_count",)] == ANSWERS
    assert found[("cairn_store_pending_operations",)] == 0
    assert found[("cairn_requests",)] == 1          # the one that asks
    route = (("method", "POST"), ("route", "/v1/responses"))
    assert found[("cairn_route_requests_total", ("code", "2xx"), *route)] == ANSWERS
    assert found[("cairn_route_requests_total", ("code", "4xx"), *route)] == 1
    assert found[("cairn_route_requests_total", ("code", "4xx"), ("method", "other"), ("route", "other"))] >= 1


def test_a_restart_shows_in_the_tiers(tmp_path: Path) -> None:
    """The next turn after it finds its history in Redis, and the metrics say so."""
    with serve("--state.directory", str(tmp_path)) as before:
        last = turns(before, ANSWERS)
        end = time.monotonic() + 60
        while before.metric("cairn_write_behind_pages") > 0:
            assert time.monotonic() < end, "pages are not saved"
            time.sleep(0.05)
        assert before.metric("cairn_write_behind_oldest_seconds") == 0
    with serve("--state.directory", str(tmp_path)) as after:
        turns(after, 1, last)
        assert after.metric('cairn_turns_resumed_total{tier="redis"}') == 1
        found = after.metric('cairn_resumed_tokens_total{tier="redis"}')
        assert found == after.metric('cairn_cached_tokens_total{tier="redis"}') >= 64
        assert after.metric('cairn_resumed_tokens_total{tier="none"}') > 0
        assert after.metric("cairn_restore_seconds_count") == 1
        assert 0 < after.metric('cairn_generation_phase_seconds_sum{phase="restore"}') < after.metric("cairn_generation_seconds_sum")


def test_vllms_names_are_read(server: Server) -> None:
    found = series(page(server, query="?names=vllm"))
    labels = (("engine", "0"), ("model_name", "model"))
    assert found[("vllm:num_requests_running", *labels)] == 0
    assert found[("vllm:num_requests_waiting", *labels)] == 0
    assert 0 <= found[("vllm:kv_cache_usage_perc", *labels)] <= 1
    assert found[("vllm:e2e_request_latency_seconds_count", *labels)] == ANSWERS
    block = [key for key in found if key[0] == "vllm:cache_config_info"][0]
    assert dict(block[1:])["block_size"] == "16" and int(dict(block[1:])["num_gpu_blocks"]) > 0
    with pytest.raises(urllib.error.HTTPError) as refused:
        page(server, query="?names=others")
    assert refused.value.code == 400 and "must be cairn or vllm" in refused.value.read().decode()


def test_clients_cannot_add_series(server: Server) -> None:
    """Whatever they put into paths, methods, models, ids and headers."""
    seed = int(os.environ.get("CN_SEED", "20260101"), 0)
    print(f"CN_SEED={seed}")
    draw = random.Random(seed)
    listed = json.loads(subprocess.run([CAIRN, "metrics", "--list", "--json"], check=True, capture_output=True).stdout)
    most = sum(family["series"] for family in listed)
    before = set(series(page(server)))
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    for i in range(200):
        word = f"evil{draw.randrange(10**9)}"
        method = draw.choice(["GET", "POST", "DELETE", "PUT", "PATCH"])
        path = draw.choice([f"/{word}", f"/v1/{word}", f"/v1/models/{word}", f"/v1/responses/{word}",
                            f"/v1/conversations/{word}/items/{word}", f"/metrics?names={word}", f"/v1/chat/completions?{word}"])
        body = json.dumps({"model": word, "user": word, "messages": [{"role": word, "content": word}]})
        connection.request(method, path, body, {"X-Request-Id": word, "X-Session-Id": word, "User-Agent": word,
                                                "Content-Type": "application/json", "Authorization": f"Bearer {word}"})
        connection.getresponse().read()
    connection.close()
    text = page(server)
    after = set(series(text))
    new = {key[0].removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for key in after - before}
    assert "evil" not in text and new <= {"cairn_route_seconds"} and before <= after
    assert len(after) <= most < 3000, f"{len(after)} of at most {most} series"


# ---- the command

def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([CAIRN, "metrics", *arguments], text=True, capture_output=True, timeout=120)


def test_the_list_names_what_a_server_shows(server: Server) -> None:
    for names in ("cairn", "vllm"):
        listed = {f["name"]: f for f in json.loads(run("--list", "--json", "--names", names).stdout)}
        shown = collections.Counter()
        for key in series(page(server, query=f"?names={names}")):
            name = key[0] if key[0] in listed else re.sub("_(bucket|sum|count)$", "", key[0])
            shown[name] += 1
            assert set(dict(key[1:])) - {"le"} <= set(listed[name]["labels"].split(",")), key
        assert set(shown) == set(listed)
        assert all(shown[name] == listed[name]["series"] for name in listed if name != "cairn_route_seconds")
        lines = run("--list", "--names", names).stdout.splitlines()
        assert [line.split()[0] for line in lines] == list(listed)


def test_the_command_reads_a_server(server: Server) -> None:
    done = run("--url", server.url)
    assert done.returncode == 0 and set(series(done.stdout)) == set(series(page(server)))
    done = run("--url", server.url, "--names", "vllm")
    assert done.returncode == 0 and "vllm:num_requests_waiting" in done.stdout


@pytest.mark.parametrize("arguments, code, text", [
    (["--names", "others"], 2, "must be cairn or vllm"),
    (["--json"], 2, "goes with --list"),
    (["--lists"], 2, "is this meant: --list"),
    (["--url", "http://127.0.0.1:1"], 1, "127.0.0.1:1"),
])
def test_the_command_says_what_is_wrong(arguments: list[str], code: int, text: str) -> None:
    done = run(*arguments)
    assert done.returncode == code and text in done.stderr and done.stdout == ""


# ---- Prometheus

def test_prometheus_keeps_exemplars(scraped: Prometheus) -> None:
    found = scraped.api("query_exemplars", query="cairn_generation_seconds_bucket", start="0", end="9999999999")
    ids = {e["labels"]["request_id"] for s in found for e in s["exemplars"]}
    assert ids and ids <= {f"turn-{i}" for i in range(ANSWERS)}
    assert all(re.fullmatch("[0-9a-f]{32}", e["labels"]["trace_id"]) for s in found for e in s["exemplars"])


def test_prometheus_reads_native_histograms(server: Server) -> None:
    with prometheus(server.url.removeprefix("http://"), "native-histograms") as found:
        found.wait_for("histogram_count(cairn_generation_seconds)")
        assert found.value("histogram_count(cairn_generation_seconds)") == ANSWERS
        total = series(page(server))[("cairn_generation_seconds_sum",)]
        assert found.value("histogram_sum(cairn_generation_seconds)") == pytest.approx(total)
        median = found.value("histogram_quantile(0.5, cairn_generation_seconds)")
        assert 0 < median <= total and not found.query("cairn_generation_seconds_bucket")
        assert found.value("histogram_quantile(1, cairn_generation_phase_seconds{phase=\"decode\"})") > 0
        assert found.value('cairn_route_requests_total{route="/v1/responses",method="POST",code="2xx"}') == ANSWERS


def test_prometheus_reads_vllms_names(scraped: Prometheus) -> None:
    """What the endpoint pickers of llm-d and the Gateway API ask for, and two queries of vLLM's own dashboard."""
    scraped.wait_for("count_over_time(vllm:num_requests_waiting[1m]) > 2")
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
                 'cache_config_info{block_size="16",num_gpu_blocks!=""}'):
        assert scraped.value(f"vllm:{name}") >= 0
    assert scraped.value('histogram_quantile(0.99, sum by (le) (vllm:time_to_first_token_seconds_bucket{model_name="model"}))') > 0
    assert scraped.value('sum(vllm:request_success_total{finished_reason=~"stop|length"})') == ANSWERS


def panels() -> Iterator[tuple[str, str]]:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", target["expr"]


def test_every_panel_has_data(scraped: Prometheus) -> None:
    names = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*"}
    empty = []
    for title, expression in panels():
        for name, value in names.items():
            expression = expression.replace(name, value)
        assert "$" not in expression, f"{title}: {expression} has a variable that is not known"
        if not scraped.query(expression):
            empty.append(f"{title}: {expression}")
    assert not empty, "\n".join(empty)


def test_dashboards_name_no_data_source_of_ours() -> None:
    assert len(DASHBOARDS) >= 2
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        assert [v["name"] for v in board["templating"]["list"] if v["type"] == "datasource"] == ["datasource"]
        assert set(re.findall(r'"uid": "([^"]+)"', path.read_text())) == {board["uid"], "${datasource}"}
        places = [(p["gridPos"]["y"], p["gridPos"]["x"]) for p in board["panels"]]
        assert len(set(places)) == len(places) and len({p["id"] for p in board["panels"]}) == len(places)


def rules(scraped: Prometheus) -> list[dict]:
    return [rule for group in scraped.api("rules")["groups"] for rule in group["rules"]]


def test_every_rule_works_on_what_a_server_shows(scraped: Prometheus) -> None:
    scraped.wait_for('count(job:cairn_each_token_slow:ratio_rate3d)')
    found = rules(scraped)
    assert len(found) >= 40
    for rule in found:
        assert rule["health"] == "ok" and not rule.get("lastError"), rule
        if rule["type"] == "recording":
            assert scraped.query(rule["name"]), f"{rule['name']} has no data"
            continue
        selectors = re.findall(r"(?:job:cairn|cairn_|process_|up\b)[\w:]*(?:\{[^}]*\})?", rule["query"])
        assert selectors and rule["state"] == "inactive", f"{rule['name']} is {rule['state']} in a server that is well"
        for selector in selectors:
            assert scraped.query(selector), f"{rule['name']}: {selector} has no data"


def test_every_alert_says_what_to_do(scraped: Prometheus, server: Server) -> None:
    alerts = [rule for rule in rules(scraped) if rule["type"] == "alerting"]
    tested = re.findall(r"- name: (Cairn\w+)", (TOP / "deploy/prometheus/alerts.test.yml").read_text())
    assert len(alerts) >= 20 and sorted(tested) == sorted(rule["name"] for rule in alerts)
    for rule in alerts:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "impact", "command"}
        command = rule["annotations"]["command"]
        ours = command.replace("cairn metrics", f"{CAIRN} metrics --url {server.url}")
        ours = ours.replace("http://127.0.0.1:8000", server.url)
        if ours == command:
            assert command.split()[0] in {"journalctl", "systemctl", "redis-cli", "ss", "cairn"}, command
            continue
        done = subprocess.run(["bash", "-c", ours], text=True, capture_output=True, timeout=60)
        assert done.returncode == 0 and done.stdout, f"{command}: {done.stderr}"


def test_every_alert_fires_when_it_should() -> None:
    done = subprocess.run(["promtool", "test", "rules", "alerts.test.yml"], cwd=TOP / "deploy/prometheus", text=True,
                          capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(["promtool", "check", "config", "prometheus.yml"], cwd=TOP / "deploy/prometheus", text=True,
                          capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
