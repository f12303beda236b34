// Dialogs, menus, the sidebar on narrow screens. Each has a way that works without script: a page, <details>, an anchor.

let opener = null;

function openDialog(id) {
  const dialog = document.getElementById(id);
  if (!dialog || dialog.open) return Boolean(dialog);
  opener = document.activeElement;
  dialog.showModal();
  const first = dialog.querySelector("[aria-invalid=true], [autofocus], [data-close]");
  if (first) first.focus();
  return true;
}

document.addEventListener("click", (event) => {
  const control = event.target.closest("[data-dialog]");
  if (control && !event.ctrlKey && !event.metaKey && openDialog(control.dataset.dialog)) event.preventDefault();
  const close = event.target.closest("[data-close]");
  if (close) {
    const dialog = close.closest("dialog");
    if (dialog) {
      event.preventDefault();
      dialog.close();
    }
  }
  // A press beside the dialog, on its backdrop.
  if (event.target.matches("dialog[open]")) {
    const box = event.target.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) event.target.close();
  }
});
document.addEventListener("close", (event) => {
  if (event.target.matches("dialog") && opener && document.contains(opener)) opener.focus();
  opener = null;
}, true);
document.addEventListener("desk:dialog", (event) => openDialog(event.detail));

const openMarked = (root) => {
  for (const dialog of root.querySelectorAll("dialog[data-open-now]")) openDialog(dialog.id);
};
openMarked(document);
document.addEventListener("htmx:load", (event) => openMarked(event.target));

// Menus: one at a time; Esc and a press elsewhere close them; arrows walk.
const openMenus = () => document.querySelectorAll("details.menu[open], details.whoami[open]");
document.addEventListener("click", (event) => {
  for (const menu of openMenus()) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = event.target.closest?.("details.menu[open], details.whoami[open]");
  if (event.key === "Escape") {
    const open = menu || openMenus()[0];
    if (open) {
      open.open = false;
      open.querySelector("summary").focus();
      event.preventDefault();
    } else if (!document.querySelector("dialog[open]")) {
      document.querySelector("[data-panel-close]")?.click();
    }
  }
  if (menu && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    const items = [...menu.querySelectorAll(".menu-item, .nav-item")];
    const now = items.indexOf(document.activeElement);
    const next = items[(now + (event.key === "ArrowDown" ? 1 : -1) + items.length) % items.length] || items[0];
    next?.focus();
    event.preventDefault();
  }
});

// Narrow screens: the sidebar moves into a dialog and back.
const sheet = document.createElement("dialog");
sheet.className = "menu-sheet";
sheet.setAttribute("aria-label", "Menu");
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-menu-open]")) {
    event.preventDefault();
    const inner = document.querySelector(".sidebar > .sidebar-inner");
    if (!inner) return;
    opener = event.target.closest("[data-menu-open]");
    document.body.append(sheet);
    sheet.append(inner);
    sheet.showModal();
  } else if (event.target.closest("[data-menu-close]") && sheet.open) {
    event.preventDefault();
    sheet.close();
  }
});
sheet.addEventListener("close", () => {
  const inner = sheet.querySelector(".sidebar-inner");
  if (inner) document.querySelector(".sidebar").append(inner);
  sheet.remove();
});
