// Dialogs, the side panel and Go to.

// -- browsers without invoker commands -----------------------------------------------------------------------------
if (!("commandForElement" in HTMLButtonElement.prototype)) {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[commandfor]");
    const dialog = button && document.getElementById(button.getAttribute("commandfor"));
    if (dialog) button.getAttribute("command") === "close" ? dialog.close() : dialog.showModal();
  });
}

document.addEventListener("click", (event) => {
  if (event.target instanceof HTMLDialogElement) event.target.close(); // a click on the backdrop
  for (const menu of document.querySelectorAll("details.gh-menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// a menu that would reach over the edge opens to the other side
document.addEventListener(
  "toggle",
  (event) => {
    const menu = event.target;
    if (!menu.matches?.("details.gh-menu[open]")) return;
    menu.classList.remove("gh-menu-end");
    const { right } = menu.querySelector(".gh-menu-b").getBoundingClientRect();
    menu.classList.toggle("gh-menu-end", right > document.documentElement.clientWidth - 8);
  },
  true,
);

// -- data-confirm: ask before a click goes through ------------------------------------------------------------------
const wordsOf = (button) => {
  const copy = button.cloneNode(true);
  copy.querySelector("kbd")?.remove();
  return copy.textContent.trim();
};

const confirmed = new WeakSet();
const ask = document.getElementById("gh-confirm");

document.addEventListener(
  "click",
  (event) => {
    const element = event.target.closest?.("[data-confirm]");
    if (!element || !ask || confirmed.delete(element)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const { confirm, confirmText = "", confirmLabel } = element.dataset;
    const yes = ask.querySelector("[data-confirm-yes]");
    ask.querySelector("h2").textContent = confirm;
    ask.querySelector("[data-confirm-body]").textContent = confirmText;
    yes.textContent = confirmLabel || wordsOf(element);
    yes.classList.toggle("gh-danger-fill", element.classList.contains("gh-danger"));
    yes.onclick = () => {
      ask.close();
      confirmed.add(element);
      element.click();
    };
    ask.showModal();
  },
  true,
);
ask?.querySelector("[data-confirm-no]").addEventListener("click", () => ask.close());

// -- side panel: focus goes in when it opens, and back when it closes -----------------------------------------------
let opener = null;

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.target?.id === "panel" && !event.detail.elt.closest("#panel")) opener = event.detail.elt;
});

document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target?.id !== "panel" || event.detail.elt.contains(document.activeElement)) return;
  const heading = event.detail.target.querySelector("h2");
  heading?.setAttribute("tabindex", "-1");
  heading?.focus({ preventScroll: true });
  markOpened();
});

const markOpened = () => {
  for (const row of document.querySelectorAll("[data-row][aria-current]")) row.removeAttribute("aria-current");
  opener?.closest("[data-row]")?.setAttribute("aria-current", "true");
};

document.addEventListener("click", (event) => {
  const close = event.target.closest("[data-close]");
  const slot = close?.closest("#panel");
  if (!slot || !opener?.isConnected) return; // opened by its own address: follow the link
  event.preventDefault();
  slot.replaceChildren();
  history.pushState(null, "", close.href);
  const back = opener;
  opener = null;
  markOpened();
  back.focus();
});

// the back button after a panel was opened in place: show what the address says
addEventListener("popstate", () => {
  if (document.querySelector("#panel > *") || opener) location.reload();
});

// -- Go to ------------------------------------------------------------------------------------------------------------
const goto = document.getElementById("gh-goto");
const input = goto?.querySelector("[data-goto-input]");

const shownLinks = () => [...goto.querySelectorAll("li:not([hidden]) a")];

const mark = (link) => {
  for (const other of goto.querySelectorAll("a[data-marked]")) other.removeAttribute("data-marked");
  link?.setAttribute("data-marked", "");
  link?.scrollIntoView({ block: "nearest" });
};

const narrow = () => {
  const text = input.value.trim();
  for (const item of goto.querySelectorAll("[data-goto]")) item.hidden = !item.dataset.goto.includes(text.toLowerCase());
  for (const item of goto.querySelectorAll("[data-goto-search]")) {
    const link = item.querySelector("a");
    item.hidden = !text;
    link.querySelector("b").textContent = text;
    link.search = new URLSearchParams({ q: text }).toString();
  }
  const links = shownLinks();
  goto.querySelector("[data-goto-none]").hidden = links.length > 0;
  mark(links[0]);
};

input?.addEventListener("input", narrow);
goto?.addEventListener("close", () => {
  input.value = ""; // not on opening: who types fast would lose a letter
  narrow();
});
goto?.addEventListener("keydown", (event) => {
  const links = shownLinks();
  const at = links.findIndex((link) => link.hasAttribute("data-marked"));
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && links.length) {
    event.preventDefault();
    mark(links[(at + step + links.length) % links.length]);
  } else if (event.key === "Enter" && event.target === input && links[at]) {
    event.preventDefault();
    links[at].click();
  }
});
