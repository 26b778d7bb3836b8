"""Which incidents are there, for a browser without scripts? One table: open ones first, each with its report."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from responder.model import Incident
from responder.report_words import clock, named, phrase, plain, trouble
from responder.words import Language, say, speaking

SHOWN = 200
STYLE = (
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:70rem;padding:1rem}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;"
    "border-bottom:1px solid #8888}td{overflow-wrap:anywhere}@media(max-width:40rem){th{display:none}td{display:block;"
    "border:0;padding:.1rem .2rem}tr{display:block;border-bottom:1px solid #8888;padding:.4rem 0}}"
)


def page(rows: Iterable[tuple[Incident, str, int]], language: Language) -> str:
    """The page; `rows` as the store lists them, newest first."""
    with speaking(language):
        return _page([row[0] for row in rows], language)


def _page(incidents: list[Incident], language: Language) -> str:
    ordered = sorted(incidents, key=lambda incident: incident.state != "open")
    count = sum(incident.state == "open" for incident in incidents)
    heads = "".join(
        f'<th scope="col">{escape(say(f"list.{name}"))}</th>' for name in ("state", "where", "what", "cause")
    )
    body = "\n".join(map(_row, ordered[:SHOWN]))
    more = f"<p>{escape(say('list.more', count=len(ordered) - SHOWN))}</p>\n" if len(ordered) > SHOWN else ""
    table = f"<table>\n<tr>{heads}</tr>\n{body}\n</table>\n" if ordered else f"<p>{escape(say('list.none'))}</p>\n"
    title = escape(say("list.title", count=count))
    return (
        f'<!DOCTYPE html>\n<html lang="{language.html}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{title}</h1>\n{table}{more}</main>\n</body>\n</html>\n"
    )


def _row(incident: Incident) -> str:
    told = [entry.says for entry in incident.timeline if entry.kind == "cause"]
    over = incident.resolved_at
    state = f"{named('state', incident.state)} · {named('severity', incident.severity.value)}"
    times = clock(incident.opened_at, day=True) + (f" – {clock(over, day=True)}" if over is not None else "")
    report = f"/incidents/{quote(incident.id, safe='')}"
    what = escape(trouble(incident))
    return (
        f"<tr><td>{escape(state)}<br>{escape(times)}</td><td>{escape(plain(incident.target, 120))}</td>"
        f'<td><a href="{report}">{what}</a></td><td>{escape(phrase(told[-1], 200)) if told else ""}</td></tr>'
    )
