// Dark or light: the system's choice until a person makes one, which a cookie keeps so that the server
// renders it at once and nothing flashes.

/** Let the button switch, and show what is in force. */
export function theme() {
  document.getElementById("theme")?.addEventListener("click", switchTheme);
}

/** Switch to the other scheme, for a year. */
export function switchTheme() {
  const root = document.documentElement;
  const dark = getComputedStyle(root).colorScheme === "dark";
  const chosen = dark ? "light" : "dark";
  root.dataset.theme = chosen;
  document.cookie = `theme=${chosen}; path=/; max-age=31536000; samesite=strict`;
  document.querySelector('meta[name="color-scheme"]')?.setAttribute("content", chosen);
  document.dispatchEvent(new CustomEvent("theme"));
}
