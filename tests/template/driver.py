"""Talks to template_driver, and prepares conversations as transformers does before it renders."""

import copy
import json
import os
import pathlib
import struct
import subprocess
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
BUILD = ROOT / os.environ.get("CN_BUILD", "build")
TAG = "CONTINUE_FINAL_MESSAGE_TAG "
REASONING = ("reasoning_content", "thinking", "reasoning")


class Driver:
    def __init__(self) -> None:
        self.process = subprocess.Popen([BUILD / "template_driver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(self, template: str, variables: dict, **options: int) -> dict:
        request = json.dumps({"template": template, "variables": variables, **options}).encode()
        self.process.stdin.write(struct.pack("<I", len(request)) + request)
        self.process.stdin.flush()
        prefix = self.process.stdout.read(4)
        assert len(prefix) == 4, f"template_driver died with {self.process.wait()} on {template!r}"
        return json.loads(self.process.stdout.read(struct.unpack("<I", prefix)[0]))

    def close(self) -> int:
        self.process.stdin.close()
        return self.process.wait(timeout=10)


def with_reasoning_aliases(messages: list[dict]) -> list[dict]:
    """transformers 5 fills in the names that templates may read thoughts under."""
    prepared = []
    for message in messages:
        thoughts = next((message[key] for key in REASONING if message.get(key) is not None), None)
        if thoughts is not None:
            message = {"thinking": thoughts, **message, "reasoning_content": thoughts}
        prepared.append(message)
    return prepared


def variables_of(conversation: dict, tokens: dict, prompt: bool) -> dict[str, Any]:
    messages = with_reasoning_aliases(copy.deepcopy(conversation["messages"]))
    if conversation.get("continue"):
        content = messages[-1]["content"]
        if isinstance(content, list):
            content[-1]["text"] += TAG
        else:
            messages[-1]["content"] = content + TAG
    return {
        "messages": messages,
        "tools": conversation.get("tools"),
        "documents": conversation.get("documents"),
        "add_generation_prompt": prompt,
        **tokens,
        **conversation.get("kwargs", {}),
    }


def cut_continued(text: str, conversation: dict) -> str | None:
    """The prompt up to where the final message is to be continued; None if it is not in there."""
    content = conversation["messages"][-1]["content"]
    final = content[-1]["text"] if isinstance(content, list) else content
    if final.strip() not in text or TAG.strip() not in text:
        return None
    at = text.rindex(TAG.strip())
    return text[:at] if text[at : at + len(TAG)] == TAG else text[:at].rstrip()
