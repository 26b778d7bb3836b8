// Everything that is not an incident: approvals, silences, targets, playbooks, deliveries, the daemon itself.

import { act, mayAct, post } from "./api.js";
import { clock, count, el, list, moment, rung, span, state, table, tag } from "./dom.js";
import { question } from "./incident.js";

export const approvals = () => ({ path: "approvals", draw: (items) => [
  el("h1", {}, items.length ? count(items.length, "capture waits for an answer", "captures wait for an answer") : "No capture waits for an answer"),
  items.length ? el("div", { class: "cards" }, items.map((item) => question(item, true)))
    : el("p", { class: "faint" }, "What may disturb a server is asked here and in Slack; nobody's answer means it is skipped."),
] });

export const silences = () => ({ path: "silences", draw: (items) => [
  el("h1", {}, "Silences"),
  el("p", { class: "faint" }, "While a silence lasts, alerts that match it open no incident. Incidents that are open go on."),
  mayAct() ? newSilence() : null,
  items.length ? table("Times are UTC.", ["Matches", "From", "Until", "Comment", ""], items.map((item) => [
    el("code", {}, Object.entries(item.match).map(([label, value]) => `${label}=${value}`).join(" ")),
    { css: "short", says: moment(item.starts_at) }, { css: "short", says: moment(item.ends_at) }, item.comment,
    item.configured ? el("span", { class: "faint" }, "in the configuration")
      : mayAct() ? el("button", { type: "button", id: `end-${item.id}`, "aria-label": `End the silence ${item.comment}`,
        onclick: (event) => act(event.target, () => post(`silences/${encodeURIComponent(item.id)}/expire`, {}).then(() => ({ says: "Ended." }))) }, "End now") : "",
  ])) : el("p", {}, "Nothing is silenced."),
] });

function newSilence() {
  return el("form", { class: "bar", onsubmit: (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    const button = event.target.querySelector("button");
    document.activeElement?.blur();
    act(button, () => post("silences", { match: { [given.label]: given.value }, seconds: 3600 * Number(given.hours),
      comment: given.comment }).then(() => ({ says: "Silenced." })));
  } },
  el("label", { for: "silence-label" }, "Label", el("select", { id: "silence-label", name: "label" },
    ["target", "alert", "class", "severity"].map((name) => el("option", { value: name }, name)))),
  el("label", { for: "silence-value" }, "Regular expression", el("input", { id: "silence-value", name: "value", required: true, maxlength: 200, placeholder: "chat-70b-.*" })),
  el("label", { for: "silence-hours" }, "Hours", el("input", { id: "silence-hours", name: "hours", type: "number", min: "0.25", max: "720", step: "0.25", value: "2" })),
  el("label", { for: "silence-comment" }, "Why", el("input", { id: "silence-comment", name: "comment", required: true, maxlength: 200, placeholder: "maintenance" })),
  el("button", { class: "main" }, "Silence"));
}

// What is not known is not shown as bad, nor as good.
const known = (value, yes, no, unknown) => (value === null || value === undefined ? tag(unknown)
  : value ? tag(yes, "good") : tag(no, "bad"));

export const targets = () => ({ path: "targets", draw: (items) => [
  el("h1", {}, "Targets"),
  el("div", { class: "cards" }, items.map((item) => el("section", { class: "card", "aria-label": item.name },
    el("h2", {}, item.name),
    el("div", { class: "row" }, known(item.reachable, "reachable", "not reachable", "health not asked yet"),
      known(item.scraped, "metrics arrive", "no metrics arrive", ""),
      known(item.responsive, "gives tokens", "gives no tokens", "tokens not asked for yet"),
      item.incident ? el("a", { href: `#/incidents/${encodeURIComponent(item.incident)}` }, "open incident") : ""),
    el("dl", {}, el("dt", {}, "URL"), el("dd", {}, item.url), el("dt", {}, "Models"), el("dd", {}, item.models.join(", ") || "not known"),
      el("dt", {}, "Captures"), el("dd", {}, `${item.reach}${item.processes ? `, ${count(item.processes, "process", "processes")}` : ""}; without asking up to ${rung(item.max_rung)}`),
      el("dt", {}, "Log"), el("dd", {}, item.log_file || "not known")),
    item.why_not ? el("p", {}, el("strong", {}, "Kept from capturing: "), item.why_not) : null,
    examined(item)))),
] });

