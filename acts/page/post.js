// Sharing an act: a photo from a file, a drop, the clipboard or the camera, made small
// enough here; what was written stays when sending fails.
import * as api from "./api.js";
import { $, me, open, say, stamp } from "./ui.js";

const longestSide = 1600; // pixels
const quality = 0.85;

let photo = null; // Blob
let sent = () => {};

export function onSent(f) { sent = f; }

export function openPost(categories, current) {
  $("category").replaceChildren(...categories.map((c) => new Option(c, c, false, c === current)));
  open($("post"));
}

async function shrink(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, longestSide / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const c = canvas.getContext("2d");
  c.fillStyle = "#fff"; // JPEG has no holes
  c.fillRect(0, 0, canvas.width, canvas.height);
  c.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", quality));
  if (!blob) throw new Error("no memory");
  return blob;
}

export async function take(file) {
  $("post-error").textContent = "";
  try {
    photo = await shrink(file);
  } catch {
    $("post-error").textContent = "This file is no picture that this browser can read. Choose a JPEG, PNG, GIF or WebP.";
    return;
  }
  URL.revokeObjectURL($("preview").src);
  $("preview").src = URL.createObjectURL(photo);
  const focused = $("choose").contains(document.activeElement);
  $("preview").hidden = $("another").hidden = false;
  $("choose").hidden = true;
  if (focused) $("another").focus();
}

function clear() {
  photo = null;
  URL.revokeObjectURL($("preview").src);
  $("preview").removeAttribute("src");
  $("preview").hidden = $("another").hidden = true;
  $("choose").hidden = false;
  $("file").value = $("camera").value = "";
}

for (const id of ["file", "camera"]) $(id).addEventListener("change", (e) => { if (e.target.files[0]) take(e.target.files[0]); });
$("another").addEventListener("click", () => { clear(); $("file").focus(); });

// Dropped anywhere a picture opens the dialog: beside it the browser would leave the page
// for the file.
const pictures = (list) => [...(list ?? [])].find((f) => f.type.startsWith("image/"));
const files = (e) => e.dataTransfer?.types.includes("Files");
for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (e) => { if (files(e)) { e.preventDefault(); $("drop").classList.add("over"); } });
document.addEventListener("dragleave", (e) => { if (!e.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (e) => {
  if (!files(e)) return;
  e.preventDefault();
  $("drop").classList.remove("over");
  bring(pictures(e.dataTransfer.files));
});
document.addEventListener("paste", (e) => {
  const f = pictures(e.clipboardData?.files);
  if (!f) return;
  e.preventDefault();
  bring(f);
});

// bring takes a picture that came by itself; without a name yet it waits for one.
function bring(f) {
  if (!$("post").open) $("post-open").click();
  if (f) take(f);
  else $("post-error").textContent = "That was no picture.";
}

const base64 = (blob) => new Promise((done, fail) => {
  const r = new FileReader();
  r.onload = () => done(r.result.slice(r.result.indexOf(",") + 1));
  r.onerror = () => fail(r.error);
  r.readAsDataURL(blob);
});

function busy(is) {
  $("sending").hidden = !is;
  $("post-send").disabled = is;
  $("post-form").setAttribute("aria-busy", is);
}

function progress(share) {
  const percent = Math.round(share * 100);
  $("progress").value = percent;
  $("progress-label").textContent = percent < 100 ? `Sending, ${percent}%` : "Sent, waiting for the answer";
}

// newest number first: a number is the time in ms, and if two share one the next is
// free soon.
async function store(act) {
  for (let n = 0; ; n++) {
    try {
      await api.addAct(act, progress);
      return act;
    } catch (e) {
      if (!api.isTaken(e) || n === 20) throw e;
      act = { ...act, actId: act.actId + 1 };
    }
  }
}

$("post-form").addEventListener("submit", async (e) => {
  e.preventDefault();
  $("post-error").textContent = "";
  if (!photo) {
    $("post-error").textContent = "Choose a photo first.";
    $("file").focus();
    return;
  }
  busy(true);
  progress(0);
  const now = new Date();
  try {
    const act = await store({ actId: now.getTime(), username: me.name, timestamp: stamp(now), caption: $("caption").value, categoryName: $("category").value, imgB64: await base64(photo) });
    clear();
    $("caption").value = "";
    $("post").close();
    say("Shared. Thank you!");
    sent(act);
  } catch (err) {
    $("post-error").textContent = `It was not shared: ${err.message} Your photo and words are still here.`;
    if (!$("post").open) say($("post-error").textContent);
  } finally {
    busy(false);
  }
});
