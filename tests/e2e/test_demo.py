"""The demo model remembers: questions about facts told 1 to 20 turns before, over names and places that it
never saw combined, through the server."""
import asyncio
import json
from collections import Counter

import openai

from .server import TOP, serve

QUESTIONS = TOP / "deploy/demo/questions.jsonl"
TOLD_AT_LEAST = 0.97            # of the facts that were told
ALL_AT_LEAST = 0.96             # with the questions about what was never told
AT_ONCE = 24


def is_right(question: dict, answer: str) -> bool:
    text = answer.lower()
    return (all(e.lower() in text for e in question["expected"])
            and not any(f.lower() in text for f in question["forbidden"]))


async def ask_all(url: str, questions: list[dict]) -> list[str]:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(question: dict) -> str:
        messages = question["messages"] + [{"role": "user", "content": question["question"]}]
        async with places:
            answer = await client.chat.completions.create(model="model", messages=messages, temperature=0,
                                                          max_tokens=60)
        return answer.choices[0].message.content

    answers = await asyncio.gather(*(ask(q) for q in questions))
    await client.close()
    return answers


def test_answers_about_earlier_turns() -> None:
    questions = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    assert len(questions) >= 300
    with serve() as server:
        answers = asyncio.run(ask_all(server.url, questions))
        assert server.metric('cairn_pages{state="held"}') == 0
    asked: Counter[int] = Counter()
    right: Counter[int] = Counter()
    wrong = []
    for question, answer in zip(questions, answers):
        asked[question["distance"]] += 1
        right[question["distance"]] += is_right(question, answer)
        if not is_right(question, answer):
            wrong.append(f"{question['id']} {question['question']} {question['expected']}: {answer}")
    share = right.total() / asked.total()
    share_told = (right.total() - right[0]) / (asked.total() - asked[0])    # distance 0: never told
    by_distance = " ".join(f"{d}:{right[d] / asked[d]:.2f}" for d in sorted(asked))
    figures = f"right {share:.4f} of {asked.total()}, {share_told:.4f} of what was told; by distance {by_distance}"
    print(figures)
    assert share_told >= TOLD_AT_LEAST and share >= ALL_AT_LEAST, figures + "\n" + "\n".join(wrong[:20])
