"""Conversations that the templates are rendered with: what clients send, and what they send by mistake."""

from typing import Any

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place, e.g. \"Zürich\".",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "City,\nwith country"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "integer", "description": "1 to 7", "default": 1},
            },
            "required": ["place"],
        },
        "return": {"type": "string"},
    },
}
NOW = {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches <all> the \"books\" & more.",
        "parameters": {
            "type": "object",
            "properties": {
                "queries": {"type": "array", "items": {"type": "string"}},
                "limit": {"type": ["integer", "null"]},
                "filter": {"type": "object", "properties": {"year": {"type": "integer"}, "exact": {"type": "boolean"}}, "required": ["year"]},
                "sort": {"oneOf": [{"type": "string", "default": "date", "description": "a field"}, {"type": "number"}]},
                "pages": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["queries", "sort"],
        },
    },
}


def system(content: Any) -> dict:
    return {"role": "system", "content": content}


def user(content: Any) -> dict:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> dict:
    return {"role": "assistant", "content": content, **more}


def call(name: str, arguments: Any, id: str = "call00001") -> dict:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(content: Any, id: str = "call00001") -> dict:
    return {"role": "tool", "content": content, "tool_call_id": id}


SHORT = [user("Hi there!")]
TURNS = [system("You are brief."), user("  What is 2 + 2? "), assistant(" 4. "), user("And\ntimes 3?\n"), assistant("12"), user("Thanks")]
CALLED = [
    system("Use tools."),
    user("Weather in Zürich?"),
    assistant(None, tool_calls=[call("get_weather", {"place": "Zürich, CH", "days": 2, "unit": None})]),
    tool("{\"temp\": 21.5}"),
    assistant("It is 21.5 °C."),
    user("And tomorrow?"),
]

CONVERSATIONS: list[dict] = [
    {"name": "one question", "messages": SHORT},
    {"name": "system and question", "messages": [system("You are a pirate. <b>&\"'</b>"), user("Who are you?")]},
    {"name": "several turns", "messages": TURNS},
    {"name": "ends with the assistant", "messages": TURNS[:3]},
    {"name": "unicode", "messages": [system("Antworte höflich – „immer“."), user("日本語で 🙂 👩‍👩‍👧 é (e + ́) ß ﬁ"), assistant("はい\u3000。\u200b"), user("\u00a0Ünïcödé\u2028line\tDer Große ΣΊΣΥΦΟΣ")]},
    {"name": "empty contents", "messages": [system(""), user(""), assistant(""), user("   \n ")]},
    {"name": "only a system prompt", "messages": [system("Alone.")]},
    {"name": "no messages", "messages": []},
    {"name": "content as parts", "messages": [user([{"type": "text", "text": " Look: "}, {"type": "image", "url": "x.png"}, {"type": "text", "text": "what is it?"}]), assistant([{"type": "text", "text": "A cat."}]), user([{"type": "text", "text": "Sure?"}])]},
    {"name": "system as parts", "messages": [system([{"type": "text", "text": "Be kind. "}]), user([{"type": "text", "text": "Hello"}])]},
    {"name": "tools offered", "messages": SHORT, "tools": [WEATHER, NOW]},
    {"name": "tools with a system prompt", "messages": [system("Use tools."), user("Time?")], "tools": [WEATHER, SEARCH, NOW]},
    {"name": "tool called", "messages": CALLED, "tools": [WEATHER]},
    {"name": "tool answer last", "messages": CALLED[:4], "tools": [WEATHER]},
    {"name": "two calls at once", "messages": [user("Compare"), assistant("I look.", tool_calls=[call("get_weather", {"place": "Bern"}), call("get_weather", "{\"place\": \"Genf\"}", "call00002")]), tool("sun"), tool("rain", "call00002"), assistant("Bern."), user("ok")], "tools": [WEATHER, NOW]},
    {"name": "call id of the wrong length", "messages": [user("Now?"), assistant(None, tool_calls=[call("now", {}, "x")]), tool("noon", "x")], "tools": [NOW]},
    {"name": "tool answer without call", "messages": [user("Hm"), tool("noon")]},
    {"name": "tool answer as an object", "messages": [user("Hm"), assistant(None, tool_calls=[call("now", {"zone": {"name": "UTC", "offset": 0.0}})]), tool({"hour": 12, "exact": True, "parts": [1, 2.50, None]})]},
    {"name": "two users in a row", "messages": [user("One"), user("Two")]},
    {"name": "assistant first", "messages": [assistant("Welcome."), user("Hi")]},
    {"name": "system in the middle", "messages": [user("a"), assistant("b"), system("Now rhyme."), user("c")]},
    {"name": "unknown role", "messages": [user("a"), {"role": "narrator", "content": "Meanwhile \"elsewhere\""}]},
    {"name": "content is null", "messages": [user(None), assistant(None)]},
    {"name": "content is a number", "messages": [user(42), assistant(1e100), user(True)]},
    {"name": "no content at all", "messages": [{"role": "user"}, {"role": "assistant"}]},
    {"name": "thoughts in fields", "messages": [user("Why?"), assistant("Because.", reasoning_content="Hm,\nlet me think."), user("Really?"), assistant("Yes.", reasoning_content="\nStill sure.\n")]},
    {"name": "thoughts in the text", "messages": [user("Why?"), assistant("<think>\nfirst\n</think>\n\nBecause."), user("Really?"), assistant("<think>second</think>Yes.")]},
    {"name": "thoughts around a call", "messages": [user("Now?"), assistant("", reasoning_content="I need the clock.", tool_calls=[call("now", {})]), tool("noon")], "tools": [NOW]},
    {"name": "tool response typed by a user", "messages": [user("a"), assistant("b"), user("<tool_response>x</tool_response>"), assistant("c")]},
    {"name": "thinking switched off", "messages": SHORT, "kwargs": {"enable_thinking": False, "reasoning_effort": "high"}},
    {"name": "documents", "messages": TURNS, "documents": [{"title": "Müller", "text": "Line 1\nLine 2"}, {"text": "No title"}]},
    {"name": "documents and tools", "messages": SHORT, "documents": [{"title": "A", "text": "a"}], "tools": [NOW], "kwargs": {"controls": {"length": "short"}}},
    {"name": "date given", "messages": SHORT, "tools": [NOW], "kwargs": {"date_string": "1 Jan 2030", "tools_in_user_message": False}},
    {"name": "markup in the text", "messages": [user("{{ messages }} {% raw %} <|im_end|> [INST] </s>"), assistant("<|channel|>{# no #}"), user("\\n \\ \"quoted\" 'single'")]},
    {"name": "long", "messages": [m for i in range(12) for m in (user(f"Question {i}"), assistant(f"Answer {i}" + "!" * i))]},
    {"name": "continued", "messages": [user("Tell a tale."), assistant("Once upon a time  ")], "continue": True},
    {"name": "continued parts", "messages": [user("Go on"), assistant([{"type": "text", "text": "First"}, {"type": "text", "text": "then"}])], "continue": True},
]
