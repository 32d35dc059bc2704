"""Two appliances on one Redis behind HAProxy, under a load of conversations, restarted again and again, half of
the times by SIGKILL: nothing acknowledged is lost, nothing fails while a server drains, new requests leave it at
once, and every answer is what it would have been without any of this. CN_RESTARTS makes longer runs (tests/soak/
balance), CN_SEED repeats the texts of one."""
import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

from .cluster import Haproxy, Node, get, pair, until
from .talk import Client, Conversation, Talker, ask, read_answer

RESTARTS = int(os.environ.get("CN_RESTARTS", "6"))
SEED = int(os.environ.get("CN_SEED", str(random.randrange(1 << 31))), 0)
# What is promised is 250 ms. The ordinary run shares its machine with others, who may hold up any process.
GONE_MS = float(os.environ.get("CN_GONE_MS", "2500"))
TALKERS = 6


def turns_of(talkers: list[Talker]) -> list:
    return [t for talker in talkers for c in list(talker.conversations) for t in list(c.turns)]


def settle(talkers: list[Talker], balancer: Haproxy, nodes: list[Node]) -> None:
    """Until both servers are up and have work again."""
    for node in nodes:
        until(lambda: balancer.state(node.name) == "UP", f"{node.name} does not come up")
    since = time.monotonic()
    for node in nodes:
        until(lambda: sum(t.server == node.name and t.sent > since for t in turns_of(talkers)) >= 3,
              f"{node.name} gets no requests: {[t.failures[-1:] for t in talkers]}")


def restart(node: Node, planned: bool, balancer: Haproxy) -> tuple[float, float]:
    """The time of the signal, and when the server was back."""
    if planned:
        signalled = node.drain()
        assert node.process.wait(300) == 0
    else:
        signalled = time.monotonic()
        node.kill()
    node.start()
    until(lambda: balancer.state(node.name) == "UP", f"{node.name} does not come back")
    return signalled, time.monotonic()


def check_kept(port: int, conversations: list[Conversation]) -> tuple[int, int]:
    """Turns that were acknowledged and are not there, and those that are there twice or unasked."""
    lost = unknown = 0
    for conversation in conversations:
        status, text = get(port, f"/v1/conversations/{conversation.id}/export")
        assert status == 200, text
        lines = [json.loads(line) for line in text.splitlines()]
        assert lines[-1]["object"] == "conversation.export.end"
        there, asked = [line["id"] for line in lines[1:-1]], [turn.id for turn in conversation.turns]
        lost += len(set(asked) - set(there))
        unknown += len(there) - len(set(there) & set(asked))
        assert there == asked or set(there) != set(asked), "turns in another order"
    return lost, unknown


def count_different(port: int, conversations: list[Conversation]) -> int:
    """Answers that another server gives to the same requests, in their order, and that differ."""
    client, different = Client(port), 0
    for conversation in conversations:
        made, _ = client.post("/v1/conversations", {}, f"again-{conversation.id}")
        for n, turn in enumerate(conversation.turns):
            response, _ = ask(client, made["id"], turn.text, turn.tokens, False, f"{made['id']}-{n}")
            different += read_answer(response) != turn.answer
    return different


def check_same(port: int, conversations: list[Conversation]) -> int:
    with ThreadPoolExecutor(TALKERS) as threads:
        return sum(threads.map(lambda n: count_different(port, conversations[n::TALKERS]), range(TALKERS)))


def test_rolling_restarts_lose_and_change_nothing() -> None:
    print(f"CN_SEED={SEED} CN_RESTARTS={RESTARTS}")
    windows: dict[bool, list[tuple[str, float, float]]] = {True: [], False: []}
    with pair("--drain.notice_ms", "1000", "--forwarded.from", "127.0.0.1") as nodes, Haproxy(nodes) as balancer:
        talkers = [Talker(balancer.port, SEED + i) for i in range(TALKERS)]
        for talker in talkers:
            talker.start()
        for n in range(RESTARTS):
            settle(talkers, balancer, nodes)
            node, planned = nodes[n % 2], n % 4 in (0, 3)        # each node both ways, in turn
            windows[planned].append((node.name, *restart(node, planned, balancer)))
        settle(talkers, balancer, nodes)
        for talker in talkers:
            talker.finish()
        conversations = [c for talker in talkers for c in talker.conversations]
        failures = [f for talker in talkers for f in talker.failures]
        turns = turns_of(talkers)
        lost, unknown = check_kept(balancer.port, conversations)
    with pair() as others:               # which have none of the first pair's pages
        different = check_same(others[0].port, conversations)
    unplanned = [f for f in failures
                 if not any(f.ended >= start and f.sent <= end for _, start, end in windows[False])]
    gone_ms = [max([1e3 * (t.sent - start) for t in turns if t.server == name and start < t.sent < end
                    and t.ended < end] or [0]) for name, start, end in windows[True]]
    moved = sum(a.server != b.server for c in conversations for a, b in zip(c.turns, c.turns[1:]))
    print(f"{RESTARTS} restarts, {len(windows[False])} of them kills; {len(turns)} turns of {len(conversations)} "
          f"conversations, {moved} on another server than the one before; {lost} acknowledged turns lost, "
          f"{unknown} unknown or double; {len(unplanned)} failed requests outside of kills, "
          f"{len(failures) - len(unplanned)} during them; {different} answers of {sum(len(t.answer) for t in turns)} "
          "tokens differ from an undisturbed run; "
          f"new requests gone from a draining server after at most {max(gone_ms):.0f} ms")
    assert lost == unknown == different == 0 and all(t.answer for t in turns)
    assert not unplanned, unplanned[:5]
    assert moved > 0 and max(gone_ms) <= GONE_MS, gone_ms
