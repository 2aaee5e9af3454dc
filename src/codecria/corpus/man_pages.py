"""Manual pages as Markdown, without groff: a reader of man(7) and mdoc(7). What a hostile page can cost is bounded."""

from __future__ import annotations

import re
import unicodedata
from collections import deque

_NAMED = r"""
bu • em — en – hy - lq “ rq ” oq ‘ cq ’ aq ' dq " co © rg ® tm ™ de ° ha ^ ti ~ ga ` aa ´ at @ rs \ sl / ul _ or | ba |
br | bv | sh # Do $ <- ← -> → <> ↔ da ↓ ua ↑ lA ⇐ rA ⇒ +- ± mu × tmu × di ÷ mi - pl + eq = != ≠ >= ≥ <= ≤ == ≡ ~~ ≈
ap ~ if ∞ no ¬ sq □ ci ○ dg † dd ‡ sc § ps ¶ Fo « Fc » fo ‹ fc › la ⟨ ra ⟩ lB [ rB ] lC { rC } md · pc · fm ′ sd ″
Eu € Po £ Ye ¥ ct ¢ 12 ½ 14 ¼ 34 ¾ S1 ¹ S2 ² S3 ³ ss ß ae æ AE Æ oe œ OE Œ /o ø /O Ø ff ff fi fi fl fl Fi ffi Fl ffl
*W - *a α *b β *g γ *d δ *p π *m μ *s σ *S Σ *D Δ ** *
"""
_GLYPHS: dict[str, str] = dict(zip(_NAMED.split()[::2], _NAMED.split()[1::2], strict=True))
_ACCENTS: dict[str, str] = dict(zip("'`^:~,ov", "\u0301\u0300\u0302\u0308\u0303\u0327\u030a\u030c", strict=True))
_ESCAPE = re.compile(
    r"""\\(?:[fFmMgYkz](?:\[[^]]{0,80}\]|\(..|.) | s(?:[-+]?\[[^]]{0,9}\]|\(..|[-+]?[1-3]?\d|'[^']{0,9}')
      | [hvwDLlbxHSRABXZC]'[^']{0,80}' | [&|^%:/,cdurz{}pa!?)] | n[-+]?(?:\[[^]]{0,80}\]|\(..|.)
      | \*(?P<string>\[[^]]{0,80}\]|\(..|.) | (?P<glyph>\[[^]]{0,80}\]|\(..) | N'(?P<code>\d{1,4})'
      | o'(?P<over>.)[^']{0,9}' | (?P<one>.) | $)""",
    re.VERBOSE,
)
_COMMENT = re.compile(r'(?<!\\)((?:\\\\)*)\\["#].*')
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|((?:\\.|[^ \t])+)')
_CONDITION = re.compile(
    r"(!?)[ \t]*(?:([no](?![^ \t\\])|\\n[(\[]\.g\]?|[1-9])|[dcrm][ \t]+\S+|'([^']*)'([^']*)'|(?:(?!\\\{)\S)+)"
    r"(?=[ \t]|\\\{|$)[ \t]*"
)
_GLUE = re.compile(" ?\x1e[ \n]?")
"""What stands between pieces of text that join without a space."""
_LITERAL = {"nf": True, "EX": True, "fi": False, "EE": False}
_BULLETS = frozenset("•*-·o+○□—–")
_NUMBER = re.compile(r"\(?\w{1,3}[.)]|\[\d{1,3}\]")
_MACROS = """
Ad An Ar Cd Cm Dv Em Er Ev Fa Fd Fl:-~ Fn Fo Fc:~) Ft Ic Lb Li Lk Ms Nm No Pa St Sx Sy Tn Va Vt Xo Xc Xr Ap:~'~ Ns:~~
Nd:– Ta:| Bx:BSD Fx:FreeBSD Nx:NetBSD Ox:OpenBSD Ux:UNIX Op:[~;] Oo:[~ Oc:~] Pq:(~;) Po:(~ Pc:~) Bq:[~;] Bo:[~ Bc:~]
Brq:{~;} Bro:{~ Brc:~} Aq:<~;> Ao:<~ Ac:~> Dq:“~;” Do:“~ Dc:~” Sq:‘~;’ So:‘~ Sc:~’ Qq:"~;" Qo:"~ Qc:~" Ql:`~;`
In:<~;> Mt:<~;>
"""
_INLINE = {
    name: (text.partition(";")[0].replace("~", "\x1e"), text.partition(";")[2])
    for name, _, text in (macro.partition(":") for macro in _MACROS.split())
}
"""Macros of mdoc(7) that say something: what stands for them, and what at the end of the line."""
_PUNCTUATION = frozenset(".,:;?!)]")
_MOST_LINE, _MOST_STRING, _MOST_BODY, _MOST_ADDED, _MOST_INDENT = 20_000, 1_000, 200, 1_000_000, 40


