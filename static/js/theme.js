// Runs before the first paint: puts the chosen theme (light, dark, or the system's) on <html>, and says that scripts run.
(() => {
  const KEY = "gatehouse.theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const chosen = () => {
    try {
      return localStorage.getItem(KEY) || "system";
    } catch {
      return "system"; // storage is off
    }
  };

  const show = () => {
    const choice = chosen();
    root.dataset.bsTheme = choice === "system" ? (dark.matches ? "dark" : "light") : choice;
    const other = root.dataset.bsTheme === "dark" ? "light" : "dark";
    for (const button of document.querySelectorAll("[data-theme-toggle]")) button.setAttribute("aria-label", `Use ${other} theme`);
    for (const radio of document.querySelectorAll("input[name=theme]")) radio.checked = radio.value === choice;
  };

  const choose = (theme) => {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // storage is off: the choice lasts for this page
    }
    show();
  };

  root.classList.add("js");
  show();
  dark.addEventListener("change", show);
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-theme-toggle]")) choose(root.dataset.bsTheme === "dark" ? "light" : "dark");
  });
  document.addEventListener("change", (event) => {
    if (event.target.name === "theme" && event.target.type === "radio") choose(event.target.value);
  });
})();