function examined(item) {
  const again = mayAct() ? el("button", { type: "button", id: `doctor-${item.name}`, disabled: item.examining,
    onclick: (event) => act(event.target, () => post(`targets/${encodeURIComponent(item.name)}/doctor`, {}).then(() => ({ says: "Examined." }))) },
  item.examining ? "Examining…" : "What can be captured here?") : null;
  if (!item.doctor) return again;
  const cannot = item.doctor.checks.filter((check) => !check.can);
  const can = item.doctor.checks.filter((check) => check.can);
  const partly = (check) => (check.partly ? " (not all of it)" : "");
  return el("div", {}, again,
    el("p", { class: "faint" }, `Examined at ${clock(item.doctor.at)} UTC: ${count(can.length, "capture", "captures")} can run, ${cannot.length} cannot.`),
    list(cannot.map((check) => [el("code", {}, check.step), `: ${check.why}`])),
    el("details", {}, el("summary", { id: `can-${item.name}` }, "What can run"),
      list(can.map((check) => [el("code", {}, check.step), partly(check), check.why ? `: ${check.why}` : ""]))));
}

export const playbooks = () => ({ path: "playbooks", draw: (items) => [
  el("h1", {}, "Playbooks"),
  el("div", { class: "cards" }, items.map((book) => el("section", { class: "card", "aria-label": book.title },
    el("h2", {}, book.title),
    el("dl", {}, el("dt", {}, "Class"), el("dd", {}, el("code", {}, book.class)), el("dt", {}, "File"), el("dd", {}, el("code", {}, book.file)),
      el("dt", {}, "Incidents"), el("dd", {}, String(book.runs)),
      el("dt", {}, "Precision"), el("dd", {}, book.precision ? precision(book.precision) : "not known: no engineer has judged a cause yet")),
    runs(book.newest),
    el("details", {}, el("summary", { id: `causes-${book.id}` }, `${book.causes.length} causes`), list(book.causes.map((cause) => cause.title))),
    el("details", {}, el("summary", { id: `steps-${book.id}` }, `${book.steps.length} captures`),
      list(book.steps.map((call) => [`rung ${call.rung}: `, el("code", {}, call.step)])))))),
] });

// The newest incidents of the class, each with its cause and what an engineer said of it.
function runs(newest) {
  if (!newest.length) return el("p", { class: "faint" }, "It has not run yet.");
  const word = (right) => (right === null ? null : tag(right ? "right" : "wrong", right ? "good" : "warn"));
  return [el("h3", {}, "Last runs"), el("ul", { class: "runs" }, newest.map((one) => el("li", {},
    el("a", { href: `#/incidents/${encodeURIComponent(one.id)}` }, moment(one.opened_at)), ` ${one.target} `,
    one.state === "open" ? state("open") : null, " ", word(one.right),
    el("div", { class: "faint" }, one.cause || "no cause named"))))];
}

const precision = (of) => `${of.right} of ${of.right + of.wrong} verdicts were right (${Math.round(100 * of.right / (of.right + of.wrong))} %)`;

export const deliveries = () => ({ path: "deliveries", draw: (data) => [
  el("h1", {}, "Deliveries and obligations"),
  el("h2", {}, "What was begun on servers and must end"),
  data.obligations.length ? table("", ["State", "Server", "Step", "Begun", "Note"], data.obligations.toReversed().map((item) => [
    state(item.state), item.target, el("code", {}, item.step), moment(item.opened_at), item.note || ""]))
    : el("p", { class: "faint" }, "Nothing was begun that needs an end."),
  el("h2", {}, "Messages"),
  el("p", { class: "row" }, data.counts.map((group) => el("span", {}, state(group.state), ` ${group.count} to ${group.receiver}`))),
  data.rows.length ? table("Undelivered ones first.", ["State", "Receiver", "Incident", "What", "Attempts", "Trouble"],
    data.rows.map((item) => [state(item.state), item.receiver,
      el("a", { href: `#/incidents/${encodeURIComponent(item.incident)}` }, item.incident),
      `${item.stage}, revision ${item.revision}`, { css: "num", says: String(item.attempts) }, item.error || ""]))
    : el("p", { class: "faint" }, "No message so far."),
] });

export const system = () => ({ path: "system", draw: (data) => [
  el("h1", {}, "System"),
  el("dl", {}, Object.entries({
    Version: data.version, State: data.missing || "ready", Prometheus: data.prometheus || "not known",
    "Open incidents": data.open_incidents, Alerts: data.alerts, Playbooks: data.playbooks, Causes: data.causes,
    "Capture steps": data.steps, "Scrape interval": span(data.scrape_interval_s), Receivers: (data.receivers || []).join(", ") || "none",
    "Servers without metrics": data.without_metrics.join(", ") || "none", "Captures without asking": `up to ${rung(data.max_rung)}`,
    "Data directory": data.data_dir,
  }).map(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]).flat()),
  el("p", {}, el("a", { href: "/metrics" }, "Our own metrics")),
] });

