from __future__ import annotations

import re
import time
from typing import Any

import pytest

from codecria.common.errors import CodecriaError
from codecria.tokenizer.templates import render

MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a\nb {% if %}", r"chat template:2: not valid Jinja"),
        ("{{ messages[0].content", r"chat template:1: not valid Jinja"),
        ("{{ raise_exception('roles must alternate') }}", "chat template: roles must alternate"),
        ("{{ undefined.attribute }}", "chat template: 'undefined' is undefined"),
        ("{{ 1 / 0 }}", "chat template: ZeroDivisionError: division by zero"),
        ("{{ 'a' + 1 }}", "chat template: TypeError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "chat template: forbidden operation"),
        ("{{ messages.append(1) }}", "chat template: forbidden operation"),
        ("{{ (messages[0] | attr('__class__')).__base__ }}", "chat template: "),
        ("{{ namespace(__class__=1) }}", "chat template: forbidden operation"),
        ("{% set n = namespace(a=1) %}{% set n._x = 2 %}", "chat template: forbidden operation"),
        ("{{ dict.__base__.__subclasses__() }}", "chat template: 'function object' has no attribute"),
        ("{{ 'a' * 10**9 }}", "chat template: forbidden operation"),
        ("{{ 10**9 * [1] }}", "chat template: forbidden operation"),
        ("{{ 2 ** (10**9) }}", "chat template: forbidden operation"),
        ("{% for i in range(10**9) %}{% endfor %}", "chat template: OverflowError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "chat template: RecursionError"),
        ("{% include 'other' %}", "chat template: "),
    ],
)
def test_broken_and_hostile_templates_are_one_line(template: str, message: str) -> None:
    started = time.thread_time()
    with pytest.raises(CodecriaError, match=re.escape(message)) as caught:
        render(template, {"messages": MESSAGES})
    assert "\n" not in str(caught.value)
    assert time.thread_time() - started < 5.0


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ {'a': 'é<', 'b': [1]} | tojson }}", '{"a": "é<", "b": [1]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=1, sort_keys=True) }}", '{\n "a": 2,\n "b": 1\n}'),
        ("{{ [1] | tojson(separators=(',', ':'), ensure_ascii=True) }}", "[1]"),
        ("{% for i in range(5) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% set n = namespace(x=1) %}{% for i in range(3) %}{% set n.x = n.x * 2 %}{% endfor %}{{ n.x }}", "8"),
        ("a{% generation %} b {% endgeneration %}c", "a b c"),
        ("{{ dict(a=1).a ~ 'ab' * 2 }}", "1abab"),
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
    ],
)
def test_what_templates_may_use(template: str, text: str) -> None:
    assert render(template, {"messages": MESSAGES}) == text


def test_the_date() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", render("{{ strftime_now('%Y-%m-%d') }}", {}))


def test_messages_are_left_alone() -> None:
    messages = [dict(message) for message in MESSAGES]
    render("{% set m = messages[0] %}{% set m = {'role': 'x'} %}{{ m.role }}", {"messages": messages})
    assert messages == MESSAGES
