"""What is asked of every page we show, on which screens: scripts that run in it."""

SCREENS = ((1440, 900), (1024, 768), (390, 844))
THEMES = ("light", "dark")
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
