import time

from codecria.corpus.markup import html_to_markdown

PAGE = """<!doctype html><html><head><title>t</title><style>p { color: red }</style></head><body>
<nav><a href="/">home</a></nav><header>banner</header>
<h1>Sorting</h1><p>Use <code>sorted</code>, <b>not</b> a loop &amp; a half.</p>
<pre><code class="language-python">def f(x):
    if x &lt; 2:
        return [x]
</code></pre>
<ul><li>one</li><li>two</li></ul><script>alert(1)</script><footer>legal</footer></body></html>"""


def test_prose_and_code_are_kept_and_the_frame_is_not():
    text = html_to_markdown(PAGE)
    assert "# Sorting" in text
    assert "Use `sorted`, **not** a loop & a half." in text
    assert "def f(x):\n    if x < 2:\n        return [x]\n" in text
    for gone in ("home", "banner", "alert", "legal", "color", "<"):
        assert gone not in text.replace("x < 2", "")


def test_code_keeps_its_language_and_its_blanks():
    text = html_to_markdown(PAGE)
    assert "```python\ndef f(x):" in text
    assert html_to_markdown("<pre>\ta\n\n\n  b</pre>").strip("`\n").split("\n") == ["\ta", "", "", "  b"]


def test_hostile_pages_end_soon():
    began_s = time.monotonic()
    for page in ("<div>" * 100_000, "<b><i>" * 20_000 + "x", "<" * 200_000, "&" * 200_000, "<table><tr><td>" * 5_000):
        assert isinstance(html_to_markdown(page), str)
    assert time.monotonic() - began_s < 20


def test_what_is_no_page_is_text():
    assert html_to_markdown("").strip() == ""
    assert html_to_markdown("just words").strip() == "just words"
