"""What tests may do with a program that lives in another process."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codecria.sandbox.verdict import Program, Verdict

if TYPE_CHECKING:
    from codecria.sandbox.runner import Sandbox


def judge(sandbox: Sandbox, code: str, tests: str, **fields: str) -> Verdict:
    return sandbox.run(Program(textwrap.dedent(code), textwrap.dedent(tests), **fields))


PASSING = {
    "plain data": (
        "def f(*a, **k): return a, k",
        "assert f(1, 2.5, 'ä\\ud800', b'x', None, [1, {2: (3,)}], {4}, key=10**50) == "
        "((1, 2.5, 'ä\\ud800', b'x', None, [1, {2: (3,)}], {4}), {'key': 10**50})",
    ),
    "containers of collections": (
        "from collections import Counter, OrderedDict, defaultdict, deque\n"
        "def f(): return Counter('aab'), OrderedDict(a=1), deque([1]), defaultdict(int)",
        "assert f() == ({'a': 2, 'b': 1}, {'a': 1}, __import__('collections').deque([1]), {})",
    ),
    "named tuples": (
        "from collections import namedtuple\nfrom typing import NamedTuple\nP = namedtuple('P', 'x y')\n"
        "class Q(NamedTuple):\n    z: int\ndef f(): return P(1, 2), Q(3)",
        "p, q = f()\nassert p == (1, 2) and p.x == 1 and q.z == 3 and type(p).__name__ == 'P'",
    ),
    "an argument changed in place": (
        "def f(a, b, c, d):\n    a.sort(); b['x'] = 1; c.clear(); d += b'!'",
        "a, b, c, d = [3, 1], {}, {1}, bytearray(b'hi')\nf(a, b, c, d=d)\n"
        "assert (a, b, c, d) == ([1, 3], {'x': 1}, set(), bytearray(b'hi!'))",
    ),
    "objects of the program's classes": (
        """
        from dataclasses import dataclass
        @dataclass
        class Point:
            x: int
            y: int = 0
            def add(self, other): return Point(self.x + other.x, self.y + other.y)
            def __add__(self, other): return self.add(other)
            def __getitem__(self, i): return (self.x, self.y)[i]
            def __len__(self): return 2
        """,
        """
        p, q = Point(1, 2), Point(3)
        assert (p + q).x == 4 and p.add(q) == Point(4, 2) and p != q and p[1] == 2 and len(p) == 2
        assert list(p) == [1, 2] and str(p) == "Point(x=1, y=2)" and isinstance(p, Point)
        p.x = 7
        assert p.x == 7 and Point.__name__ == "Point" and [p][0] is p and p in [q, p]
        """,
    ),
    "generators and iterators": (
        "def f(n):\n    yield from range(n)\ndef g(): return zip('ab', [1, 2])",
        "assert list(f(3)) == [0, 1, 2] and sum(f(4)) == 6 and next(f(1)) == 0 and dict(g()) == {'a': 1, 'b': 2}",
    ),
    "functions of the tests": (
        "def f(function, items): return sorted(items, key=function), list(map(function, items))",
        "assert f(lambda x: -x, [1, 3, 2]) == ([3, 2, 1], [-1, -3, -2]) and f(abs, [-2, 1]) == ([1, -2], [2, 1])",
    ),
    "objects of the tests' classes": (
        "def f(node):\n    total = 0\n    while node:\n        total += node.value\n        node.value = 0\n"
        "        node = node.after\n    return total",
        "class Node:\n    def __init__(self, value, after): self.value, self.after = value, after\n"
        "first = Node(1, Node(2, None))\nassert f(first) == 3 and first.after.value == 0",
    ),
    "iterators and files of the tests": (
        "def f(items, file): return list(items), file.read()",
        "import io\nassert f((x for x in 'ab'), io.StringIO('text')) == (['a', 'b'], 'text')",
    ),
    "exceptions": (
        """
        import decimal, json
        class Wrong(ValueError): pass
        class Worse(Wrong): pass
        def f(x):
            if x == 0: raise Worse("bad", 3)
            if x == 1: return [][1]
            if x == 2: return json.loads("{")
            if x == 3: return open("/nowhere/at/all")
            if x == 4: decimal.Decimal("x")
        """,
        """
        import decimal, json
        def raised(x):
            try: f(x)
            except Exception as error: return error
        try: f(0)
        except Wrong as error: assert error.args == ("bad", 3) and isinstance(error, ValueError)
        else: assert False
        assert type(raised(0)).__name__ == "Worse" and type(raised(1)) is IndexError
        assert isinstance(raised(2), json.JSONDecodeError) and isinstance(raised(3), FileNotFoundError)
        assert isinstance(raised(4), decimal.InvalidOperation)
        """,
    ),
    "an exception of the tests thrown through the program": (
        "def f(function): return function()",
        "class Mine(Exception): pass\ndef throw(): raise Mine(1)\n"
        "try: f(throw)\nexcept Mine as error: assert error.args == (1,)\nelse: assert False",
    ),
    "calls back and forth": (
        "def f(n, function): return 1 if n == 0 else n * function(n - 1)",
        "def back(n): return f(n, back)\nassert f(10, back) == 3628800",
    ),
    "names of the program": (
        "import math\nfrom datetime import date\nLIMIT = 3\n_table = {'a': [1]}\ndef helper(x): return x * LIMIT",
        "assert LIMIT == 3 and _table['a'] == [1] and helper(2) == 6 and math.pi > 3 and date(2020, 1, 2).day == 2",
    ),
    "a global that changes": ("n = 0\ndef f():\n    global n\n    n += 1", "f()\nassert n == 1\nf()\nassert n == 2"),
    "types as arguments": (
        "def f(items, kind): return [x for x in items if isinstance(x, kind)]",
        "assert f([1, 'a'], str) == ['a'] and f([1, 'a'], (int, float)) == [1]",
    ),
    "a context manager": (
        "import contextlib\n@contextlib.contextmanager\ndef f():\n    yield 5",
        "with f() as x: assert x == 5",
    ),
    "threads of the program": (
        "from threading import Thread\ndef f():\n    out = []\n"
        "    ts = [Thread(target=out.append, args=(i,)) for i in range(8)]\n    [t.start() for t in ts]\n"
        "    [t.join() for t in ts]\n    return sorted(out)",
        "assert f() == list(range(8))",
    ),
    "asyncio in the program": (
        "import asyncio\nasync def g():\n    await asyncio.sleep(0)\n    return 4\ndef f(): return asyncio.run(g())",
        "assert f() == 4",
    ),
    "files in the current folder": (
        "import os, shutil, tempfile\ndef f():\n    with open('a', 'w') as file: file.write('x')\n"
        "    shutil.copy2('a', 'b'); os.mkdir('d'); os.rename('b', 'd/c')\n"
        "    with tempfile.NamedTemporaryFile() as file: file.write(b'y')\n    return open('d/c').read()",
        "assert f() == 'x' and open('a').read() == 'x'",
    ),
    "the future in the program alone": (
        "from __future__ import annotations\ndef f(x: Unknown) -> Unknown: return x",
        "assert f(1) == 1",
    ),
}


@pytest.mark.parametrize("name", PASSING)
def test_passes(any_sandbox: Sandbox, name: str) -> None:
    code, tests = PASSING[name]
    verdict = judge(any_sandbox, code, tests)
    assert (verdict.status, verdict.detail) == ("passed", "")


def test_the_same_under_every_kind_of_sandbox(sandbox: Sandbox) -> None:
    verdicts = sandbox.run_many(
        Program(textwrap.dedent(code), textwrap.dedent(tests)) for code, tests in PASSING.values()
    )
    assert [v.detail for v in verdicts if not v.passed] == []


FAILING = {
    "an assertion": (
        "def f(x): return x",
        "x = 1\nassert f(x) == 2",
        "AssertionError; line 2 of the tests: `assert f(x) == 2`",
    ),
    "its message": ("def f(): return 3", "assert f() == 2, f'got {f()}'", "AssertionError: got 3; line 1 of the tests"),
    "an exception of the program": (
        "def f(x):\n    return 1 / x",
        "f(0)",
        "ZeroDivisionError: division by zero; line 1 of the tests: `f(0)`; line 2 of the program",
    ),
    "while it is defined": (
        "x = 1\ny = x / 0",
        "",
        "ZeroDivisionError: division by zero; line 2 of the program: `y = x / 0`",
    ),
    "its syntax": ("def f(:", "", "SyntaxError: invalid syntax (<program>, line 1); line 1 of the program: `def f(:`"),
    "the tests' syntax": (
        "f = 1",
        "assert (",
        "SyntaxError: '(' was never closed (<tests>, line 1); line 1 of the tests",
    ),
    "a NUL": ("f = 1\0", "", "null bytes"),
    "half a character": ("f = '\ud800'", "", "UnicodeEncodeError"),
    "a name that is missing": ("f = 1", "g()", "NameError: name 'g' is not defined"),
    "exit in the tests": ("f = 1", "import sys\nsys.exit(0)", "exit(0) was called before the tests ended; line 2"),
    "a built-in name": ("def len(x): return 5", "assert len([]) == 5", "AssertionError"),
    "another type": ("def f(): return (1, 2)", "assert f() == [1, 2]", "AssertionError"),
    "a test in a thread": (
        "def f(): return 1",
        "import threading\nfailed = []\ndef g():\n    try: f()\n    except RuntimeError as e: failed.append(str(e))\n"
        "t = threading.Thread(target=g); t.start(); t.join()\nassert not failed, failed",
        "main threads only",
    ),
    "an exception that cannot be printed": (
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
        "",
        "E; line 3 of the program: `raise E`",
    ),
    "a frame is not looked into": (
        "def f(g): return g.gi_frame.f_globals",
        "def g():\n    yield 1\nf(g())",
        "AttributeError: generator gi_frame: not open to the program",
    ),
    "a private attribute is not looked into": (
        "def f(x): return x._secret",
        "class C: _secret = 1\nf(C())",
        "AttributeError: C _secret: not open to the program",
    ),
    "a module is not looked into": (
        "def f(m): return m.path",
        "import sys\nf(sys)",
        "module path: not open to the program",
    ),
}


@pytest.mark.parametrize("name", FAILING)
def test_fails_with_a_reason(any_sandbox: Sandbox, name: str) -> None:
    code, tests, reason = FAILING[name]
    verdict = judge(any_sandbox, code, tests)
    assert verdict.status == "failed"
    assert reason in verdict.detail
    assert "\n" not in verdict.detail


def test_the_name_under_test(any_sandbox: Sandbox) -> None:
    check = "def check(candidate):\n    assert candidate(1) == 2"
    assert judge(any_sandbox, "def f(x): return x + 1", check, entry_point="f").passed
    wrong = judge(any_sandbox, "def f(x): return x", check, entry_point="f")
    assert wrong.detail == "AssertionError; line 2 of the tests: `assert candidate(1) == 2`"
    missing = judge(any_sandbox, "def g(x): return x + 1", check, entry_point="f")
    assert (missing.status, missing.detail) == ("failed", "the program does not define 'f'")
    # A built-in name is the program's only when it is the one under test.
    summing = "def sum(a, b): return a + b"
    assert judge(any_sandbox, summing, "assert sum(1, 2) == 3", entry_point="sum").passed
    assert not judge(any_sandbox, summing, "assert sum(1, 2) == 3").passed


@pytest.mark.parametrize("tests", ["assert check(1) == 2", "called = check\nassert called(1) == 2"])
@pytest.mark.parametrize("entry_point", ["check", "f", None])
def test_a_program_s_own_function_of_the_name_check_is_no_check(
    any_sandbox: Sandbox, tests: str, entry_point: str | None
) -> None:
    """MBPP's task 56 asks for a function of that name."""
    code = "def check(n): return n + 1\n\ndef f(): pass"
    verdict = judge(any_sandbox, code, tests, entry_point=entry_point)
    assert verdict.passed, verdict.detail
    assert verdict.calls == 1