def man_to_text(source: str) -> str:
    """A manual page written with the macros of man(7) or mdoc(7): headings, paragraphs on one line, items, fenced code.

    Fonts are left out. The page's own strings and macros are followed until they have added a million characters;
    conditions hold as for a terminal. A page that only names another one (`.so`) gives nothing.
    """
    return _ManPage(source).text()


class _ManPage:
    def __init__(self, source: str) -> None:
        joined = re.sub(r"(?<!\\)((?:\\\\)*)\\\n", r"\1", source)
        self._lines = deque(line[:_MOST_LINE] for line in joined.split("\n"))
        self._strings = {"lq": "“", "rq": "”", "R": "®", "Tm": "™"}
        self._macros: dict[str, list[str]] = {}
        self._added = 0
        self._else = [True]
        self._out: list[str] = []
        self._words: list[str] = []
        self._literal: list[str] | None = None
        self._margins, self._indent, self._lists = [0], 0, list[str]()
        self._lead = self._waiting = self._name = self._address = ""
        self._tight = self._synopsis = False
        self._between: str | None = None

    def text(self) -> str:
        """All of it, laid out."""
        while self._lines:
            line = _COMMENT.sub(r"\1", self._lines.popleft())
            if found := re.match(r"[.'][ \t]*([^ \t\\]*)[ \t]*(.*)", line):
                self._request(*found.groups())
            elif self._literal is not None:
                self._say(self._plain(line).rstrip(), line)
            elif line.strip():
                if line[0] == " ":
                    self._break(tight=True)
                self._say(self._plain(line).lstrip(), line)
            else:
                self._break()
        self._end_literal()
        return "\n".join(self._out).strip("\n") + "\n" if self._out else ""

    def _plain(self, raw: str) -> str:
        return _ESCAPE.sub(self._character, raw) if "\\" in raw else raw

    def _character(self, found: re.Match[str]) -> str:
        if name := found["string"]:
            value = self._strings.get(name.strip("[(]"), "") if self._added < _MOST_ADDED else ""
            self._added += len(value)
            return value
        if one := found["one"] or found["over"]:
            return {"e": "\\", "~": " ", "0": " ", "t": "\t"}.get(one, one)
        name = f"char{found['code']}" if found["code"] else (found["glyph"] or "").strip("[(]").replace(" ", "")
        if point := re.fullmatch(r"u([0-9A-F]{4,5})(?:_[0-9A-F_]+)?|char(\d{1,4})", name):
            return chr(int(point[1], 16) if point[1] else int(point[2])).encode(errors="ignore").decode()
        if len(name) == 2 and name[0] in _ACCENTS and name not in _GLYPHS:
            return unicodedata.normalize("NFC", name[1] + _ACCENTS[name[0]])
        return _GLYPHS.get(name, "")

    def _say(self, text: str, line: str = "") -> None:
        r"""A piece of running text, or the heading or item's name that was announced; joined to the next after `\c`."""
        waiting, self._waiting = self._waiting, ""
        if waiting == "item":
            self._item(text)
        elif waiting:
            self._emit(f"{waiting} {_GLUE.sub('', text).strip()}")
            self._synopsis = text == "SYNOPSIS"
        else:
            text += "\x1e" if line.endswith("\\c") and text[-1:] != " " else ""
            (self._words if self._literal is None else self._literal).append(text)

    def _break(self, tight: bool = False) -> None:
        """End the paragraph; no empty line follows if `tight`."""
        if self._literal is not None:
            self._literal += [] if tight else [""]
            return
        words, self._words = " ".join(_GLUE.sub("", " ".join(self._words)).split()), []
        if words:
            self._emit(words)
        if words or not tight:
            self._tight = tight

    def _emit(self, *lines: str) -> None:
        self._out += [""] if self._out and not self._tight else []
        for line in lines:
            self._out.append(" " * (self._indent - len(self._lead)) + self._lead + line if line else "")
            self._lead = ""
        self._tight = False

    def _end_literal(self) -> None:
        lines, self._literal = _GLUE.sub("", "\n".join(self._literal or [])).strip("\n"), None
        self._break(tight=self._tight)
        if lines:
            fence = "````" if "```" in lines else "```"
            self._emit(fence, *lines.split("\n"), fence)

    def _item(self, name: str) -> None:
        name, self._indent, self._lead = " ".join(_GLUE.sub("", name).split()), self._margins[-1], ""
        if name in _BULLETS or _NUMBER.fullmatch(name):
            self._lead = "- " if name in _BULLETS else f"{name} "
            self._indent += len(self._lead)
        else:
            self._emit(name)
            self._indent, self._tight = self._indent + 4, True

    def _until(self, end: str) -> list[str]:
        taken: list[str] = []
        while self._lines and "".join((line := self._lines.popleft()).split())[:3] != end:
            taken.append(line)
        return taken

    def _branch(self, name: str, rest: str) -> None:
        """`.if`, `.ie` and `.el`: pass over what does not hold."""
        holds = not self._else.pop() if name == "el" and self._else else False
        if name != "el" and (found := _CONDITION.match(rest)):
            equal = found[3] is not None and self._plain(found[3]) == self._plain(found[4])
            holds, rest = (equal or found[2] is not None) != bool(found[1]), rest[found.end() :]
        if name == "ie":
            self._else.append(holds)
        if holds:
            self._lines.appendleft(rest.removeprefix("\\{").lstrip())
            return
        depth = rest.count("\\{") - rest.count("\\}")
        while depth > 0 and self._lines:
            line = self._lines.popleft()
            depth += line.count("\\{") - line.count("\\}")

    def _expand(self, body: list[str], rest: str) -> None:
        given = [quoted or bare for quoted, bare in _ARGUMENT.findall(rest)] + [""] * 9
        for line in reversed(body):
            if self._added > _MOST_ADDED:
                return
            line = line.replace("\\\\", "\\").replace("\\$*", rest)
            line = re.sub(r"\\\$([1-9])", lambda found: given[int(found[1]) - 1], line)[:_MOST_LINE]
            self._lines.appendleft(line)
            self._added += len(line) + 1

    def _table(self) -> None:
        """Rows of tbl(1), cells with bars between; the format ends with a full stop, long cells stand in T{ and T}."""
        form, _, rows = "\n".join(self._until(".TE")).partition(".\n")
        tab = found[1] if (found := re.search(r"tab *\((.)\)", form)) else "\t"
        parts = [
            self._plain(re.sub(r"^\.\S*", "", part, flags=re.M))
            for part in re.split("T[{}]", re.sub(r"^\.T&.*\n.*", "", rows, flags=re.M))
        ]
        self._break(tight=self._tight)
        for row in "".join(" ".join(part.split("\n")) if n % 2 else part for n, part in enumerate(parts)).split("\n"):
            if row.strip("_= "):
                self._say(" | ".join(" ".join(cell.split()) for cell in row.split(tab)))
                self._break(tight=True)

    def _request(self, name: str, rest: str) -> None:
        if name in ("if", "ie", "el"):
            self._branch(name, rest)
            return
        raw = [quoted.replace('""', '"') or bare for quoted, bare in _ARGUMENT.findall(rest)]
        first = raw[0] if raw else ""
        if name in ("de", "de1", "am", "ig"):
            body = self._until("." + (raw[1] if len(raw) > 1 and name != "ig" else ".")[:2])
            before = self._macros.get(first, []) if name == "am" else []
            self._macros[first or " "] = [*before, *body][:_MOST_BODY]
        elif name == "als" and len(raw) == 2:
            self._macros[first] = self._macros.get(raw[1], [])
        elif name == "ds" and rest:
            self._strings[first] = self._plain(rest[len(first) :].lstrip().removeprefix('"'))[:_MOST_STRING]
        elif name in self._macros:
            self._expand(self._macros[name], rest)
        elif name == "TS":
            self._table()
        elif name in ("EQ", "PS"):
            self._until(".EN" if name == "EQ" else ".PE")
        elif name in _INLINE:
            if self._synopsis and name in ("Nm", "Fn", "Fo", "Ft", "Fd", "In", "Vt"):
                self._break(tight=True)
            self._say(("#include " if self._synopsis and name == "In" else "") + self._inline([name, *raw]))
        else:
            self._lay_out(name, raw, self._margins[-1], rest)

    def _lay_out(self, name: str, raw: list[str], margin: int, rest: str) -> None:
        given = [self._plain(one) for one in raw]
        first = given[0] if given else ""
        if name in ("SH", "SS", "Sh", "Ss"):
            self._end_literal()
            self._margins, self._indent, self._lists, self._tight = [0], 0, [], False
            self._waiting = "#" if name[1] in "Hh" else "##"
            if given:
                self._say(" ".join(given))
        elif name in ("PP", "P", "LP", "HP", "sp", "Pp", "Lp", "YS", "br"):
            self._break(tight=name == "br")
            self._indent = margin if name in ("PP", "P", "LP", "HP") else self._indent
        elif name in ("TP", "TQ"):
            self._break(tight=name == "TQ")
            self._waiting = "item"
        elif name == "IP":
            self._break()
            self._indent = margin + 4
            if first.strip():
                self._item(first)
        elif name == "RS":
            self._break(tight=True)
            step = -4 if first.startswith("-") else 4
            self._margins.append(max(0, min(self._indent if self._indent > margin else margin + step, _MOST_INDENT)))
            self._indent = self._margins[-1]
        elif name == "RE":
            self._break()
            if len(self._margins) > 1:
                self._margins.pop()
            self._indent = self._margins[-1]
        elif name in _LITERAL:
            if not _LITERAL[name]:
                self._end_literal()
            elif self._literal is None:
                self._break(tight=self._tight and not self._words)
                self._literal = []
        elif name in ("B", "I", "R", "SM", "SB", "SY", "BR", "RB", "IR", "RI", "BI", "IB", "OP") and given:
            if name == "SY":
                self._break()
            text = ("" if len(name) == 2 and name[0] in "BIR" else " ").join(given)
            self._say(f"[{text}]" if name == "OP" else text, rest)
        elif name in ("UR", "MT"):
            self._address = first
        elif name in ("UE", "ME"):
            self._say(f"<{self._address}>{''.join(given)}")
        elif name.startswith("%"):
            self._say(f"{' '.join(given)},")
        else:
            self._block(name, raw, margin)

    def _block(self, name: str, raw: list[str], margin: int) -> None:
        """Lists and displays of mdoc(7)."""
        if name in ("Bl", "Bd"):
            self._break()
            self._lists.append("".join(raw[:1]))
            self._margins.append(min(self._indent, _MOST_INDENT))
            if name == "Bd" and not {"-literal", "-unfilled"}.isdisjoint(raw):
                self._literal = []
        elif name in ("El", "Ed") and self._lists:
            self._end_literal()
            self._lists.pop()
            # A stray .RE may have taken this list's margin.
            self._indent, self._tight = self._margins.pop() if len(self._margins) > 1 else 0, False
        elif name == "It" and self._lists:
            kind = self._lists[-1]
            self._break(tight=kind == "-column")
            self._indent = margin
            marks = {"-bullet": "•", "-dash": "-", "-hyphen": "-", "-enum": "1."}
            (self._say if kind in ("-item", "-column") else self._item)(marks.get(kind) or self._inline(raw))
        elif name in ("Dl", "D1"):
            self._break()
            self._emit(_GLUE.sub("", f"    {self._inline(raw)}"))

    def _inline(self, raw: list[str]) -> str:
        """A line of mdoc(7), whose macros may call each other."""
        pieces, after, macro, said, end = list[str](), list[str](), "", 0, len(raw)
        while end > 1 and raw[end - 1] in _PUNCTUATION:
            end -= 1
        for place, token in enumerate(raw[:end]):
            text, said = self._plain(token), said + 1
            following = raw[place + 1] if place + 1 < end else "Xc"
            if token in _INLINE:
                macro, said = token, 0
                text, behind = _INLINE[token]
                after.append(f"\x1e{behind}" if behind else "")
                self._between = None if macro == "Fc" else self._between
                if following in _INLINE and following != macro:
                    text = {"Nm": self._name, "Ar": "file ...", "Fl": "-"}.get(macro, text)
            elif token in _PUNCTUATION:
                text = f"\x1e{token}"
            elif macro == "Xr" and said == 2:
                text = f"\x1e({text})"
            elif macro == "Fn":
                is_last = following in _INLINE
                text += "()" if is_last and said == 1 else "(\x1e" if said == 1 else ")" if is_last else ","
            elif macro == "Fo":
                text, self._between = f"{text}(\x1e", ""
            elif macro == "Fa" and self._between is not None:
                text, self._between = self._between + text, "\x1e, "
            elif macro == "Fl" and said > 1:
                text = f"-{text}"
            elif macro == "Nm":
                self._name = self._name or text
            pieces.append(text)
        return " ".join([*filter(None, [*pieces, *reversed(after)]), *(f"\x1e{mark}" for mark in raw[end:])])
