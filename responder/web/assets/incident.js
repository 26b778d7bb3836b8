// What is happening in this incident right now? Causes, captures and history move while one looks.

import { act, mayAct, post } from "./api.js";
import { bytes, clock, el, list, moment, plain, rung, span, state, table, tag, words } from "./dom.js";
import { isTrace, openInPerfetto } from "./perfetto.js";
import { counted, parts, t } from "./say.js";

export function incident({ id }) {
  const path = `incidents/${encodeURIComponent(id)}`;
  return { path, draw: (data) => draw(data, path) };
}

function draw(data, path) {
  const one = data.incident;
  return [
    el("p", {}, el("a", { href: "#/incidents" }, t("back"))),
    el("div", { class: "row" }, state(one.state), state(one.severity), el("span", { class: "faint" }, one.id)),
    el("h1", {}, heading(data.report.title) || t("heading", one)),
    el("p", { class: "faint" }, parts("facts.opened", { target: one.target, at: moment(one.opened_at) }),
      one.resolved_at ? t("facts.over", { length: span(one.resolved_at - one.opened_at) }) : "",
      t("facts.revision", { n: one.revision })),
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
  if (one.acknowledged) return tag(t("taken", { who: one.acknowledged.who, at: clock(one.acknowledged.at) }), "good");
  if (one.state !== "open" || !mayAct()) return null;
  return el("button", { id: "take", class: "main", type: "button",
    onclick: (event) => act(event.target, () => post(`${path}/acknowledge`, {})) }, t("take"));
}

export function question(item, linked) {
  const path = `incidents/${encodeURIComponent(item.incident)}/approvals/${encodeURIComponent(item.step)}`;
  const answer = (decision) => (event) => act(event.target, () => post(path, { decision }));
  const harm = item.worst_pause_s === undefined ? ""
    : t("ask.harm", { pause: span(item.worst_pause_s), size: bytes(item.max_bytes) });
  return el("section", { class: "card", "aria-label": t("ask.label", item) },
    el("h2", {}, parts("ask", { step: el("code", {}, item.step), target: item.target })),
    el("p", {}, t("ask.rung", { rung: rung(item.rung) }) + harm + t("ask.until", { at: clock(item.expires_at) })),
    linked ? el("p", {}, parts("ask.incident", { incident: el("a", { href: `#/incidents/${encodeURIComponent(item.incident)}` }, item.incident) })) : null,
    mayAct() ? el("div", { class: "row" },
      el("button", { id: `yes-${item.incident}-${item.step}`, class: "main", type: "button", onclick: answer("approve") }, t("approve")),
      el("button", { id: `no-${item.incident}-${item.step}`, type: "button", onclick: answer("deny") }, t("deny")))
      : el("p", { class: "faint" }, t("only_operator")));
}

const MOST_ITEMS = 8;

function first(items) {
  const left = items.length - MOST_ITEMS;
  return [...items.slice(0, MOST_ITEMS).map(plain), ...(left > 0 ? [t("more", { n: left })] : [])];
}

function card(title, ...children) {
  return el("section", { class: "card", "aria-label": title }, el("h2", {}, title), ...children);
}

function answers({ report, opinion, instead }, path) {
  const says = Object.values(report.says || {});
  if (!says.length) return card(t("report"), el("p", { class: "faint" }, t("report.soon")));
  return card(t("report"), says.map((answer) => el("div", {}, el("h3", {}, answer.question), el("p", {}, plain(answer.lead)),
    list(first(answer.items || [])))), verdict(report, opinion, instead, path));
}

// What the engineer found out makes the next report's probability honest.
function verdict(report, opinion, instead, path) {
  const cause = report.hypotheses?.[0]?.cause;
  if (opinion) return said(opinion);
  if (!cause || !mayAct()) return null;
  const known = cause !== "unknown";
  const right = el("button", { id: "right", type: "button",
    onclick: (event) => act(event.target, () => post(`${path}/verdict`, { verdict: "right", cause })) }, t("right"));
  return el("div", { class: "verdict" },
    el("div", { class: "row" }, el("span", { class: "faint" }, t(known ? "was_it" : "know_it")),
      known ? right : null),
    el("details", {}, el("summary", { id: "wrong" }, t(known ? "other" : "it_was")), otherCause(cause, instead, path)));
}

function said(opinion) {
  const was = !opinion.right && opinion.cause ? t("says.was", { cause: words(opinion.cause) }) : "";
  return el("p", { class: "verdict" }, tag(t(opinion.right ? "cause.right" : "cause.wrong"), opinion.right ? "good" : "warn"),
    t("says", opinion) + was + (opinion.note ? t("says.note", opinion) : ""));
}

function otherCause(cause, instead, path) {
  return el("form", { class: "bar", onsubmit: (event) => {
    event.preventDefault();
    const { truth, note } = Object.fromEntries(new FormData(event.target));
    act(event.target.querySelector("button"), () => post(`${path}/verdict`, { verdict: "wrong", cause, truth, note }));
  } },
  el("label", { for: "truth" }, t("what_it_was"), el("select", { id: "truth", name: "truth" },
    [el("option", { value: "" }, t("none_of_these")), ...instead.map((one) => el("option", { value: one.id }, one.title))])),
  el("label", { for: "note" }, t("your_words"), el("input", { id: "note", name: "note", maxlength: 1000, placeholder: t("your_words.kept") })),
  el("button", { id: "say-wrong", class: "main" }, t("keep")));
}

function hypotheses(report) {
  const rows = (report.hypotheses || []).slice(0, 6).map((one) => el("div", { class: "hypothesis" },
    el("strong", {}, one.title || words(one.cause)),
    el("div", { class: "row" }, state(one.status),
      el("span", { class: "right" }, `${Math.round(100 * (one.probability || 0))} %`)),
    el("meter", { min: 0, max: 1, value: one.probability || 0, "aria-label": t("probability", { cause: one.title || one.cause }) }),
    weights(one)));
  return card(t("causes"), rows.length ? rows : el("p", { class: "faint" }, t("causes.none")));
}

function weights(one) {
  const found = ["for", "against", "missing"].filter((kind) => one[kind].length);
  return found.length ? el("p", { class: "faint" }, found.map((kind) => t(kind, { n: one[kind].length })).join(t("list"))) : null;
}

const RAN = new Set(["ok", "partial", "failed", "timed_out", "interrupted"]);

function captures(data) {
  const line = (tone, name, reason, end) => el("li", {}, el("span", {}, tone), el("span", {}, el("code", {}, name),
    reason ? ` ${reason}` : ""), el("span", {}, end));
  const ran = data.steps.filter((item) => item.running || RAN.has(item.outcome)).map((item) => (item.running
    ? line(tag(words("running"), "warn"), item.id, "", "")
    : line(state(item.outcome), item.id, item.reason, t("time.s", { n: (item.seconds || 0).toFixed(1) }))));
  const skipped = data.steps.filter((item) => !item.running && !RAN.has(item.outcome));
  const known = new Set(data.steps.map((item) => item.step));
  const not = [...skipped.map((item) => [item.outcome, item.id, item.reason]),
    ...(data.report.captures || []).filter((item) => !known.has(item.step)).map((item) => [item.status, item.step, item.reason])];
  return card(t("captures"), ran.length ? el("ul", { class: "steps" }, ran) : el("p", { class: "faint" }, t("captures.none")),
    not.length ? el("details", {}, el("summary", { id: "not-run" }, t("captures.not", { n: not.length })),
      el("ul", { class: "steps" }, not.map(([how, name, reason]) => line(state(how), name, reason, "")))) : null);
}

function history(one) {
  return card(t("history"), el("ul", { class: "moments" },
    one.timeline.map((entry) => el("li", {}, el("time", {}, clock(entry.at)), el("span", {}, entry.says)))));
}

function files(found, id) {
  const base = `/incidents/${encodeURIComponent(id)}`;
  const rows = found.map((file) => {
    const path = `${base}/raw/${encodeURIComponent(file.evidence)}/${encodeURIComponent(file.name)}`;
    return [el("code", {}, file.evidence), el("a", { href: path, download: file.name }, file.name), { css: "num", says: bytes(file.bytes) },
      isTrace(file.name) ? el("button", { type: "button", onclick: () => openInPerfetto(path, file.name) }, t("perfetto")) : ""];
  });
  return [el("h2", {}, t("files")),
    el("p", {}, el("a", { href: `${base}/report.html` }, t("files.report")), " · ",
      el("a", { href: `${base}/report.md` }, "Markdown"), " · ", el("a", { href: `${base}/report.json` }, "JSON")),
    rows.length ? el("details", {}, el("summary", { id: "raw-files" }, counted("files.raw", rows.length)),
      table("", ["capture", "file", "size", "view"].map((head) => t(head)), rows)) : null];
}
