"""Prose out of web pages, as Markdown. What a hostile page can cost is bounded."""

from __future__ import annotations

import re
from typing import Any

import lxml.etree as etree
import mdka

_NO_PROSE = """
script style noscript template nav header footer aside form button select svg iframe object canvas img
"""
_CODE_LANGUAGE = re.compile(r"\b(?:(?:lang|language|highlight|highlight-source)-|brush:[ ]?|sourceCode )(\w[\w+#-]*)")
_NO_LANGUAGE = ("default", "none", "text", "plaintext", "source", "output")
_MARKS = "¶§#ⓘ🔗"


def html_to_markdown(html: str) -> str:
    """The main content of a web page; nothing where it has none.

    What `<main>` or `role="main"` holds if the page has one, else its body; without scripts, navigation, headers,
    footers, forms and pictures. Code keeps its characters, in fences. Links keep their text, and their target where
    it is an address that means something elsewhere. libxml2 reads in linear time and goes 256 elements deep: what
    lies deeper in a hostile page is lost with all that follows.
    """
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        page: Any = etree.fromstring(html.encode(), parser)
    except etree.XMLSyntaxError:
        page = None
    if page is None:
        return ""
    main = page.xpath("//main | //*[@role='main']")
    # A header inside the main content, or inside an article, is a heading of the text.
    for kept in [*main[:1], *page.iter("article")]:
        for header in kept.iter("header"):
            header.tag = "div"
    content = main[0] if main else page
    etree.strip_elements(content, *_NO_PROSE.split(), with_tail=False)
    etree.strip_attributes(content, "id", "name", "title")
    for link in [*content.iter("a")]:
        if "".join(link.itertext()).strip() in _MARKS:
            link.clear(keep_tail=True)
        if not link.get("href", "").startswith("http"):
            link.tag = "span"
    for block in content.iter("pre"):
        _name_language(block)
    # Tables that lay out code or other tables; as Markdown they would have it in one line.
    for table in content.xpath("descendant-or-self::table[.//pre or .//table]"):
        for part in table.iter("table", "tbody", "tr", "td", "th"):
            part.tag = "div"
    text = mdka.html_to_markdown(etree.tostring(content, encoding="unicode", method="html", with_tail=False)).strip()
    return f"{text}\n" if text else ""


def _name_language(block: Any) -> None:
    """Put the language of a code block, which may stand around it or inside, where the converter looks for it."""
    near = [block, *block.iter("code"), *list(block.iterancestors())[:2]]
    classes = " ".join(each.get("class", "") for each in near)
    found = next((name for name in _CODE_LANGUAGE.findall(classes) if name not in _NO_LANGUAGE), "")
    for inner in [*block.iter("code")]:
        inner.tag = "span"
        if inner.tail is None and inner.getnext() is not None:
            inner.tail = "\n"
    code = etree.Element("code", {"class": f"language-{found}"} if found else {})
    code.text, block.text = (block.text or "").removeprefix("\n"), None
    code.extend(block)
    block.append(code)
