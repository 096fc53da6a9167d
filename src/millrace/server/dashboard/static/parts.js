// Elements of the page that keep themselves up to date.
import { morph } from "./morph.js";

const EVERY = 500;

/** A part of the page that the server renders again: `src` says where, `every` how many ms lie between. */
class LivePart extends HTMLElement {
  #asked = false;
  #busy = false;
  #last = 0;
  #told = () => this.refresh();

  connectedCallback() {
    document.addEventListener("change-told", this.#told);
  }

  disconnectedCallback() {
    document.removeEventListener("change-told", this.#told);
  }

  /** Ask for it again: at once, or as soon as the last time is long enough ago. */
  refresh() {
    if (this.#busy) {
      this.#asked = true;
      return;
    }
    this.#busy = true;
    const wait = this.#last + Number(this.getAttribute("every") ?? EVERY) - performance.now();
    setTimeout(() => this.#load(), Math.max(0, wait));
  }

  async #load() {
    this.#asked = false;
    if (document.documentElement.hasAttribute("data-leaving")) {
      this.#busy = false;
      return;
    }
    this.#last = performance.now();
    try {
      const reply = await fetch(this.getAttribute("src") ?? "", { headers: { Accept: "text/html" } });
      if (reply.redirected) {
        location.reload();
        return;
      }
      if (reply.ok) this.#show(await reply.text());
    } catch {
      // The feed says that the connection is lost, and looks again when it is back.
    } finally {
      this.#busy = false;
      if (this.#asked) this.refresh();
    }
  }

  /** @param {string} html */
  #show(html) {
    const made = document.createElement("div");
    made.innerHTML = html;
    const wanted = document.createElement("live-part");
    for (const { name, value } of [...this.attributes]) wanted.setAttribute(name, value);
    wanted.append(...made.childNodes);
    morph(this, wanted);
    this.dispatchEvent(new CustomEvent("refreshed", { bubbles: true }));
  }
}

customElements.define("live-part", LivePart);

/** A part of the page that comes after the rest, since it takes a moment. */
class LazyPart extends HTMLElement {
  async connectedCallback() {
    try {
      const reply = await fetch(this.getAttribute("src") ?? "", { headers: { Accept: "text/html" } });
      this.innerHTML = await reply.text();
    } catch {
      this.textContent = "The server could not be reached.";
    }
  }
}

customElements.define("lazy-part", LazyPart);

// Folds whose content is fetched when they are opened, and files that are looked into on the spot.
document.addEventListener(
  "toggle",
  async (event) => {
    const fold = event.target;
    if (!(fold instanceof HTMLDetailsElement) || !fold.open) return;
    const { load, text } = fold.dataset;
    const place = fold.querySelector(load ? ".loaded" : "pre");
    if (!place || !(load || text)) return;
    try {
      const reply = await fetch(load ?? text ?? "");
      if (load) place.innerHTML = await reply.text();
      else place.textContent = await reply.text();
    } catch {
      place.textContent = "The server could not be reached. Close this and open it again.";
    }
  },
  true,
);
