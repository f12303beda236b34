// What HTMX swaps: focus survives, the first bad field gets it, lost sessions and failures are said.

let focused = "";

document.addEventListener("htmx:beforeSwap", (event) => {
  focused = event.detail.target?.contains(document.activeElement) ? document.activeElement.id : "";
});

document.addEventListener("htmx:afterSettle", (event) => {
  // After an outerHTML swap the target is the element that has gone; its successor has the same id.
  const region = document.getElementById(event.detail.target?.id) ?? event.detail.target;
  if (event.detail.xhr?.status === 422) {
    const bad = region.querySelector("[aria-invalid=true]");
    if (bad) {
      bad.focus();
      return;
    }
  }
  if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus({ preventScroll: true });
  focused = "";
});

document.addEventListener("htmx:responseError", (event) => {
  const { xhr, elt } = event.detail;
  if (xhr.status === 401) {
    document.dispatchEvent(new CustomEvent("desk:dialog", { detail: "session-over" }));
    return;
  }
  if (elt.closest("[data-poll-seconds]")) return; // polling.js says so in its own line
  const text = xhr.status === 403 || xhr.status === 404
    ? "This is not there any more, or not yours to see."
    : "That did not work: the server answered with an error. Nothing was lost; try again in a moment.";
  document.dispatchEvent(new CustomEvent("desk:failed", { detail: { text, near: elt } }));
});

// A failure stands beside what was pressed.
document.addEventListener("desk:failed", (event) => {
  const { text, near } = event.detail;
  const place = near.closest("form, .actions, .section") || near;
  place.querySelector(":scope > .error[data-failure]")?.remove();
  const line = document.createElement("p");
  line.className = "error";
  line.dataset.failure = "yes";
  line.setAttribute("role", "alert");
  line.textContent = text;
  place.append(line);
});
document.addEventListener("htmx:beforeRequest", (event) => {
  const place = event.detail.elt.closest("form, .actions, .section");
  place?.querySelector(":scope > .error[data-failure]")?.remove();
});

// A form sent without HTMX and answered with its errors.
if (!document.querySelector("main [autofocus]")) document.querySelector("main [aria-invalid=true]")?.focus();
