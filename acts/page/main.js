// The page: who one is, which categories there are, and what is on screen.
import * as api from "./api.js";
import * as feed from "./feed.js";
import { onSent, openPost } from "./post.js";
import { sha1 } from "./sha1.js";
import { $, confirm, make, me, open, reach, say } from "./ui.js";

let categories = {}; // name → number of acts

api.onWait((text) => { if (text) reach($("net")); $("net").textContent = text; $("net").hidden = text === ""; });

const landings = 5; // categories that are tried, when the first can not be had

const names = () => Object.keys(categories).sort((a, b) => a.localeCompare(b));
const fromHash = () => { try { return decodeURIComponent(/^#\/c\/(.*)$/.exec(location.hash)?.[1] ?? ""); } catch { return ""; } };

function drawCategories() {
  const focused = $("categories").contains(document.activeElement) ? document.activeElement.dataset.name : undefined;
  $("categories").replaceChildren(...names().map((name) => make("li", {},
    make("button", { type: "button", "data-name": name, "aria-current": name === feed.current() ? "true" : null, onclick: () => go(name) }, make("span", { class: "words-short" }, name), " ", make("span", { class: "n" }, String(categories[name]))))));
  const buttons = [...$("categories").querySelectorAll("button")];
  buttons.find((b) => b.dataset.name === focused)?.focus();
  buttons.find((b) => b.hasAttribute("aria-current"))?.scrollIntoView({ block: "nearest", inline: "nearest" });
  $("manage-list").replaceChildren(...names().map((name) => make("li", {}, make("span", {}, name),
    make("button", { type: "button", class: "danger", "aria-label": `Remove ${name}`, onclick: () => removeCategory(name) }, "Remove"))));
}

function go(name) {
  if (fromHash() === name) show(name);
  else location.hash = `#/c/${encodeURIComponent(name)}`;
}

function show(name) {
  const done = feed.show(name);
  drawCategories();
  return done;
}

async function loadCategories() {
  categories = await api.categories();
  drawCategories();
}

// start shows what the address names, or the category with the most acts.
async function start() {
  feed.loading();
  try {
    await loadCategories();
  } catch (e) {
    feed.failed(e, start);
    return;
  }
  const wanted = fromHash();
  if (Object.hasOwn(categories, wanted)) await show(wanted);
  else if (names().length > 0) await land();
  else feed.noCategories(() => $("manage-open").click());
}

// land shows the fullest category that can be had.
async function land() {
  const fullest = names().sort((a, b) => categories[b] - categories[a]);
  for (const name of fullest.slice(0, landings)) if (await show(name)) return;
}

window.addEventListener("hashchange", () => { if (Object.hasOwn(categories, fromHash())) show(fromHash()); });

feed.onChange(() => loadCategories().catch(() => {}));
onSent(async (act) => {
  if (!feed.added(act)) go(act.categoryName);
  loadCategories().catch(() => {});
});

// Who.
function drawAccount() {
  const name = me.name;
  $("account-open").textContent = name || "Sign up";
  $("account-open").setAttribute("aria-label", name ? `Account: ${name}` : "Sign up");
  $("account-title").textContent = name ? "Account" : "Sign up";
  $("signup").hidden = name !== "";
  $("signed").hidden = name === "";
  $("me").textContent = name;
}

let then = () => {}; // what one wanted to do before one had a name

function openAccount(afterwards = () => {}) {
  then = afterwards;
  $("account-error").textContent = $("signed-error").textContent = "";
  $("account-use").hidden = true;
  drawAccount();
  open($("account"));
}

function iAm(name) {
  me.name = name;
  $("username").value = $("password").value = "";
  drawAccount();
  $("account").close();
  if (feed.current()) show(feed.current());
  then();
}

$("account-open").addEventListener("click", () => openAccount());
$("account-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const name = $("username").value.trim();
  const password = $("password").value;
  $("account-error").textContent = "";
  $("account-use").hidden = true;
  if (!name || !password) {
    $("account-error").textContent = name ? "Give a password." : "Give a name.";
    $(name ? "password" : "username").focus();
    return;
  }
  try {
    await api.addUser(name, sha1(password));
    say(`Welcome, ${name}.`);
    iAm(name);
  } catch (err) {
    const taken = api.nameTaken(err);
    $("account-error").textContent = taken ? `The name ${name} is taken.` : err.message;
    $("account-use").hidden = !taken;
    $("account-use").onclick = () => iAm(name);
  }
});
$("account-forget").addEventListener("click", () => { iAm(""); say("Signed out on this device."); });
$("account-remove").addEventListener("click", async () => {
  if (!await confirm("Delete your account?", "Your name becomes free. What you have shared stays.", "Delete account")) return;
  try {
    await api.removeUser(me.name);
    iAm("");
    say("Your account is deleted.");
  } catch (err) {
    if (api.isGone(err)) { iAm(""); return; }
    $("signed-error").textContent = err.message;
  }
});

// Share.
$("post-open").addEventListener("click", () => {
  if (!me.name) openAccount(() => { if (me.name) $("post-open").click(); });
  else if (names().length === 0) openManage("Make a category first.");
  else openPost(names(), feed.current());
});

// Categories.
function openManage(text = "") {
  $("manage-error").textContent = text;
  open($("manage"));
  $("new-category").focus();
}

$("manage-open").addEventListener("click", () => openManage());
$("manage-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  const name = $("new-category").value.trim();
  $("manage-error").textContent = "";
  if (!name) { $("manage-error").textContent = "Give it a name."; return; }
  try {
    await api.addCategory(name);
    $("new-category").value = "";
    await loadCategories();
    $("manage").close();
    go(name);
  } catch (err) {
    $("manage-error").textContent = err.message;
  }
});

async function removeCategory(name) {
  const n = categories[name];
  const too = n === 0 ? "It is empty." : n === 1 ? "Its act goes too, for everybody." : `Its ${n} acts go too, for everybody.`;
  if (!await confirm(`Remove “${name}”?`, `${too} This can not be undone.`, "Remove")) return;
  try {
    await api.removeCategory(name);
    say(`${name} is removed.`);
    await start();
  } catch (err) {
    $("manage-error").textContent = err.message;
  }
}

drawAccount();
start();
