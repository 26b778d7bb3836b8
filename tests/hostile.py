"""Texts that a label, a log line or a response may carry and that must stay text wherever they are shown."""

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><svg/onload=alert(1)>",
    "javascript:alert(1)",
    "[click](https://evil.example) ![x](https://evil.example/p.png) <https://evil.example>",
    "https://evil.example/login www.evil.example",
    "<!channel> <!here> <@U012345> <https://evil.example|your bank> & &lt;!channel&gt; @everyone",
    "\x1b[31mred\x1b[0m \x00\x07 bell \u202egnp.exe\u202c \u200bzero\ufeff",
    "line\n# heading\r\n| a | b |\n- item\n```\ncode\n```",
    "`` ` `a` ``` odd ` ticks",
    "$\\frac{1}{0}$ {{7*7}} ${HOME} %s {0.__class__}",
    "../../etc/passwd",
    "//evil.example/x",
    "*bold* _it_ ~~no~~ \\* &amp;",
    "x" * 5000,
    "&" * 4000,
    "…" * 3500,
)
