// <wave-form>: draws a recording's peaks, and is the slider with which people go to a place in it.
import { clock } from "./time.js";

/** @typedef {{seconds: number, span: number, peaks: number[]}} Peaks */

/** A waveform. Tells where people go with the event "go" (detail: seconds); `seconds` is how long its axis is. */
export class WaveForm extends HTMLElement {
  /** @type {Peaks | null} */
  #peaks = null;
  #at = 0;
  #shift = 0;
  #color = "--running";

  seconds = 0;
  #canvas = document.createElement("canvas");

  connectedCallback() {
    const canvas = this.#canvas;
    if (canvas.isConnected) return;
    this.append(canvas);
    canvas.tabIndex = 0;
    canvas.setAttribute("aria-label", this.getAttribute("label") ?? "Place in the recording");
    canvas.setAttribute("role", "slider");
    canvas.setAttribute("aria-valuemin", "0");
    canvas.setAttribute("aria-valuenow", "0");
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#go(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && this.#go(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.draw()).observe(canvas);
    document.addEventListener("theme", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /**
   * Fetch the peaks and show them.
   * @param {string} address
   * @param {{shift?: number, color?: string}} [how] shift: where the recording begins on the axis, in seconds
   */
  async load(address, how = {}) {
    const reply = await fetch(address);
    if (!reply.ok) throw new Error((await reply.json().catch(() => null))?.detail ?? reply.statusText);
    this.#peaks = await reply.json();
    this.#color = how.color ?? this.#color;
    this.#shift = how.shift ?? 0;
    if (!this.seconds && this.#peaks) this.seconds = this.#peaks.seconds;
    this.#canvas.setAttribute("aria-valuemax", String(Math.round(this.seconds)));
    this.draw();
  }

  /** @param {number} seconds where the recording begins on the axis */
  set shift(seconds) {
    this.#shift = seconds;
    this.draw();
  }

  /** @param {number} seconds where the playing is */
  set at(seconds) {
    this.#at = seconds;
    this.#canvas.setAttribute("aria-valuenow", String(Math.round(seconds)));
    this.#canvas.setAttribute("aria-valuetext", clock(seconds));
    this.draw();
  }

  draw() {
    const canvas = this.#canvas;
    const ratio = devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    if (!context) return;
    const style = getComputedStyle(canvas);
    const ahead = style.getPropertyValue("--edge").trim();
    const behind = style.getPropertyValue(this.#color).trim();
    context.clearRect(0, 0, width, height);
    const played = this.seconds ? (this.#at / this.seconds) * width : 0;
    const step = Math.max(2, Math.round(2 * ratio));
    for (let x = 0; x < width; x += step) {
      const loud = this.#loudest((x / width) * this.seconds, ((x + step) / width) * this.seconds);
      const tall = Math.max(ratio, (loud / 100) * height * 0.94);
      context.fillStyle = x < played ? behind : ahead;
      context.fillRect(x, (height - tall) / 2, Math.max(1, step - ratio), tall);
    }
    context.fillStyle = style.getPropertyValue("--ink").trim();
    context.fillRect(Math.min(width - ratio, Math.max(0, played)), 0, Math.max(1, ratio), height);
  }

  /**
   * @param {number} from
   * @param {number} to
   */
  #loudest(from, to) {
    if (!this.#peaks) return 0;
    const { peaks, span } = this.#peaks;
    const first = Math.max(0, Math.floor((from - this.#shift) / span));
    const last = Math.min(peaks.length, Math.max(first + 1, Math.ceil((to - this.#shift) / span)));
    if (to < this.#shift) return 0;
    let loud = 0;
    for (let n = first; n < last; n += 1) loud = Math.max(loud, peaks[n] ?? 0);
    return loud;
  }

  /** @param {PointerEvent} event */
  #go(event) {
    const box = this.#canvas.getBoundingClientRect();
    this.#tell(((event.clientX - box.left) / box.width) * this.seconds);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const steps = new Map([["ArrowLeft", -5], ["ArrowRight", 5], ["PageDown", -30], ["PageUp", 30], ["Home", -Infinity], ["End", Infinity]]);
    const step = steps.get(event.key);
    if (step === undefined) return;
    event.preventDefault();
    this.#tell(this.#at + step);
  }

  /** @param {number} seconds */
  #tell(seconds) {
    this.dispatchEvent(new CustomEvent("go", { detail: Math.min(this.seconds, Math.max(0, seconds)) }));
  }
}

customElements.define("wave-form", WaveForm);
