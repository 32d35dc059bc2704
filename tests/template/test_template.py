"""Chat templates against transformers (golden.json, made by reference.py) and, at random, against Jinja.

CN_BUILD names the build directory, CN_SEED repeats a random run, CN_CASES makes it longer.
"""

import json
import os
import pathlib
import random
import re
import time

import jinja2
import jinja2.ext
import jinja2.sandbox
import pytest

from conversations import CONVERSATIONS
from driver import Driver, cut_continued, variables_of
from random_templates import VARIABLES, make_expression, make_template

HERE = pathlib.Path(__file__).parent
GOLDEN = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))
CASES = [(c, p) for c in CONVERSATIONS for p in ((False,) if c.get("continue") else (False, True))]


@pytest.fixture(scope="module")
def driver():
    driver = Driver()
    yield driver
    assert driver.close() == 0


def test_every_template_has_results():
    """Would catch a template or conversation that was added without running reference.py."""
    assert sorted(GOLDEN["results"]) == sorted(p.stem for p in (HERE / "templates").glob("*.jinja"))
    assert len(GOLDEN["results"]) >= 14
    for name, rows in GOLDEN["results"].items():
        assert len(rows) == len(CASES), name


@pytest.mark.parametrize("name", sorted(GOLDEN["results"]))
def test_renders_as_transformers(driver, name):
    template = (HERE / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    rendered = 0
    for (conversation, prompt), want in zip(CASES, GOLDEN["results"][name]):
        variables = variables_of(conversation, GOLDEN["tokens"], prompt)
        answer = driver.render(template, variables, now_s=GOLDEN["now_s"])
        text = answer.get("text")
        if text is not None and conversation.get("continue"):
            text = cut_continued(text, conversation)
        where = f"{name}, {conversation['name']}, prompt {prompt}"
        if len(want) == 1:
            assert text == want[0], where
            rendered += 1
        elif want[0] == "":
            assert answer.get("error") == want[1] and answer["code"] == "E_INVALID", where
        else:
            assert text is None, where
            assert answer["code"] == "OK" or answer["error"].startswith("test:"), where
    assert rendered >= len(CASES) // 2


class Generation(jinja2.ext.Extension):
    """The {% generation %} block, as in transformers."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_write"), [], [], body).set_lineno(line)

    def _write(self, caller):
        return caller()


def make_environment() -> jinja2.Environment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment.filters["tojson"] = tojson
    return environment


# What Cairn refuses or Python prints differently each time.
NOT_COMPARED = re.compile(r" at 0x[0-9a-f]+|<built-in|<bound|beyond 64 bits|complex", re.IGNORECASE)


@pytest.mark.parametrize("make,share", [(make_expression, 2), (make_template, 1)], ids=["expressions", "templates"])
def test_renders_as_jinja(driver, make, share):
    seed = int(os.environ.get("CN_SEED", time.time_ns() & 0xFFFFFFFF))
    count = int(os.environ.get("CN_CASES", 3000)) * share // 3
    print(f"\nCN_SEED={seed}")
    environment = make_environment()
    compared = failed = 0
    for i in range(count):
        template = make(random.Random(f"{seed} {i}"))
        try:
            want = environment.from_string(template).render(**VARIABLES)
        except Exception as error:
            want = None
            reason = repr(error)
        answer = driver.render(template, VARIABLES, output_bytes=1 << 25)
        if NOT_COMPARED.search(want or "") or NOT_COMPARED.search(answer.get("error", "")):
            continue
        compared += 1
        failed += want is None
        note = f"CN_SEED={seed}, case {i}: {template!r}: {answer.get('error') or reason if want is None else answer.get('error')}"
        assert answer.get("text") == want, note
    assert compared > count * 0.8 and failed < compared * 0.6


# Each ends in an error of this code, and soon: a template or its input must not hang or kill a server.
HOSTILE = {
    "endless loops": ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "E_LIMIT"),
    "huge range": ("{{ range(10**9)|list }}", "E_LIMIT"),
    "huge string": ("{{ 'x' * 10**10 }}", "E_LIMIT"),
    "huge list": ("{{ ([1, 2] * 10**9)|length }}", "E_LIMIT"),
    "doubling": ("{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "E_LIMIT"),
    "doubling list": ("{% set ns = namespace(s=[1]) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "E_LIMIT"),
    "long output": ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "E_LIMIT"),
    "long capture": ("{% set x %}{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}{% endset %}", "E_LIMIT"),
    "recursive macro": ("{% macro m(x) %}{{ m(x + 1) }}{% endmacro %}{{ m(0) }}", "E_LIMIT"),
    "mutual macros": ("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}", "E_LIMIT"),
    "recursive caller": ("{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}", "E_LIMIT"),
    "wide format": ("{{ '%99999999d' % 1 }}", "E_INVALID"),
    "wide star": ("{{ '%*d' % (99999999, 1) }}", "E_INVALID"),
    "wide braces": ("{{ '{:>99999999}'.format(1) }}", "E_INVALID"),
    "precise": ("{{ '%.99999999f' % 1.5 }}", "E_INVALID"),
    "wide center": ("{{ 'x'|center(10**9) }}", "E_LIMIT"),
    "wide ljust": ("{{ 'x'.ljust(10**12) }}", "E_LIMIT"),
    "wide indent": ("{{ 'x'|indent(10**10, true) }}", "E_LIMIT"),
    "json indent": ("{{ [1]|tojson(indent=10**10) }}", "E_LIMIT"),
    "many slices": ("{{ []|slice(2**31 - 1)|list|length }}", "E_LIMIT"),
    "wide batch": ("{{ [1]|batch(2**31 - 1, 0)|list|length }}", "E_LIMIT"),
    "power": ("{{ 9 ** 99 }}", "E_INVALID"),
    "power of power": ("{{ 2 ** 63 }}", "E_INVALID"),
    "negation": ("{{ -(-9223372036854775807 - 1) }}", "E_INVALID"),
    "quotient": ("{{ (-9223372036854775807 - 1) // -1 }}", "E_INVALID"),
    "by zero": ("{{ 1 % 0 }}", "E_INVALID"),
    "by zero float": ("{{ 1 // 0.0 }}", "E_INVALID"),
    "nested list": ("{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}", "E_LIMIT"),
    "nested json": ("{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}", "E_LIMIT"),
    "nested equality": ("{% set ns = namespace(l=[], m=[]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}{% endfor %}{{ ns.l == ns.m }}", "E_LIMIT"),
    "nested order": ("{% set ns = namespace(l=[1], m=[2]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}{% endfor %}{{ ns.l < ns.m }}", "E_LIMIT"),
    "nested key": ("{% set ns = namespace(l=()) %}{% for i in range(5000) %}{% set ns.l = (ns.l,) %}{% endfor %}{{ {ns.l: 1} }}", "E_LIMIT"),
    "namespace in itself": ("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", "E_LIMIT"),
    "shared list": ("{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}", "E_LIMIT"),
    "shared equality": ("{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}", "E_LIMIT"),
    "many replacements": ("{{ ('a' * 10**6).replace('a', 'b' * 10**4) }}", "E_LIMIT"),
    "empty replacement": ("{{ ('a' * 10**6).replace('', 'b' * 10**4) }}", "E_LIMIT"),
    "search": ("{% set s = 'a' * 10**7 %}{% for i in range(99999) %}{{ s.find('b') }}{% endfor %}", "E_LIMIT"),
    "deep brackets": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "E_FORMAT"),
    "deep lists": ("{{ " + "[" * 250 + "]" * 250 + " }}", "E_FORMAT"),
    "deep minus": ("{{ " + "-" * 5000 + "1 }}", "E_FORMAT"),
    "deep not": ("{{ " + "not " * 5000 + "1 }}", "E_FORMAT"),
    "deep attributes": ("{{ x" + ".a" * 5000 + " }}", "E_FORMAT"),
    "deep calls": ("{{ x" + "()" * 5000 + " }}", "E_FORMAT"),
    "deep filters": ("{{ x" + "|list" * 5000 + " }}", "E_FORMAT"),
    "deep sums": ("{{ 1" + "+1" * 5000 + " }}", "E_FORMAT"),
    "deep powers": ("{{ 1" + "**1" * 5000 + " }}", "E_FORMAT"),
    "deep conditions": ("{{ " + "1 if 1 else " * 5000 + "1 }}", "E_FORMAT"),
    "deep ifs": ("{% if 1 %}" * 5000 + "{% endif %}" * 5000, "E_FORMAT"),
    "deep loops": ("{% for x in [1] %}" * 90 + "{% endfor %}" * 90, "E_LIMIT"),
    "deep targets": ("{% set " + "(" * 5000 + "a" + ")" * 5000 + " = 1 %}", "E_FORMAT"),
    "long chain": ("{{ 1" + "<2" * 200 + " }}", "E_FORMAT"),
    "bytes": ("{{ 'x'.encode() }}", "E_INVALID"),
    "class": ("{{ ''.__class__.__mro__ }}", "E_INVALID"),
    "append": ("{% set l = [] %}{{ l.append(1) }}", "E_INVALID"),
    "update": ("{{ {}.update({1: 2}) }}", "E_INVALID"),
    "include": ("{% include 'x' %}", "E_UNSUPPORTED"),
    "import": ("{% import 'x' as y %}", "E_UNSUPPORTED"),
    "from": ("{% from 'x' import y %}", "E_UNSUPPORTED"),
    "extends": ("{% extends 'x' %}", "E_UNSUPPORTED"),
    "recursive loop": ("{% for x in y recursive %}{% endfor %}", "E_UNSUPPORTED"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_end_in_an_error(driver, name):
    template, code = HOSTILE[name]
    start = time.monotonic()
    answer = driver.render(template, {})
    assert answer["code"] == code, answer
    assert answer["error"].startswith("test:"), answer
    assert time.monotonic() - start < 30 * float(os.environ.get("CN_SLOWDOWN", 1))


def test_hostile_input_ends_in_an_error(driver):
    """Deep and wide messages: printing and comparing them must stay within the budgets."""
    deep: list = []
    for _ in range(900):
        deep = [deep]
    for template in ("{{ x }}", "{{ x|tojson }}", "{{ x == y }}"):
        answer = driver.render(template, {"x": [[deep]], "y": [[deep]]}, depth=64)
        assert answer["code"] in ("OK", "E_LIMIT")
    wide = {f"key {i}": i for i in range(20000)}
    template = "{% for key in x %}{% if x[key] != loop.index0 %}wrong{% endif %}{% endfor %}done"
    assert driver.render(template, {"x": wide})["text"] == "done"


def test_appending_in_a_loop_is_linear(driver):
    """100,000 appends: quadratic copying would take 5 GB of the 64 MiB."""
    template = "{% set ns = namespace(s='', l=[]) %}{% for i in range(99999) %}{% set ns.s = ns.s + 'x' %}{% set ns.t = ns.s ~ 'y' %}{% endfor %}{{ ns.s|length }}"
    assert driver.render(template, {})["code"] in ("OK", "E_LIMIT")
    template = "{% set ns = namespace(s='', l=[]) %}{% for i in range(99999) %}{% set ns.s = ns.s ~ 'x' %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.s|length }} {{ ns.l|length }} {{ ns.l[-1] }}"
    assert driver.render(template, {})["text"] == "99999 99999 99998"


def test_hundred_messages_take_less_than_a_millisecond(driver):
    """The figure for the record; the bound is loose because machines that test are busy."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": "word " * 100} for i in range(100)]
    for name in ("chatml", "reasoning", "llama31", "channels"):
        template = (HERE / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
        variables = {"messages": messages, "add_generation_prompt": True, **GOLDEN["tokens"]}
        answer = driver.render(template, variables, repeat=50)
        print(f"{name}: {answer['render_ns'] / 1000:.0f} us")
        assert answer["code"] == "OK"
        assert answer["render_ns"] < 5e6 * float(os.environ.get("CN_SLOWDOWN", 1))
