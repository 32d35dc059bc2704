"""What a load balancer and a client see of a drain: the probe says 503 and the answer that runs ends whole."""
import http.client
import json
import signal
import socket
import time

from .program import Server

TOKENS = 300


def get(address: str, path: str) -> int:
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", path)
    return connection.getresponse().status


def wait_until_refused(address: tuple[str, str]) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(address).close()
        except ConnectionRefusedError:
            return
    raise AssertionError("new connections are still accepted")


def test_a_probe_during_the_drain_is_told() -> None:
    # One thread and portable code: the answer lasts while the probe is sent.
    with Server("--cpu.threads", "1", "--cpu.path", "portable") as server:
        client = http.client.HTTPConnection(server.address, timeout=60)
        client.request("POST", "/v1/completions", headers={"Content-Type": "application/json"}, body=json.dumps(
            {"prompt": "Once", "max_tokens": TOKENS, "ignore_eos": True, "stream": True,
             "stream_options": {"include_usage": True}}))
        stream = client.getresponse()
        assert stream.readline().startswith(b"data: {")
        # New connections are refused during a drain, so this one begins its request before it.
        address = tuple(server.address.split(":"))
        probe = socket.create_connection(address)
        probe.sendall(b"GET /readyz HTTP/1.1\r\n")
        assert get(server.address, "/readyz") == 200     # after which the server has the probe's beginning
        server.signal(signal.SIGTERM)
        wait_until_refused(address)
        probe.sendall(b"Host: x\r\n\r\n")
        assert probe.recv(4096).startswith(b"HTTP/1.1 503 ")
        probe.close()
        frames = [line[6:] for line in stream.read().decode().splitlines() if line.startswith("data: ")]
        assert frames[-1] == "[DONE]"
        assert json.loads(frames[-2])["usage"]["completion_tokens"] == TOKENS
        assert server.end()[0] == 0
