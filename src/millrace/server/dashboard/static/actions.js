// Buttons and menus that ask the API for something: what they ask stands in their data attributes.
import { look, revive } from "./feed.js";

/**
 * Ask the API; returns what it answers. Throws an Error that says why not.
 * @param {string} method
 * @param {string} address
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
export async function ask(method, address, body) {
  /** @type {RequestInit} */
  const request = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    request.body = typeof body === "string" ? body : JSON.stringify(body);
    request.headers = { ...request.headers, "Content-Type": "application/json" };
  }
  let reply;
  try {
    reply = await fetch(address, request);
  } catch {
    throw new Error("The server could not be reached.");
  }
  const text = await reply.text();
  /** @type {any} */
  let found = null;
  try {
    found = text ? JSON.parse(text) : null;
  } catch {
    found = null;
  }
  if (!reply.ok) throw new Error(found?.detail ?? found?.error ?? found?.message ?? `${reply.status} ${reply.statusText}`);
  return found;
}

/**
 * Tell the person something, for some seconds.
 * @param {string} text
 * @param {boolean} [bad]
 */
export function note(text, bad = false) {
  const notes = document.getElementById("notes");
  const made = document.createElement("p");
  made.className = bad ? "note bad" : "note";
  made.textContent = text;
  notes?.append(made);
  setTimeout(() => made.remove(), bad ? 12000 : 5000);
}

/**
 * Ask the person before something that cannot be undone.
 * @param {string} title
 * @param {string} text
 * @param {string} yes
 * @returns {Promise<boolean>}
 */
export function sure(title, text, yes) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("ask"));
  const put = (/** @type {string} */ id, /** @type {string} */ what) => {
    const element = document.getElementById(id);
    if (element) element.textContent = what;
  };
  put("ask-title", title);
  put("ask-text", text);
  put("ask-yes", yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Let them work, wherever on the page they are or come to be. */
export function actions() {
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target.closest("button") : null;
    if (target && ["post", "delete", "patchJson"].some((name) => name in target.dataset)) press(target);
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form instanceof HTMLFormElement && form.dataset.answer) {
      event.preventDefault();
      answer(form, form.dataset.answer);
    }
  });
  document.addEventListener("change", (event) => {
    const target = event.target;
    if (target instanceof HTMLSelectElement && target.dataset.patch) {
      run(target, "PATCH", target.dataset.patch, { [target.dataset.field ?? ""]: target.value });
    }
  });
}

/**
 * Ask what a form asks, and show the answer's fields below it.
 * @param {HTMLFormElement} form
 * @param {string} address
 */
async function answer(form, address) {
  const place = /** @type {HTMLElement | null} */ (form.parentElement?.querySelector("[data-answer-here]"));
  if (!place) return;
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) query.append(name, String(value));
  try {
    const found = await ask("GET", `${address}?${query}`);
    place.replaceChildren(...Object.entries(found).map(([name, value]) => line(name.replaceAll("_", " "), value)));
  } catch (error) {
    place.replaceChildren(line("refused", error instanceof Error ? error.message : String(error)));
  }
  place.hidden = false;
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function line(name, value) {
  const row = document.createElement("div");
  const term = document.createElement("dt");
  const description = document.createElement("dd");
  term.textContent = name;
  if (value === true || value === false) description.textContent = value ? "yes" : "no";
  else description.textContent = value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value);
  row.append(term, description);
  return row;
}

/** @param {HTMLButtonElement} button */
async function press(button) {
  const { post, delete: remove, patchJson, body, ask: question, text, yes } = button.dataset;
  if (question && !(await sure(question, text ?? "", yes ?? "Yes"))) return;
  const method = post ? "POST" : patchJson ? "PATCH" : "DELETE";
  await run(button, method, post ?? patchJson ?? remove ?? "", body);
}

/**
 * @param {HTMLButtonElement | HTMLSelectElement} control
 * @param {string} method
 * @param {string} address
 * @param {unknown} [body]
 */
async function run(control, method, address, body) {
  if (control.getAttribute("aria-busy") === "true") return;
  control.setAttribute("aria-busy", "true");
  const { done, go } = control.dataset;
  const page = document.documentElement;
  // What this page shows may be gone before the next one opens: its parts must not ask for it again.
  page.toggleAttribute("data-leaving", Boolean(go));
  try {
    const reply = await ask(method, address, body);
    if (go) {
      location.assign(go);
      return;
    }
    const told = done ?? reply?.message;
    if (told) note(told);
    revive();
    look();
    if (control.dataset.reload !== undefined) location.reload();
  } catch (error) {
    page.removeAttribute("data-leaving");
    note(error instanceof Error ? error.message : String(error), true);
  } finally {
    control.removeAttribute("aria-busy");
  }
}
