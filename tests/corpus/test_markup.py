import html
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.corpus.markup import html_to_markdown

PAGE = """<!DOCTYPE html><html><head><title>T</title><style>p {}</style><script>var a;</script></head><body>
<nav><a href="/">Home</a></nav><header><h1>Site</h1></header>
<main><header><h1 id="a">Use it<a class="headerlink" href="#a" title="Link">¶</a></h1></header>
<p>Some <b>bold</b> <code>x</code> and
a <a href="other.html">page</a>, a <a href="https://example.org/a" title="t">site</a><img src="data:;base64,AA">.</p>
<ul><li>one<ul><li>two</li></ul></li></ul>
<table><tr><th>a</th><th>b</th></tr><tr><td>1|2</td><td>3</td></tr></table>
<form><input value="s"><button>Go</button></form></main><footer>Foot</footer></body></html>"""


def test_the_main_content_of_a_page():
    assert html_to_markdown(PAGE) == (
        "# Use it\n\nSome **bold** `x` and a page, a [site](https://example.org/a).\n\n- one\n  - two\n\n"
        "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |\n"
    )


@pytest.mark.parametrize(
    ("page", "markdown"),
    [
        ("", ""),
        (" ", ""),
        ("<!DOCTYPE html>", ""),
        ("<script>x</script>", ""),
        ("plain", "plain\n"),
        ("<p>1 &lt; 2 &amp;amp; &#x1F600;<p>never closed <b>bold", "1 < 2 \\&amp; 😀\n\nnever closed **bold**\n"),
        ('<?xml version="1.0" encoding="utf-16"?><html><body><p>é</p></body></html>', "é\n"),
        ("<article><header><h1>T</h1></header>x</article><header>no</header>", "# T\n\nx\n"),
        ('<div role="main">yes</div><div>no</div>', "yes\n"),
    ],
)
def test_what_pages_are_made_of(page, markdown):
    assert html_to_markdown(page) == markdown


@pytest.mark.parametrize(
    ("block", "fence"),
    [
        ("<pre>a\n  b</pre>", "```\na\n  b\n```\n"),
        ("<pre>\n  a\n\n\tb\n</pre>", "```\n  a\n\n\tb\n```\n"),
        ('<pre class="lang-py s-code"><code>x</code></pre>', "```py\nx\n```\n"),
        ('<pre><code class="hljs language-rust"><span>fn</span> main</code></pre>', "```rust\nfn main\n```\n"),
        (
            '<div class="highlight-python3 notranslate"><div class="highlight"><pre>x</pre></div></div>',
            "```python3\nx\n```\n",
        ),
        ('<div class="highlight-default"><pre>x</pre></div>', "```\nx\n```\n"),
        ("<pre>a<br>b<br/>  c</pre>", "```\na\nb\n  c\n```\n"),
        ("<pre><code>a;</code><code>b;</code></pre>", "```\na;\nb;\n```\n"),
        ("<pre>a\n```\nb</pre>", "````\na\n```\nb\n````\n"),
        (
            "<table><tr><td><pre>1\n2</pre></td><td><pre>a\n  b</pre></td></tr></table>",
            "```\n1\n2\n```\n\n```\na\n  b\n```\n",
        ),
        ("<ul><li>one<pre>a\n b</pre></li></ul>", "- one\n\n  ```\n  a\n   b\n  ```\n"),
    ],
)
def test_code_blocks(block, fence):
    assert html_to_markdown(block) == fence


LINES = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")) | st.just("\t"), max_size=30)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=8))
def test_code_keeps_every_character(lines):
    code = ["first", *lines, "last"]
    page = html_to_markdown(f"<p>before</p><pre>{html.escape(chr(10).join(code))}</pre>")
    assert page.split("\n")[3:-2] == code


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("<>/&;#x1 \n\"'=abpiulrdtehcoksvnm!-[]"), max_size=200))
def test_nothing_that_looks_like_html_is_too_much(page):
    html_to_markdown(page)


HOSTILE = [
    *(f"<{name}>" for name in ("div", "b", "p", "li", "pre", "table", "blockquote", "a href=x", "select", "svg", "h1")),
    "<ul><li>", "<table><tr><td>", "<p><font color=red>", "<b><div>", "<table><b></table>", "<a><table><a>",
    "<span><div></span></div>", "<!--", "<![CDATA[", "<!DOCTYPE ", "&", "<", "<a b='", "<td>a|b", "*[](", "&#",
    "<template>", "<script>",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_pages_take_linear_time_and_no_deep_stack(piece):
    started = time.thread_time()
    html_to_markdown(piece * (400_000 // len(piece)) + "x")
    assert time.thread_time() - started < 10
