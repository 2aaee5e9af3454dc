"""Chat templates: Jinja in a sandbox, and Meta's own formats for models that ship none.

A template comes with a checkpoint, from anywhere. The sandbox keeps it from Python's internals, from changing what it
is given, and from making huge objects by multiplication; ranges end at 100,000. It does not bound the time of nested
loops or the memory of repeated concatenation.
"""

from __future__ import annotations

import functools
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, cast

from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from codecria.common.errors import CodecriaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2
    from jinja2 import nodes
    from jinja2.parser import Parser

_LARGEST_REPEAT = 1_000_000
_LARGEST_EXPONENT = 64

LLAMA_2 = """\
{%- for message in messages -%}
{%- for tag in ['[INST]', '[/INST]', '<<SYS>>', '<</SYS>>'] -%}
{%- if tag in message['content'] -%}
{{ raise_exception("a message holds '" ~ tag ~ "', which this format cannot tell from its own marks") }}
{%- endif -%}
{%- endfor -%}
{%- endfor -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set system = '<<SYS>>\\n' ~ messages[0]['content'] ~ '\\n<</SYS>>\\n\\n' -%}
{%- set turns = messages[1:] -%}
{%- else -%}
{%- set system = '' -%}
{%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
{%- if message['role'] != ['user', 'assistant'][loop.index0 % 2] -%}
{{ raise_exception('after an optional system message, user and assistant must alternate') }}
{%- endif -%}
{%- if message['role'] == 'user' -%}
{{ bos_token ~ '[INST] ' ~ ((system if loop.first else '') ~ message['content']) | trim ~ ' [/INST]' }}
{%- else -%}
{{ ' ' ~ message['content'] | trim ~ ' ' ~ eos_token }}
{%- endif -%}
{%- endfor -%}
"""
"""Llama 2's and Code Llama's format, 7B to 34B (Meta's generation.py, `chat_completion`)."""

CODE_LLAMA_70B = """\
{{ bos_token }}
{%- if messages[0]['role'] != 'system' -%}{{ ' Source: system<step>' }}{%- endif -%}
{%- for message in messages -%}
{{ ' Source: ' ~ message['role'] }}
{%- set learnt = loop.last and message['role'] == 'assistant' and not add_generation_prompt -%}
{%- set destination = message['destination'] or ('user' if learnt else '') -%}
{%- if destination -%}{{ '\\nDestination: ' ~ destination | trim }}{%- endif -%}
{%- if message['content'] -%}{{ cut ~ '\\n\\n ' ~ (cut if learnt else '') ~ message['content'] | trim }}{%- endif -%}
{{ '<step>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ ' Source: assistant\\nDestination: user' ~ cut ~ '\\n\\n ' }}{%- endif -%}
"""
"""Code Llama 70B Instruct's format (Meta's generation.py, `encode_dialog_prompt`). Meta encodes each message's header
and body apart, each with its own implicit space: `cut` marks those places. Meta asks for an answer with a destination,
and what is written then begins a run of its own; in a history neither is so. The last answer of a training example
stands as it is written."""

CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
"""OpenAI's format, which SmolLM2, Qwen and others were tuned with."""

FORMATS = {
    "llama-2": (LLAMA_2, ()),
    "code-llama-70b": (CODE_LLAMA_70B, ("<step>",)),
    "chatml": (CHATML, ("<|im_start|>", "<|im_end|>")),
}
"""Formats by name, each with the special tokens that a vocabulary needs for it."""


def render(source: str, variables: Mapping[str, Any]) -> str:
    """Render a chat template.

    Raises:
        CodecriaError: the template is not valid, refuses the messages, fails, or tries to leave the sandbox.
    """
    try:
        return _compile(source).render(variables)
    except TemplateSyntaxError as error:
        raise CodecriaError(f"not valid Jinja: {error.message}", where=f"chat template:{error.lineno}") from error
    except SecurityError as error:
        raise CodecriaError(f"forbidden operation: {error}", where="chat template") from error
    except TemplateError as error:
        raise CodecriaError(str(error), where="chat template", mend="mend the messages") from error
    except Exception as error:  # a template is a program: it can fail in any way
        raise CodecriaError(f"{type(error).__name__}: {error}", where="chat template") from error


class _Sandbox(ImmutableSandboxedEnvironment):
    """Refuses products that would fill the memory."""

    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        for one, other in ((left, right), (right, left)):
            if isinstance(one, (str, list, tuple)) and isinstance(other, int) and len(one) * other > _LARGEST_REPEAT:
                raise SecurityError(f"a repetition {other} times")
        if operator == "**" and isinstance(right, (int, float)) and abs(right) > _LARGEST_EXPONENT:
            raise SecurityError(f"a power of {right}")
        return super().call_binop(context, operator, left, right)


class _GenerationBlock(Extension):
    """`{% generation %}` of transformers' training templates: the answers are found otherwise, so it only shows."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """Jinja's namespace without underscore names, which reach Python's internals."""

    def __init__(self, *args: Any, **values: Any) -> None:
        for name in dict(*args, **values):
            _check_name(name)
        super().__init__(*args, **values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"the name {name!r} in a namespace")


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML; templates for models want plain JSON."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _new_dict(*args: Any, **values: Any) -> dict[Any, Any]:
    return dict(*args, **values)


@functools.lru_cache(maxsize=16)
def _compile(source: str) -> jinja2.Template:
    """Compile with the settings and names that transformers gives templates."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols])
    environment.filters["tojson"] = _to_json
    names = cast("dict[str, Any]", environment.globals)
    names.update(raise_exception=_refuse, strftime_now=_now, namespace=_Namespace, dict=_new_dict)
    return environment.from_string(source)
