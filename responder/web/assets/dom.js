// How does data become elements? Text is always text: nothing here parses markup.

import { known, t } from "./say.js";

export function el(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "value") node.value = value;
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  const kept = children.flat(2).filter((child) => child !== null && child !== undefined && child !== "");
  node.append(...kept.map((child) => (typeof child === "string" && name !== "code" ? tied(child) : child)));
  return node;
}

// A number and its unit stay on one line.
const tied = (text) => text.replace(/(\d) (?=(?:%|[mµ]?s|min|h|d|[KMGT]?i?B|W)(?!\w)|[毫微]?秒|[分天级项个]|小时)/g, "$1\u00a0");

// Our one-line markup: code spans, without their marks.
export const plain = (line) => line.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));

export function table(caption, heads, rows, css) {
  const cells = (row) => row.map((cell, index) => {
    const given = cell !== null && typeof cell === "object" && !(cell instanceof Node) && !Array.isArray(cell);
    const { css, says } = given ? cell : { css: null, says: cell };
    const empty = says === null || says === undefined || says === "" || (Array.isArray(says) && !says.length);
    return el("td", { class: css, "data-label": heads[index] }, ...(empty ? [] : [says].flat()));
  });
  const right = (index) => (rows[0]?.[index]?.css?.includes("num") ? "num" : null);
  return el("table", { class: css },
    caption ? el("caption", {}, caption) : null,
    el("thead", {}, el("tr", {}, heads.map((head, index) => el("th", { scope: "col", class: right(index) }, head)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, cells(row)))));
}

export const tag = (text, tone) => el("span", { class: `tag ${tone || ""}`.trim() }, text);

export function list(items) {
  return items.length ? el("ul", {}, items.map((item) => el("li", {}, item))) : null;
}

const two = (number) => String(number).padStart(2, "0");

export function clock(at) {
  const t = new Date(at * 1000);
  return `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}:${two(t.getUTCSeconds())}`;
}

export function moment(at) {
  if (!at) return "";
  const t = new Date(at * 1000);
  const day = `${t.getUTCFullYear()}-${two(t.getUTCMonth() + 1)}-${two(t.getUTCDate())}`;
  return el("time", { datetime: t.toISOString() }, `${day} ${clock(at)}`);
}

export function span(seconds) {
  if (seconds < 60) return t("time.s", { n: Math.max(0, Math.round(seconds)) });
  if (seconds < 3600) return t("time.min", { n: Math.round(seconds / 60) });
  if (seconds < 86400) return t("time.h", { n: (seconds / 3600).toFixed(1) });
  return t("time.d", { n: (seconds / 86400).toFixed(1) });
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1 << 20) return `${(count / 1024).toFixed(0)} KiB`;
  return `${Number((count / (1 << 20)).toFixed(1))} MiB`;
}

// How near a capture comes to the server.
export const rung = (number) => t("rung", { rung: number, does: known(`rung.${number}`) ? t(`rung.${number}`) : "?" });

export const words = (name) => (known(`state.${name}`) ? t(`state.${name}`) : String(name).replaceAll("_", " "));

const TONES = { critical: "bad", warning: "warn", open: "bad", resolved: "good", confirmed: "good", dead: "bad",
  pending: "warn", delivered: "good", ok: "good", partial: "warn", failed: "bad", timed_out: "bad", settled: "good" };

export const state = (name) => tag(words(name), TONES[name]);

export function replace(parent, ...children) {
  // The place a keyboard is at survives a refresh.
  const held = document.activeElement && parent.contains(document.activeElement) ? document.activeElement.id : "";
  parent.replaceChildren(...children.flat().filter(Boolean));
  if (held) document.getElementById(held)?.focus();
}

// As it was drawn, but with what a person had opened and written into it.
export function redraw(parent, ...children) {
  const open = [...parent.querySelectorAll("details[open] > summary[id]")].map((summary) => summary.id);
  const given = [...parent.querySelectorAll("input[id], select[id]")].map((field) => [field.id, field.value]);
  replace(parent, ...children);
  for (const id of open) document.getElementById(id)?.parentElement.setAttribute("open", "");
  for (const [id, value] of given) if (document.getElementById(id)) document.getElementById(id).value = value;
}
