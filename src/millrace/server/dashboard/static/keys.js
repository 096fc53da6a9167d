// Keyboard shortcuts; base.html lists them. None works while something is being typed.
import { switchTheme } from "./theme.js";

const PLACES = new Map([["n", "/"], ["j", "/ui/jobs"], ["s", "/ui/system"], ["c", "/ui/new"]]);
const GO_MS = 1200;
let goUntil = 0;

/** Begin to listen. */
export function keys() {
  const dialog = /** @type {HTMLDialogElement | null} */ (document.getElementById("shortcuts"));
  document.getElementById("help")?.addEventListener("click", () => dialog?.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    if (pressed(event.key, dialog)) event.preventDefault();
  });
}

/** @param {EventTarget | null} target */
function typing(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button"].includes(target.type);
  return target.isContentEditable || ["TEXTAREA", "SELECT"].includes(target.tagName);
}

/**
 * @param {string} key
 * @param {HTMLDialogElement | null} dialog
 * @returns {boolean} whether the key meant something
 */
function pressed(key, dialog) {
  if (goUntil > performance.now()) {
    goUntil = 0;
    const place = PLACES.get(key);
    if (place) location.assign(place);
    return place !== undefined;
  }
  switch (key) {
    case "g": goUntil = performance.now() + GO_MS; return true;
    case "c": location.assign("/ui/new"); return true;
    case "t": switchTheme(); return true;
    case "?": dialog?.showModal(); return true;
    case "/": return search();
    case "j": return step(1);
    case "k": return step(-1);
    case "x": return select();
    case "u": return up();
    case "[": return turn("prev");
    case "]": return turn("next");
    case "Enter": return open();
    default: return false;
  }
}

function search() {
  const field = document.getElementById("search");
  if (field) field.focus();
  else location.assign("/ui/jobs#search");
  return true;
}

function rows() {
  return [...document.querySelectorAll("[data-row]")];
}

/** @param {number} by */
function step(by) {
  const all = rows();
  if (!all.length) return false;
  const at = all.findIndex((row) => row.classList.contains("here"));
  const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by))];
  if (at >= 0) all[at]?.classList.remove("here");
  next?.classList.add("here");
  next?.scrollIntoView({ block: "nearest" });
  next?.querySelector("a")?.focus({ preventScroll: true });
  return true;
}

function here() {
  return /** @type {HTMLElement | null} */ (document.querySelector("[data-row].here"));
}

function open() {
  // A link or a button that has focus does by itself what Enter means there.
  if (document.activeElement && document.activeElement !== document.body && document.activeElement.id !== "main") return false;
  const address = here()?.dataset.href;
  if (address) location.assign(address);
  return address !== undefined;
}

function select() {
  const box = /** @type {HTMLInputElement | null} */ (here()?.querySelector("[data-check]"));
  box?.click();
  return box !== null;
}

function up() {
  const above = document.body.dataset.up;
  if (above) location.assign(above);
  return above !== undefined;
}

/** @param {"prev" | "next"} way */
function turn(way) {
  const link = /** @type {HTMLAnchorElement | null} */ (document.querySelector(`a[rel="${way}"]`));
  link?.click();
  return link !== null;
}
