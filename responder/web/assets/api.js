// How do we talk to the daemon? Same origin only; changes carry what only our own page knows.

import { t } from "./say.js";

let session = { signed_in: false };
const seen = new Map();

export const me = () => session;
export const mayAct = () => session.role === "operator";

export async function whoAmI() {
  session = await (await fetch("/api/v1/ui/session")).json();
  return session;
}

export async function signIn(token) {
  const answer = await fetch("/api/v1/ui/session", { method: "POST", body: JSON.stringify({ token }),
    headers: { "Content-Type": "application/json" } });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return whoAmI();
}

export async function signOut() {
  await fetch("/api/v1/ui/session", { method: "DELETE", headers: { "X-Responder-Csrf": session.csrf } });
  return whoAmI();
}

export class SignedOut extends Error {}

// The answer, or null when it is what it was the last time.
export async function get(path, { fresh = false } = {}) {
  const headers = !fresh && seen.has(path) ? { "If-None-Match": seen.get(path) } : {};
  const answer = await fetch(`/api/v1/ui/${path}`, { headers, cache: "no-store" });
  if (answer.status === 304) return null;
  if (answer.status === 401) throw new SignedOut();
  if (!answer.ok) throw new Error((await answer.text()).trim());
  seen.set(path, answer.headers.get("ETag"));
  return answer.json();
}

export async function post(path, body) {
  const answer = await fetch(`/api/v1/ui/${path}`, { method: "POST", body: JSON.stringify({ who: myName(), ...body }),
    headers: { "Content-Type": "application/json", "X-Responder-Csrf": session.csrf || "" } });
  if (answer.status === 401) throw new SignedOut();
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

export const myName = () => session.name || localStorage.getItem("responder.name") || "";
export const nameMe = (name) => localStorage.setItem("responder.name", name.trim().slice(0, 80));

export function say(text) {
  const place = document.getElementById("say");
  const line = document.createElement("p");
  line.textContent = text;
  place.replaceChildren(line);
  setTimeout(() => line.remove(), 8000);
}

// A button that does something, once at a time, and says how it went.
export async function act(button, work) {
  if (!myName()) {
    document.getElementById("name")?.focus();
    return say(t("name.first"));
  }
  button.disabled = true;
  try {
    const done = await work();
    say(done?.says || t("done"));
    window.dispatchEvent(new Event("responder:again"));
  } catch (error) {
    say(error.message);
  } finally {
    button.disabled = false;
  }
  return undefined;
}
