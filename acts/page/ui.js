// Small helpers of the page. Text from people goes in as text, never as markup.
export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v === true) e.setAttribute(k, "");
    else if (v !== false && v != null) e.setAttribute(k, v);
  }
  e.append(...children);
  return e;
}

// reach puts a live region where it is seen and read out: what is outside an open dialog
// is neither.
export function reach(region) {
  const dialog = [...document.querySelectorAll("dialog[open]")].pop();
  if (dialog) dialog.append(region);
  else home(region);
}

function home(region) {
  if (region.id === "net") $("feed").before(region);
  else document.body.append(region);
}

for (const d of document.querySelectorAll("dialog")) d.addEventListener("close", () => { for (const id of ["net", "toast"]) if (d.contains($(id))) reach($(id)); });

let fading;

// say tells something in passing, also to a screen reader.
export function say(text) {
  clearTimeout(fading);
  reach($("toast"));
  $("toast").textContent = text;
  fading = setTimeout(() => { $("toast").textContent = ""; }, 6000);
}

// open shows a dialog; the browser gives the focus back when it closes, and Escape
// closes it.
export function open(dialog) {
  if (dialog.open) return;
  dialog.showModal();
  if ($("net").textContent) reach($("net"));
}

for (const b of document.querySelectorAll("[data-close]")) b.addEventListener("click", () => b.closest("dialog").close());
for (const d of document.querySelectorAll("dialog")) d.addEventListener("click", (e) => { if (e.target === d && d.id === "photo") d.close(); });

// confirm asks before something is gone for good.
export function confirm(title, text, yes) {
  $("confirm-title").textContent = title;
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = yes;
  const d = $("confirm");
  open(d);
  $("confirm-no").focus();
  return new Promise((done) => {
    let answer = false;
    $("confirm-yes").onclick = () => { answer = true; d.close(); };
    $("confirm-no").onclick = () => d.close();
    const closed = () => {
      if (d.open) return; // an earlier closing is told late: the dialog is open again
      d.removeEventListener("close", closed);
      done(answer);
    };
    d.addEventListener("close", closed);
  });
}

// me.name lasts as long as the browser lets it: where sites may store nothing the access
// itself throws, and the name lives as long as the page.
let unkept = "";
export const me = {
  get name() { try { return localStorage.getItem("acts.user") ?? unkept; } catch { return unkept; } },
  set name(v) {
    unkept = "";
    try { if (v) localStorage.setItem("acts.user", v); else localStorage.removeItem("acts.user"); } catch { unkept = v; }
  },
};

const two = (n) => String(n).padStart(2, "0");

// stamp is a time as the service wants it: DD-MM-YYYY:SS-MM-HH, seconds first.
export const stamp = (d) => `${two(d.getDate())}-${two(d.getMonth() + 1)}-${d.getFullYear()}:${two(d.getSeconds())}-${two(d.getMinutes())}-${two(d.getHours())}`;

const steps = [["year", 31536000], ["month", 2592000], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60]];

// when says it as people do; the exact time is its title.
export function when(text) {
  const m = /^(\d\d)-(\d\d)-(\d{4}):(\d\d)-(\d\d)-(\d\d)$/.exec(text);
  if (!m) return { words: text, exact: text };
  const d = new Date(+m[3], +m[2] - 1, +m[1], +m[6], +m[5], +m[4]);
  const ago = (d - Date.now()) / 1000;
  const [unit, n] = steps.find(([, s]) => Math.abs(ago) >= s) ?? ["second", 1];
  const words = unit === "second" ? "just now" : new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(Math.round(ago / n), unit);
  return { words, exact: d.toLocaleString(), iso: d.toISOString() };
}
