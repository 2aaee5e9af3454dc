from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from codecria.corpus.report import SummaryRow
from codecria.evaluation.comparison import Run, compare
from codecria.evaluation.report import InfillExample, Report, render_report, write_report
from codecria.evaluation.samples import Sample

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta", "br", "hr", "img", "link", "input"}
ATTACK = "</script><script>alert(1)</script>&\"'<b>"


class Page(HTMLParser):
    """Tags that were opened and closed in order, attributes, and the text of each kind of tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.text[tag] = self.text.get(tag, "") + data


def full() -> Report:
    before = Run(
        "Foundation",
        [Sample("single_line_corpus", "left_to_right", f"{n}", measures={"exact_match": 0.0}) for n in range(20)]
        + [Sample("single_line_corpus", "spm", "0", not_run={"exact_match": "no markers"})],
    )
    after = Run(
        "Code " + ATTACK,
        [Sample("single_line_corpus", "psm", f"{n}", measures={"exact_match": float(n % 2)}) for n in range(20)]
        + [Sample("human_eval", "greedy", "HumanEval/0", not_run={"pass@1": "no sandbox: " + ATTACK})],
    )
    return Report(
        title="Title " + ATTACK,
        lead="Lead " + ATTACK,
        tables=compare([before, after], 0),
        loss=[{"step": n, "loss": 2.0 / (1 + n), "tokens": 100 * n} for n in range(40)],
        corpus=[
            SummaryRow("outcome", "kept " + ATTACK, 10, 2_500_000, 1.0),
            SummaryRow("dropped", "empty", 1, 0, 0.0),
            SummaryRow("language", "Python", 10, 2_500_000, 1.0),
        ],
        examples=[
            InfillExample(
                "Example " + ATTACK,
                "p = 1\n",
                "    q = '" + ATTACK + "'",
                "    q = 2",
                "\nr = 3\n",
                [("exact match", ATTACK)],
            ),
            InfillExample("Nothing", "\n\n", "", "x", "\n"),
        ],
        examples_note="Note " + ATTACK,
        environment={"torch " + ATTACK: "2.13 " + ATTACK},
        commands=["codecria train demo " + ATTACK],
    )


def test_everything_is_on_the_page_and_everything_is_escaped() -> None:
    html = render_report(full())
    page = Page(html)
    assert not any(tag == "script" for tag, _ in page.seen)
    assert not any(name.startswith("on") for _, attributes in page.seen for name in attributes)
    assert not any(tag == "b" and ATTACK in page.text.get("b", "") for tag, _ in page.seen)
    assert ATTACK in page.text["mark"]
    for start in (
        "Title ",
        "Lead ",
        "Code ",
        "kept ",
        "Example ",
        "Note ",
        "torch ",
        "2.13 ",
        "codecria train demo ",
        "no sandbox: ",
    ):
        assert start + ATTACK in page.text["html"], start
    assert "50.0 %" in page.text["table"] and "+50.0" in page.text["table"]
    assert "Single-line infilling, held-out files" in page.text["h3"]
    assert "Not run: Foundation, infilling, suffix first: no markers." in page.text["p"]


def test_the_page_loads_nothing() -> None:
    html = render_report(full())
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", html)
    assert not re.search(r"url\((?!#)|@import|<link|<iframe", html)
    addresses = set(re.findall(r"https?://[^\s\"'<]+", html))
    assert addresses <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}, (
        "names of formats, never fetched"
    )


def test_a_better_change_is_coloured_and_the_context_stands_around_the_mark() -> None:
    html = render_report(full())
    assert 'class="change better"' in html
    assert re.search(r"p = 1\n<mark>    q = ", html)
    assert '<mark class="empty"></mark>' in html
    assert "prefers-color-scheme: dark" in html and "max-width: 44rem" in html


def test_empty_parts_are_left_out() -> None:
    html = render_report(Report(title="Only a title"))
    assert "<h1>Only a title</h1>" in html
    assert "<h2>" not in html and "<svg" not in html
    Page(html)


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    write_report(tmp_path / "deep" / "report.html", full())
    assert (tmp_path / "deep" / "report.html").read_text(encoding="utf-8") == render_report(full())
