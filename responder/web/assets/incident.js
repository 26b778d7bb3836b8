// What is happening in this incident right now? Causes, captures and history move while one looks.

import { act, mayAct, post } from "./api.js";
import { bytes, clock, el, list, moment, rung, span, state, table, tag, words } from "./dom.js";
import { isTrace, openInPerfetto } from "./perfetto.js";

export function incident({ id }) {
  const path = `incidents/${encodeURIComponent(id)}`;
  return { path, draw: (data) => draw(data, path) };
}

function draw(data, path) {
  const one = data.incident;
  return [
    el("p", {}, el("a", { href: "#/incidents" }, "← Incidents")),
    el("div", { class: "row" }, state(one.state), state(one.severity), el("span", { class: "faint" }, one.id)),
    el("h1", {}, heading(data.report.title) || `${one.target}: ${one.trouble}`),
    el("p", { class: "faint" }, `${one.target} · opened `, moment(one.opened_at), " UTC",
      one.resolved_at ? ` · over after ${span(one.resolved_at - one.opened_at)}` : "",
      ` · revision ${one.revision}`),
    take(one, path),
    data.approvals.map((item) => question(item)),
    el("div", { class: "two" }, answers(data, path),
      el("div", { class: "side" }, hypotheses(data.report), captures(data), history(one))),
    files(data.files, one.id),
  ].flat();
}

// A title begins with state and severity, as of its report; here both are shown as they are now.
function heading(title) {
  const parts = (title || "").split(" · ");
  return parts.length > 2 ? parts.slice(2).join(" · ") : title;
}

function take(one, path) {
  if (one.acknowledged) return tag(`taken by ${one.acknowledged.who} at ${clock(one.acknowledged.at)}`, "good");
  if (one.state !== "open" || !mayAct()) return null;
  return el("button", { id: "take", class: "main", type: "button",
    onclick: (event) => act(event.target, () => post(`${path}/acknowledge`, {})) }, "I take this");
}

export function question(item, linked) {
  const path = `incidents/${encodeURIComponent(item.incident)}/approvals/${encodeURIComponent(item.step)}`;
  const answer = (decision) => (event) => act(event.target, () => post(path, { decision }));
  const harm = item.worst_pause_s === undefined ? "" : ` It may pause the server for up to ${span(item.worst_pause_s)} and bring up to ${bytes(item.max_bytes)}.`;
  return el("section", { class: "card", "aria-label": `Approval of ${item.step}` },
    el("h2", {}, "May ", el("code", {}, item.step), ` run on ${item.target}?`),
    el("p", {}, `This is ${rung(item.rung)}.${harm} Without an answer until ${clock(item.expires_at)} UTC it is skipped.`),
    linked ? el("p", {}, "For incident ", el("a", { href: `#/incidents/${encodeURIComponent(item.incident)}` }, item.incident)) : null,
    mayAct() ? el("div", { class: "row" },
      el("button", { id: `yes-${item.incident}-${item.step}`, class: "main", type: "button", onclick: answer("approve") }, "Approve"),
      el("button", { id: `no-${item.incident}-${item.step}`, type: "button", onclick: answer("deny") }, "Deny"))
      : el("p", { class: "faint" }, "Only an operator can answer."));
}

const MOST_ITEMS = 8;

function first(items) {
  const left = items.length - MOST_ITEMS;
  return [...items.slice(0, MOST_ITEMS).map(plain), ...(left > 0 ? [`… ${left} more in the full report`] : [])];
}

function card(title, ...children) {
  return el("section", { class: "card", "aria-label": title }, el("h2", {}, title), ...children);
}

function answers({ report, opinion, instead }, path) {
  const says = Object.values(report.says || {});
  if (!says.length) return card("The report", el("p", { class: "faint" }, "The first report is being written."));
  return card("The report", says.map((answer) => el("div", {}, el("h3", {}, answer.question), el("p", {}, plain(answer.lead)),
    list(first(answer.items || [])))), verdict(report, opinion, instead, path));
}

// What the engineer found out makes the next report's probability honest.
function verdict(report, opinion, instead, path) {
  const cause = report.hypotheses?.[0]?.cause;
  if (opinion) return said(opinion);
  if (!cause || !mayAct()) return null;
  const known = cause !== "unknown";
  const right = el("button", { id: "right", type: "button",
    onclick: (event) => act(event.target, () => post(`${path}/verdict`, { verdict: "right", cause })) }, "Right");
  return el("div", { class: "verdict" },
    el("div", { class: "row" }, el("span", { class: "faint" }, known ? "Was this the cause?" : "Do you know the cause by now?"),
      known ? right : null),
    el("details", {}, el("summary", { id: "wrong" }, known ? "No, it was something else" : "Yes, it was …"), otherCause(cause, instead, path)));
}