@pytest.mark.parametrize(
    "check", ["functools.partial(verify)", "type('C', (), {'__call__': lambda _, f: verify(f)})()"]
)
def test_a_check_of_the_tests_need_not_be_a_plain_function(any_sandbox: Sandbox, check: str) -> None:
    tests = f"import functools\ndef verify(f): assert f(1) == 2\ncheck = {check}"
    assert not judge(any_sandbox, "def f(x): return x", tests, entry_point="f").passed
    assert judge(any_sandbox, "def f(x): return x + 1", tests, entry_point="f").passed


def test_calls_are_counted(any_sandbox: Sandbox) -> None:
    code = "def f(x): return x"
    assert judge(any_sandbox, code, "assert f(1) == 1\nassert [f(x) for x in range(3)] == [0, 1, 2]").calls == 4
    vacuous = judge(any_sandbox, code, "assert True")
    assert vacuous.passed
    assert vacuous.calls == 0


def test_scripts(any_sandbox: Sandbox) -> None:
    code = "import sys\nname = input()\nrest = sys.stdin.read()\nprint('hello', name, len(rest))\n"
    tests = "assert stdout == 'hello Ada 3\\n', stdout"
    assert judge(any_sandbox, code, tests, stdin="Ada\nxyz").passed
    assert judge(any_sandbox, code + "sys.exit(0)", tests, stdin="Ada\nxyz").passed
    assert judge(any_sandbox, code + "sys.stdout.flush()\n__import__('os')._exit(0)", tests, stdin="Ada\nxyz").passed
    assert judge(
        any_sandbox, f"if __name__ == '__main__':\n{textwrap.indent(code, ' ')}", tests, stdin="Ada\nxyz"
    ).passed
    assert judge(any_sandbox, code, tests, stdin="Bob\nxyz").detail.startswith("AssertionError: hello Bob 3")
    assert "exit(3)" in judge(any_sandbox, code + "sys.exit(3)", tests, stdin="Ada\nxyz").detail
    assert "EOFError" in judge(any_sandbox, code, tests, stdin="").detail
    late = "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()"
    assert judge(any_sandbox, late, "assert stdout == 'late\\n'", stdin="").passed
    large = "x" * 500_000
    assert judge(any_sandbox, "print(len(input()))", "assert stdout == '500000\\n'", stdin=large).passed


