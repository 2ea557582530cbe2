// Counts grants down. The server gives the end and its own time; this only counts on, so a wrong clock here does no harm.
// apps/core/words.py says the same words.
const MINUTE = 60_000;
const SOON = 15 * MINUTE;
const seen = new WeakMap();

const words = (left) => {
  const minutes = Math.floor(left / MINUTE);
  if (left <= 0) return "Time is up";
  if (minutes < 1) return "under 1 min";
  if (minutes < 60) return `${minutes} min`;
  const [big, small, unit, part] = minutes < 1440 ? [60, 1, "h", "min"] : [1440, 60, "days", "h"];
  const first = Math.floor(minutes / big);
  const rest = Math.floor((minutes % big) / small);
  const named = unit === "days" && first === 1 ? "1 day" : `${first} ${unit}`;
  return rest ? `${named} ${rest} ${part}` : named;
};

const leftOf = (element, end) => {
  if (!seen.has(element)) seen.set(element, Date.now() - Number(element.dataset.now));
  return end - (Date.now() - seen.get(element));
};

const show = (element) => {
  const { start, end } = element.dataset;
  const left = leftOf(element, Number(end));
  const text = element.querySelector("[data-countdown-text]");
  text.querySelector("time").textContent = words(left);
  text.classList.toggle("gh-t-wait", left < SOON);
  if (left <= 0) text.querySelector("small")?.remove();
  const bar = element.querySelector("[data-countdown-bar]");
  const share = Math.max(0, Math.min(100, Math.floor((100 * left) / (end - start || 1))));
  bar.setAttribute("width", share);
  bar.setAttribute("class", left < SOON ? "w" : "v");
  bar.parentElement.setAttribute("aria-label", `${share} percent of the time is left`);
};

const tick = () => {
  for (const element of document.querySelectorAll("[data-countdown]")) show(element);
  for (const badge of document.querySelectorAll("[data-ends-soon]")) {
    const left = leftOf(badge, Number(badge.dataset.endsSoon));
    badge.hidden = left <= 0 || left >= SOON;
  }
};

tick();
setInterval(tick, 5000);
document.addEventListener("htmx:load", tick);
