// Everything that is not an incident: approvals, silences, targets, playbooks, deliveries, the daemon itself.

import { act, mayAct, post } from "./api.js";
import { clock, el, list, moment, plain, rung, span, state, table, tag } from "./dom.js";
import { question } from "./incident.js";
import { counted, t } from "./say.js";

const heads = (...keys) => keys.map((key) => (key ? t(key) : ""));

export const approvals = () => ({ path: "approvals", draw: (items) => [
  el("h1", {}, items.length ? counted("waiting", items.length) : t("approvals.none")),
  items.length ? el("div", { class: "cards" }, items.map((item) => question(item, true)))
    : el("p", { class: "faint" }, t("approvals.what")),
] });

export const silences = () => ({ path: "silences", draw: (items) => [
  el("h1", {}, t("nav.silences")),
  el("p", { class: "faint" }, t("silences.what")),
  mayAct() ? newSilence() : null,
  items.length ? table(t("utc"), heads("matches", "from", "until", "comment", ""), items.map((item) => [
    el("code", {}, Object.entries(item.match).map(([label, value]) => `${label}=${value}`).join(" ")),
    { css: "short", says: moment(item.starts_at) }, { css: "short", says: moment(item.ends_at) }, item.comment,
    item.configured ? el("span", { class: "faint" }, t("configured"))
      : mayAct() ? el("button", { type: "button", id: `end-${item.id}`, "aria-label": t("end.label", item),
        onclick: (event) => act(event.target, () => post(`silences/${encodeURIComponent(item.id)}/expire`, {}).then(() => ({ says: t("ended") }))) }, t("end")) : "",
  ])) : el("p", {}, t("silences.none")),
] });

function newSilence() {
  return el("form", { class: "bar", onsubmit: (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.target));
    const button = event.target.querySelector("button");
    document.activeElement?.blur();
    act(button, () => post("silences", { match: { [given.label]: given.value }, seconds: 3600 * Number(given.hours),
      comment: given.comment }).then(() => ({ says: t("silenced") })));
  } },
  el("label", { for: "silence-label" }, t("label"), el("select", { id: "silence-label", name: "label" },
    ["target", "alert", "class", "severity"].map((name) => el("option", { value: name }, name)))),
  el("label", { for: "silence-value" }, t("expression"), el("input", { id: "silence-value", name: "value", required: true, maxlength: 200, placeholder: "chat-70b-.*" })),
  el("label", { for: "silence-hours" }, t("hours"), el("input", { id: "silence-hours", name: "hours", type: "number", min: "0.25", max: "720", step: "0.25", value: "2" })),
  el("label", { for: "silence-comment" }, t("why"), el("input", { id: "silence-comment", name: "comment", required: true, maxlength: 200, placeholder: t("why.example") })),
  el("button", { class: "main" }, t("silence")));
}

// What is not known is not shown as bad, nor as good.
const known = (value, yes, no, unknown) => (value === null || value === undefined ? tag(unknown && t(unknown))
  : value ? tag(t(yes), "good") : tag(t(no), "bad"));

export const targets = () => ({ path: "targets", draw: (items) => [
  el("h1", {}, t("nav.targets")),
  el("div", { class: "cards" }, items.map((item) => el("section", { class: "card", "aria-label": item.name },
    el("h2", {}, item.name),
    el("div", { class: "row" }, known(item.reachable, "reachable", "not_reachable", "health_not_asked"),
      known(item.scraped, "scraped", "not_scraped", ""),
      known(item.responsive, "responsive", "not_responsive", "tokens_not_asked"),
      item.incident ? el("a", { href: `#/incidents/${encodeURIComponent(item.incident)}` }, t("open_incident")) : ""),
    el("dl", {}, el("dt", {}, "URL"), el("dd", {}, item.url), el("dt", {}, t("models")), el("dd", {}, item.models.join(", ") || t("not_known")),
      el("dt", {}, t("captures")), el("dd", {}, t("reach", {
        reach: item.reach + (item.processes ? t("list") + counted("processes", item.processes) : ""), rung: rung(item.max_rung) })),
      el("dt", {}, t("log")), el("dd", {}, item.log_file || t("not_known"))),
    item.over.length ? el("div", {}, el("p", {}, t("as_ever")), list(item.over.map((one) => [one.says, " ", el("code", {}, one.alert)]))) : null,
    item.why_not ? el("p", {}, plain(t("kept_from", { why: item.why_not }))) : null,
    examined(item)))),
] });

