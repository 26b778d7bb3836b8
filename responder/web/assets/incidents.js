// What is wrong, and what was? Open incidents first; the database filters, searches and counts.

import { el, moment, span, state, table, words } from "./dom.js";
import { counted, t } from "./say.js";

const PAGE = 50;

export function incidents({ query }) {
  const asked = new URLSearchParams({ limit: PAGE });
  for (const key of ["q", "state", "class", "offset"]) if (query.get(key)) asked.set(key, query.get(key));
  return { path: `incidents?${asked}`, draw: (data) => draw(data, query) };
}

function address(query, changes) {
  const next = new URLSearchParams(query);
  for (const [key, value] of Object.entries(changes)) value ? next.set(key, value) : next.delete(key);
  return `#/incidents${next.size ? `?${next}` : ""}`;
}

function choice(name, label, options, query) {
  const field = el("select", { name, id: `filter-${name}` },
    options.map(([value, says]) => el("option", { value, selected: query.get(name) === value }, says)));
  return el("label", { for: `filter-${name}` }, label, field);
}

function filter(data, query) {
  return el("form", { class: "bar", role: "search", onsubmit: (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    document.activeElement?.blur();
    location.hash = address(new URLSearchParams(), given);
  } },
  el("label", { for: "filter-q" }, t("search"),
    el("input", { id: "filter-q", name: "q", type: "search", value: query.get("q") || "", placeholder: t("search.what") })),
  choice("state", t("state"), [["", t("any")], ...["open", "resolved"].map((name) => [name, words(name)])], query),
  choice("class", t("trouble"), [["", t("any")], ...data.classes.map((name) => [name, data.troubles[name] || words(name)])], query),
  el("button", { class: "main" }, t("show")));
}

function row(one) {
  return [
    { css: "short", says: el("span", {}, state(one.state), one.state === "open" ? [" ", state(one.severity)] : null) },
    el("a", { href: `#/incidents/${encodeURIComponent(one.id)}` }, t("heading", one)),
    one.cause || el("span", { class: "faint" }, t(one.state === "open" ? "cause.not_yet" : "cause.not")),
    { css: "short", says: moment(one.opened_at) },
    { css: `num short${one.resolved_at ? " over" : ""}`, says: one.resolved_at ? span(one.resolved_at - one.opened_at) : t("still_open") },
    one.acknowledged ? one.acknowledged.who : "",
  ];
}

function draw(data, query) {
  const offset = Number(query.get("offset") || 0);
  const last = Math.min(offset + PAGE, data.total);
  const turn = (to, text, on) => (on
    ? el("a", { href: address(query, { offset: to > 0 ? to : "" }), rel: text === "newer" ? "prev" : "next" }, t(text))
    : el("span", { class: "faint" }, t(text)));
  const body = data.rows.length
    ? table(t("utc"), ["state", "incident", "likely", "opened", "lasted", "taken_by"].map((head) => t(head)), data.rows.map(row), "brief")
    : el("p", {}, t(query.size ? "incidents.no_match" : "incidents.none"));
  return [
    el("h1", {}, t(data.open ? "incidents.open" : "incidents.none_open", { n: data.open })),
    data.waiting ? el("p", {}, el("a", { href: "#/approvals" }, counted("waiting", data.waiting))) : null,
    filter(data, query), body,
    data.total ? el("nav", { class: "pager", "aria-label": t("pages") }, turn(offset - PAGE, "newer", offset > 0),
      el("span", { class: "faint" }, t("range", { first: offset + 1, last, total: data.total })),
      turn(offset + PAGE, "older", last < data.total)) : null,
  ];
}
