// <ab-deck>: a master and its dub at the same time, the dub moved as the analysis says, or by hand.
//
// Both sides come as excerpts that begin to the sample where they should (sound/…/clip), and are played by one
// clock, so that what is heard apart is apart.

/** @typedef {{start: number, end: number, dub_start: number, dub_end: number}} Segment */

const WINDOW = 20;

/** @param {number} seconds */
const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

class AbDeck extends HTMLElement {
  /** @type {Segment[]} */
  #segments = [];
  /** @type {AudioContext | null} */
  #audio = null;
  /** @type {Map<string, {gain: GainNode, node: AudioBufferSourceNode}>} */
  #sides = new Map();
  /** @type {Map<string, Promise<AudioBuffer>>} */
  #clips = new Map();
  #at = 0;
  #nudge = 0;
  #applied = true;
  #heard = "both";
  #began = 0;
  #playing = false;

  connectedCallback() {
    this.#segments = JSON.parse(this.getAttribute("segments") ?? "[]");
    this.#at = Math.max(0, this.#segments[0]?.start ?? 0);
    this.innerHTML = `
      <wave-form data-side="master" label="Place in the master"></wave-form>
      <wave-form data-side="dub" label="Place in the dub, moved over its master"></wave-form>
      <div class="deckbar">
        <button type="button" class="button primary play" data-do="play">Play</button>
        <span class="figure" data-place></span>
        <span class="choice" role="group" aria-label="What is heard">
          <button type="button" class="button small" data-heard="master">Master</button>
          <button type="button" class="button small" data-heard="both">Both</button>
          <button type="button" class="button small" data-heard="split">Left and right</button>
          <button type="button" class="button small" data-heard="dub">Dub</button>
        </span>
        <label class="inline"><input type="checkbox" data-do="apply" checked> apply the offset</label>
        <label class="inline">by hand <input type="range" min="-500" max="500" step="5" value="0" data-do="nudge" aria-label="Move the dub by hand, milliseconds"> <output>0 ms</output></label>
      </div>
      <p class="small quiet" role="status" data-said></p>`;
    this.addEventListener("click", (event) => this.#click(event));
    this.addEventListener("input", (event) => this.#input(event));
    this.#draw();
    this.#show();
  }

  disconnectedCallback() {
    this.#stop();
    this.#audio?.close();
  }

  /** Where in the dub something of the master is heard, by the analysis: the dub's seconds, and its pace. */
  #dub() {
    const segment = this.#segments.find((each) => this.#at < each.end) ?? this.#segments.at(-1);
    if (!this.#applied || !segment) return { at: this.#at - this.#nudge, pace: 1 };
    const pace = (segment.dub_end - segment.dub_start) / (segment.end - segment.start) || 1;
    return { at: segment.dub_start + (this.#at - segment.start) * pace - this.#nudge, pace };
  }

  async #draw() {
    await customElements.whenDefined("wave-form");
    const seconds = Number(this.getAttribute("seconds"));
    const moved = () => this.#at - this.#dub().at;
    for (const found of this.querySelectorAll("wave-form")) {
      const wave = /** @type {import("../../../server/dashboard/static/wave.js").WaveForm} */ (found);
      const side = wave.dataset.side ?? "";
      wave.seconds = seconds;
      wave.addEventListener("go", (event) => this.#go(/** @type {CustomEvent<number>} */ (event).detail));
      this.addEventListener("place", () => { wave.at = this.#at; });
      if (side === "dub") this.addEventListener("moved", () => { wave.shift = moved(); });
      wave.load(this.#address(side, "peaks", {}), side === "dub" ? { shift: moved(), color: "--skipped" } : {})
        .then(() => this.dispatchEvent(new CustomEvent("place")))
        .catch((/** @type {Error} */ error) => this.#say(error.message));
    }
  }

  /**
   * @param {string} side
   * @param {string} view
   * @param {Record<string, string>} query
   */
  #address(side, view, query) {
    const stream = this.getAttribute(`${side}-stream`);
    const wanted = new URLSearchParams({ ...query, ...(stream && { stream }) });
    return `${this.getAttribute("here")}/sound/${side}/${view}?${wanted}`;
  }

  /** @param {Event} event */
  #click(event) {
    const button = event.target instanceof Element ? /** @type {HTMLElement | null} */ (event.target.closest("button")) : null;
    if (button?.dataset.do === "play") {
      if (this.#playing) this.#stop();
      else this.#play();
    } else if (button?.dataset.heard) {
      this.#heard = button.dataset.heard;
      this.#mix();
    }
    this.#show();
  }

  /** @param {Event} event */
  #input(event) {
    const input = /** @type {HTMLInputElement} */ (event.target);
    if (input.dataset.do === "apply") this.#applied = input.checked;
    else if (input.dataset.do === "nudge") this.#nudge = Number(input.value) / 1000;
    this.dispatchEvent(new CustomEvent("moved"));
    this.#again();
    this.#show();
  }

  /** @param {number} seconds */
  #go(seconds) {
    this.#at = seconds;
    this.#again();
    this.#show();
  }

  /** Play on from here, if it plays. */
  #again() {
    if (!this.#playing) return;
    this.#stop();
    this.#play();
  }

  async #play() {
    this.#playing = true;
    this.#show();
    this.#audio ??= new AudioContext();
    const audio = this.#audio;
    const dub = this.#dub();
    try {
      this.#say("fetching…");
      const [master, other] = await Promise.all([
        this.#clip("master", this.#at, WINDOW),
        this.#clip("dub", dub.at, WINDOW * dub.pace),
      ]);
      if (!this.#playing) return;
      await audio.resume();
      this.#say("");
      this.#began = audio.currentTime + 0.05;
      this.#start("master", master, 1, -1);
      this.#start("dub", other, dub.pace, 1);
      this.#mix();
      this.#follow(this.#at);
    } catch (error) {
      this.#stop();
      this.#say(error instanceof Error ? error.message : String(error));
    }
  }

  /**
   * @param {string} side
   * @param {AudioBuffer} buffer
   * @param {number} pace
   * @param {number} ear
   */
  #start(side, buffer, pace, ear) {
    const audio = /** @type {AudioContext} */ (this.#audio);
    const node = new AudioBufferSourceNode(audio, { buffer, playbackRate: pace });
    const gain = new GainNode(audio);
    const pan = new StereoPannerNode(audio, { pan: this.#heard === "split" ? ear : 0 });
    node.connect(gain).connect(pan).connect(audio.destination);
    node.start(this.#began);
    this.#sides.set(side, { gain, node });
  }

  /**
   * @param {string} side
   * @param {number} start
   * @param {number} seconds
   * @returns {Promise<AudioBuffer>}
   */
  #clip(side, start, seconds) {
    const address = this.#address(side, "clip", { start: start.toFixed(4), seconds: seconds.toFixed(3) });
    let clip = this.#clips.get(address);
    if (!clip) {
      clip = fetch(address).then(async (reply) => {
        if (!reply.ok) throw new Error((await reply.json().catch(() => null))?.detail ?? reply.statusText);
        return /** @type {AudioContext} */ (this.#audio).decodeAudioData(await reply.arrayBuffer());
      });
      clip.catch(() => this.#clips.delete(address));
      this.#clips.set(address, clip);
      if (this.#clips.size > 8) this.#clips.delete(/** @type {string} */ (this.#clips.keys().next().value));
    }
    return clip;
  }

  #mix() {
    const split = this.#heard === "split";
    for (const [side, { gain }] of this.#sides) {
      gain.gain.value = this.#heard === "both" ? 0.6 : split || this.#heard === side ? 1 : 0;
    }
    this.dataset.heard = this.#heard;
  }

  /** @param {number} from */
  #follow(from) {
    const audio = this.#audio;
    if (!this.#playing || !audio) return;
    const passed = Math.max(0, audio.currentTime - this.#began);
    this.#at = Math.min(Number(this.getAttribute("seconds")), from + passed);
    this.#tell();
    if (passed >= WINDOW - 0.05) {
      this.#again();
      return;
    }
    if (this.#at >= Number(this.getAttribute("seconds"))) this.#stop();
    requestAnimationFrame(() => this.#follow(from));
  }

  #stop() {
    this.#playing = false;
    for (const { node } of this.#sides.values()) {
      node.stop();
      node.disconnect();
    }
    this.#sides.clear();
    this.#show();
  }

  #show() {
    const play = this.querySelector('[data-do="play"]');
    if (play) play.textContent = this.#playing ? "Pause" : "Play";
    this.dataset.state = this.#playing ? "playing" : "paused";
    for (const button of this.querySelectorAll("[data-heard]")) button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.heard === this.#heard));
    const output = this.querySelector("output");
    if (output) output.textContent = `${Math.round(this.#nudge * 1000)} ms`;
    this.#tell();
  }

  #tell() {
    const place = this.querySelector("[data-place]");
    const dub = this.#dub();
    if (place) place.textContent = `master ${clock(this.#at)} · dub ${dub.at < 0 ? "−" : ""}${clock(Math.abs(dub.at))}`;
    this.dispatchEvent(new CustomEvent("place"));
  }

  /** @param {string} text */
  #say(text) {
    const said = this.querySelector("[data-said]");
    if (said) said.textContent = text;
  }
}

customElements.define("ab-deck", AbDeck);
