// Makes one part of the page like another with as few changes as it takes: what has focus keeps it, what
// is open stays open, what is checked stays checked.

/**
 * Make `from` like `to`, which is used up.
 * @param {Element} from
 * @param {Element} to
 */
export function morph(from, to) {
  attributes(from, to);
  children(from, to);
}

/**
 * @param {Element} from
 * @param {Element} to
 */
function attributes(from, to) {
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !kept(from, name)) from.removeAttribute(name);
  }
  for (const { name, value } of [...to.attributes]) {
    if (from.getAttribute(name) !== value && !kept(from, name)) from.setAttribute(name, value);
  }
  if (from instanceof HTMLProgressElement && to instanceof HTMLProgressElement && from.value !== to.value) from.value = to.value;
}

/**
 * Whether an attribute is the person's, not the server's.
 * @param {Element} element
 * @param {string} name
 */
function kept(element, name) {
  if (element instanceof HTMLDetailsElement || element instanceof HTMLDialogElement) return name === "open";
  if (name === "class") return element.classList.contains("here");
  return name === "aria-busy";
}

/**
 * @param {Element} from
 * @param {Element} to
 */
function children(from, to) {
  /** @type {Map<string, Element>} */
  const known = new Map();
  for (const child of from.children) if (child.id) known.set(child.id, child);
  /** @type {ChildNode | null} */
  let here = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const id = wanted instanceof Element ? wanted.id : "";
    const same = id ? known.get(id) : undefined;
    if (same && wanted instanceof Element) {
      if (same === here) here = here.nextSibling;
      else from.insertBefore(same, here);
      morph(same, wanted);
    } else if (!id && here && alike(here, wanted)) {
      const next = here.nextSibling;
      if (here instanceof Element && wanted instanceof Element) morph(here, wanted);
      else if (here.nodeValue !== wanted.nodeValue) here.nodeValue = wanted.nodeValue;
      here = next;
    } else {
      from.insertBefore(wanted, here);
    }
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

/**
 * @param {ChildNode} a
 * @param {ChildNode} b
 */
function alike(a, b) {
  if (a.nodeType !== b.nodeType) return false;
  if (a instanceof Element && b instanceof Element) return a.tagName === b.tagName && !a.id;
  return true;
}
