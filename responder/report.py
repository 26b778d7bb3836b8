"""What do we tell people and machines? One report as contract, Markdown, HTML and a chat line. Pure."""

from __future__ import annotations

from responder.report_html import to_html
from responder.report_json import contract, to_json
from responder.report_markdown import summary_text, to_markdown

__all__ = ["contract", "summary_text", "to_html", "to_json", "to_markdown"]
