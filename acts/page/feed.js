// The feed of one category, newest first, and what can be done with an act.
import * as api from "./api.js";
import { $, confirm, make, me, open, say, when } from "./ui.js";

const page = 20;
const around = 49; // acts on either side of one that is looked for; a list has 100 at most
let category = "";
let shown = new Set(); // numbers of the acts that are listed
let total = 0;
let moved = 0; // how far the acts that are listed have moved down by newer ones
let run = 0; // a load that was overtaken stops
let changed = () => {};

export const current = () => category;
export function onChange(f) { changed = f; }

const ghosts = () => Array.from({ length: 6 }, () => make("li", { class: "card ghost", "aria-hidden": "true" }));

function empty(title, text, label, action) {
  $("acts").replaceChildren();
  $("empty-title").textContent = title;
  $("empty-text").textContent = text;
  $("empty-do").textContent = label;
  $("empty-do").onclick = action;
  $("empty").hidden = false;
  $("more").hidden = true;
}

// loading shows that something comes, before it is known what.
export function loading() {
  $("acts").setAttribute("aria-busy", "true");
  $("acts").replaceChildren(...ghosts());
  $("empty").hidden = true;
}

export function noCategories(add) {
  category = "";
  $("title").textContent = "Welcome";
  $("count").textContent = "";
  $("acts").setAttribute("aria-busy", "false");
  empty("No categories yet", "Acts are kept in categories, such as “Neighbours” or “On the road”. Make the first one.", "Make a category", add);
}

export function failed(error, again) {
  $("acts").setAttribute("aria-busy", "false");
  $("title").textContent = category || "SelfieLessActs";
  empty("This could not be loaded", error.message, "Try again", again);
}

function counted() {
  $("count").textContent = total === 1 ? "1 act" : `${total} acts`;
}

// show loads the first page of a category; false: this category can not be had.
export async function show(name) {
  const mine = ++run;
  category = name;
  shown = new Set();
  total = moved = 0;
  $("title").textContent = name;
  $("count").textContent = "";
  $("empty").hidden = true;
  $("more").hidden = true;
  $("acts").setAttribute("aria-busy", "true");
  $("acts").replaceChildren(...ghosts());
  try {
    await next(mine, true);
  } catch (e) {
    if (mine !== run) return true;
    failed(e, () => show(name));
    return !(e instanceof api.Refused);
  }
  return true;
}

async function next(mine, first) {
  for (let again = 0; ; again++) {
    const n = await api.size(category);
    if (!first) moved += Math.max(-shown.size - moved, n - total);
    const start = shown.size + moved + 1;
    let list = [];
    try {
      if (start <= n) list = await api.acts(category, start, Math.min(n, start + page - 1));
    } catch (e) {
      if (e instanceof api.Refused && again < 2) { total = n; continue; } // it shrank in between
      throw e;
    }
    if (mine !== run) return;
    total = n;
    if (first) $("acts").replaceChildren();
    const fresh = list.filter((a) => !shown.has(a.actId));
    moved += list.length - fresh.length; // newer ones have come in front of these
    for (const a of fresh) {
      shown.add(a.actId);
      $("acts").append(card(a));
    }
    if (list.length > 0 && fresh.length === 0 && again < 20) continue;
    $("acts").setAttribute("aria-busy", "false");
    $("more").hidden = start + list.length > n;
    counted();
    if (n === 0) nothing();
    return;
  }
}

function nothing() {
  empty("Nothing here yet", "Have you seen somebody do something good? Be the first to share it.", "Share an act", () => $("post-open").click());
}

$("more").addEventListener("click", async () => {
  $("more").disabled = true;
  const last = $("acts").lastElementChild;
  try {
    await next(run, false);
    last?.nextElementSibling?.querySelector("button")?.focus();
  } catch (e) {
    say(e.message);
  } finally {
    $("more").disabled = false;
  }
});

// patient asks again for a picture that did not come: the next container may have it.
function patient(img, giveUp) {
  let n = 0;
  img.addEventListener("load", () => { n = 0; });
  img.addEventListener("error", () => {
    if (n === 4) { giveUp(); return; }
    const src = img.src;
    setTimeout(() => { if (img.src === src) img.src = src; }, 300 * 2 ** n++ * (0.75 + Math.random() / 2));
  });
}

