#!/usr/bin/env python3
"""Attacks a running server with mutated requests and compares it with a model of RFC 9112.

Each case is one connection: a pipeline of requests, damaged at random. The model below, written from
the RFC and independent of the server's parser, says how many requests of it are served before the
first that must be refused. The server must serve exactly those with 200, refuse with a status that
Cairn uses for refusals and close, and close idle or half-sent connections in time.

    malformed.py 127.0.0.1:8000 [--cases 10000] [--seed N]

The server must be tests/http/echo_server with http_receive_ms and http_idle_ms of TIMEOUT_MS.
"""

import argparse
import dataclasses
import random
import re
import selectors
import socket
import sys
import time

TIMEOUT_MS = 2000                # far above what a client needs to send a case, on a busy machine too
REFUSALS = {400, 405, 413, 414, 417, 431, 501, 505}
HEADER_BYTES, URI_BYTES, HEADER_COUNT, BODY_BYTES = 16384, 4096, 64, 8388608     # base/limits.h

METHODS = set(b"DELETE GET HEAD POST PUT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH "
              b"UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY "
              b"SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK SOURCE".split())
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
URI = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]]|%[0-9A-Fa-f]{2})"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb"{1,32}) (" + URI + rb"+) HTTP/1\.([01])")
HEADER_LINE = re.compile(rb"(" + TOKEN + rb"+):([\t\x20-\x7e\x80-\xff]*)")
AUTHORITY = rb"(?:\[[0-9A-Fa-f:.]*\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(?::[0-9]*)?"
ABSOLUTE = re.compile(rb"https?://(?![/?]|$)" + AUTHORITY + rb"(?:[/?].*)?", re.I)
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*)?")


# ---- the model ---------------------------------------------------------------------------------

class Refused(Exception):
    """A byte that no valid request can have here."""


class Partial(Exception):
    """Valid so far; more is needed."""


class Unsure(Exception):
    """A line without its end: whether it is refused already is not for the model to say."""


def take_line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\r\n", at)
    if end < 0:
        raise Unsure if at < len(data) else Partial
    line = data[at:end]
    if b"\r" in line or b"\n" in line:
        raise Refused
    return line, end + 2


def take_headers(data: bytes, at: int, start: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """`start` is from where the bytes of the section are counted."""
    headers = []
    while True:
        line, at = take_line(data, at)
        if at - start > HEADER_BYTES:
            raise Refused
        if not line:
            return headers, at
        match = HEADER_LINE.fullmatch(line)
        if not match or len(headers) == HEADER_COUNT:
            raise Refused
        headers.append((match[1].lower(), match[2].strip(b" \t")))


def take_chunks(data: bytes, at: int) -> int:
    total = extension_bytes = 0
    while True:
        line, at = take_line(data, at)
        match = CHUNK_LINE.fullmatch(line)
        if not match:
            raise Refused
        size = int(match[1], 16)
        total += size
        extension_bytes += len(match[2] or b";") - 1
        if total > BODY_BYTES or extension_bytes >= HEADER_BYTES:
            raise Refused
        if size == 0:
            return take_headers(data, at, at - extension_bytes)[1]
        if len(data) < at + size:
            raise Partial
        at += size
        if data[at:at + 2] != b"\r\n":
            if b"\r\n".startswith(data[at:at + 2]):
                raise Partial
            raise Refused
        at += 2


def check_target(method: bytes, target: bytes) -> None:
    if target.startswith(b"/") or (method == b"OPTIONS" and target == b"*"):
        return
    if not ABSOLUTE.fullmatch(target):
        raise Refused


def body_of(headers: list[tuple[bytes, bytes]], http10: bool) -> int:
    """Content-Length, or -1 for chunks."""
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        if lengths or http10 or [c.lower() for c in codings] != [b"chunked"]:
            raise Refused
        return -1
    if not lengths:
        return 0
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]) or int(lengths[0]) > BODY_BYTES:
        raise Refused
    return int(lengths[0])