function examined(item) {
  const again = mayAct() ? el("button", { type: "button", id: `doctor-${item.name}`, disabled: item.examining,
    onclick: (event) => act(event.target, () => post(`targets/${encodeURIComponent(item.name)}/doctor`, {}).then(() => ({ says: t("examined") }))) },
  t(item.examining ? "examining" : "examine")) : null;
  if (!item.doctor) return again;
  const cannot = item.doctor.checks.filter((check) => !check.can);
  const can = item.doctor.checks.filter((check) => check.can);
  const partly = (check) => (check.partly ? t("partly") : "");
  return el("div", {}, again,
    el("p", { class: "faint" }, counted("examined_at", can.length, { at: clock(item.doctor.at), cannot: cannot.length })),
    list(cannot.map((check) => [el("code", {}, check.step), t("because", check)])),
    el("details", {}, el("summary", { id: `can-${item.name}` }, t("can_run")),
      list(can.map((check) => [el("code", {}, check.step), partly(check), check.why ? t("because", check) : ""]))));
}

export const playbooks = () => ({ path: "playbooks", draw: (items) => [
  el("h1", {}, t("nav.playbooks")),
  el("div", { class: "cards" }, items.map((book) => el("section", { class: "card", "aria-label": book.title },
    el("h2", {}, book.title),
    el("dl", {}, el("dt", {}, t("class")), el("dd", {}, el("code", {}, book.class)), el("dt", {}, t("file")), el("dd", {}, el("code", {}, book.file)),
      el("dt", {}, t("nav.incidents")), el("dd", {}, String(book.runs)),
      el("dt", {}, t("precision")), el("dd", {}, book.precision ? precision(book.precision) : t("precision.none"))),
    runs(book.newest),
    el("details", {}, el("summary", { id: `causes-${book.id}` }, counted("n_causes", book.causes.length)), list(book.causes.map((cause) => cause.title))),
    el("details", {}, el("summary", { id: `steps-${book.id}` }, counted("n_captures", book.steps.length)),
      list(book.steps.map((call) => [t("of_rung", call), el("code", {}, call.step)])))))),
] });

// The newest incidents of the class, each with its cause and what an engineer said of it.
function runs(newest) {
  if (!newest.length) return el("p", { class: "faint" }, t("runs.none"));
  const word = (right) => (right === null ? null : tag(t(right ? "run.right" : "run.wrong"), right ? "good" : "warn"));
  return [el("h3", {}, t("runs")), el("ul", { class: "runs" }, newest.map((one) => el("li", {},
    el("a", { href: `#/incidents/${encodeURIComponent(one.id)}` }, moment(one.opened_at)), ` ${one.target} `,
    one.state === "open" ? state("open") : null, " ", word(one.right),
    el("div", { class: "faint" }, one.cause || t("run.no_cause")))))];
}

const precision = ({ right, wrong }) => t("precision.of", { right, all: right + wrong, share: Math.round(100 * right / (right + wrong)) });

export const deliveries = () => ({ path: "deliveries", draw: (data) => [
  el("h1", {}, t("deliveries")),
  el("h2", {}, t("obligations")),
  data.obligations.length ? table("", heads("state", "server", "step", "begun", "note"), data.obligations.toReversed().map((item) => [
    state(item.state), item.target, el("code", {}, item.step), moment(item.opened_at), item.note || ""]))
    : el("p", { class: "faint" }, t("obligations.none")),
  el("h2", {}, t("messages")),
  el("p", { class: "row" }, data.counts.map((group) => el("span", {}, state(group.state), t("group", { n: group.count, receiver: group.receiver })))),
  data.rows.length ? table(t("messages.first"), heads("state", "receiver", "incident", "what", "attempts", "trouble"),
    data.rows.map((item) => [state(item.state), item.receiver,
      el("a", { href: `#/incidents/${encodeURIComponent(item.incident)}` }, item.incident),
      t("message", { stage: t(`stage.${item.stage}`), n: item.revision }), { css: "num", says: String(item.attempts) }, item.error || ""]))
    : el("p", { class: "faint" }, t("messages.none")),
] });

export const system = () => ({ path: "system", draw: (data) => [
  el("h1", {}, t("nav.system")),
  el("dl", {}, [
    [t("version"), data.version], [t("state"), data.missing || t("ready")], ["Prometheus", data.prometheus || t("not_known")],
    [t("open_incidents"), data.open_incidents], [t("alerts"), data.alerts], [t("nav.playbooks"), data.playbooks],
    [t("n_of_causes"), data.causes], [t("capture_steps"), data.steps], [t("scrape_interval"), span(data.scrape_interval_s)],
    [t("receivers"), (data.receivers || []).join(", ") || t("none")],
    [t("without_metrics"), data.without_metrics.join(", ") || t("none")],
    [t("unasked"), t("up_to", { rung: rung(data.max_rung) })], [t("data_dir"), data.data_dir],
  ].map(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]).flat()),
  el("p", {}, el("a", { href: "/metrics" }, t("metrics"))),
] });

