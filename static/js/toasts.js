// News of something done: gone after 8 seconds, unless it is pointed at or focused.

const STAY_MS = 8000;

function watch(toast) {
  if (toast.dataset.watched) return;
  toast.dataset.watched = "yes";
  let timer = 0;
  const start = () => { timer = setTimeout(() => toast.remove(), STAY_MS); };
  const stop = () => clearTimeout(timer);
  toast.addEventListener("pointerenter", stop);
  toast.addEventListener("pointerleave", start);
  toast.addEventListener("focusin", stop);
  toast.addEventListener("focusout", start);
  start();
}

const watchAll = () => {
  for (const toast of document.querySelectorAll("[data-toast]")) watch(toast);
};
watchAll();
document.addEventListener("htmx:load", watchAll);
document.addEventListener("htmx:oobAfterSwap", watchAll);
document.addEventListener("click", (event) => event.target.closest("[data-toast-close]")?.closest("[data-toast]").remove());
