// Keys: they never act in a field, can be switched off, and press links that are on the page anyway.

const GO = { o: "overview", j: "jobs", k: "keys", l: "look-up", s: "spend", a: "activity" };
const STORE = "desk.shortcuts";
let pending = -Infinity; // when g was pressed

const isOn = () => localStorage.getItem(STORE) !== "off";
const inField = (element) => element.closest("input, select, textarea, [contenteditable]") !== null;

const control = document.querySelector("[data-shortcuts-on]");
if (control) {
  control.checked = isOn();
  control.addEventListener("change", () => localStorage.setItem(STORE, control.checked ? "on" : "off"));
}

function rows() {
  return [...document.querySelectorAll("main table.table--rows > tbody > tr")].filter((row) => row.querySelector("a"));
}

function walk(step) {
  const all = rows();
  if (all.length === 0) return;
  const here = all.findIndex((row) => row.contains(document.activeElement));
  const start = here === -1 ? all.findIndex((row) => row.hasAttribute("aria-current")) : here;
  const next = all[Math.min(Math.max(start + step, 0), all.length - 1)];
  next.querySelector("a").focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !isOn()) return;
  if (inField(event.target) || document.querySelector("dialog[open]")) return;
  const press = (element) => {
    if (!element) return;
    event.preventDefault();
    element.click();
  };
  if (performance.now() - pending < 1200) {
    pending = -Infinity;
    press(document.querySelector(`[data-go="${GO[event.key]}"]`));
    return;
  }
  switch (event.key) {
    case "g":
      pending = performance.now();
      break;
    case "/": {
      const field = document.querySelector("[data-find]") ?? document.querySelector("[data-filter-search]");
      if (field) {
        event.preventDefault();
        field.focus();
        field.select();
      }
      break;
    }
    case "?":
      event.preventDefault();
      document.dispatchEvent(new CustomEvent("desk:dialog", { detail: "shortcuts" }));
      break;
    case "n":
    case "e":
      press(document.querySelector(`[data-shortcut="${event.key}"]`));
      break;
    case "j":
      walk(1);
      break;
    case "k":
      walk(-1);
      break;
    case "x":
      document.activeElement.closest("tr")?.querySelector(".tick input")?.click();
      break;
  }
});
