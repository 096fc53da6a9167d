// Choosing many jobs and doing the same to all of them, with the server's counts before anything is done.
import { ask, note, sure } from "./actions.js";
import { look } from "./feed.js";

/** @typedef {{jobs: number, items: number, running: number, unaffected: number, refused: {job_id: string, reason: string}[]}} Answer */
/** @typedef {"cancel" | "retry" | "priority"} Action */

/**
 * @param {number} n
 * @param {string} word
 */
const plural = (n, word) => `${n.toLocaleString("en").replaceAll(",", "\u202f")} ${word}${n === 1 ? "" : "s"}`;

class BulkBar extends HTMLElement {
  /** @type {Set<string>} */
  #chosen = new Set();
  #all = false;

  connectedCallback() {
    document.addEventListener("change", (event) => this.#changed(event.target));
    document.addEventListener("refreshed", () => this.#show());
    this.addEventListener("click", (event) => {
      const button = event.target instanceof Element ? event.target.closest("button") : null;
      if (button?.dataset.bulk) this.#start(/** @type {Action} */ (button.dataset.bulk));
      if (button && "all" in button.dataset) {
        this.#all = true;
        this.#show();
      }
    });
  }

  /** @param {EventTarget | null} target */
  #changed(target) {
    if (target instanceof HTMLSelectElement && "priority" in target.dataset && target.value) {
      this.#start("priority", target.value);
      target.value = "";
    }
    if (!(target instanceof HTMLInputElement)) return;
    if (target.dataset.check) {
      this.#all = false;
      if (target.checked) this.#chosen.add(target.dataset.check);
      else this.#chosen.delete(target.dataset.check);
    } else if ("checkAll" in target.dataset) {
      this.#all = false;
      for (const box of boxes()) {
        box.checked = target.checked;
        if (target.checked) this.#chosen.add(box.dataset.check ?? "");
        else this.#chosen.delete(box.dataset.check ?? "");
      }
    } else return;
    this.#show();
  }

  #show() {
    const shown = boxes();
    for (const box of shown) box.checked = this.#all || this.#chosen.has(box.dataset.check ?? "");
    const some = this.#all || this.#chosen.size > 0;
    this.hidden = !some;
    const words = this.querySelector(".chosen");
    if (words) words.textContent = this.#all ? "All jobs that match are selected" : `${plural(this.#chosen.size, "job")} selected`;
    const more = /** @type {HTMLButtonElement | null} */ (this.querySelector("[data-all]"));
    if (more) {
      more.hidden = this.#all || !shown.length || !shown.every((box) => box.checked) || !document.querySelector('a[rel="next"]');
      more.textContent = "Select all that match, on every page";
    }
  }

  /** @returns {Record<string, unknown>} */
  #selection() {
    if (!this.#all) return { jobs: [...this.#chosen] };
    const { kind, status, q } = this.dataset;
    return { filter: { ...(kind && { kind }), ...(status && { status }), ...(q && { q }) } };
  }

  /**
   * @param {Action} action
   * @param {string} [priority]
   */
  async #start(action, priority) {
    const body = { action, ...this.#selection(), ...(priority && { priority }) };
    try {
      /** @type {Answer} */
      const would = await ask("POST", "/jobs/bulk", { ...body, dry_run: true });
      if (!would.jobs) {
        note({ cancel: "None of these jobs is under way.", retry: "None of these jobs has failed items.", priority: "None of these jobs is under way." }[action]);
        return;
      }
      if (!(await sure(...question(action, would, priority)))) return;
      /** @type {Answer} */
      const did = await ask("POST", "/jobs/bulk", body);
      note(`${plural(did.jobs, "job")} ${{ cancel: "cancelled", retry: "sent on their way again", priority: "changed" }[action]}.`);
      for (const { job_id: job, reason } of did.refused.slice(0, 3)) note(`${job}: ${reason}`, true);
      this.#chosen.clear();
      this.#all = false;
      this.#show();
      look();
    } catch (error) {
      note(error instanceof Error ? error.message : String(error), true);
    }
  }
}

/**
 * @param {Action} action
 * @param {Answer} would
 * @param {string} [priority]
 * @returns {[string, string, string]}
 */
function question(action, would, priority) {
  const jobs = plural(would.jobs, "job");
  const rest = would.unaffected ? ` ${plural(would.unaffected, "other")} that you selected will stay as they are.` : "";
  switch (action) {
    case "cancel":
      return [`Cancel ${jobs}?`, `${plural(would.items - would.running, "waiting item")} and ${plural(would.running, "running item")} are stopped; what ended keeps its results.${rest}`, `Cancel ${jobs}`];
    case "retry":
      return [`Retry what failed in ${jobs}?`, `${plural(would.items, "failed item")} will be queued again, each at the stage that failed.${rest}`, `Retry ${plural(would.items, "item")}`];
    default:
      return [`Give ${jobs} ${priority} priority?`, `It takes effect from the next item on.${rest}`, `Change ${jobs}`];
  }
}

/** @returns {HTMLInputElement[]} */
function boxes() {
  return [...document.querySelectorAll("[data-check]")].filter((box) => box instanceof HTMLInputElement);
}

customElements.define("bulk-bar", BulkBar);
