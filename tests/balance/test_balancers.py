"""What the shipped configurations of HAProxy and nginx promise beside restarts: sessions stay together by each of
their names, events are not held back, nginx loses nothing when a server drains, and the client's address arrives."""
import http.client
import json
import re
import time
from collections.abc import Iterator

import pytest

from .cluster import Balancer, Haproxy, Nginx, Node, get, pair, until
from .talk import Talker

SESSIONS = 24


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    with pair("--forwarded.from", "127.0.0.1") as both:
        yield both


@pytest.fixture(scope="module", params=[Haproxy, Nginx])
def balancer(nodes: list[Node], request: pytest.FixtureRequest) -> Iterator[Balancer]:
    with request.param(nodes) as one:
        yield one


def post(port: int, path: str, body: dict, source: str = "127.0.0.1", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120, source_address=(source, 0))
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"} | fields)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    return answer


def server_of(port: int, body: dict, **headers: str) -> tuple[str, str]:
    answer = post(port, "/v1/completions", {"prompt": "Hi", "max_tokens": 1} | body, **headers)
    answer.read()
    return answer.headers["X-Server"], answer.headers["X-Session-Id"]


def test_a_session_stays_by_each_of_its_names(balancer: Balancer) -> None:
    servers, strays = set(), 0
    for n in range(SESSIONS):
        name = f"session-{n}"
        ways = [server_of(balancer.port, {}, **{header: name})
                for header in ("X_Session_Id", "X_Session_Affinity", "X_Correlation_ID")]
        if isinstance(balancer, Haproxy):
            ways += [server_of(balancer.port, {}, X_Dynamo_Session_Id=name),
                     server_of(balancer.port, {"prompt_cache_key": name})]
        assert {told for _, told in ways} == {name}, ways
        asked = [server for server, _ in ways]
        home = max(set(asked), key=asked.count)
        servers.add(home)
        strays += len(asked) - asked.count(home)
    # The bound on load may send one away whose server has not seen the end of the request before.
    assert len(servers) == 2 and strays <= SESSIONS // 4, strays


def test_a_client_that_sends_the_name_back_stays(balancer: Balancer) -> None:
    names = set()
    for _ in range(8):
        server, name = server_of(balancer.port, {})
        names.add(name)
        for _ in range(3):
            server, again = server_of(balancer.port, {}, X_Session_Id=name)
            assert again == name
    assert len(names) == 8


def test_events_are_not_held_back(nodes: list[Node], balancer: Balancer) -> None:
    """The first one is here while the answer is still being made."""
    answer = post(balancer.port, "/v1/completions", {
        "prompt": "Once", "max_tokens": 1900, "n": 8, "ignore_eos": True, "stream": True})
    assert answer.readline().startswith(b"data: {")
    assert sum(node.metric("cairn_sequences_running") for node in nodes) > 0
    answer.close()
    until(lambda: all(node.metric("cairn_sequences_running") == 0 for node in nodes),
          "a client that went away is not noticed behind the load balancer")


def test_the_client_is_named_in_the_log(nodes: list[Node], balancer: Balancer) -> None:
    post(balancer.port, "/v1/completions", {"prompt": "Hi", "max_tokens": 1}, source="127.0.0.9",
         X_Request_Id=f"mine-{balancer.port}", X_Forwarded_For="203.0.113.66").read()    # which nobody believes
    pattern = rf"id=mine-{balancer.port} .*? peer=(\S+)"
    found = until(lambda: [m for node in nodes for m in re.findall(pattern, node.log.read_text())],
                  "the request is not in a log")
    assert found == ["127.0.0.9"]


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_a_proxy_header_names_the_client(version: str) -> None:
    with pair("--proxy_protocol.from", "127.0.0.0/8", prefix=b"PROXY UNKNOWN\r\n") as nodes:
        with Haproxy(nodes, version, "check-send-proxy") as balancer:
            post(balancer.port, "/v1/completions", {"prompt": "Hi", "max_tokens": 1}, source="127.0.0.9",
                 X_Request_Id="mine").read()
        found = until(lambda: [m for n in nodes for m in re.findall(r"id=mine .*? peer=(\S+):\d+ ", n.log.read_text())],
                      "the request is not in a log")
        assert found == ["127.0.0.9"]
        status, text = get(nodes[0].port, "/readyz")             # without one, refused and told why
        assert status == 400 and "PROXY header: none" in text


def test_a_drain_behind_nginx_fails_nobody() -> None:
    """It learns of a drain by the connection that is refused, and has no agent to ask."""
    with pair("--drain.notice_ms", "0") as nodes, Nginx(nodes) as balancer:
        talkers = [Talker(balancer.port, n) for n in range(4)]
        for talker in talkers:
            talker.start()
        since = 0.0
        for n in range(5):
            for node in nodes:           # after fail_timeout nginx tries it again
                until(lambda: sum(t.server.endswith(f":{node.port}") and t.sent > since for k in talkers
                                  for c in list(k.conversations) for t in list(c.turns)) >= 5, "it has no turns")
            if n < 4:
                nodes[n % 2].drain()
                assert nodes[n % 2].process.wait(300) == 0
                nodes[n % 2].start()
                since = time.monotonic()
        for talker in talkers:
            talker.finish()
        failures = [f for t in talkers for f in t.failures]
        assert not failures, "\n".join([f"{len(failures)} failures", failures[0].why, balancer.log_text()[-4000:]])