function said(opinion) {
  const was = !opinion.right && opinion.cause ? `, it was ${words(opinion.cause)}` : "";
  return el("p", { class: "verdict" }, tag(opinion.right ? "cause was right" : "cause was wrong", opinion.right ? "good" : "warn"),
    ` says ${opinion.who}${was}${opinion.note ? `: ${opinion.note}` : ""}`);
}

function otherCause(cause, instead, path) {
  return el("form", { class: "bar", onsubmit: (event) => {
    event.preventDefault();
    const { truth, note } = Object.fromEntries(new FormData(event.target));
    act(event.target.querySelector("button"), () => post(`${path}/verdict`, { verdict: "wrong", cause, truth, note }));
  } },
  el("label", { for: "truth" }, "What it was", el("select", { id: "truth", name: "truth" },
    [el("option", { value: "" }, "none of these, or not known"), ...instead.map((one) => el("option", { value: one.id }, one.title))])),
  el("label", { for: "note" }, "In your words", el("input", { id: "note", name: "note", maxlength: 1000, placeholder: "kept with the verdict" })),
  el("button", { id: "say-wrong", class: "main" }, "Keep this"));
}

// The report's code spans, without their marks.
const plain = (line) => line.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));

function hypotheses(report) {
  const rows = (report.hypotheses || []).slice(0, 6).map((one) => el("div", { class: "hypothesis" },
    el("strong", {}, one.title || words(one.cause)),
    el("div", { class: "row" }, state(one.status),
      el("span", { class: "right" }, `${Math.round(100 * (one.probability || 0))} %`)),
    el("meter", { min: 0, max: 1, value: one.probability || 0, "aria-label": `Probability of ${one.title || one.cause}` }),
    weights(one)));
  return card("Possible causes", rows.length ? rows : el("p", { class: "faint" }, "None weighed yet."));
}

function weights(one) {
  const parts = [[one.for, "for it"], [one.against, "against"], [one.missing, "not known"]].filter(([found]) => found.length);
  return parts.length ? el("p", { class: "faint" }, parts.map(([found, says]) => `${found.length} ${says}`).join(", ")) : null;
}

const RAN = new Set(["ok", "partial", "failed", "timed_out", "interrupted"]);

function captures(data) {
  const line = (tone, name, reason, end) => el("li", {}, el("span", {}, tone), el("span", {}, el("code", {}, name),
    reason ? ` ${reason}` : ""), el("span", {}, end));
  const ran = data.steps.filter((item) => item.running || RAN.has(item.outcome)).map((item) => (item.running
    ? line(tag("running", "warn"), item.id, "", "")
    : line(state(item.outcome), item.id, item.reason, `${(item.seconds || 0).toFixed(1)} s`)));
  const skipped = data.steps.filter((item) => !item.running && !RAN.has(item.outcome));
  const known = new Set(data.steps.map((item) => item.step));
  const not = [...skipped.map((item) => [item.outcome, item.id, item.reason]),
    ...(data.report.captures || []).filter((item) => !known.has(item.step)).map((item) => [item.status, item.step, item.reason])];
  return card("Captures", ran.length ? el("ul", { class: "steps" }, ran) : el("p", { class: "faint" }, "None has run."),
    not.length ? el("details", {}, el("summary", { id: "not-run" }, `${not.length} did not run, and why`),
      el("ul", { class: "steps" }, not.map(([how, name, reason]) => line(state(how), name, reason, "")))) : null);
}

function history(one) {
  return card("History (UTC)", el("ul", { class: "moments" },
    one.timeline.map((entry) => el("li", {}, el("time", {}, clock(entry.at)), el("span", {}, entry.says)))));
}

function files(found, id) {
  const base = `/incidents/${encodeURIComponent(id)}`;
  const rows = found.map((file) => {
    const path = `${base}/raw/${encodeURIComponent(file.evidence)}/${encodeURIComponent(file.name)}`;
    return [el("code", {}, file.evidence), el("a", { href: path, download: file.name }, file.name), { css: "num", says: bytes(file.bytes) },
      isTrace(file.name) ? el("button", { type: "button", onclick: () => openInPerfetto(path, file.name) }, "Open in Perfetto") : ""];
  });
  return [el("h2", {}, "Files"),
    el("p", {}, el("a", { href: `${base}/report.html` }, "Full report with charts"), " · ",
      el("a", { href: `${base}/report.md` }, "Markdown"), " · ", el("a", { href: `${base}/report.json` }, "JSON")),
    rows.length ? el("details", {}, el("summary", { id: "raw-files" }, `${rows.length} raw files of captures`),
      table("", ["Capture", "File", "Size", "View"], rows)) : null];
}
