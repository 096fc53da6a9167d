// The form for a new job: what it works on comes from this computer, from the server, by addresses or by CSV.
import { ask, note } from "./actions.js";
import { records } from "./csv.js";
import { size } from "./time.js";

/** @typedef {{kind: "path", path: string} | {kind: "url", url: string} | {kind: "upload", file: File}} Reference */
/** @typedef {{name: string, input: Record<string, unknown>, folder?: boolean}} Line */

const SHOWN = 300;
const natural = new Intl.Collator(undefined, { numeric: true });

class NewJob extends HTMLElement {
  /** @type {Line[]} */
  #lines = [];
  /** @type {Record<"master" | "dub", {name: string, reference: Reference}[]>} */
  #sides = { master: [], dub: [] };
  /** @type {XMLHttpRequest | null} */
  #sending = null;
  #key = "";

  connectedCallback() {
    this.addEventListener("click", (event) => this.#click(event));
    this.addEventListener("change", (event) => this.#change(event));
    this.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    for (const drop of this.querySelectorAll("[data-drop]")) this.#droppable(/** @type {HTMLElement} */ (drop));
    this.#tabs();
    if (this.querySelector(".browser")) this.#browse(null);
    this.#presets();
    addEventListener("beforeunload", (event) => {
      if (this.#sending) event.preventDefault();
    });
  }

  get #kind() {
    return this.getAttribute("kind") ?? "";
  }

  get #pairs() {
    return this.getAttribute("inputs") === "pairs";
  }

  // -- where the files come from --------------------------------------------------------------

  #tabs() {
    const tabs = /** @type {HTMLElement[]} */ ([...this.querySelectorAll('[role="tab"]')]);
    /** @param {HTMLElement} chosen */
    const open = (chosen) => {
      for (const tab of tabs) {
        const selected = tab === chosen;
        tab.setAttribute("aria-selected", String(selected));
        tab.tabIndex = selected ? 0 : -1;
        const panel = document.getElementById(tab.getAttribute("aria-controls") ?? "");
        if (panel) panel.hidden = !selected;
      }
    };
    for (const [n, tab] of tabs.entries()) {
      tab.addEventListener("click", () => open(tab));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        const next = step && tabs[(n + step + tabs.length) % tabs.length];
        if (!next) return;
        open(next);
        next.focus();
      });
    }
  }

  /** @param {HTMLElement} drop */
  #droppable(drop) {
    for (const type of ["dragenter", "dragover"]) {
      drop.addEventListener(type, (event) => {
        event.preventDefault();
        drop.classList.add("over");
      });
    }
    for (const type of ["dragleave", "drop"]) drop.addEventListener(type, () => drop.classList.remove("over"));
    drop.addEventListener("drop", async (event) => {
      event.preventDefault();
      this.#files(drop, await dropped(event.dataTransfer));
    });
    const input = drop.querySelector("input");
    input?.addEventListener("change", () => {
      this.#files(drop, [...(input.files ?? [])]);
      input.value = "";
    });
  }

  /**
   * @param {HTMLElement} drop
   * @param {File[]} files
   */
  async #files(drop, files) {
    const side = drop.dataset.drop;
    if (side === "csv") {
      const file = files[0];
      if (file) await this.#guarded(async () => this.#csv(await file.text()));
      return;
    }
    files.sort((a, b) => natural.compare(a.name, b.name));
    for (const file of files) this.#add(side ?? "", file.name, { kind: "upload", file });
    this.#show();
  }

  /**
   * Add a file: an item of its own, or a side of a pair.
   * @param {string} side
   * @param {string} name
   * @param {Reference} reference
   */
  #add(side, name, reference) {
    if (side === "master" || side === "dub") {
      this.#sides[side].push({ name, reference });
      this.#sides[side].sort((a, b) => natural.compare(a.name, b.name));
    } else this.#lines.push({ name, input: { ...reference } });
  }

  /** @param {string | null} path */
  async #browse(path) {
    const list = /** @type {HTMLElement} */ (this.querySelector(".browser"));
    // Until the folder is there, what is shown belongs to another: choosing it would take the wrong one.
    list.inert = true;
    await this.#guarded(async () => this.#list(list, path));
    list.inert = false;
  }

  /**
   * @param {HTMLElement} list
   * @param {string | null} path
   */
  async #list(list, path) {
    let found = await ask("GET", path === null ? "/media" : `/media?path=${encodeURIComponent(path)}`);
    if (path === null && found.entries.length === 1) {
      found = await ask("GET", `/media?path=${encodeURIComponent(found.entries[0].path)}`);
    }
    const head = made("li", "crumb", found.path ?? "Media roots");
    if (found.path !== null) {
      head.append(made("span", "grow", ""), this.#pick("Choose this folder", found.path, true));
    }
    const rows = found.entries.map((/** @type {{name: string, path: string, kind: string, bytes: number | null}} */ entry) => {
      const row = made("li", "");
      const folder = entry.kind === "folder";
      const open = /** @type {HTMLButtonElement} */ (made("button", "entry", ""));
      open.type = "button";
      open.append(icon(folder ? "folder" : "file"), entry.name);
      open.addEventListener("click", () => (folder ? this.#browse(entry.path) : this.#take(entry.path, false)));
      row.append(open);
      if (!folder) row.append(made("span", "small quiet", size(entry.bytes ?? 0)));
      return row;
    });
    if (found.path !== null) {
      const up = made("li", "");
      const button = /** @type {HTMLButtonElement} */ (made("button", "entry", ".."));
      button.type = "button";
      button.addEventListener("click", () => this.#browse(found.parent));
      up.append(button);
      rows.unshift(up);
    }
    if (found.truncated) rows.push(made("li", "quiet", "There is more; type its path into a CSV."));
    list.replaceChildren(head, ...rows);
    list.scrollTop = 0;
  }

  /**
   * @param {string} text
   * @param {string} path
   * @param {boolean} folder
   */
  #pick(text, path, folder) {
    const button = /** @type {HTMLButtonElement} */ (made("button", "button small", text));
    button.type = "button";
    button.addEventListener("click", () => this.#take(path, folder));
    return button;
  }

  /**
   * Take a file, or a folder: whole where the workload goes through folders itself, else the files in it.
   * @param {string} path
   * @param {boolean} folder
   */
  async #take(path, folder) {
    const side = /** @type {HTMLSelectElement | null} */ (this.querySelector("[data-side]"))?.value ?? "";
    const last = (/** @type {string} */ whole) => whole.slice(whole.lastIndexOf("/") + 1);
    if (folder && this.getAttribute("inputs") === "folder") {
      this.#lines = [{ name: path, input: { kind: "path", path }, folder: true }];
    } else if (folder) {
      await this.#guarded(async () => {
        const found = await ask("GET", `/media?path=${encodeURIComponent(path)}`);
        for (const entry of found.entries) if (entry.kind === "file") this.#add(side, entry.name, { kind: "path", path: entry.path });
      });
    } else {
      this.#lines = this.#lines.filter((line) => !line.folder);
      this.#add(side, last(path), { kind: "path", path });
    }
    this.#show();
  }

  #urls() {
    const field = /** @type {HTMLTextAreaElement} */ (this.querySelector('[name="urls"]'));
    const lines = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
    this.#guarded(async () => {
      for (const line of lines) {
        const urls = line.split(/\s+/);
        if (urls.length !== (this.#pairs ? 2 : 1)) throw new Error(`“${line}” should hold ${this.#pairs ? "two addresses" : "one address"}.`);
        for (const [n, url] of urls.entries()) {
          if (!/^https?:\/\/[^/]/.test(url)) throw new Error(`“${url}” is no address of the form https://…`);
          this.#add(this.#pairs ? (n ? "dub" : "master") : "", url, { kind: "url", url });
        }
      }
      field.value = "";
      this.#show();
    });
  }

  /** @param {string} text */
  #csv(text) {
    const rows = records(text);
    if (!rows.length) throw new Error("The CSV has no rows below its header.");
    const [first] = rows;
    if (this.#pairs) {
      if (!first || !("master_file" in first) || !("dub_file" in first)) throw new Error("The CSV needs the columns master_file and dub_file.");
      for (const row of rows) {
        const input = Object.fromEntries(Object.entries(row).filter(([, value]) => value));
        this.#lines.push({ name: `${row.dub_file} against ${row.master_file}`, input });
      }
    } else {
      if (!first || !("path" in first || "url" in first)) throw new Error("The CSV needs a column path or url.");
      for (const [n, row] of rows.entries()) {
        if (row.path) this.#lines.push({ name: row.name || row.path, input: { kind: "path", path: row.path } });
        else if (row.url) this.#lines.push({ name: row.name || row.url, input: { kind: "url", url: row.url } });
        else throw new Error(`Line ${n + 2} has neither a path nor an address.`);
      }
    }
    this.#show();
  }

  // -- what was chosen ------------------------------------------------------------------------

  /** @returns {Line[]} */
  #all() {
    const { master, dub } = this.#sides;
    const pairs = master.slice(0, dub.length).map(({ name, reference }, n) => {
      const other = /** @type {{name: string, reference: Reference}} */ (dub[n]);
      return { name: `${other.name} against ${name}`, input: { master: reference, dub: other.reference } };
    });
    return [...pairs, ...this.#lines];
  }

  #show() {
    this.#key = "";
    const all = this.#all();
    const bytes = all.flatMap((line) => uploads(line.input)).reduce((sum, file) => sum + file.size, 0);
    const { master, dub } = this.#sides;
    const odd = master.length !== dub.length ? `; ${Math.abs(master.length - dub.length)} ${master.length > dub.length ? "masters without a dub" : "dubs without a master"}` : "";
    const sum = /** @type {HTMLElement} */ (this.querySelector("[data-sum]"));
    sum.hidden = !all.length && !odd;
    const told = sum.querySelector("span");
    if (told) told.textContent = `${all.length} ${this.#pairs ? "pair" : "item"}${all.length === 1 ? "" : "s"}${bytes ? `, ${size(bytes)} to upload` : ""}${odd}`;
    const pairs = Math.min(master.length, dub.length);
    this.querySelector(".chosen-list")?.replaceChildren(
      ...all.slice(0, SHOWN).map((line, n) => {
        const row = made("li", "");
        const remove = /** @type {HTMLButtonElement} */ (made("button", "button small plain", "Remove"));
        remove.type = "button";
        remove.setAttribute("aria-label", `Remove ${line.name}`);
        remove.addEventListener("click", () => {
          if (n < pairs) {
            this.#sides.master.splice(n, 1);
            this.#sides.dub.splice(n, 1);
          } else this.#lines.splice(n - pairs, 1);
          this.#show();
        });
        const files = uploads(line.input);
        row.append(icon(line.folder ? "folder" : "file"), made("span", "name", line.name), made("span", "small quiet", files.length ? size(files.reduce((s, f) => s + f.size, 0)) : line.folder ? "whole folder" : ""), remove);
        return row;
      }),
      ...(all.length > SHOWN ? [made("li", "quiet", `and ${all.length - SHOWN} more`)] : []),
    );
    this.#fault("");
  }

  // -- options and presets --------------------------------------------------------------------

  /** @returns {Record<string, unknown>} */
  #options() {
    const json = /** @type {HTMLTextAreaElement | null} */ (this.querySelector("[data-json]"));
    if (json?.value.trim()) {
      try {
        return JSON.parse(json.value);
      } catch {
        throw new Error("The options are not valid JSON.");
      }
    }
    /** @type {Record<string, unknown>} */
    const options = {};
    for (const element of this.querySelectorAll("[data-option]")) {
      const value = read(/** @type {HTMLElement} */ (element));
      if (value === undefined) continue;
      const parts = (/** @type {HTMLElement} */ (element).dataset.option ?? "").split(".");
      const last = /** @type {string} */ (parts.pop());
      let place = options;
      for (const part of parts) place = /** @type {Record<string, unknown>} */ (place[part] ??= {});
      place[last] = value;
    }
    return options;
  }

  async #presets() {
    const select = /** @type {HTMLSelectElement} */ (this.querySelector("[data-presets]"));
    await this.#guarded(async () => {
      const { presets } = await ask("GET", `/presets?kind=${encodeURIComponent(this.#kind)}`);
      const chosen = select.value;
      select.replaceChildren(new Option("none", ""), ...presets.map((/** @type {{name: string, options: object}} */ preset) => {
        const option = new Option(preset.name, preset.name);
        option.dataset.options = JSON.stringify(preset.options);
        return option;
      }));
      select.value = chosen;
    });
  }

  /** @param {Record<string, unknown>} options */
  #fill(options) {
    const json = /** @type {HTMLTextAreaElement | null} */ (this.querySelector("[data-json]"));
    if (json) json.value = JSON.stringify(options, null, 2);
    for (const element of this.querySelectorAll("[data-option]")) {
      const parts = (/** @type {HTMLElement} */ (element).dataset.option ?? "").split(".");
      /** @type {unknown} */
      let value = options;
      for (const part of parts) value = typeof value === "object" && value !== null ? /** @type {Record<string, unknown>} */ (value)[part] : undefined;
      if (value !== undefined) write(/** @type {HTMLElement} */ (element), value);
    }
  }

  async #save() {
    const name = prompt("Save these options under which name?");
    if (!name?.trim()) return;
    await this.#guarded(async () => {
      const address = `/presets/${encodeURIComponent(this.#kind)}/${encodeURIComponent(name.trim())}`;
      await ask("PUT", address, { options: this.#options() });
      await this.#presets();
      /** @type {HTMLSelectElement} */ (this.querySelector("[data-presets]")).value = name.trim();
      note(`Saved as ${name.trim()}.`);
    });
  }

  // -- submitting -----------------------------------------------------------------------------

  /** @returns {{job: Record<string, unknown>, files: File[]}} */
  #job() {
    const lines = this.#all();
    if (!lines.length) throw new Error(this.#pairs ? "Choose at least one master and its dub." : "Choose what the job is to work on.");
    /** @type {File[]} */
    const files = [];
    const options = this.#options();
    const field = (/** @type {string} */ name) => /** @type {HTMLInputElement | HTMLSelectElement} */ (this.querySelector(`[name="${name}"]`)).value.trim();
    /** @type {Record<string, unknown>} */
    const job = { kind: this.#kind, options, priority: field("priority") };
    const folder = lines.find((line) => line.folder);
    if (folder) job.options = { ...options, path: folder.input.path };
    else {
      job.items = lines.map((line) => {
        const bytes = uploads(line.input).reduce((sum, file) => sum + file.size, 0);
        return { name: line.name, input: numbered(line.input, files), ...(bytes && { size: bytes }) };
      });
    }
    if (field("label")) job.label = field("label");
    if (field("parallelism")) {
      const number = Number(field("parallelism"));
      if (!Number.isInteger(number) || number < 1) throw new Error("Items at once must be a whole number from 1 up.");
      job.parallelism = number;
    }
    const told = [...this.querySelectorAll("[data-notify] input")].filter((box) => box instanceof HTMLInputElement && box.checked);
    if (told.length) job.notify = told.map((box) => /** @type {HTMLInputElement} */ (box).value);
    if (field("callback")) job.callbacks = [{ url: field("callback") }];
    return { job, files };
  }

  async #submit() {
    if (this.#sending) return;
    await this.#guarded(async () => {
      const { job, files } = this.#job();
      const cron = /** @type {HTMLInputElement} */ (this.querySelector('[name="cron"]')).value.trim();
      if (cron) {
        if (files.length) throw new Error("A schedule cannot use uploads: choose files on the server, or addresses.");
        const zone = /** @type {HTMLInputElement} */ (this.querySelector('[name="zone"]')).value.trim();
        await ask("POST", "/schedules", { cron, job, ...(zone && { zone }), name: job.label ?? "" });
        location.assign("/ui/system#schedules");
        return;
      }
      // The same request again, after a connection that broke, answers with the same job.
      this.#key ||= unique();
      const reply = await this.#send(job, files);
      location.assign(`/ui/jobs/${encodeURIComponent(reply.job_id)}`);
    });
  }

  /**
   * @param {Record<string, unknown>} job
   * @param {File[]} files
   * @returns {Promise<{job_id: string}>}
   */
  #send(job, files) {
    const body = new FormData();
    body.append("job", JSON.stringify(job));
    for (const file of files) body.append("files", file, file.name);
    const request = new XMLHttpRequest();
    const bar = /** @type {HTMLProgressElement} */ (this.querySelector(".submit progress"));
    const began = performance.now();
    this.#sending = request;
    this.#busy(true);
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable || !files.length) return;
      bar.hidden = false;
      bar.value = event.loaded / event.total;
      const pace = event.loaded / Math.max(0.001, (performance.now() - began) / 1000);
      this.#tell(event.loaded < event.total ? `${size(event.loaded)} of ${size(event.total)}, ${size(pace)}/s` : "the server is putting it away…");
    });
    return new Promise((resolve, reject) => {
      request.addEventListener("load", () => {
        const reply = parsed(request.responseText);
        if (request.status < 300) resolve(/** @type {{job_id: string}} */ (reply));
        else reject(new Error(String(reply.detail ?? reply.error ?? request.statusText)));
      });
      request.addEventListener("error", () => reject(new Error("The connection broke. Submit again: nothing is made twice.")));
      request.addEventListener("abort", () => reject(new Error("Stopped; nothing was submitted.")));
      request.addEventListener("loadend", () => {
        this.#sending = null;
        this.#busy(false);
      });
      request.open("POST", "/jobs");
      request.setRequestHeader("Accept", "application/json");
      request.setRequestHeader("Idempotency-Key", this.#key);
      request.send(body);
    });
  }

  /** @param {boolean} busy */
  #busy(busy) {
    const stop = /** @type {HTMLElement} */ (this.querySelector('[data-do="stop"]'));
    stop.hidden = !busy;
    const button = /** @type {HTMLButtonElement} */ (this.querySelector(".submit .primary"));
    button.disabled = busy;
    if (!busy) /** @type {HTMLElement} */ (this.querySelector(".submit progress")).hidden = true;
    this.#tell(busy ? "sending…" : "");
  }

  /** @param {string} text */
  #tell(text) {
    const told = this.querySelector("[data-told]");
    if (told) told.textContent = text;
  }

  /** @param {string} text */
  #fault(text) {
    const fault = /** @type {HTMLElement} */ (this.querySelector("[data-fault]"));
    fault.hidden = !text;
    fault.textContent = text;
    if (text) fault.scrollIntoView({ block: "nearest" });
  }

  /** @param {() => Promise<void>} act */
  async #guarded(act) {
    try {
      await act();
    } catch (error) {
      this.#fault(error instanceof Error ? error.message : String(error));
    }
  }

  /** @param {Event} event */
  #click(event) {
    const button = event.target instanceof Element ? event.target.closest("button") : null;
    switch (button?.dataset.do) {
      case "urls": this.#urls(); break;
      case "clear":
        this.#lines = [];
        this.#sides = { master: [], dub: [] };
        this.#show();
        break;
      case "stop": this.#sending?.abort(); break;
      case "save-preset": this.#save(); break;
    }
  }

  /** @param {Event} event */
  #change(event) {
    this.#key = "";
    const select = event.target;
    if (select instanceof HTMLSelectElement && "presets" in select.dataset) {
      const chosen = select.selectedOptions[0]?.dataset.options;
      if (chosen) this.#fill(JSON.parse(chosen));
    }
  }
}

