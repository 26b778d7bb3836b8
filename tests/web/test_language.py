"""The pages speak the language of the reports: no word of the chrome is missing in any, and none stays English."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from responder.content import tongue
from responder.model import Inventory, TimelineEntry
from responder.web import shell
from responder.words import CODES, ENGLISH, en, speaking, told
from tests.replayed import content, replayed
from tests.web.chromium import Tab, binary, tab
from tests.web.scene import SAMPLE, Scene, scene
from tests.web.test_browser import VIEWS, _examined, show

ROOT = Path(__file__).resolve().parents[2] / "responder"
ASSETS = ROOT / "web" / "assets"
OTHERS = [code for code in CODES if code != ENGLISH.code]
LEFT = """(() => {
  const out = [document.title, ...[...document.querySelectorAll("[aria-label], [placeholder]")]
    .flatMap((e) => [e.getAttribute("aria-label") || "", e.getAttribute("placeholder") || ""])];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode())
    if (!walk.currentNode.parentElement.closest("code, noscript, script")) out.push(walk.currentNode.textContent);
  return out;
})()"""
"""Every text a person can see or hear, but commands and names."""


def own() -> dict[str, str]:
    return {key.removeprefix("ui."): words for key, words in en.WORDS.items() if key.startswith("ui.")}


def test_the_scripts_ask_for_words_that_are_there_and_for_all_of_them() -> None:
    """A key nobody wrote breaks a page; words nobody asks for rot. That each language has all: `test_words`."""
    text = "".join(path.read_text() for path in ASSETS.glob("*.js"))
    page = set(re.findall(r"\{(\w+)\}", (ASSETS / "index.html").read_text())) - {"lang"}
    keys = set(own()) | {key for key in en.WORDS if key.startswith(shell.SHARED)}
    families = {key.rpartition(".")[0] for key in keys if key.endswith((".one", ".other"))}
    assert (set(re.findall(r'\b(?:t|parts)\("([a-z_.]+)"', text)) | page) - keys == set()
    assert set(re.findall(r'\bcounted\("([a-z_.]+)"', text)) - families == set()
    begun = tuple(re.findall(r"`([a-z_]+\.)\$\{", text))
    used = {*re.findall(r'"([a-z_.]+)"', text), *page, *(key for key in keys if key.startswith(begun))}
    python = re.findall(r'say\("ui\.([a-z_.]+)"', "".join(path.read_text() for path in ROOT.rglob("*.py")))
    assert {key for key in own() if key not in used and key.rpartition(".")[0] not in used} - set(python) == set()


def test_the_scripts_hold_no_words_of_their_own() -> None:
    """Two words in quotes are a sentence somebody forgot to put where it can be translated."""
    for path in ASSETS.glob("*.js"):
        lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith(("//", "import "))]
        found = re.findall(r'"(?!use )([A-Za-z][a-z]* [a-z]+[^"]*)"', "\n".join(lines))
        assert [words for words in found if not words.startswith(("num ", "tag ", "details"))] == [], path.name


@pytest.mark.parametrize("code", OTHERS)
def test_every_refusal_a_page_shows_is_told_in_it(code: str) -> None:
    """Gathered from the code, so that a new one is noticed."""
    sentences = set()
    for name in ("overview.py", "ledger.py", "approvals.py"):
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                sentences |= _sentences(node.exc.args[0])
    assert len(sentences) > 15
    with speaking(tongue(code)):
        assert {words for words in sentences if told(words) == words} == set()


def _sentences(node: ast.expr) -> set[str]:
    """What an expression may say, with something in the place of each value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "x1" for part in node.values]
        return {"".join(map(str, parts))}
    if isinstance(node, ast.BinOp):
        return {left + right for left in _sentences(node.left) for right in _sentences(node.right)}
    if isinstance(node, ast.IfExp):
        return _sentences(node.body) | _sentences(node.orelse)
    return set()


async def test_the_page_and_its_words_are_served_in_the_language_of_the_reports(tmp_path: Path) -> None:
    """Before any script runs, and also before somebody has signed in."""
    async with scene(tmp_path, code="zh", token="t0ken") as at, aiohttp.ClientSession() as http:
        async with http.get(f"{at.url}/") as answer:
            page = await answer.text()
        async with http.get(f"{at.url}/ui/words.js") as answer:
            assert (answer.status, answer.content_type) == (200, "text/javascript")
            words = await answer.text()
        async with http.post(f"{at.url}/api/v1/ui/session", json={"token": "wrong"}) as answer:
            refused = await answer.text()
    assert '<html lang="zh-CN">' in page
    assert '<a href="/incidents">全部事件及其报告</a>' in page.partition("<noscript>")[2]
    assert not re.search("[{}]", page)
    assert words.startswith('export const lang = "zh-CN";')
    assert refused == "令牌不对\n"


@pytest.mark.skipif(binary() is None, reason="no Chromium: scripts/setup-chromium could not bring it")
@pytest.mark.timeout(400)
async def test_no_english_is_left_on_a_chinese_page(tmp_path: Path) -> None:
    """All views in a real browser, with everything opened: names and commands stay, sentences do not."""
    report = replayed("h200_tp2_rank_stopped")
    async with scene(tmp_path, code="zh", report=report) as at, tab() as page:
        cause = next(iter(content().causes)).title
        note = TimelineEntry(at=1.0, kind="cause", says=f"{cause}: probable (71 %)")
        await at.remember(*(one.model_copy(update={"timeline": (note,)}) for one in at.many(60)))
        at.overview._examined["embed-7b:8000"] = _examined()
        at.kit.inventories["embed-7b:8000"] = Inventory(at=0.0, local=False, via="ssh gpu-1")
        left = {view: await _english(page, at, view) for view in VIEWS}
        assert {view: words for view, words in left.items() if words} == {}
        assert await page.eval("document.documentElement.lang") == "zh-CN"
        assert page.complaints == []


async def _english(page: Tab, at: Scene, view: str) -> list[str]:
    """English words of ours, and anything else that reads like a sentence."""
    await show(page, at, view)
    await page.eval("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    texts: list[Any] = await page.eval(LEFT)
    fixed = {words for words in own().values() if re.search("[a-z]{3}", words)}
    ours = tongue("zh").words
    same = {words for key, words in own().items() if ours[f"ui.{key}"] == words}
    found = [text for text in texts if text.strip() in fixed - same or re.search(r"(?:\b[a-z']{2,} ){2,}[a-z]", text)]
    quoted = (SAMPLE, "managed by process")  # an id, and NCCL's own words
    return [text for text in found if not any(words in text for words in quoted)]
