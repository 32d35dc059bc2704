"""`cairn chat`: piped, and on a terminal of its own."""
import fcntl
import json
import os
import pty
import select
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from .program import CAIRN, CLEAN, Server, refuses, run


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("--log.level", "warn") as started:
        yield started


class Slow(BaseHTTPRequestHandler):
    """Streams a piece every 50 ms without end; keeps what it was asked. Says what no model should."""
    asked: list[dict] = []

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            while True:
                event = {"choices": [{"delta": {"content": "on\x1b[2J "}}]}
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                time.sleep(0.05)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def slow() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


class Terminal:
    """A `cairn chat` on a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen([CAIRN, "chat", *arguments], stdin=slave, stdout=slave, stderr=slave,
                                        env=CLEAN | {"TERM": "xterm"}, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.shown = ""

    def until(self, condition: Callable[[str], bool], timeout_s: float = 10) -> str:
        """Reads until the text since the last call fulfils the condition; returns that text."""
        end = time.monotonic() + timeout_s
        while not condition(self.shown):
            assert time.monotonic() < end, self.shown
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.master, 4096).decode(errors="replace")
                except OSError:          # the other end is closed
                    assert condition(self.shown), self.shown
        text, self.shown = self.shown, ""
        return text

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        code = self.process.wait(10)
        os.close(self.master)
        return code


def test_piped_lines_are_a_conversation(server: Server) -> None:
    result = run("chat", "--url", server.url, text="Hi! My name is Mara.\n\nWhat is my name?\n")
    assert result.returncode == 0 and result.stderr == "" and "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == 2 and "Mara" in result.stdout.splitlines()[1]


def test_save_writes_the_conversation(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    text = f"/system You are brief.\nHello!\n/save {path}\n/quit\nnever sent\n"
    assert run("chat", "--url", server.url, text=text).returncode == 0
    saved = json.loads(path.read_text())
    assert [m["role"] for m in saved] == ["system", "user", "assistant"]
    assert saved[0]["content"] == "You are brief." and saved[2]["content"]


def test_no_server_has_failed() -> None:
    result = run("chat", "--url", "http://127.0.0.1:9", text="Hello!\n")
    assert result.returncode == 1 and "127.0.0.1:9: Connection refused; is `cairn serve` running there?" in result.stderr


def test_a_refusal_is_shown_and_keys_are_sent(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("right\n")
    with Server("--api_keys_file", str(keys)) as guarded:
        result = run("chat", "--url", guarded.url, text="Hello!\n")
        assert result.returncode == 1 and "the server answers 401" in result.stderr
        for flags, env in ((["--api_key", "right"], {"CAIRN_API_KEY": "wrong"}), ([], {"CAIRN_API_KEY": "right"})):
            assert run("chat", "--url", guarded.url, *flags, env=env, text="Hello!\n").returncode == 0


def test_a_url_that_is_none_is_told() -> None:
    result = run("chat", "--url", "127.0.0.1:8000", text="Hello!\n")
    assert result.returncode != 0 and "must look like http://127.0.0.1:8000" in result.stderr


def test_a_terminal_has_prompt_figures_and_utf8(server: Server) -> None:
    terminal = Terminal("--url", server.url)
    terminal.until(lambda text: "you> " in text)
    terminal.type("Hi! My name is Zoë.\r")
    shown = terminal.until(lambda text: "prompt tokens cached" in text)
    assert "Zoë." in shown and "per second" in shown
    terminal.type("/quit\r")
    assert terminal.end() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(slow: str) -> None:
    terminal = Terminal("--url", slow)
    terminal.until(lambda text: "you> " in text)
    terminal.type("Count.\r")
    shown = terminal.until(lambda text: text.count("on") >= 6)
    assert "\x1b[2J" not in shown.split("Count.")[1]         # a model cannot clear the screen
    terminal.type("\x03")
    terminal.until(lambda text: "you> " in text.partition("(stopped)")[2])
    terminal.type("/reset\r")
    terminal.until(lambda text: "you> " in text.partition("a new conversation")[2])
    terminal.type("Again.\r")
    terminal.until(lambda text: text.count("on") >= 6)
    assert [m["content"] for m in Slow.asked[-1]["messages"]] == ["Again."]
    terminal.type("\x03")
    # Keys typed before the prompt is back are thrown away when the line editor takes the terminal.
    terminal.until(lambda text: "you> " in text.partition("(stopped)")[2])
    terminal.type("\x04")
    assert terminal.end() == 0
