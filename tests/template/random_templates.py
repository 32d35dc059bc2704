"""Random templates for the comparison with Jinja: expressions that mostly fit their operands, and
statements with every kind of white space around their tags."""

import random

VARIABLES = {
    "s": "Hello, World",
    "t": "  grüße aus München \n zwei\n",
    "e": "",
    "q": "it's \"quoted\" \\ back\tslash <b>&</b>",
    "w": "the quick brown fox jumps over the lazy dog",
    "z": "日本語 🙂 ß ﬁ ÉÀ",
    "n": 7,
    "k": -3,
    "o": 0,
    "f": 2.5,
    "g": -0.125,
    "big": 1e20,
    "yes": True,
    "no": False,
    "nil": None,
    "l": [3, 1, 2, 2],
    "ls": ["b", "A", "c", "a", "B"],
    "le": [],
    "lm": [1, "x", None, 2.0, True, [1, 2], {"a": 1}],
    "d": {"b": 1, "a": 2, "items": 3, "c d": "x"},
    "de": {},
    "p": [
        {"name": "Zoë", "age": 31, "tags": ["x", "y"], "on": True},
        {"name": "adam", "age": 25, "tags": [], "on": False},
        {"name": "Bea", "age": 31, "tags": ["z"], "on": True, "extra": {"k": "v"}},
    ],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  Hi there  "},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": "It is 42."},
    ],
}

STRINGS = ["s", "t", "e", "q", "w", "z", "'a'", "'x y'", "'Abc'", "'\\n'", "'12'", "'3.7'", "'%s'", "'ü'",
           "messages[0].role", "p[0].name"]
INTS = ["n", "k", "o", "0", "1", "2", "3", "10", "-1", "yes", "p[1].age"]
FLOATS = ["f", "g", "1.5", "0.1", "2.0", "1e3", "big", "3.14159"]
LISTS = ["l", "ls", "le", "lm", "[1, 2, 3]", "['a', 'b']", "(1, 2)", "p", "messages", "range(4)",
         "p[0].tags", "[]", "()", "('x',)"]
DICTS = ["d", "de", "p[0]", "messages[2]", "{'a': 1}", "{}", "{'k': [1], 2: 'two', none: 0.5}", "messages[1]"]
ANY = ["missing", "nil", "none", "yes", "no", "true", "False"]
TESTS = ["defined", "undefined", "none", "string", "mapping", "sequence", "iterable", "number", "integer",
         "float", "boolean", "true", "false", "callable", "lower", "upper", "odd", "even", "escaped"]
TOJSON = ["indent=2", "ensure_ascii=true", "sort_keys=true", "indent=0", "separators=(',', ':')",
          "indent=1, sort_keys=True"]
INDENT = ["", "2", "width=3", "4, true", "first=true, blank=true", "'> '"]
TRUNCATE = ["5", "9, true", "12, false, '!'", "6, leeway=0", "10, end=''"]
WIDTHS = ["3", "9", "12, '*'"]
ROLES = ["'user'", "['user']", "'Bea'"]
PEOPLE = ["sort(attribute='name')", "sort(attribute='age,name')", "groupby('age')",
          "groupby('extra.k', default='-')", "map(attribute='age')|list", "unique(attribute='age')|list",
          "groupby('age')|map('first')|list"]
SPLITS = ["", "' '", "'o'", "'l', 1", "none, 1", "maxsplit=1"]
LINES = ["splitlines()", "splitlines(true)", "partition(' ')", "rpartition('o')"]
PAIRS = ["items|list", "list", "dictsort", "dictsort(reverse=true)", "dictsort(by='value')"]
COMPARES = ["==", "!=", "<", "<=", ">", ">="]


