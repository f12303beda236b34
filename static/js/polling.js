// One clock for all polled regions: `hx-trigger="poll from:body"` with `data-poll-seconds` on the region.
// It ticks while the tab is seen, Live is on, no menu or dialog is open and no text is being selected,
// and slows down from 2 over 5 to 15 seconds while nothing changes (the server answers 204).

const SLOWER = [[0, 0], [5, 5], [20, 15]]; // after so many unchanged answers, at least so many seconds
let unchanged = 0;
let last = performance.now();
let lostAt = null;
let isLoggedOut = false; // no more requests until the reader comes back to the tab

const regions = () => [...document.querySelectorAll("[data-poll-seconds]")];
const isLive = () => document.querySelector("[data-live]")?.checked ?? true;
const isBusy = () =>
  document.querySelector("dialog[open], details.menu[open]") !== null || getSelection()?.isCollapsed === false;

function interval() {
  const wanted = Math.min(...regions().map((region) => Number(region.dataset.pollSeconds) || 2));
  const floor = SLOWER.reduce((slow, [answers, seconds]) => (unchanged >= answers ? seconds : slow), 0);
  return Math.max(wanted, floor) * 1000;
}

function tick() {
  if (isLoggedOut || document.hidden || !isLive() || isBusy() || regions().length === 0) return;
  if (performance.now() - last < interval()) return;
  last = performance.now();
  document.body.dispatchEvent(new CustomEvent("poll"));
}
setInterval(tick, 250);

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    isLoggedOut = false;
    unchanged = 0;
    last = 0;
  }
});

const isPolled = (event) => event.detail.elt?.closest?.("[data-poll-seconds]") ?? event.detail.target?.closest?.("[data-poll-seconds]");

document.addEventListener("htmx:afterRequest", (event) => {
  const status = event.detail.xhr?.status ?? 0;
  if (event.detail.requestConfig?.triggeringEvent?.type !== "poll" && !isPolled(event)) {
    unchanged = 0; // the reader did something: look again soon
    return;
  }
  if (status === 401) isLoggedOut = true;
  if (status === 204) unchanged += 1;
  else if (status >= 200 && status < 300) unchanged = 0;
  if (status >= 200 && status < 500) found();
  else lost();
});

function lost() {
  const line = document.getElementById("connection");
  lostAt ??= new Date();
  unchanged = Math.max(unchanged, 5);
  if (!line) return;
  const time = lostAt.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const text = `Not live since ${time}, trying again. The numbers below are from then.`;
  if (line.lastElementChild.textContent !== text) line.lastElementChild.textContent = text;
  line.hidden = false;
}

function found() {
  if (lostAt === null) return;
  lostAt = null;
  unchanged = 0;
  document.getElementById("connection").hidden = true;
}

// New results are offered, never put under the pointer. A milestone is told once, in the status line.
let told = document.querySelector("[data-announce]")?.dataset.announce ?? "";
function lookAround() {
  const answered = Number(document.querySelector("[data-answered]")?.dataset.answered);
  for (const link of document.querySelectorAll(".new-rows[data-shown]")) {
    const fresh = answered - Number(link.dataset.shown);
    link.hidden = !(fresh > 0);
    if (fresh > 0) {
      const noun = link.dataset.noun + (fresh === 1 ? "" : "s");
      link.querySelector("span").textContent = `${fresh.toLocaleString("en-GB")} new ${noun}, show`;
    }
  }
  const news = document.querySelector("[data-announce]")?.dataset.announce ?? "";
  if (news && news !== told) document.dispatchEvent(new CustomEvent("desk:say", { detail: news }));
  told = news || told;
  const title = document.querySelector("[data-page-title]")?.dataset.pageTitle;
  if (title) document.title = title;
}
document.addEventListener("htmx:afterSettle", lookAround);
lookAround();