/**
 * The value of an option's field; undefined where it says nothing.
 * @param {HTMLElement} element
 * @returns {unknown}
 */
function read(element) {
  if (element instanceof HTMLFieldSetElement) {
    return [...element.querySelectorAll("input")].filter((box) => box.checked).map((box) => box.value);
  }
  if (element instanceof HTMLInputElement && element.type === "checkbox") return element.checked;
  if (!(element instanceof HTMLInputElement || element instanceof HTMLSelectElement)) return undefined;
  const text = element.value.trim();
  if (!text) return undefined;
  if (element.dataset.kind === "words") return text.split(",").map((word) => word.trim()).filter(Boolean);
  if (element.dataset.kind !== "number") return text;
  const number = Number(text.replace(",", "."));
  if (Number.isNaN(number)) throw new Error(`“${text}” is not a number.`);
  return number;
}

/**
 * @param {HTMLElement} element
 * @param {unknown} value
 */
function write(element, value) {
  if (element instanceof HTMLFieldSetElement) {
    const chosen = Array.isArray(value) ? value : [value];
    for (const box of element.querySelectorAll("input")) box.checked = chosen.includes(box.value);
  } else if (element instanceof HTMLInputElement && element.type === "checkbox") element.checked = Boolean(value);
  else if (element instanceof HTMLInputElement || element instanceof HTMLSelectElement) {
    element.value = Array.isArray(value) ? value.join(", ") : String(value ?? "");
  }
}

