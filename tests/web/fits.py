"""What is asked of every page we show, on which screens: scripts that run in it."""

SCREENS = ((1440, 900), (1024, 768), (390, 844))
THEMES = ("light", "dark")
JUDGED = (1440, 390)
"""Where axe-core is asked: one width on either side of what the style sheets tell apart."""
SHIFT = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
OVERFLOW = """(() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const out = [...document.querySelectorAll("main *, header *")].filter((e) => e.getBoundingClientRect().width
    && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !e.closest(".skip")
    && getComputedStyle(e).position !== "absolute" && !e.closest("thead")
    && !(e.closest(".wide")?.scrollWidth > e.closest(".wide")?.clientWidth && !e.matches(".wide")));
  return [wide, out.slice(0, 3).map((e) => e.outerHTML.slice(0, 120))];
})()"""
MET = """(() => {
  const boxes = (chart) => [...chart.querySelectorAll("text")].filter((t) => t.textContent.trim())
    .map((t) => [t.textContent.trim(), t.getBoundingClientRect(), chart.getBoundingClientRect()]);
  const out = [];
  for (const chart of document.querySelectorAll("figure svg.rchart")) {
    const all = boxes(chart);
    all.forEach(([words, a, whole], n) => {
      if (a.left < whole.left - 1 || a.right > whole.right + 1 || a.top < whole.top - 1 || a.bottom > whole.bottom + 1)
        out.push(words + ": outside");
      if (a.height < 10) out.push(words + ": tiny");
      for (const [other, b] of all.slice(n + 1))
        if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
          out.push(words + " on " + other);
    });
  }
  return out;
})()"""
"""Words of charts that lie on each other, leave their picture, or are too small to be read. A line of text is higher
than its letters: three pixels of two lines may share."""
SPLIT = """(() => {
  const walk = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  const out = [];
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent;
    if (walk.currentNode.parentElement.closest("code, style, svg, select")) continue;
    const found = text.match(/\\d (?:%|[mµ]?s|min|h|d|[KMGT]?i?B|W)(?!\\w)/);
    if (found) out.push("may break: " + found[0]);
    const id = text.match(/(?<![\\w./-])[a-z]+(?:_[a-z0-9]+)+/);
    if (id && !walk.currentNode.parentElement.closest("a, details table")) out.push("no word: " + id[0]);
  }
  return out;
})()"""
"""Numbers that a line's end may part from their unit, and names of our code that stand among words as if they were
some."""