def test_a_prelude_runs_before_the_program_and_its_lines_are_not_counted(any_sandbox: Sandbox) -> None:
    prelude = "import math\nfrom typing import List\n\n\ndef offered():\n    return 1\n"
    annotated = '"""What it is."""\nfrom __future__ import annotations\ndef f(x: Absent) -> List[int]:\n    return [x]'
    passing = [
        Program(
            "def f(x: List[int]):\n    return math.floor(x) + offered()", "assert f(1.5) == 2", "f", prelude=prelude
        ),
        Program(annotated, "assert f(1) == [1] and offered() == 1", prelude=prelude),
        Program("print(math.floor(float(input())))", "assert stdout == '1\\n'", stdin="1.5", prelude=prelude),
    ]
    assert [any_sandbox.run(program).status for program in passing] == ["passed"] * 3
    failing = {
        "def f(x):\n    return x / 0": "line 2 of the program",
        "x = 1\n1 / 0\n": "ZeroDivisionError: division by zero; line 2 of the program: `1 / 0`",
        "x = 1\ny = (\n": "line 2 of the program: `y = (`",
    }
    for code, detail in failing.items():
        verdict = any_sandbox.run(Program(code, "f(1)", prelude=prelude))
        assert verdict.status == "failed" and verdict.detail.endswith(detail), verdict
        assert verdict.detail == any_sandbox.run(Program(code, "f(1)")).detail
    assert any_sandbox.run(Program("def f(): return offered()", "f()")).status == "failed"


