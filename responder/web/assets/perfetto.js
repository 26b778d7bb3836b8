// How does a trace get into the viewer? Its window is opened, greeted until it answers, and handed the bytes.

import { say } from "./api.js";

const VIEWER = "https://ui.perfetto.dev";
const GIVE_UP_MS = 30000;

export const isTrace = (name) => /(\.trace\.json(\.gz)?|\.pftrace|\.perfetto-trace)$/.test(name);

export async function openInPerfetto(path, name) {
  const viewer = window.open(VIEWER);
  if (!viewer) return say("The browser did not let the viewer's window open: allow pop-ups here, or save the trace and open it there.");
  try {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error("the trace is no longer there");
    const buffer = await answer.arrayBuffer();
    await greeted(viewer);
    viewer.postMessage({ perfetto: { buffer, title: name, fileName: name, keepApiOpen: false } }, VIEWER, [buffer]);
    return say(`${name} is handed to the viewer; it stays in your browser.`);
  } catch (error) {
    return say(`The viewer could not be given the trace: ${error.message}. Save it and open it there.`);
  }
}

function greeted(viewer) {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const again = setInterval(() => {
      if (performance.now() - began > GIVE_UP_MS) done(() => reject(new Error("it does not answer")));
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
