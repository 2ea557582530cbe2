// Lists: moving between rows by keyboard, and picking many of them.

// -- rows ---------------------------------------------------------------------------------------------------------------
const MOVES = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };
const FIELDS = "input:not([type=checkbox]), textarea, select, [contenteditable], summary, dialog, .gh-menu-b";

const isShown = (element) => element.checkVisibility?.() ?? element.offsetParent !== null;
const rows = () => [...document.querySelectorAll("[data-row]")].filter(isShown);
const entry = (row) =>
  row.matches("a[href], button") ? row : (row.querySelector("[data-open]") ?? row.querySelector("a[href]") ?? row.querySelector("button, input"));

const move = (from, step) => {
  const all = rows();
  const current = from.closest?.("[data-row]") ?? document.querySelector("[data-row][aria-current]");
  const next = all[all.indexOf(current) + step] ?? (current ? null : all[0]);
  if (!next) return false;
  entry(next)?.focus();
  next.scrollIntoView({ block: "nearest" });
  return true;
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const field = event.target.closest?.(FIELDS);
  const intoList = event.key === "ArrowDown" && event.target.matches?.("[data-search]");
  if (field && !intoList) return;
  if (event.key.length === 1 && document.body.dataset.keys === "off") return;
  const step = MOVES[event.key];
  if (step && move(event.target, step)) event.preventDefault();
  if (event.key === "x") event.target.closest?.("[data-row]")?.querySelector("[data-pick]")?.click();
});

// -- picking ------------------------------------------------------------------------------------------------------------
const picks = (form) => [...form.querySelectorAll("[data-pick]:not(:disabled)")];
let last = null;

const count = (form) => {
  const all = picks(form);
  const picked = all.filter((box) => box.checked).length;
  for (const bar of form.querySelectorAll("[data-bulk-bar]")) bar.hidden = picked === 0;
  for (const text of form.querySelectorAll("[data-bulk-count]")) text.textContent = `${picked} picked`;
  for (const box of form.querySelectorAll("[data-pick-all]")) {
    box.checked = picked > 0 && picked === all.length;
    box.indeterminate = picked > 0 && picked < all.length;
  }
};

document.addEventListener("click", (event) => {
  const box = event.target.closest("[data-bulk] [data-pick], [data-bulk] [data-pick-all]");
  if (!box) return;
  const form = box.closest("[data-bulk]");
  const all = picks(form);
  if (box.matches("[data-pick-all]")) {
    for (const other of all) other.checked = box.checked;
  } else {
    if (event.shiftKey && all.includes(last)) {
      const [from, to] = [all.indexOf(last), all.indexOf(box)].sort((a, b) => a - b);
      for (const other of all.slice(from, to + 1)) other.checked = box.checked;
    }
    last = box;
  }
  count(form);
});

const countAll = () => document.querySelectorAll("[data-bulk]").forEach(count);
countAll();
document.addEventListener("htmx:load", countAll);
addEventListener("pageshow", countAll); // a form that the browser filled in again
