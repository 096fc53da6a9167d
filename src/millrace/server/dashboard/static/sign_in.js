// Helps signing in: a link may carry the token behind its #, which no server and no log ever sees, and who
// came by another site's link has a session already that the browser only sends now.
const form = /** @type {HTMLFormElement} */ (document.querySelector("form"));
const field = /** @type {HTMLInputElement} */ (form.elements.namedItem("token"));
const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {
  history.replaceState(null, "", location.pathname + location.search);
  field.value = token;
  form.requestSubmit();
} else if (!document.getElementById("wrong")) {
  const reply = await fetch(location.pathname, { redirect: "manual" });
  const next = /** @type {HTMLInputElement} */ (form.elements.namedItem("next")).value;
  if (reply.type === "opaqueredirect") location.replace(next);
}
export {};
