#!/usr/bin/env python3
"""Renders the templates with transformers and writes what comes out to golden.json.

Needs transformers (see versions in golden.json); the test that compares needs only golden.json.
Usage: HF_HUB_OFFLINE=1 python tests/template/reference.py
"""

import datetime
import json
import pathlib
import platform
import sys

import jinja2
import transformers
from transformers.utils import chat_template_utils

from conversations import CONVERSATIONS

HERE = pathlib.Path(__file__).parent
NOW_S = 1_750_000_000                     # 2025-06-15 15:06:40 UTC
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW_S, datetime.timezone.utc).replace(tzinfo=None)


def render(template: str, conversation: dict, prompt: bool) -> list:
    """["text"] of one conversation, or ["", "sentence"] where the template raises or fails."""
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            [json.loads(json.dumps(conversation["messages"]))],
            tools=conversation.get("tools"),
            documents=conversation.get("documents"),
            chat_template=template,
            add_generation_prompt=prompt,
            continue_final_message=conversation.get("continue", False),
            **TOKENS,
            **conversation.get("kwargs", {}),
        )
        return [rendered[0]]
    except jinja2.exceptions.TemplateError as error:
        # raise_exception raises the class itself; its subclasses are Jinja's own errors.
        raised = type(error) is jinja2.exceptions.TemplateError
        return ["", str(error)] if raised else [None, type(error).__name__]
    except Exception as error:
        return [None, type(error).__name__]


def main() -> None:
    chat_template_utils.datetime = FixedTime
    results = {}
    for path in sorted((HERE / "templates").glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        results[path.stem] = [
            render(template, conversation, prompt)
            for conversation in CONVERSATIONS
            for prompt in ((False,) if conversation.get("continue") else (False, True))
        ]
    golden = {
        "versions": {
            "transformers": transformers.__version__,
            "jinja2": jinja2.__version__,
            "python": platform.python_version(),
        },
        "now_s": NOW_S,
        "tokens": TOKENS,
        "results": results,
    }
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
    (HERE / "golden.json").write_text(text + "\n", encoding="utf-8")
    count = sum(len(rows) for rows in results.values())
    raised = sum(row[0] == "" and len(row) == 2 for rows in results.values() for row in rows)
    failed = sum(row[0] is None for rows in results.values() for row in rows)
    print(f"{len(results)} templates, {count} results ({raised} raised, {failed} other errors), {len(text)} bytes")


if __name__ == "__main__":
    sys.exit(main())
