// <sound-deck>: plays a recording, or its stems together, with a waveform, and has cues follow.
//
// Inside it stand <audio data-voice="name"> elements: one is the recording, those with data-stem are its
// parts. `data-cues="id of the deck"` on a list with data-start and data-end lets the list follow and seek.
import { clock } from "./time.js";
import { WaveForm } from "./wave.js";

const APART = 0.04;

class SoundDeck extends HTMLElement {
  /** @type {HTMLAudioElement[]} */
  #all = [];
  /** @type {Set<HTMLAudioElement>} */
  #muted = new Set();
  /** @type {HTMLAudioElement | null} */
  #solo = null;
  #stems = false;
  #playing = false;
  /** @type {WaveForm | null} */
  #wave = null;
  /** @type {HTMLButtonElement} */
  #button = document.createElement("button");
  #place = document.createElement("span");

  connectedCallback() {
    if (this.#all.length) return;
    this.#all = [...this.querySelectorAll("audio")];
    this.#wave = new WaveForm();
    this.#wave.seconds = Number(this.getAttribute("seconds") ?? 0);
    this.#wave.addEventListener("go", (event) => this.seek(/** @type {CustomEvent<number>} */ (event).detail));
    const bar = document.createElement("div");
    bar.className = "deckbar";
    this.#button.type = "button";
    this.#button.className = "button primary play";
    this.#button.addEventListener("click", () => this.toggle());
    this.#place.className = "figure";
    bar.append(this.#button, this.#place, ...this.#voices());
    this.prepend(this.#wave, bar);
    for (const audio of this.#all) this.#mind(audio);
    this.#show();
    const peaks = this.getAttribute("peaks");
    if (peaks) this.#wave.load(peaks).then(() => this.#tell(), (error) => this.#complain(error));
    document.addEventListener("keydown", (event) => {
      const idle = document.activeElement === document.body || document.activeElement?.id === "main" || this.contains(document.activeElement);
      const button = document.activeElement instanceof HTMLButtonElement || document.activeElement instanceof HTMLInputElement;
      if (event.key === " " && idle && !button) {
        event.preventDefault();
        this.toggle();
      }
    });
    this.#cues();
  }

  /** @returns {number} where it plays, in seconds */
  get time() {
    return this.#clock().currentTime;
  }

  /** @returns {number} how long it is, in seconds */
  get length() {
    return Number(this.getAttribute("seconds")) || this.#clock().duration || 0;
  }

  /** @param {number} seconds */
  seek(seconds) {
    for (const audio of this.#chosen()) audio.currentTime = seconds;
    this.#tell();
  }

  toggle() {
    if (this.#playing) this.#pause();
    else this.play();
  }

  async play() {
    this.#playing = true;
    this.#show();
    try {
      await Promise.all(this.#chosen().map((audio) => audio.play()));
      this.#follow();
    } catch (error) {
      // A seek or a pause in between is no fault; a format that cannot be played is dealt with by its error.
      if (error instanceof DOMException && error.name === "NotAllowedError") this.#pause();
    }
  }

  #pause() {
    this.#playing = false;
    for (const audio of this.#all) audio.pause();
    this.#show();
    this.#tell();
  }

  /** The audio elements that play now: the recording, or all its stems. */
  #chosen() {
    return this.#all.filter((audio) => ("stem" in audio.dataset) === this.#stems);
  }

  #clock() {
    return this.#chosen()[0] ?? this.#all[0] ?? new Audio();
  }

  /** @param {HTMLAudioElement} audio */
  #mind(audio) {
    const failed = () => {
      const { fallback } = audio.dataset;
      if (!fallback) {
        this.#complain(new Error("This browser cannot play it."));
        return;
      }
      // The server makes a form of it that every browser plays; that may take a moment.
      delete audio.dataset.fallback;
      const at = audio.currentTime;
      this.#place.textContent = "preparing…";
      audio.src = fallback;
      audio.addEventListener("loadedmetadata", () => {
        audio.currentTime = at;
        if (this.#playing) audio.play();
        this.#tell();
      }, { once: true });
    };
    audio.addEventListener("error", failed);
    // The page may have found out before this script came.
    if (audio.error) failed();
    audio.addEventListener("loadedmetadata", () => this.#tell());
    audio.addEventListener("seeked", () => this.#tell());
    audio.addEventListener("ended", () => audio === this.#clock() && this.#pause());
  }

  #follow() {
    if (!this.#playing) return;
    this.#tell();
    const [first, ...rest] = this.#chosen();
    for (const audio of rest) {
      if (first && Math.abs(audio.currentTime - first.currentTime) > APART) audio.currentTime = first.currentTime;
    }
    requestAnimationFrame(() => this.#follow());
  }

  #tell() {
    const time = this.time;
    if (this.#wave) {
      if (!this.#wave.seconds) this.#wave.seconds = this.length;
      this.#wave.at = time;
    }
    this.#place.textContent = `${clock(time, 1)} / ${clock(this.length)}`;
    this.dispatchEvent(new CustomEvent("time", { detail: time }));
  }

  #show() {
    this.#button.textContent = this.#playing ? "Pause" : "Play";
    this.dataset.state = this.#playing ? "playing" : "paused";
    for (const audio of this.#all) {
      const stem = "stem" in audio.dataset;
      const silent = stem && (this.#muted.has(audio) || (this.#solo !== null && this.#solo !== audio));
      audio.muted = silent;
    }
    for (const button of this.querySelectorAll("button[data-of]")) {
      const audio = this.#all[Number(/** @type {HTMLElement} */ (button).dataset.of)];
      const pressed = button.classList.contains("mute") ? this.#muted.has(/** @type {HTMLAudioElement} */ (audio)) : this.#solo === audio;
      button.setAttribute("aria-pressed", String(pressed));
    }
    for (const button of this.querySelectorAll("button[data-set]")) {
      button.setAttribute("aria-pressed", String((/** @type {HTMLElement} */ (button).dataset.set === "stems") === this.#stems));
    }
    for (const strip of this.querySelectorAll(".strip")) /** @type {HTMLElement} */ (strip).hidden = !this.#stems;
  }

  /** @returns {HTMLElement[]} */
  #voices() {
    if (!this.#all.some((audio) => "stem" in audio.dataset)) return [];
    const choice = document.createElement("span");
    choice.className = "choice";
    choice.setAttribute("role", "group");
    choice.setAttribute("aria-label", "What is heard");
    choice.append(this.#made("Original", { set: "original" }, () => this.#switch(false)), this.#made("Stems", { set: "stems" }, () => this.#switch(true)));
    const strips = this.#all.flatMap((audio, n) => {
      if (!("stem" in audio.dataset)) return [];
      const name = audio.dataset.voice ?? "";
      const strip = document.createElement("span");
      strip.className = "strip";
      strip.append(
        name,
        this.#made("Solo", { of: String(n) }, () => { this.#solo = this.#solo === audio ? null : audio; }, `Hear only: ${name}`),
        this.#made("Mute", { of: String(n) }, () => { if (!this.#muted.delete(audio)) this.#muted.add(audio); }, `Mute: ${name}`, "mute"),
      );
      return [strip];
    });
    return [choice, ...strips];
  }

  /**
   * @param {string} text
   * @param {Record<string, string>} data
   * @param {() => void} act
   * @param {string} [label]
   * @param {string} [more]
   */
  #made(text, data, act, label, more = "") {
    const button = document.createElement("button");
    button.type = "button";
    button.className = `button small ${more}`.trim();
    button.textContent = text;
    if (label) button.setAttribute("aria-label", label);
    Object.assign(button.dataset, data);
    button.addEventListener("click", () => {
      act();
      this.#show();
    });
    return button;
  }

  /** @param {boolean} stems */
  #switch(stems) {
    if (stems === this.#stems) return;
    const at = this.time;
    const playing = this.#playing;
    for (const audio of this.#all) audio.pause();
    this.#stems = stems;
    for (const audio of this.#chosen()) {
      audio.preload = "auto";
      audio.currentTime = at;
    }
    if (playing) this.play();
  }

  /** @param {unknown} error */
  #complain(error) {
    let said = this.querySelector(".deckfault");
    if (!said) {
      said = document.createElement("p");
      said.className = "deckfault bad small";
      said.setAttribute("role", "alert");
      this.append(said);
    }
    said.textContent = error instanceof Error ? error.message : String(error);
  }

  #cues() {
    const list = document.querySelector(`[data-cues="${this.id}"]`);
    if (!list) return;
    const rows = /** @type {HTMLElement[]} */ ([...list.children]);
    const starts = rows.map((row) => Number(row.dataset.start));
    let shown = -1;
    list.addEventListener("click", (event) => {
      const row = event.target instanceof Element ? /** @type {HTMLElement | null} */ (event.target.closest("[data-start]")) : null;
      if (!row) return;
      this.seek(Number(row.dataset.start) + 0.001);
      if (!this.#playing) this.play();
    });
    this.addEventListener("time", (event) => {
      const time = /** @type {CustomEvent<number>} */ (event).detail;
      let low = 0;
      let high = starts.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((starts[middle] ?? 0) <= time) low = middle + 1;
        else high = middle;
      }
      const row = rows[low - 1];
      const now = row && time < Number(row.dataset.end) ? low - 1 : -1;
      if (now === shown) return;
      rows[shown]?.removeAttribute("aria-current");
      shown = now;
      if (!row || now < 0) return;
      row.setAttribute("aria-current", "true");
      const follow = /** @type {HTMLInputElement | null} */ (document.querySelector(`[data-follow="${this.id}"]`));
      if (follow?.checked && this.#playing) list.scrollTop = row.offsetTop - list.clientHeight / 2 + row.offsetHeight / 2;
    });
  }
}

customElements.define("sound-deck", SoundDeck);
