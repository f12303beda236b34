// Small controls: what only works with script appears, copy, show password, theme, busy buttons, ticked rows.

const shown = (root) => {
  for (const element of root.querySelectorAll("[data-needs-script]")) element.hidden = false;
};
shown(document);
document.addEventListener("htmx:load", (event) => {
  shown(event.target);
  countSelected();
});

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText(copy.dataset.copy);
    say("Copied");
    if (copy.dataset.tip) {
      const before = copy.dataset.tip;
      copy.dataset.tip = "Copied";
      setTimeout(() => { copy.dataset.tip = before; }, 1500);
    }
  }
  const reveal = event.target.closest("[data-reveal]");
  if (reveal) {
    const field = document.getElementById(reveal.dataset.reveal);
    const visible = field.type === "password";
    field.type = visible ? "text" : "password";
    reveal.setAttribute("aria-pressed", String(visible));
  }
});

// The status line for screen readers: outside every polled region.
function say(text) {
  const line = document.getElementById("announce");
  if (line) line.textContent = text;
}
document.addEventListener("desk:say", (event) => say(event.detail));

// The theme changes at once; the server keeps it in a cookie.
document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-theme-form]");
  if (!form || !event.submitter) return;
  event.preventDefault();
  const theme = event.submitter.value;
  const body = new FormData(form, event.submitter);
  fetch(form.action, { method: "POST", body, redirect: "manual", credentials: "same-origin" });
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  for (const button of form.querySelectorAll("button")) {
    if (button.value === theme) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  form.closest("details").open = false;
});

// The loader takes the place of a button's icon, so that the width stays.
const icons = new WeakMap();
function setBusy(button, busy) {
  button.classList.toggle("is-busy", busy);
  if (!busy) {
    button.removeAttribute("aria-disabled");
    const before = icons.get(button);
    if (before) button.querySelector(".icon")?.replaceWith(before);
    return;
  }
  button.setAttribute("aria-disabled", "true");
  const icon = button.querySelector(".icon");
  if (!icon || !document.getElementById("busy")) return;
  icons.set(button, icon);
  const loader = icon.cloneNode(false);
  loader.classList.add("icon--spin");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", "#busy");
  loader.append(use);
  icon.replaceWith(loader);
}

// A second press of a button that sends does nothing. The value of the pressed button is read before this runs.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method === "get" || form.method === "dialog") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  if (form.hasAttribute("hx-post") || form.hasAttribute("data-download")) return;
  form.dataset.sent = "yes";
  if (event.submitter) setBusy(event.submitter, true);
});
// Back from the next page: the form may be sent again.
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  for (const button of document.querySelectorAll(".is-busy")) setBusy(button, false);
});

// How many rows are ticked. The box in the table's head ticks those on the page.
function countSelected() {
  for (const bar of document.querySelectorAll("[data-selection]")) {
    const boxes = [...document.querySelectorAll(`input[type=checkbox][name="${CSS.escape(bar.dataset.selection)}"]`)];
    const ticked = boxes.filter((box) => box.checked).length;
    const noun = bar.dataset.noun;
    bar.hidden = ticked === 0;
    const words = `${ticked.toLocaleString("en-GB")} ${noun}${ticked === 1 ? "" : "s"} selected`;
    const place = bar.querySelector("[data-selection-count]");
    if (place.textContent !== words) place.textContent = words;
    const all = document.querySelector(`input[data-tick-all="${CSS.escape(bar.dataset.selection)}"]`);
    if (all) {
      all.checked = ticked > 0 && ticked === boxes.length;
      all.indeterminate = ticked > 0 && ticked < boxes.length;
    }
  }
}
document.addEventListener("change", (event) => {
  const all = event.target.dataset.tickAll;
  if (all) {
    for (const box of document.querySelectorAll(`input[type=checkbox][name="${CSS.escape(all)}"]`)) {
      box.checked = event.target.checked;
    }
  }
  if (event.target.type === "checkbox") countSelected();
});
countSelected();
