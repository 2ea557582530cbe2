// Short confirmations: six seconds, longer while the mouse or the focus is on them. Also copying, which has no other result.
const SHOWN = 6000;
const region = document.querySelector("[data-toasts]");

const arm = (toast) => {
  let timer;
  const wait = () => (timer = setTimeout(() => toast.remove(), SHOWN));
  const hold = () => clearTimeout(timer);
  toast.addEventListener("mouseenter", hold);
  toast.addEventListener("focusin", hold);
  toast.addEventListener("mouseleave", wait);
  toast.addEventListener("focusout", wait);
  toast.querySelector("[data-dismiss]").addEventListener("click", () => toast.remove());
  wait();
};

const say = (text, kind = "ok") => {
  const template = document.getElementById(`gh-toast-${kind}`);
  if (!region || !template) return;
  const toast = template.content.firstElementChild.cloneNode(true);
  toast.querySelector("span").textContent = text;
  region.append(toast);
  arm(toast);
};

for (const toast of document.querySelectorAll("[data-toast]")) arm(toast);

// from a view: HX-Trigger {"toast": {"text": "…", "kind": "ok"}}
document.addEventListener("toast", (event) => say(event.detail.text ?? event.detail.value, event.detail.kind));
// from allauth's passkey scripts: the person stopped it, or the device has no passkey for this site
document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  say("No passkey was used. Try again, or take another way.", "risk");
});
document.addEventListener("htmx:sendError", () => say("No connection. Nothing was changed.", "risk"));
document.addEventListener("htmx:responseError", (event) => {
  const gone = event.detail.xhr.status === 404;
  say(gone ? "This is not here any more. Load the page again." : "That did not work. Load the page again and check.", "risk");
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    say(button.dataset.copied || "Copied.");
  } catch {
    say("The browser did not allow copying.", "risk");
  }
});
