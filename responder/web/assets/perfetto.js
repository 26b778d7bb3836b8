// How does a trace get into the viewer? Its window is opened, greeted until it answers, and handed the bytes.

import { say } from "./api.js";
import { t } from "./say.js";

const VIEWER = "https://ui.perfetto.dev";
const GIVE_UP_MS = 30000;

export const isTrace = (name) => /(\.trace\.json(\.gz)?|\.pftrace|\.perfetto-trace)$/.test(name);

export async function openInPerfetto(path, name) {
  const viewer = window.open(VIEWER);
  if (!viewer) return say(t("perfetto.blocked"));
  try {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(t("perfetto.gone"));
    const buffer = await answer.arrayBuffer();
    await greeted(viewer);
    viewer.postMessage({ perfetto: { buffer, title: name, fileName: name, keepApiOpen: false } }, VIEWER, [buffer]);
    return say(t("perfetto.handed", { name }));
  } catch (error) {
    return say(t("perfetto.failed", { why: error.message }));
  }
}

function greeted(viewer) {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const again = setInterval(() => {
      if (performance.now() - began > GIVE_UP_MS) done(() => reject(new Error(t("perfetto.silent"))));
      else viewer.postMessage("PING", VIEWER);
    }, 250);
    const heard = (event) => {
      if (event.origin === VIEWER && event.source === viewer && event.data === "PONG") done(resolve);
    };
    const done = (then) => {
      clearInterval(again);
      window.removeEventListener("message", heard);
      then();
    };
    window.addEventListener("message", heard);
  });
}
