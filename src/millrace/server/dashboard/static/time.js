// Keeps "3 m ago" and "runs for 12 s" true, once a second, in the words of server/dashboard/words.py.

/**
 * A duration in its two largest units.
 * @param {number} seconds
 * @returns {string}
 */
export function span(seconds) {
  if (seconds < 1) return `${Math.max(0, seconds).toFixed(2)} s`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return join(Math.floor(whole / 60), "m", whole % 60, "s");
  if (whole < 86400) return join(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "m");
  return join(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

/**
 * @param {number} large
 * @param {string} unit
 * @param {number} small
 * @param {string} part
 */
function join(large, unit, small, part) {
  return small ? `${large} ${unit} ${small} ${part}` : `${large} ${unit}`;
}

/**
 * A duration in its largest unit.
 * @param {number} seconds
 */
function rough(seconds) {
  return seconds < 10 ? span(seconds) : span(seconds).split(" ").slice(0, 2).join(" ");
}

/**
 * A number of bytes.
 * @param {number} bytes
 * @returns {string}
 */
export function size(bytes) {
  let number = bytes;
  for (const unit of ["B", "KB", "MB", "GB", "TB"]) {
    if (number < 1000 || unit === "TB") return `${number >= 10 || unit === "B" ? Math.round(number) : number.toFixed(1)} ${unit}`;
    number /= 1000;
  }
  return `${bytes} B`;
}

/**
 * A place in a recording: 1:02:03.4.
 * @param {number} seconds
 * @param {number} [digits]
 */
export function clock(seconds, digits = 0) {
  const whole = Math.max(0, seconds);
  const h = Math.floor(whole / 3600);
  const m = Math.floor((whole % 3600) / 60);
  const s = (whole % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return h ? `${h}:${String(m).padStart(2, "0")}:${s}` : `${m}:${s}`;
}

/** Begin. */
export function keepTime() {
  tell();
  setInterval(tell, 1000);
}

function tell() {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("time[data-ago], time[data-for], time[data-due]")) {
    const time = /** @type {HTMLTimeElement} */ (element);
    const passed = (Date.now() - Date.parse(time.dateTime)) / 1000;
    let text;
    if (time.dataset.for !== undefined) text = span(passed < 1 ? Math.ceil(passed) : passed);
    else if (time.dataset.due !== undefined && passed > -1) text = "soon";
    else if (passed < -1) text = `in ${rough(-passed)}`;
    else text = passed < 3 ? "just now" : `${rough(passed)} ago`;
    if (time.textContent !== text) time.textContent = text;
  }
}
