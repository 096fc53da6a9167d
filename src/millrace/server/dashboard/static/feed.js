// One connection a page: a job's own events while it runs, else the server's hints that something changed.
// Browsers allow six connections to a server, so a page that is not looked at holds none.

/** @typedef {{fraction: number, phase: string}} Progress */

const JOB_EVENTS = [
  "job.created", "job.started", "job.updated", "job.planned", "job.cancel_requested", "job.finished",
  "item.started", "item.requeued", "item.finished", "items.added", "items.finished", "artifact.ready",
];
const LONGEST_WAIT = 8000;

/** @type {EventSource | null} */
let source = null;
let after = 0;
let ended = false;
let failures = 0;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let again;
/** @type {Map<number, Progress>} */
const moving = new Map();
let changed = false;
let framed = false;

/** Begin, if the page has anything live. */
export function listen() {
  const { feed, after: last } = document.body.dataset;
  if (!feed) return;
  after = Number(last ?? 0);
  ended = document.body.dataset.ended !== undefined;
  document.addEventListener("visibilitychange", () => (document.hidden ? pause() : connect()));
  // A page that is kept for "back" must not hold its connection.
  addEventListener("pagehide", pause);
  addEventListener("pageshow", (event) => event.persisted && connect());
  connect();
}

/** Have every live part look again, at the next frame. */
export function look() {
  changed = true;
  frame();
}

/** Follow the job's own events again: it was sent on its way once more. */
export function revive() {
  if (!ended || !document.body.dataset.events) return;
  ended = false;
  connect();
}

function pause() {
  clearTimeout(again);
  source?.close();
  source = null;
}

function connect() {
  pause();
  if (document.hidden) return;
  const { feed, events } = document.body.dataset;
  if (events && !ended) follow(events);
  else if (feed) watch(feed);
}

/**
 * Follow a job's own events. The browser itself resumes behind the last one it has seen.
 * @param {string} address
 */
function follow(address) {
  const stream = open(`${address}?after=${after}`);
  for (const type of JOB_EVENTS) {
    stream.addEventListener(type, (event) => {
      after = Number(event.lastEventId) || after;
      if (type === "job.finished") {
        ended = true;
        // What comes now is only that somebody sends it on its way again.
        connect();
      }
      look();
    });
  }
  stream.addEventListener("item.progress", (event) => {
    const told = JSON.parse(event.data);
    moving.set(told.item, told.data);
    frame();
  });
}

/** @param {string} address */
function watch(address) {
  open(address).addEventListener("change", look);
}

/**
 * @param {string} address
 * @returns {EventSource}
 */
function open(address) {
  const stream = new EventSource(address);
  source = stream;
  show("joining");
  stream.addEventListener("open", () => {
    // What happened while nobody listened is seen by looking once.
    if (failures) look();
    failures = 0;
    show("live");
  });
  stream.addEventListener("error", () => {
    if (source !== stream) return;
    failures += 1;
    show("lost");
    // The browser tries again by itself unless the server refused: that it leaves to us.
    if (stream.readyState === EventSource.CLOSED) {
      clearTimeout(again);
      again = setTimeout(refused, Math.min(LONGEST_WAIT, 500 * 2 ** Math.min(failures, 5)));
    }
  });
  return stream;
}

/** Find out why a stream was refused: the job may have ended, the session may be over. */
async function refused() {
  const job = document.body.dataset.job;
  if (job && !ended) {
    try {
      const reply = await fetch(`/jobs/${encodeURIComponent(job)}`);
      if (reply.status === 404) return;
      if (reply.ok) {
        const row = await reply.json();
        ended = row.finished_at !== null;
        after = ended ? row.last_event : after;
        look();
      }
    } catch {
      // The server is not back yet.
    }
  }
  connect();
}

/** @param {"live" | "lost" | "joining"} state */
function show(state) {
  const light = document.querySelector("live-light");
  if (!light || (state === "joining" && light.getAttribute("state"))) return;
  light.setAttribute("state", state);
  light.textContent = { live: "live", lost: "connection lost, trying again", joining: "" }[state];
}

/** Do at the next frame, once, what any number of events have asked for. */
function frame() {
  if (framed) return;
  framed = true;
  requestAnimationFrame(() => {
    framed = false;
    for (const [idx, progress] of moving) place(idx, progress);
    moving.clear();
    if (changed) {
      changed = false;
      document.dispatchEvent(new CustomEvent("change-told"));
    }
  });
}

/**
 * Show an item's progress in its row, if that is on the page.
 * @param {number} idx
 * @param {Progress} progress
 */
function place(idx, progress) {
  const row = document.querySelector(`[data-idx="${idx}"]`);
  const bar = row?.querySelector("progress");
  if (!row || !bar) return;
  bar.value = progress.fraction;
  const phase = row.querySelector(".phase");
  const text = (progress.phase || "").replaceAll("_", " ");
  if (phase && text && phase.textContent !== text) phase.textContent = text;
}
