"""A load of conversations: threads that talk, note what was acknowledged, by whom and when, and try again what
was not."""
import http.client
import json
import random
import threading
import time
import uuid
from dataclasses import dataclass, field

TURNS_MAX = 24           # of one conversation: they all fit into the demo model's window


@dataclass
class Turn:
    text: str
    tokens: int
    id: str
    answer: list[tuple[str, float]]      # tokens and logprobs, to the last bit
    server: str
    sent: float
    ended: float


@dataclass
class Conversation:
    id: str
    turns: list[Turn] = field(default_factory=list)


@dataclass
class Failure:
    sent: float
    ended: float
    why: str


def read_answer(response: dict) -> list[tuple[str, float]]:
    """What a response says, token by token."""
    assert response["status"] in ("completed", "incomplete"), response
    parts = [part for item in response["output"] for part in item.get("content", [])]
    return [(one["token"], one["logprob"]) for part in parts for one in part["logprobs"]]


class Client:
    """One kept-alive connection to a load balancer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: dict, key: str) -> tuple[dict, str]:
        """The whole answer and who gave it; OSError, HTTPException or ValueError if there is none."""
        if not self.connection:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            self.connection.request("POST", path, json.dumps(body),
                                    {"Content-Type": "application/json", "Idempotency-Key": key})
            answer = self.connection.getresponse()
            text = answer.read().decode()
            if answer.status != 200:
                raise ValueError(f"{answer.status} {text[:300]}")
            return self._whole(text, body), answer.headers.get("X-Server", "")
        except (OSError, http.client.HTTPException, ValueError):
            self.connection.close()
            self.connection = None
            raise

    @staticmethod
    def _whole(text: str, body: dict) -> dict:
        if not body.get("stream"):
            return json.loads(text)
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        if not events or events[-1]["type"] not in ("response.completed", "response.incomplete"):
            raise ValueError("the stream has no end")
        return events[-1]["response"]


def ask(client: Client, conversation: str, text: str, tokens: int, stream: bool, key: str) -> tuple[dict, str]:
    return client.post("/v1/responses", {
        "conversation": conversation, "input": text, "max_output_tokens": tokens, "temperature": 0,
        "stream": stream, "include": ["message.output_text.logprobs"], "top_logprobs": 0}, key)


class Talker(threading.Thread):
    def __init__(self, port: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.client, self.rng = Client(port), random.Random(seed)
        self.number = seed
        self.conversations: list[Conversation] = []
        self.failures: list[Failure] = []
        self.ends = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ends.is_set():
                self._converse()
        except BaseException as error:       # told by `finish`
            self.error = error

    def _insist(self, call):
        """Repeats a request until it is answered; each failure is noted."""
        while True:
            sent = time.monotonic()
            try:
                return sent, *call()
            except (OSError, http.client.HTTPException, ValueError) as why:
                self.failures.append(Failure(sent, time.monotonic(), f"{type(why).__name__}: {why}"))
                assert len(self.failures) < 1000, self.failures[-3:]
                time.sleep(0.05)

    def _converse(self) -> None:
        key = str(uuid.UUID(int=self.rng.getrandbits(128)))
        _, made, _ = self._insist(lambda: self.client.post("/v1/conversations", {}, key))
        conversation = Conversation(made["id"])
        self.conversations.append(conversation)
        for n in range(TURNS_MAX):
            if self.ends.is_set():
                return
            text, tokens = f"{self.number} {n} {self.rng.randrange(1000)}", self.rng.randint(1, 24)
            key, stream = str(uuid.UUID(int=self.rng.getrandbits(128))), bool(n % 2)
            sent, response, server = self._insist(
                lambda: ask(self.client, conversation.id, text, tokens, stream, key))
            conversation.turns.append(Turn(text, tokens, response["id"], read_answer(response), server, sent,
                                           time.monotonic()))

    def finish(self) -> None:
        self.ends.set()
        self.join(600)
        assert not self.is_alive(), "a request does not end"
        if self.error:
            raise self.error
