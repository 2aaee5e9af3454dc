"""Conversations as ids, and which of the ids are the assistant's.

A chat template pastes strings, so a message that spells a special token would become one. Here such spellings are
broken by a mark before rendering; the rendered text is split at the spellings that are left, which are the template's
own; the marks are taken out of the rest, and each run of text is encoded as text. On messages without such spellings
the ids equal those of transformers' `apply_chat_template`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from codecria.common.errors import CodecriaError
from codecria.tokenizer.escaping import Marks, SpecialSpellings
from codecria.tokenizer.templates import CODE_LLAMA_70B, FORMATS, LLAMA_2, render

if TYPE_CHECKING:
    from codecria.tokenizer.tokenizer import Tokenizer

Message = Mapping[str, Any]
"""`role`, `content` and whatever else a template reads."""

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
"""Roles a message may have. Some templates make a special token of the role's name, so it is not free text."""

_INST = [518, 25580, 29962]
"""Ids of `[INST]` in Llama's vocabulary, by which it is known."""


@dataclass(frozen=True)
class ChatEncoding:
    """A conversation as ids; `loss_mask[i]` says that `ids[i]` is part of an answer or the token that ends it."""

    ids: list[int]
    loss_mask: list[bool]


def render_chat(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
    """The conversation as one text, special tokens spelled out, as the template pastes it.

    For people and for servers that hand out text; models are given what `encode_chat` returns.

    Raises:
        CodecriaError: see `encode_chat`.
    """
    conversation = _Conversation.of(tokenizer, messages, add_generation_prompt)
    return conversation.marks.without_any(conversation.render())


def encode_chat(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = True) -> ChatEncoding:
    """The conversation as ids, with the mask of the assistant's answers.

    Args:
        tokenizer: its chat template is used; without one, Meta's format where the vocabulary is Llama's.
        messages: roles are among `ROLES`.
        add_generation_prompt: end with what the assistant's next answer follows. Without it the conversation is
            taken as a training example, and a template whose answers cannot be found is an error; with it the mask
            of such a template is all false.

    Raises:
        CodecriaError: there is no template; it is broken or refuses the messages; a message is malformed.
    """
    conversation = _Conversation.of(tokenizer, messages, add_generation_prompt)
    marked = conversation.render_marked()
    if marked is None:
        if not add_generation_prompt:
            what = "it rewrites the assistant's answers, so they cannot be marked for the loss"
            raise CodecriaError(what, where="chat template")
        marked = conversation.render()
    return _Assembly(tokenizer, conversation.spellings, conversation.marks).encode(marked)


@dataclass(frozen=True)
class _Conversation:
    """Messages made safe, and the template they are for."""

    template: str
    messages: list[dict[str, Any]]
    spellings: SpecialSpellings
    marks: Marks
    variables: dict[str, Any]

    @classmethod
    def of(cls, tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool) -> _Conversation:
        template = tokenizer.chat_template or _built_in_template(tokenizer)
        if not messages:
            raise CodecriaError("there are no messages", where="messages")
        plain = [_checked(place, message) for place, message in enumerate(messages)]
        marks = Marks.unused_in([template, *_strings(plain)])
        spellings = SpecialSpellings(tokenizer)
        safe = [_mapped(message, lambda text: spellings.escape(text, marks.escape)) for message in plain]
        named = tokenizer.roles.by_name().items()
        variables = {name: "" if id is None else tokenizer.token_text(id) for name, id in named}
        further = {"add_generation_prompt": add_generation_prompt, "tools": None, "documents": None}
        return cls(template, safe, spellings, marks, variables | further | {"cut": marks.cut})

    def render(self, change: Callable[[str], str] = str) -> str:
        """The text, with every answer changed first."""
        changed = [
            message | {"content": change(message["content"])} if _is_answer(message) else message
            for message in self.messages
        ]
        return render(self.template, self.variables | {"messages": changed})

    def render_marked(self) -> str | None:
        """The text with marks around the answers; None where the template rewrites them.

        White space before an answer belongs to it where the template keeps it.
        """
        answers = [message["content"] for message in self.messages if _is_answer(message)]
        plain = self.render()
        marked = self.render(self.marks.around)
        if any(answer[:1].isspace() for answer in answers) and self.render(str.lstrip) != plain:
            marked = self.render(self.marks.around_with_indent)
        count = sum(bool(answer.strip()) for answer in answers)
        found = {marked.count(self.marks.begin), marked.count(self.marks.end)}
        return marked if found == {count} and self.marks.without_answers(marked) == plain else None


@dataclass
class _Assembly:
    """Turns a rendered text into ids, run by run. Places are in characters of the run so far."""

    tokenizer: Tokenizer
    spellings: SpecialSpellings
    marks: Marks
    ids: list[int] = field(default_factory=list[int])
    loss_mask: list[bool] = field(default_factory=list[bool])
    _run: str = ""
    _answers: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    _begun_at: int | None = None
    _ended_at: int | None = None

    def encode(self, text: str) -> ChatEncoding:
        place = 0
        for match in self.spellings.splitter(self.marks).finditer(text):
            self._run += text[place : match.start()]
            place = match.end()
            self._handle(match[0])
        self._run += text[place:]
        self._flush()
        return ChatEncoding(self.ids, self.loss_mask)

    def _handle(self, found: str) -> None:
        if found == self.marks.begin:
            self._begun_at = len(self._run)
        elif found == self.marks.end:
            self._answers.append((self._begun_at or 0, len(self._run)))
            self._begun_at, self._ended_at = None, len(self._run)
        elif found == self.marks.cut:
            self._flush()
        elif found != self.marks.escape:
            self._add_special(self.spellings.id_of(found))

    def _add_special(self, id: int) -> None:
        """A special token right after an answer ends it, white space between them aside."""
        roles = self.tokenizer.roles
        ends = self._begun_at is not None
        if self._ended_at is not None and not self._run[self._ended_at :].strip():
            ends = id != roles.bos_id or id in roles.eos_ids
            if ends:
                self._answers.append((self._ended_at, len(self._run)))
        self._flush()
        self.ids.append(id)
        self.loss_mask.append(ends)

    def _flush(self) -> None:
        """Encode the run; a token is the assistant's when one of its characters is."""
        if self._begun_at is not None:
            self._answers.append((self._begun_at, len(self._run)))
            self._begun_at = 0
        ids, spans = self.tokenizer.encode_run(self._run, begins=not self.ids)
        self.ids += ids
        self.loss_mask += [any(start < to and end > at for at, to in self._answers) for start, end in spans]
        self._run, self._answers, self._ended_at = "", [], None


def with_chat_format(tokenizer: Tokenizer, name: str) -> Tokenizer:
    """The tokenizer with one of `templates.FORMATS` as its chat template.

    Raises:
        CodecriaError: there is no such format, or the vocabulary lacks one of its special tokens: pasted as text it
            could not end an answer.
    """
    if name not in FORMATS:
        raise CodecriaError(f"no chat format '{name}'", where="chat_format", mend=f"one of: {', '.join(FORMATS)}")
    template, needed = FORMATS[name]
    if lacking := [spelling for spelling in needed if tokenizer.token_id(spelling) is None]:
        what = f"the tokenizer has no token {lacking[0]}, which the format {name} is made of"
        raise CodecriaError(what, where="chat_format", mend="llama-2 needs none")
    return tokenizer.with_chat_template(template)


def chats(tokenizer: Tokenizer) -> bool:
    """Whether conversations can be encoded: it has a template, or its vocabulary is Llama's."""
    return tokenizer.chat_template is not None or _is_llamas(tokenizer)


def _is_llamas(tokenizer: Tokenizer) -> bool:
    return tokenizer.encode("[INST]") == _INST


def _built_in_template(tokenizer: Tokenizer) -> str:
    if _is_llamas(tokenizer):
        return LLAMA_2 if tokenizer.token_id("<step>") is None else CODE_LLAMA_70B
    mend = "use an instruction-tuned checkpoint, or add chat_template.jinja"
    raise CodecriaError("the tokenizer has no chat template", mend=mend)


def _is_answer(message: Message) -> bool:
    return message["role"] == "assistant" and isinstance(message.get("content"), str)


def _checked(place: int, message: object) -> dict[str, Any]:
    where = f"messages[{place}]"
    if not isinstance(message, Mapping):
        raise CodecriaError(f"a {type(message).__name__}, not an object with 'role' and 'content'", where=where)
    fields = cast("Message", message)
    if fields.get("role") not in ROLES:
        raise CodecriaError(f"the role is {fields.get('role')!r}", where=where, mend=f"use {', '.join(ROLES)}")
    if not isinstance(fields.get("content"), (str, list, type(None))):
        raise CodecriaError(f"the content is {fields['content']!r}, not text", where=where)
    return _mapped(fields, str)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Plain data with every text changed: templates get no object with methods of its own."""
    if isinstance(value, str):
        return change(str.__str__(value))
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_mapped(each, change) for each in cast("Sequence[Any]", value)]
    if isinstance(value, Mapping):
        return {change(str(key)): _mapped(each, change) for key, each in cast("Message", value).items()}
    raise CodecriaError(f"a value of type {type(value).__name__}, not text", where="messages")


def _strings(value: Any) -> Iterator[str]:
    """Every text in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for each in cast("Sequence[Any]", value):
            yield from _strings(each)
        if isinstance(value, dict):
            yield from _strings(list(cast("dict[str, Any]", value).values()))
