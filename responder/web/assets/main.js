// Which view is shown? The part of the address behind `#`; views refresh themselves while somebody looks.

import { get, me, mayAct, myName, nameMe, say, signIn, signOut, SignedOut, whoAmI } from "./api.js";
import { el, plain, redraw, replace } from "./dom.js";
import { incident } from "./incident.js";
import { incidents } from "./incidents.js";
import { approvals, deliveries, playbooks, silences, system, targets } from "./rest.js";
import { t } from "./say.js";

const VIEWS = { incidents, approvals, silences, targets, playbooks, deliveries, system };
const EVERY_MS = 2000;
const EVERY_TURNS = { playbooks: 10, system: 3 }; // what changes slowly is asked for less often
const view = document.getElementById("view");
let shown = null;
let turn = 0;

function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  return { name: name in VIEWS ? name : "incidents", id: rest.join("/"), query: new URLSearchParams(query || "") };
}

function navigation(current) {
  const links = Object.keys(VIEWS).map((name) => el("a", { href: `#/${name}`,
    "aria-current": name === current ? "page" : null }, t(`nav.${name}`)));
  replace(document.getElementById("nav"), links);
}

function identity() {
  const parts = [];
  if (me().proxied) parts.push(el("span", {}, me().name));
  else if (mayAct()) {
    parts.push(el("input", { id: "name", "aria-label": t("name"), placeholder: t("name"), maxlength: 80,
      autocomplete: "nickname", value: myName(), onchange: (event) => nameMe(event.target.value) }));
  }
  if (me().signed_in && !mayAct()) parts.push(el("span", { class: "faint" }, t("may_look")));
  if (me().signed_in && !me().free && !me().proxied) {
    parts.push(el("button", { type: "button", onclick: () => signOut().then(start) }, t("sign_out")));
  }
  replace(document.getElementById("me"), parts);
}

function door() {
  const field = el("input", { id: "token", type: "password", autocomplete: "current-password", required: true });
  const form = el("form", { class: "bar", onsubmit: (event) => {
    event.preventDefault();
    signIn(field.value).then(start).catch((error) => say(error.message));
  } }, el("label", { for: "token" }, t("token"), field), el("button", { class: "main" }, t("sign_in")));
  replace(view, el("h1", {}, t("sign_in")), el("p", { class: "faint" }, plain(t("token.which"))), form);
}

async function refresh(fresh) {
  const mine = ++turn;
  const now = place();
  const asked = now.name === "incidents" && now.id ? incident(now) : VIEWS[now.name](now);
  try {
    const data = await get(asked.path, { fresh });
    if (mine !== turn || data === null) return;
    if (!fresh && view.contains(document.activeElement) && /^(INPUT|SELECT)$/.test(document.activeElement.tagName)) return;
    (fresh ? replace : redraw)(view, asked.draw(data));
    document.title = `${view.querySelector("h1")?.textContent || "responder"} · responder`;
    view.dataset.ready = now.name;
  } catch (error) {
    if (error instanceof SignedOut) return void start();
    if (fresh) replace(view, el("h1", {}, t("nothing")), el("p", {}, error.message));
    else say(t("no_answer", { why: error.message }));
  }
}

async function go() {
  const now = place();
  const elsewhere = shown !== `${now.name}/${now.id}`;
  shown = `${now.name}/${now.id}`;
  navigation(now.name);
  await refresh(true);
  if (elsewhere) {
    window.scrollTo(0, 0);
    view.focus({ preventScroll: true });
  }
}

async function start() {
  await whoAmI();
  identity();
  if (!me().signed_in) return door();
  return go();
}

window.addEventListener("hashchange", () => { if (me().signed_in) go(); });
window.addEventListener("responder:again", () => refresh(true));
let ticks = 0;
setInterval(() => {
  ticks += 1;
  if (me().signed_in && !document.hidden && ticks % (EVERY_TURNS[place().name] || 1) === 0) refresh(false);
}, EVERY_MS);
navigation(place().name);
start().catch((error) => say(error.message));