const votes = (n) => (n === 1 ? "1 vote" : `${n} votes`);

function card(a) {
  const t = when(a.timestamp);
  const caption = a.caption || "Without words";
  const img = make("img", { src: api.image(a.actId, 640), alt: a.caption || `Photo by ${a.username}`, loading: "lazy", decoding: "async", width: 640, height: 480 });
  patient(img, () => img.replaceWith(make("span", { class: "none" }, "No picture to show")));
  const item = make("li", { class: "card", "data-act": a.actId },
    make("button", { type: "button", class: "shot", "aria-label": `Look at: ${caption}`, onclick: () => look(a, t) }, img),
    make("div", { class: "words" }, make("p", { class: a.caption ? "caption" : "caption wordless" }, caption), make("p", { class: "meta" }, `${a.username} · `, make("time", { datetime: t.iso, title: t.exact }, t.words))),
    make("div", { class: "does" }, voteButton(a), a.username === me.name ? removeButton(a) : ""));
  return item;
}

// upvotes of an act as the service has them now; null where they can not be had. A list
// around its place is asked for, since newer acts may have moved it.
async function upvotes(a) {
  const place = [...$("acts").children].findIndex((e) => e.dataset.act === a.actId);
  if (place < 0 || a.categoryName !== category) return null;
  try {
    const n = await api.size(category);
    const start = Math.max(1, Math.min(n, place + 1 + moved + n - total) - around);
    const list = await api.acts(a.categoryName, start, Math.min(n, start + 2 * around));
    return list.find((x) => x.actId === a.actId)?.upvotes ?? null;
  } catch {
    return null;
  }
}

function voteButton(a) {
  const b = make("button", { type: "button", class: "vote" });
  let mine = 0;
  let asked = 0; // votes without an answer yet
  let unsure = 0; // votes that may have been counted
  let looks = 0;
  const draw = () => {
    b.toggleAttribute("data-voted", mine > 0);
    b.replaceChildren(make("span", { "aria-hidden": "true" }, "▲ "), String(a.upvotes));
    b.setAttribute("aria-label", `Upvote, ${votes(a.upvotes)} so far`);
  };
  draw();
  b.addEventListener("click", async () => {
    a.upvotes++;
    mine++;
    asked++;
    draw();
    try {
      await api.vote(a.actId);
    } catch (e) {
      mine--;
      if (e instanceof api.Refused) {
        a.upvotes--;
        say(`Your vote was not counted. ${e.message}`);
      } else {
        unsure++;
        say(`Your vote may not have been counted. ${e.why ?? e.message} Look at the number before you vote again.`);
      }
      draw();
    }
    if (--asked > 0 || unsure === 0) return;
    const look = ++looks;
    const n = await upvotes(a);
    if (asked > 0 || look !== looks) return; // another vote came meanwhile, and looks again
    a.upvotes = n ?? a.upvotes - unsure;
    unsure = 0;
    draw();
  });
  return b;
}

function removeButton(a) {
  return make("button", { type: "button", class: "remove", "aria-label": `Delete: ${a.caption || "act without words"}`, onclick: async () => {
    if (!await confirm("Delete this act?", "It is gone for everybody, and can not be brought back.", "Delete")) return;
    try {
      await api.removeAct(a.actId);
      $("acts").querySelector(`[data-act="${a.actId}"]`)?.remove();
      shown.delete(a.actId);
      total--;
      counted();
      if (total === 0) nothing();
      $("feed").focus();
      say("Deleted.");
      changed();
    } catch (e) {
      say(`It was not deleted. ${e.message}`);
    }
  } }, "Delete");
}

patient($("photo-image"), () => { $("photo-image").alt = "No picture to show"; });

function look(a, t) {
  $("photo-caption").textContent = a.caption || "Without words";
  $("photo-image").src = api.image(a.actId);
  $("photo-image").alt = a.caption || `Photo by ${a.username}`;
  $("photo-meta").textContent = `${a.username} · ${t.exact} · ${votes(a.upvotes)}`;
  open($("photo"));
}

// added puts one's own new act in front, without asking for the page again.
export function added(a) {
  if (a.categoryName !== category) return false;
  $("empty").hidden = true;
  shown.add(String(a.actId));
  total++;
  counted();
  $("acts").prepend(card({ ...a, actId: String(a.actId), upvotes: 0 }));
  return true;
}
