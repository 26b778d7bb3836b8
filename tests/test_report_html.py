"""Is the page self-contained, inert and complete, whatever stands in the report?"""

import re
from html.parser import HTMLParser

import pytest

from responder.report import to_html
from responder.report_html import drawing
from tests.hostile import HOSTILE
from tests.sample_report import hostile, sample

VOID = {"meta", "br", "img", "link", "input", "hr"}
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><text>onload=1 &lt;b&gt;</text><path d="M0 0"/></svg>'


class Page(HTMLParser):
    """Elements, attributes and text of a page; unbalanced tags are an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text):
    """No element, handler, scheme or request comes of it, and the page stays well-formed."""
    page = Page(to_html(hostile(text), {}))
    assert page.tags.count("svg") == 1, "the steps of the trace, and nothing that the words made"
    assert not set(page.tags) & {"script", "img", "iframe", "object", "embed", "form", "link", "base"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(value.startswith("./raw/") for name, value in page.attributes if name in ("href", "src"))
    assert page.tags.count("style") == 1


def test_nothing_is_requested():
    """No address but the relative ones of raw files; the policy forbids the rest."""
    html = to_html(sample(), {"kv": SVG})
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert "script-src" not in policy[1]
    assert "@import" not in html
    assert "url(" not in html


def test_the_answers_stand_before_everything_else():
    """The same first screen as everywhere."""
    html = to_html(sample(), {"kv": SVG})
    order = [html.index(f"<h2>{name}</h2>") for name in (
        "What is broken", "Since when", "Most likely cause", "What to do now", "What we do not know",
        "The decisive signals", "Timeline (UTC)", "Captures", "Raw files",
    )]  # fmt: skip
    assert order == sorted(order)


def test_options_can_be_copied_as_they_are():
    """An option stands alone, with its trade-off below it."""
    html = to_html(sample())
    assert '<code class="option">--kv-cache-dtype fp8</code>' in html
    assert html.index("Safe now") < html.index("Needs care")


def test_a_capture_path_cannot_leave_the_folder_for_another_host():
    """Links are relative and quoted."""
    page = Page(to_html(hostile("//evil.example/a?b#c")))
    links = [value for name, value in page.attributes if name == "href"]
    assert links
    assert all(link.startswith("./raw/") and "?" not in link and "#" not in link for link in links)


@pytest.mark.parametrize(
    "svg",
    [
        SVG.replace("<path", "<script>1</script><path"),
        SVG.replace("<path", "<path onclick='x()'"),
        SVG.replace("<path", "<foreignObject/><path"),
        SVG.replace("<path", "<image href='https://evil.example'/><path"),
        SVG.replace("<path", "<use href='http://evil.example#a'/><path"),
        SVG.replace("<path", "<style><![CDATA[</style><script>1</script>]]></style><path"),
        SVG.replace("<path", "<title><p>x</p></title><path"),
        SVG.replace("<path", "<a href='#'/><path"),
        SVG.replace("<path", "<set attributeName='x'/><path"),
        SVG.replace("<path", "<path <"),
        SVG.replace("<path", "<style>@import 'x'</style><path"),
        SVG.replace("<path", "<path style='fill:url(http://evil.example)'"),
        SVG + "<script>1</script>",
        "<img src=x>",
    ],
)
def test_a_drawing_that_could_act_is_left_out_and_said(svg):
    """Charts come from our own child process; even so only plain drawings are shown."""
    assert drawing(SVG)
    assert not drawing(svg)
    html = to_html(sample(), {"kv_usage": svg})
    assert svg not in html
    assert "Not shown, not a plain drawing: kv_usage" in html


@pytest.mark.parametrize("stage", ["first", "update", "final", "resolved"])
def test_every_stage_is_a_whole_page(stage):
    """Balanced, with title, language and viewport."""
    page = Page(to_html(sample(stage), {}))
    assert ("lang", "en") in page.attributes
    assert ("name", "viewport") in page.attributes
    assert any("chat-70b-a:8000" in words for words in page.words)
