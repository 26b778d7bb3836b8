// What is wrong, and what was? Open incidents first; the database filters, searches and counts.

import { count, el, moment, span, state, table, words } from "./dom.js";

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
  el("label", { for: "filter-q" }, "Search",
    el("input", { id: "filter-q", name: "q", type: "search", value: query.get("q") || "", placeholder: "server, alert, cause" })),
  choice("state", "State", [["", "any"], ["open", "open"], ["resolved", "resolved"]], query),
  choice("class", "Trouble", [["", "any"], ...data.classes.map((name) => [name, data.troubles[name] || words(name)])], query),
  el("button", { class: "main" }, "Show"));
}

function row(one) {
  return [
    { css: "short", says: el("span", {}, state(one.state), one.state === "open" ? [" ", state(one.severity)] : null) },
    el("a", { href: `#/incidents/${encodeURIComponent(one.id)}` }, `${one.target}: ${one.trouble}`),
    one.cause || el("span", { class: "faint" }, one.state === "open" ? "not known yet" : "not known"),
    { css: "short", says: moment(one.opened_at) },
    { css: `num short${one.resolved_at ? " over" : ""}`, says: one.resolved_at ? span(one.resolved_at - one.opened_at) : "still open" },
    one.acknowledged ? one.acknowledged.who : "",
  ];
}

function draw(data, query) {
  const offset = Number(query.get("offset") || 0);
  const last = Math.min(offset + PAGE, data.total);
  const turn = (to, text, on) => (on
    ? el("a", { href: address(query, { offset: to > 0 ? to : "" }), rel: text === "Newer" ? "prev" : "next" }, text)
    : el("span", { class: "faint" }, text));
  const body = data.rows.length
    ? table("Times are UTC.", ["State", "Incident", "Likely cause", "Opened", "Lasted", "Taken by"], data.rows.map(row), "brief")
    : el("p", {}, query.size ? "Nothing matches." : "No incident so far. Good.");
  return [
    el("h1", {}, data.open ? `Incidents: ${data.open} open` : "Incidents: none open"),
    data.waiting ? el("p", {}, el("a", { href: "#/approvals" },
      count(data.waiting, "capture waits for an answer", "captures wait for an answer"))) : null,
    filter(data, query), body,
    data.total ? el("nav", { class: "pager", "aria-label": "Pages" }, turn(offset - PAGE, "Newer", offset > 0),
      el("span", { class: "faint" }, `${offset + 1}–${last} of ${data.total}`),
      turn(offset + PAGE, "Older", last < data.total)) : null,
  ];
}
