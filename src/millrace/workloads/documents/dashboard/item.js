// <document-pages>: a document's pages as pictures with the findings drawn over them, and the ruling form.

/** @typedef {{id: number, type: string, group: string, rule: string, snippet: string, weight: number, stance: string, boxes: [number, number, number, number][]}} Finding */
/** @typedef {{page: number, part: string | null, width: number | null, height: number | null, picture: string | null, findings: Finding[]}} Sheet */

const AT_ONCE = 10;
const SVG = "http://www.w3.org/2000/svg";

/** @param {string} words */
const plain = (words) => words.replaceAll("_", " ").toLowerCase();

class DocumentPages extends HTMLElement {
  #first = 1;

  connectedCallback() {
    this.#load(1);
    this.addEventListener("click", (event) => {
      const target = event.target instanceof Element ? event.target : null;
      if (target?.closest("[data-later]")) this.#load(this.#first + AT_ONCE);
      if (target?.closest("[data-earlier]")) this.#load(Math.max(1, this.#first - AT_ONCE));
      const finding = /** @type {HTMLElement | null} */ (target?.closest("[data-finding]") ?? null);
      if (finding?.dataset.finding) this.#point(finding.dataset.finding);
    });
    this.querySelector("form[data-ruling]")?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#rule(/** @type {HTMLFormElement} */ (event.target));
    });
    this.#history();
  }

  get #doc() {
    return encodeURIComponent(this.getAttribute("doc") ?? "");
  }

  /** @param {number} first */
  async #load(first) {
    const sheets = this.querySelector("[data-sheets]");
    const list = this.querySelector("[data-findings]");
    if (!sheets || !list) return;
    const reply = await fetch(`/documents/${this.#doc}/findings?first=${first}&limit=${AT_ONCE}`);
    const found = await reply.json();
    if (!reply.ok) {
      list.textContent = found.detail ?? "The findings could not be read.";
      return;
    }
    this.#first = first;
    /** @type {Sheet[]} */
    const pages = found.pages;
    sheets.replaceChildren(...pages.map((page) => this.#sheet(page)));
    list.replaceChildren(...pages.flatMap((page) => page.findings.map((finding) => this.#line(page, finding))));
    if (!list.children.length) list.append(made("li", "quiet", found.total_findings ? "None on these pages." : "Nothing was found."));
    this.#put("[data-total]", String(found.total_findings));
    this.#put("[data-place]", pages.length ? `pages ${pages[0]?.page} to ${pages.at(-1)?.page} of ${found.total_pages}` : "");
    const last = pages.at(-1)?.page ?? 0;
    for (const [button, shown] of /** @type {[string, boolean][]} */ ([["[data-earlier]", first > 1], ["[data-later]", pages.length === AT_ONCE && last < found.total_pages]])) {
      const element = /** @type {HTMLElement | null} */ (this.querySelector(button));
      if (element) element.hidden = !shown;
    }
  }

  /** @param {Sheet} page */
  #sheet(page) {
    const figure = made("figure", "sheet");
    figure.append(made("figcaption", "small quiet", page.part ?? `page ${page.page}`));
    if (!page.picture || !page.width || !page.height) {
      figure.append(made("p", "quiet", "This page has no picture."));
      return figure;
    }
    const frame = made("div", "frame");
    const picture = new Image();
    picture.loading = "lazy";
    picture.alt = `page ${page.page}`;
    picture.width = Math.round(page.width);
    picture.height = Math.round(page.height);
    picture.src = page.picture;
    const over = document.createElementNS(SVG, "svg");
    over.setAttribute("viewBox", `0 0 ${page.width} ${page.height}`);
    over.setAttribute("preserveAspectRatio", "none");
    for (const finding of page.findings) {
      for (const [left, top, right, bottom] of finding.boxes) {
        const box = document.createElementNS(SVG, "rect");
        for (const [name, value] of Object.entries({ x: left - 1, y: top - 1, width: right - left + 2, height: bottom - top + 2 })) box.setAttribute(name, String(value));
        box.setAttribute("class", `mark ${finding.group}`);
        box.dataset.finding = `${page.page}-${finding.id}`;
        const title = document.createElementNS(SVG, "title");
        title.textContent = plain(finding.type);
        box.append(title);
        over.append(box);
      }
    }
    frame.append(picture, over);
    figure.append(frame);
    return figure;
  }

  /**
   * @param {Sheet} page
   * @param {Finding} finding
   */
  #line(page, finding) {
    const line = made("li", "finding");
    const button = /** @type {HTMLButtonElement} */ (made("button", `tag mark ${finding.group}`, plain(finding.type)));
    button.type = "button";
    line.dataset.finding = `${page.page}-${finding.id}`;
    line.append(button, made("span", "small quiet", ` page ${page.page}${finding.stance === "plain" ? "" : ` · ${plain(finding.stance)}`}`), made("p", "small", finding.snippet));
    return line;
  }

  /** @param {string} name */
  #point(name) {
    for (const old of this.querySelectorAll(".pointed")) old.classList.remove("pointed");
    const all = this.querySelectorAll(`[data-finding="${name}"]`);
    for (const each of all) each.classList.add("pointed");
    for (const each of all) {
      const box = each.closest("[data-sheets], [data-findings]");
      if (!(box instanceof HTMLElement)) continue;
      const inner = each.getBoundingClientRect();
      const outer = box.getBoundingClientRect();
      if (inner.top < outer.top || inner.bottom > outer.bottom) box.scrollTop += inner.top - outer.top - outer.height / 3;
    }
  }

  /** @param {HTMLFormElement} form */
  async #rule(form) {
    const button = /** @type {HTMLButtonElement} */ (form.querySelector("button"));
    button.disabled = true;
    const body = { doc_id: this.getAttribute("doc"), ...Object.fromEntries(new FormData(form)) };
    try {
      const reply = await fetch("/hitl", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      const found = await reply.json();
      this.#say(form, reply.ok ? `In force now: ${found.classification?.final_category ?? body.doc_id}` : found.detail ?? reply.statusText, !reply.ok);
      if (reply.ok) await this.#history();
    } catch {
      this.#say(form, "The server could not be reached.", true);
    } finally {
      button.disabled = false;
    }
  }

  async #history() {
    const list = this.querySelector("[data-history]");
    if (!list) return;
    const reply = await fetch(`/hitl?doc_id=${this.#doc}`);
    if (!reply.ok) return;
    const { rulings } = await reply.json();
    list.replaceChildren(
      ...rulings.map((/** @type {Record<string, string>} */ ruling) => {
        const line = made("li", "small");
        line.append(made("b", "", ruling.category ?? ""), ` by ${ruling.reviewer}, ${new Date(ruling.decided_at ?? "").toLocaleString()}: ${ruling.reason}`);
        return line;
      }),
    );
  }

  /**
   * @param {HTMLFormElement} form
   * @param {string} text
   * @param {boolean} bad
   */
  #say(form, text, bad) {
    form.querySelector(".said")?.remove();
    const said = made("p", bad ? "said bad small" : "said small", text);
    said.setAttribute("role", "status");
    form.append(said);
  }

  /**
   * @param {string} selector
   * @param {string} text
   */
  #put(selector, text) {
    const element = this.querySelector(selector);
    if (element) element.textContent = text;
  }
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
  if (text !== undefined) element.textContent = text;
  return element;
}

customElements.define("document-pages", DocumentPages);