def take_request(data: bytes, at: int) -> tuple[int, bytes, bool]:
    """Where the request ends, its method, and whether the connection goes on after it."""
    for _ in range(2):
        if data.startswith(b"\r\n", at):
            at += 2
    if at == len(data):
        raise Partial
    start = at
    line, at = take_line(data, at)
    match = REQUEST_LINE.fullmatch(line)
    if not match or len(match[2]) > URI_BYTES:
        raise Refused
    headers, at = take_headers(data, at, start)
    if match[1] not in METHODS:
        raise Refused
    http10 = match[3] == b"0"
    check_target(match[1], match[2])
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 and not (http10 and not hosts):
        raise Refused
    if hosts and not re.fullmatch(AUTHORITY, hosts[0]):
        raise Refused
    if any(value.lower() != b"100-continue" for name, value in headers if name == b"expect"):
        raise Refused
    length = body_of(headers, http10)
    at = take_chunks(data, at) if length < 0 else at + length
    if at > len(data):
        raise Partial
    connection = b",".join(value for name, value in headers if name == b"connection").lower()
    options = [option.strip(b" \t") for option in connection.split(b",")]
    return at, match[1], b"close" not in options and (b"keep-alive" in options or not http10)


@dataclasses.dataclass
class Prediction:
    methods: list[bytes]         # of the requests that are served
    ends: set[str]               # "closed" (as asked, or idle), "refused", "partial"


def predict(data: bytes) -> Prediction:
    methods: list[bytes] = []
    at = 0
    while at < len(data):
        try:
            at, method, goes_on = take_request(data, at)
        except Refused:
            return Prediction(methods, {"refused"})
        except Partial:
            return Prediction(methods, {"partial"})
        except Unsure:
            return Prediction(methods, {"refused", "partial"})
        methods.append(method)
        if not goes_on:
            break
    return Prediction(methods, {"closed"})


# ---- the generator -----------------------------------------------------------------------------