def test_long_reasons_are_cut(any_sandbox: Sandbox) -> None:
    for letter in ("x", "\U0001f999", "\n", "\ud800"):
        verdict = judge(any_sandbox, "def f(): return 1", f"assert f() == 2, {letter!r} * 5000")
        assert verdict.status == "failed"
        assert len(verdict.detail) <= 600
        assert "\n" not in verdict.detail
        in_code = judge(any_sandbox, f"raise ValueError({letter!r} * 5000)", "")
        assert in_code.status == "failed"
        assert len(in_code.detail) < 1200


def test_what_is_printed_is_kept(any_sandbox: Sandbox) -> None:
    verdict = judge(any_sandbox, "print('defined')\ndef f(): print('called ä')", "f()\nf()\nprint('not this')")
    assert verdict.output == "defined\ncalled ä\ncalled ä\n"


def test_one_program_leaves_nothing_to_the_next(any_sandbox: Sandbox) -> None:
    first = "import builtins, math, os\nbuiltins.x = math.pi = 3\nopen('left', 'w').close()\nos.environ['LEFT'] = '1'"
    second = (
        "import builtins, math, os\nfound = hasattr(builtins, 'x'), math.pi == 3, os.listdir(), 'LEFT' in os.environ"
    )
    assert judge(any_sandbox, first, "").passed
    verdict = judge(any_sandbox, second, "assert found == (False, False, [], False), found")
    assert verdict.passed, verdict


def test_draws_differ_and_orders_do_not(any_sandbox: Sandbox) -> None:
    code = "import random\nprint(random.random())"
    assert len({judge(any_sandbox, code, "").output for _ in range(3)}) == 3
    code = "print({'a', 'b', 'c', 'd', 'e', 'f'})"
    assert len({judge(any_sandbox, code, "").output for _ in range(3)}) == 1


data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data, data)
def test_data_crosses_and_compares_as_in_one_process(any_sandbox: Sandbox, one: object, other: object) -> None:
    code = f"def f(x): return x\ndef g(): return {one!r}"
    tests = f"assert f({one!r}) == {one!r} == g()\nassert (f({other!r}) == g()) is {one == other}"
    assert judge(any_sandbox, code, tests).passed


# Without w no loop can be written that runs into a limit.
lines = st.text(st.characters(exclude_characters="wW"), max_size=60)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines, st.none() | lines)
def test_whatever_the_program_is_wrong_stays_wrong(any_sandbox: Sandbox, code: str, stdin: str | None) -> None:
    verdict = any_sandbox.run(Program(code, "assert 1 == 2", stdin=stdin))
    assert verdict.status == "failed"