/**
 * The files to upload that an item's input holds.
 * @param {Record<string, unknown>} input
 * @returns {File[]}
 */
function uploads(input) {
  if (input.file instanceof File) return [input.file];
  return Object.values(input).flatMap((value) => (typeof value === "object" && value ? uploads(/** @type {Record<string, unknown>} */ (value)) : []));
}

/**
 * The input as the API takes it: files become numbers of parts of the form.
 * @param {Record<string, unknown>} input
 * @param {File[]} files
 * @returns {Record<string, unknown>}
 */
function numbered(input, files) {
  if (input.file instanceof File) return { kind: "upload", index: files.push(input.file) - 1 };
  return Object.fromEntries(
    Object.entries(input).map(([key, value]) => [key, typeof value === "object" && value ? numbered(/** @type {Record<string, unknown>} */ (value), files) : value]),
  );
}

/**
 * What was dropped: files, and those in folders.
 * @param {DataTransfer | null} transfer
 * @returns {Promise<File[]>}
 */
async function dropped(transfer) {
  const entries = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (!entries.length) return [...(transfer?.files ?? [])];
  return (await Promise.all(entries.map(inside))).flat();
}

/**
 * @param {FileSystemEntry} entry
 * @returns {Promise<File[]>}
 */
async function inside(entry) {
  if (entry.isFile) {
    return new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file((file) => resolve([file]), reject));
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  /** @type {File[]} */
  const found = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found.filter((file) => !file.name.startsWith("."));
    found.push(...(await Promise.all(some.map(inside))).flat());
  }
}

/** A word that nobody has used before. (`crypto.randomUUID` is only there on HTTPS.) */
function unique() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {string} text
 * @returns {Record<string, unknown>}
 */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** @param {string} name */
function icon(name) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  made.setAttribute("class", "icon");
  made.setAttribute("aria-hidden", "true");
  made.setAttribute("viewBox", "0 0 16 16");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", new URL(`icons.svg#${name}`, import.meta.url).href);
  made.append(use);
  return made;
}

/**
 * @param {string} tag
 * @param {string} className
 * @param {string} [text]
 * @returns {HTMLElement}
 */
function made(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

customElements.define("new-job", NewJob);