BASES = [
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a?b=%20c HTTP/1.1\r\nHost: example.org:80\r\nAccept: */*\r\nX-Long: abc def\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a.example/b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\nContent-Length: 12\r\nContent-Type: application/json\r\nHost: [::1]:8\r\n\r\n"
    b"{\"a\":\r\n\r\n12}",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"1;x=\"y\"\r\nh\r\n00a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
    b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
]
SPLICES = [
    b"\r\n", b"\n", b"\r", b"\r\r\n", b"\0", b" ", b"\t", b":", b"\x0b", b"\x7f", b"\x80", b"\xff",
    b"%", b"%0", b"\r\n ", b"0", b"-1", b"+1", b"0x", b",", b";", b"chunked", b", chunked", b"HTTP/1.1", b"HTTP/2.0",
    b"Content-Length: 5\r\n", b"Content-Length: 6\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding : chunked\r\n", b"Host: b\r\n",
    b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n",
    b"X: y\r\n",
    b"GET /s HTTP/1.1\r\nHost: a\r\n\r\n", b"X" * 5000, b"X: y\r\n" * 70,
    b"Y: " + b"z" * 17000 + b"\r\n", b";" + b"e" * 9000, b"T: " + b"t" * 9000 + b"\r\n",
]


def mutate(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(8)
    if kind == 0:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1:]
    if kind == 1:
        return data[:at] + data[min(len(data), at + rng.randrange(1, 6)):]
    if kind == 2:
        return data[:at] + rng.choice(SPLICES) + data[at:]
    if kind == 3:                                    # between two lines, where headers are
        ends = [match.end() for match in re.finditer(rb"\r\n", data)]
        at = rng.choice(ends) if ends else at
        return data[:at] + rng.choice(SPLICES) + data[at:]
    if kind == 4:
        lines = data.split(b"\r\n")
        i = rng.randrange(len(lines))
        lines.insert(rng.randrange(len(lines)), lines[i])
        return b"\r\n".join(lines)
    if kind == 5:
        ends = [match.start() for match in re.finditer(rb"\r\n", data)]
        at = rng.choice(ends) if ends else at
        return data[:at] + rng.choice([b"\n", b"\r", b"\r\n\r\n", b"", b"\n\r"]) + data[at + 2:]
    if kind == 6:
        digits = [match.span() for match in re.finditer(rb"[0-9]+", data)]
        if not digits:
            return data
        start, end = rng.choice(digits)
        number = rng.choice([b"", b"0", b"1", b"4", b"6", b"0005", b"18446744073709551616",
                             b"9" * 40, b"1e3"])
        return data[:start] + number + data[end:]
    return data[:at]


def generate(rng: random.Random) -> bytes:
    if rng.randrange(50) == 0:
        return rng.randbytes(rng.randrange(1, 200))
    requests = [rng.choice(BASES) for _ in range(rng.randrange(1, 4))]
    for _ in range(rng.randrange(0, 4)):
        i = rng.randrange(len(requests))
        requests[i] = mutate(rng, requests[i])
    return b"".join(requests) or b"\r\n"


# ---- the attack --------------------------------------------------------------------------------

class Broken(Exception):
    """An answer that is not HTTP."""


def take_answer(out: bytes, at: int, is_head: bool) -> tuple[int, int]:
    """Status and end of the answer at `at`."""
    end = out.find(b"\r\n\r\n", at)
    match = re.match(rb"HTTP/1\.1 ([0-9]{3}) [A-Za-z -]+\r\n", out[at:])
    if end < 0 or not match:
        raise Broken(f"no answer at byte {at}")
    status = int(match[1])
    length = re.search(rb"\r\nContent-Length: ([0-9]+)\r\n", out[at:end + 2])
    if status == 100:
        return status, end + 4
    if not length:
        raise Broken("no Content-Length")
    body_end = end + 4 + (0 if is_head else int(length[1]))
    if body_end > len(out):
        raise Broken("answer is cut")
    return status, body_end


def judge(data: bytes, out: bytes) -> str:
    """What is wrong with the server's output for this input; empty if nothing is."""
    want = predict(data)
    at, served, statuses = 0, 0, []
    try:
        while at < len(out):
            is_head = served < len(want.methods) and want.methods[served] == b"HEAD"
            # A refusal of a HEAD that was understood has no body; then this is the last answer.
            if served == len(want.methods) and out.endswith(b"\r\n\r\n"):
                is_head = True
            status, at = take_answer(out, at, is_head)
            if status == 100:
                continue
            statuses.append(status)
            served += status == 200
    except Broken as broken:
        return str(broken)
    last = statuses[-1] if statuses else 0
    end = "refused" if last in REFUSALS else "partial" if last == 408 else "closed"
    if end == "closed" and want.ends == {"partial"} and set(data[-4:]) <= set(b"\r\n"):
        end = "partial"                              # only empty lines: idle or 408 are both right
    if statuses[:served] != [200] * served or len(statuses) - served > 1:
        return f"statuses {statuses}"
    if served != len(want.methods) or end not in want.ends:
        return f"statuses {statuses}; must serve {len(want.methods)} and then be {want.ends}"
    return ""


@dataclasses.dataclass
class Case:
    data: bytes
    piece_bytes: int             # bytes given to one send
    sent: int = 0
    out: bytes = b""


def run_cases(address: tuple[str, int], cases: list[Case], parallel: int) -> None:
    """Every case to its end, which the server must bring about."""
    selector = selectors.DefaultSelector()
    waiting = list(reversed(cases))
    open_count = 0
    deadline = time.monotonic() + 120
    while waiting or open_count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{open_count} connections were not ended by the server")
        while waiting and open_count < parallel:
            connection = socket.create_connection(address)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, waiting.pop())
            open_count += 1
        for key, events in selector.select(1):
            open_count -= step(selector, key.fileobj, key.data, events)


def step(selector: selectors.BaseSelector, connection: socket.socket, case: Case, events: int) -> bool:
    """Sends and receives some; True when the connection has ended."""
    try:
        if events & selectors.EVENT_WRITE:
            case.sent += connection.send(case.data[case.sent:case.sent + case.piece_bytes])
            if case.sent == len(case.data):
                selector.modify(connection, selectors.EVENT_READ, case)
        if not events & selectors.EVENT_READ:
            return False
        got = connection.recv(1 << 16)
        case.out += got
        if got:
            return False
    except BlockingIOError:
        return False
    except (ConnectionResetError, BrokenPipeError):
        case.out += b"(reset)"
    selector.unregister(connection)
    connection.close()
    return True


def attack(address: str, count: int, seed: int, parallel: int = 600) -> list[str]:
    """Complaints, one for each case that went wrong."""
    host, port = address.rsplit(":", 1)
    rng = random.Random(seed)
    cases = [Case(data, max(rng.choice([1 << 20, 1 << 20, 7, 100]), len(data) // 50))
             for data in (generate(rng) for _ in range(count))]
    run_cases((host, int(port)), cases, parallel)
    wrong = ((case, judge(case.data, case.out)) for case in cases)
    return [f"{what}: {case.data!r:.2000} gave {case.out!r:.2000}" for case, what in wrong if what]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("--cases", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    complaints = attack(options.address, options.cases, options.seed)
    for complaint in complaints[:20]:
        print(complaint)
    print(f"{options.cases} cases, seed {options.seed}: {len(complaints)} wrong")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