class Maker:
    def __init__(self, rng: random.Random):
        self.rng = rng
        self.locals: list[str] = []

    def pick(self, *choices):
        return self.rng.choice(choices)

    def any(self, depth: int) -> str:
        makers = [self.string, self.integer, self.real, self.list, self.dict, self.boolean, self.noise]
        weights = [6, 4, 2, 4, 2, 3, 1]
        return self.rng.choices(makers, weights)[0](depth)

    def noise(self, depth: int) -> str:
        if self.locals and self.rng.random() < 0.5:
            return self.rng.choice(self.locals)
        if depth <= 0:
            return self.rng.choice(ANY + STRINGS + INTS)
        return self.pick(
            lambda: f"({self.any(depth - 1)} if {self.boolean(depth - 1)} else {self.any(depth - 1)})",
            lambda: f"({self.any(depth - 1)} if {self.boolean(depth - 1)})",
            lambda: f"({self.any(depth - 1)} or {self.any(depth - 1)})",
            lambda: f"({self.any(depth - 1)} and {self.any(depth - 1)})",
            lambda: f"({self.any(depth - 1)}){self.pick('.name', '.role', '[0]', '[-1]', '.x.y', '[1]')}",
            lambda: f"({self.any(depth - 1)}) {self.pick('+', '-', '*', '~', '%', '/', '//')} ({self.any(depth - 1)})",
            lambda: f"({self.any(depth - 1)})|{self.pick('length', 'upper', 'int', 'float', 'string', 'tojson', 'first', 'last', 'list', 'reverse', 'abs', 'sort', 'd', 'title')}",
        )()

    def string(self, depth: int) -> str:
        if depth <= 0:
            return self.rng.choice(STRINGS)
        s, i = lambda: self.string(depth - 1), lambda: self.integer(depth - 1)
        return self.pick(
            lambda: f"({s()} + {s()})",
            lambda: f"({s()} ~ {self.any(depth - 1)} ~ {s()})",
            lambda: f"({s()} * {self.pick('0', '1', '2', '3', '-1')})",
            lambda: f"{s()}|{self.pick('upper', 'lower', 'title', 'capitalize', 'trim', 'reverse', 'string', 'urlencode')}",
            lambda: f"({s()}|{self.pick('e', 'safe', 'escape', 'forceescape')} ~ '')",
            lambda: f"(({s()}|{self.pick('e', 'safe')} + {s()}) ~ {s()})",
            lambda: f"({s()}).{self.pick('upper', 'lower', 'title', 'capitalize', 'strip', 'lstrip', 'rstrip', 'swapcase', 'casefold')}()",
            lambda: f"({s()}).{self.pick('strip', 'lstrip', 'rstrip')}({s()})",
            lambda: f"({s()}).replace({s()}, {s()})",
            lambda: f"({s()}).replace({s()}, {s()}, {self.pick('0', '1', '2', '-1')})",
            lambda: f"{s()}|replace({s()}, {s()})",
            lambda: f"({s()})[{self.slice()}]",
            lambda: f"({s()})[{self.pick('0', '-1', '2', '5')}]",
            lambda: f"{self.list(depth - 1)}|join({s()})",
            lambda: f"({s()}).join({s()}.split())",
            lambda: f"{self.any(depth - 1)}|tojson",
            lambda: f"{self.any(depth - 1)}|tojson({self.pick(*TOJSON)})",
            lambda: f"{self.any(depth - 1)}|string",
            lambda: f"'%s|%5s|%-6s|%r' % ({s()}, {i()}, {s()}, {self.any(depth - 1)})",
            lambda: f"'%d %5d %-4d| %05d %x %+d %o' % ({i()}, {i()}, {i()}, {i()}, {i()}|abs, {i()}, {i()}|abs)",
            lambda: f"'%.2f %8.3f %e %g %G' % ({self.real(depth - 1)}, {self.real(depth - 1)}, {self.real(depth - 1)}, {self.real(depth - 1)}, {self.real(depth - 1)})",
            lambda: f"'%({self.pick('a', 'b')})s!' % {{'a': {self.any(depth - 1)}, 'b': {s()}}}",
            lambda: f"'{self.pick('{} {}', '{0} {1} {0}', '{:>8}|{:<5}', '{!r} {}', '{:^9}{{}}{}', '{:*^12}{:.3}')}'.format({s()}, {s()})",
            lambda: f"'{self.pick('{:d} {:5d}', '{:,} {:x}', '{:+} {:05}', '{:b} {:>6}', '{:<5}|{:^7}|', '{:_} {:#x}', '{} {:c}')}'.format({i()}, {i()})",
            lambda: f"'{self.pick('{:.2f}', '{:8.1f}', '{:e}', '{:g}', '{}', '{:.0%}', '{:,.2f}', '{:.3}', '{:010.2f}')}'.format({self.real(depth - 1)})",
            lambda: f"'{{a.name}} {{b[0]}} {{c:>{{w}}}}'.format(a=p[0], b={self.list(depth - 1)}, c={s()}, w=8)",
            lambda: f"{s()}|indent({self.pick(*INDENT)})",
            lambda: f"{s()}|truncate({self.pick(*TRUNCATE)})",
            lambda: f"{s()}|center({self.pick('5', '20', '9')})",
            lambda: f"({s()}).{self.pick('ljust', 'rjust', 'center')}({self.pick(*WIDTHS)})",
            lambda: f"({s()}).zfill({self.pick('3', '9')})",
            lambda: f"{s()}|default({s()})",
            lambda: f"missing|default({s()})",
            lambda: f"{s()}|default({s()}, true)",
            lambda: f"({s()}).{self.pick('removeprefix', 'removesuffix')}({s()})",
            lambda: f"{s()}|format({self.any(depth - 1)})",
            lambda: f"({s()} if {self.boolean(depth - 1)} else {s()})",
            lambda: f"{i()}|filesizeformat{self.pick('', '(true)')}",
        )()

    def slice(self) -> str:
        part = lambda: self.pick("", "0", "1", "2", "-1", "-2", "5", "100", "-100")
        text = f"{part()}:{part()}"
        return text + f":{self.pick('', '1', '2', '-1', '-2', '3')}" if self.rng.random() < 0.4 else text

    def integer(self, depth: int) -> str:
        if depth <= 0:
            return self.rng.choice(INTS)
        i = lambda: self.integer(depth - 1)
        return self.pick(
            lambda: f"({i()} {self.pick('+', '-', '*', '//', '%')} {i()})",
            lambda: f"({i()} ** {self.pick('0', '1', '2', '3')})",
            lambda: f"(-{i()})",
            lambda: f"{i()}|abs",
            lambda: f"{self.string(depth - 1)}|{self.pick('length', 'count', 'int', 'wordcount', 'int(5)', 'int(base=16)')}",
            lambda: f"{self.list(depth - 1)}|{self.pick('length', 'count', 'first', 'last', 'min', 'max', 'sum')}",
            lambda: f"{self.dict(depth - 1)}|length",
            lambda: f"{self.real(depth - 1)}|int",
            lambda: f"{i()}|round({self.pick('0', '-1', '2')})",
            lambda: f"({self.string(depth - 1)}).{self.pick('count', 'find', 'rfind', 'index', 'rindex')}({self.string(depth - 1)})",
            lambda: f"({self.string(depth - 1)}).find({self.string(depth - 1)}, {self.pick('1', '-4', '0, 5', '9', '2, 1')})",
            lambda: f"({self.list(depth - 1)})[{self.pick('0', '-1', '1')}]",
            lambda: f"({i()} if {self.boolean(depth - 1)} else {i()})",
            lambda: f"{self.string(depth - 1)}[0]|int",
            lambda: f"p|sum(attribute='age')",
            lambda: f"({self.list(depth - 1)}).{self.pick('count', 'index')}({self.any(depth - 1)})",
        )()

    def real(self, depth: int) -> str:
        if depth <= 0:
            return self.rng.choice(FLOATS)
        return self.pick(
            lambda: f"({self.real(depth - 1)} {self.pick('+', '-', '*', '/', '//', '%')} {self.real(depth - 1)})",
            lambda: f"({self.integer(depth - 1)} / {self.integer(depth - 1)})",
            lambda: f"{self.real(depth - 1)}|round({self.pick('', '1', '2', '3', '-1')})",
            lambda: f"{self.real(depth - 1)}|round({self.pick('1', '0')}, '{self.pick('ceil', 'floor')}')",
            lambda: f"{self.string(depth - 1)}|float",
            lambda: f"{self.integer(depth - 1)}|float",
            lambda: f"({self.real(depth - 1)} ** {self.pick('2', '0.5', '-1')})",
            lambda: f"{self.real(depth - 1)}|abs",
        )()

    def list(self, depth: int) -> str:
        if depth <= 0:
            return self.rng.choice(LISTS)
        l = lambda: self.list(depth - 1)
        return self.pick(
            lambda: f"({l()} + {l()})",
            lambda: f"({l()})[{self.slice()}]",
            lambda: f"({l()} * {self.pick('0', '1', '2')})",
            lambda: f"[{self.any(depth - 1)}, {self.any(depth - 1)}]",
            lambda: f"({self.any(depth - 1)}, {self.any(depth - 1)})",
            lambda: f"range({self.pick('5', '1, 4', '5, 0, -2', '0', '3, 10, 3')})",
            lambda: f"{l()}|{self.pick('list', 'sort', 'unique|list', 'reverse|list', 'sort(reverse=true)', 'sort(case_sensitive=true)', 'unique(true)|list')}",
            lambda: f"{l()}|map('{self.pick('string', 'upper', 'int', 'length', 'tojson', 'lower', 'trim', 'list', 'first')}')|list",
            lambda: f"{l()}|map(attribute='{self.pick('name', 'role', 'age', '0', 'extra.k', 'tags')}')|list",
            lambda: f"{l()}|map(attribute='{self.pick('name', 'extra.k', 'q')}', default='?')|list",
            lambda: f"{l()}|{self.pick('select', 'reject')}|list",
            lambda: f"{l()}|{self.pick('select', 'reject')}('{self.pick('string', 'number', 'defined', 'none', 'mapping', 'odd', 'sequence')}')|list",
            lambda: f"{l()}|{self.pick('select', 'reject')}('{self.pick('eq', 'gt', 'lt', 'in', 'ne', '>=', 'equalto')}', {self.any(depth - 1)})|list",
            lambda: f"{self.pick('p', 'messages', l())}|{self.pick('selectattr', 'rejectattr')}('{self.pick('role', 'name', 'on', 'age', 'tool_calls')}')|list",
            lambda: f"{self.pick('p', 'messages')}|{self.pick('selectattr', 'rejectattr')}('{self.pick('role', 'name', 'tool_calls')}', '{self.pick('eq', 'equalto', 'in', 'ne')}', {self.pick(*ROLES)})|list",
            lambda: f"p|{self.pick(*PEOPLE)}",
            lambda: f"{l()}|batch({self.pick('2', '3, 0', '1')})|list",
            lambda: f"{l()}|slice({self.pick('2', '3, 0', '1')})|list",
            lambda: f"({self.string(depth - 1)}).{self.pick('split', 'rsplit')}({self.pick(*SPLITS)})",
            lambda: f"({self.string(depth - 1)}).{self.pick(*LINES)}",
            lambda: f"{self.string(depth - 1)}|list",
            lambda: f"({self.dict(depth - 1)}).{self.pick('items', 'keys', 'values')}()|list",
            lambda: f"{self.dict(depth - 1)}|{self.pick(*PAIRS)}",
        )()

    def dict(self, depth: int) -> str:
        if depth <= 0:
            return self.rng.choice(DICTS)
        return self.pick(
            lambda: f"{{{self.string(depth - 1)}: {self.any(depth - 1)}, 'z': {self.any(depth - 1)}}}",
            lambda: f"dict(a={self.any(depth - 1)}, b={self.integer(depth - 1)})",
            lambda: f"dict({self.dict(depth - 1)}, x={self.integer(depth - 1)})",
            lambda: f"dict({self.list(depth - 1)})",
            lambda: f"dict(**{self.dict(depth - 1)})",
            lambda: f"p[{self.pick('0', '1', '2')}]",
            lambda: f"({self.dict(depth - 1)}).get({self.string(depth - 1)}, {self.dict(depth - 1)})",
            lambda: f"({self.dict(depth - 1)}).copy()",
        )()

    def boolean(self, depth: int) -> str:
        if depth <= 0:
            return self.pick("yes", "no", "true", "s", "e", "n", "o", "l", "le", "missing", "nil")
        a = lambda: self.any(depth - 1)
        return self.pick(
            lambda: f"({a()} is {self.pick('', 'not ')}{self.rng.choice(TESTS)})",
            lambda: f"({self.integer(depth - 1)} {self.rng.choice(COMPARES)} {self.integer(depth - 1)})",
            lambda: f"({self.string(depth - 1)} {self.rng.choice(COMPARES)} {self.string(depth - 1)})",
            lambda: f"({self.integer(depth - 1)} < {self.real(depth - 1)} <= {self.integer(depth - 1)})",
            lambda: f"({a()} {self.pick('==', '!=')} {a()})",
            lambda: f"({self.list(depth - 1)} {self.rng.choice(COMPARES)} {self.list(depth - 1)})",
            lambda: f"({a()} {self.pick('in', 'not in')} {self.list(depth - 1)})",
            lambda: f"({self.string(depth - 1)} {self.pick('in', 'not in')} {self.string(depth - 1)})",
            lambda: f"({self.string(depth - 1)} {self.pick('in', 'not in')} {self.dict(depth - 1)})",
            lambda: f"(not {a()})",
            lambda: f"({self.boolean(depth - 1)} {self.pick('and', 'or')} {self.boolean(depth - 1)})",
            lambda: f"({self.string(depth - 1)}).{self.pick('startswith', 'endswith')}({self.string(depth - 1)})",
            lambda: f"({self.string(depth - 1)}).{self.pick('isupper', 'islower', 'isdigit', 'isalpha', 'isalnum', 'isspace', 'isnumeric', 'isascii', 'isdecimal', 'isprintable')}()",
            lambda: f"({self.integer(depth - 1)} is {self.pick('divisibleby 2', 'divisibleby(3)', 'eq 3', 'in [1, 2, 3]', 'sameas 1', 'gt 2', 'lt(5)', 'ge 1', 'odd', 'even')})",
            lambda: f"({a()} is {self.pick('eq', 'ne')}({a()}))",
        )()

    # Statements

    def space(self) -> str:
        return self.pick("", "", "", " ", "\n", "\n\n", "  ", "\t", "\n   ", "  \n  ", " x ", "text\n", "\n  y")

    def tag(self, inner: str) -> str:
        open_, close = self.pick("{%", "{%", "{%", "{%-", "{%+"), self.pick("%}", "%}", "%}", "-%}", "+%}")
        return f"{open_} {inner} {close}"

    def output(self, depth: int) -> str:
        open_, close = self.pick("{{", "{{", "{{", "{{-"), self.pick("}}", "}}", "}}", "-}}")
        return f"{open_} {self.any(depth)} {close}"

    def body(self, depth: int) -> str:
        parts = [self.space()]
        for _ in range(self.rng.randint(1, 3)):
            parts.append(self.statement(depth))
            parts.append(self.space())
        return "".join(parts)

    def statement(self, depth: int) -> str:
        if depth <= 0:
            return self.output(1)
        tag, body = self.tag, self.body
        kind = self.pick("out", "out", "if", "if", "for", "for", "set", "setblock", "macro", "call", "filter",
                         "comment", "raw", "with", "ns", "break", "generation")
        if kind == "out":
            return self.output(2)
        if kind == "if":
            text = tag(f"if {self.boolean(2)}") + body(depth - 1)
            if self.rng.random() < 0.3:
                text += tag(f"elif {self.boolean(1)}") + body(depth - 1)
            if self.rng.random() < 0.5:
                text += tag("else") + body(depth - 1)
            return text + tag("endif")
        if kind == "for":
            return self.loop(depth, "")
        if kind == "break":
            control = tag(self.pick("break", "continue"))
            return self.loop(depth, tag(f"if {self.pick('loop.index > 1', 'loop.first', 'v is odd', 'loop.last')}") + control + tag("endif"))
        if kind == "set":
            name = self.pick("v", "a1", "a2")
            self.locals.append(name)
            if self.rng.random() < 0.2:
                return tag(f"set a1, a2 = {self.any(1)}, {self.any(1)}")
            return tag(f"set {name} = {self.any(2)}")
        if kind == "setblock":
            self.locals.append("blk")
            return tag("set blk" + self.pick("", " | upper", " | trim | replace('a', 'b')")) + body(depth - 1) + tag("endset")
        if kind == "macro":
            name = self.pick("m1", "m2")
            params = self.pick("", "x", "x, y=2", "x='d', y=s")
            inner = self.pick("", "{{ x }}", "{{ x }}{{ y }}", "{{ varargs }}", "{{ kwargs|dictsort }}", "{{ caller() if caller }}", "{{ v }}")
            text = tag(f"macro {name}({params})") + inner + body(depth - 1) + tag("endmacro")
            args = self.pick("", self.any(1), f"{self.any(1)}, {self.any(1)}", f"x={self.any(1)}", f"y={self.any(1)}", "*[1, 2]", "**{'x': 3}", "1, 2, 3", "z=1")
            return text + f"{{{{ {name}({args}) }}}}"
        if kind == "call":
            return tag("macro mc(x)") + "[{{ caller() }}{{ x }}]" + tag("endmacro") + tag(f"call mc({self.any(1)})") + body(depth - 1) + tag("endcall")
        if kind == "filter":
            return tag("filter " + self.pick("upper", "trim", "replace('e', '3')", "indent(2)|lower", "length", "title", "e")) + body(depth - 1) + tag("endfilter")
        if kind == "comment":
            return self.pick("{# c #}", "{#- c {{ x }} -#}", "{# c\n c +#}", "{#+ c -#}", "{#c#}")
        if kind == "raw":
            return tag("raw").replace("+%}", "%}") + self.space() + "{{ not }} {% run %}" + self.space() + tag("endraw")
        if kind == "with":
            return tag(f"with v = {self.any(1)}") + "{{ v }}" + body(depth - 1) + tag("endwith")
        if kind == "generation":
            return tag("generation").replace("+", "") + body(depth - 1) + tag("endgeneration")
        return (tag("set ns = namespace(c=0, t='')") + tag("for v in " + self.list(1)) + tag("set ns.c = ns.c + 1")
                + tag(f"set ns.t = ns.t ~ {self.pick('v', 'loop.index', 'ns.c')}") + tag("endfor") + "{{ ns.c }}{{ ns.t }}")

    def loop(self, depth: int, control: str) -> str:
        target, source = self.pick(
            lambda: ("v", self.list(2)), lambda: ("v", self.list(1)), lambda: ("v", "missing"), lambda: ("v", self.string(1)),
            lambda: ("k1, v", f"({self.dict(1)}).items()"), lambda: ("v", self.dict(1)), lambda: ("(k1, v)", "[[1, 2], (3, 4)]"),
            lambda: ("k1, (k2, v)", "[[1, [2, 3]]]"), lambda: ("v", f"{self.list(1)}|map('string')"))()
        self.locals.append("v")
        condition = self.pick("", "", "", f" if {self.boolean(1)}", " if v", " if v is string", " if v is not none")
        info = self.pick("", "{{ loop.index }}", "{{ loop.revindex }}/{{ loop.length }}", "{{ loop.first }}{{ loop.last }}",
                         "{{ loop.cycle('a', 'b') }}", "{{ loop.previtem }}|{{ loop.nextitem }}", "{{ loop.changed(v) }}",
                         "{{ loop.index0 }}{{ loop.depth }}{{ loop.revindex0 }}")
        text = self.tag(f"for {target} in {source}{condition}") + control + info + self.body(depth - 1)
        if self.rng.random() < 0.3:
            text += self.tag("else") + self.body(depth - 1)
        return text + self.tag("endfor")


def make_expression(rng: random.Random) -> str:
    return "{{ " + Maker(rng).any(rng.randint(1, 3)) + " }}"


def make_template(rng: random.Random) -> str:
    return Maker(rng).body(rng.randint(1, 3)) + rng.choice(["", "\n", "\n\n"])
