// The keyboard. Single keys work outside of fields only and can be turned off (WCAG 2.1.4); every key has a visible button.
const FIELDS = "input:not([type=checkbox]):not([type=radio]):not([type=button]):not([type=submit]), textarea, select, [contenteditable]";

const isOff = document.body.dataset.keys === "off"; // this person's settings say so

const isShown = (element) => element.checkVisibility?.({ visibilityProperty: true }) ?? element.offsetParent !== null;
const chord = (event) => `${event.ctrlKey || event.metaKey ? "ctrl+" : ""}${event.key.toLowerCase()}`;
const labelOf = (element) => {
  const copy = element.cloneNode(true);
  for (const part of copy.querySelectorAll("kbd, b, svg")) part.remove();
  return element.dataset.keyLabel || copy.textContent.trim() || element.getAttribute("aria-label") || "";
};

// what is on top first: an open dialog, else the panel, else the page
const scope = () => document.querySelector("dialog[open]") ?? document;
const keyed = () => [...scope().querySelectorAll("[data-key]")].filter(isShown);

const press = (key) => {
  const candidates = keyed().filter((element) => element.dataset.key === key);
  const target = candidates.find((element) => element.closest("[data-panel]")) ?? candidates.find((element) => element.closest("main")) ?? candidates[0];
  if (!target) return false;
  target.focus();
  target.click();
  return true;
};

const help = () => {
  const dialog = document.getElementById("gh-keys");
  const here = dialog.querySelector("[data-keys-here]");
  const known = new Map(keyed().map((element) => [element.dataset.key, labelOf(element)]));
  here.replaceChildren(
    ...[...known].map(([key, label]) => {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const name = document.createElement("dd");
      for (const part of key.split("+")) {
        const cap = document.createElement("kbd");
        cap.textContent = part[0].toUpperCase() + part.slice(1);
        term.append(cap, " ");
      }
      name.textContent = label;
      row.append(term, name);
      return row;
    }),
  );
  dialog.showModal();
};

const search = () => {
  const field = [...scope().querySelectorAll("[data-search]")].find(isShown);
  field?.focus();
  field?.select();
  return Boolean(field);
};

const escape = (event) => {
  const menu = document.querySelector("details.gh-menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
    return true;
  }
  if (event.target.matches?.("[data-search]") && event.target.value) return false; // the field empties itself
  const close = document.querySelector("[data-panel] [data-close]");
  close?.click();
  return Boolean(close);
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.isComposing) return;
  const key = chord(event);
  const isChord = key.startsWith("ctrl+");
  if (!isChord && event.key !== "Escape" && (isOff || event.target.closest?.(FIELDS))) return;
  if (document.querySelector("dialog[open]") && !isChord) return;
  const done =
    event.key === "Escape" ? escape(event) : key === "?" ? (help(), true) : key === "/" ? search() : press(key);
  if (done) event.preventDefault();
});
