// The service, with the patience that it asks for: what can be asked again is asked
// again, and whoever looks at the page is told why it takes so long.
const tries = 7;
const longest = 8000; // ms between two tries
const longestAsked = 30000; // ms, when the service says how long
const patience = 30000; // ms, for an answer: as long as the proxy before the service waits for one
const patienceUpload = 420000; // ms: 1 MiB is 1.4 MB in base64, and takes 341 s at the least rate that the service bears (4 KiB/s), another 30 s to be stored

// Refused is an answer that blames the request; its message is for people.
export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

// Unknown is an outcome that nobody knows: it may have been done. Its message says what to
// do, beside why.
export class Unknown extends Error {
  constructor(why) { super(`${why} Please try again.`); this.why = why; }
}

let waiting = 0;
let tell = () => {};

// onWait is told why a request waits, and with "" when none does any more.
export function onWait(f) { tell = f; }

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function pause(n, after) {
  const seconds = Number(after);
  if (after && seconds >= 0) return Math.min(longestAsked, seconds * 1000 + Math.random() * 250);
  return Math.min(longest, 300 * 2 ** n) * (0.75 + Math.random() / 2);
}

function why(status) {
  if (status === 0) return "No connection.";
  if (status === 503 || status === 429) return "The service is busy.";
  if (status === 500) return "A container crashed under this request.";
  return "The service does not answer.";
}

// send asks once: {status, text, header}. Status 0 is no answer at all.
async function send(method, path, body) {
  try {
    const r = await fetch(path, { method, body: body === undefined ? undefined : text(body), headers: body === undefined ? {} : { "Content-Type": "application/json" }, cache: "no-store", signal: AbortSignal.timeout(patience) });
    return { status: r.status, text: await r.text(), header: (k) => r.headers.get(k) };
  } catch {
    return { status: 0, text: "", header: () => null };
  }
}

// An act's number has 64 bits, JavaScript's have 53: it stays text. Inside a JSON text the
// quotes of this pattern would be escaped, so that no caption can hold it.
function json(text) {
  try { return JSON.parse(text.replace(/"actId":\s*(\d+)/g, '"actId":"$1"')); } catch { return null; }
}

const text = (body) => (typeof body === "string" ? body : JSON.stringify(body));

// untouched: the request has done nothing, so that any method may be repeated. A crashed
// container answers 500 and says so, or without the shape of an error; one that dies under
// a request (502) may have stored it.
const untouched = (a) => a.status === 503 || (a.status === 500 && /^this container has crashed/.test(json(a.text)?.error?.message ?? "this container has crashed"));
const failing = (a) => a.status === 0 || a.status >= 500 || a.status === 429;

function understood(text) {
  if (text === "") return null;
  const value = json(text);
  if (value === null) throw new Unknown("The service gave an answer that makes no sense.");
  return value;
}

// ask repeats what may be repeated: reads always, changes when again is true or when
// they have not been done. once(answer, unsure) may turn a refusal into success.
export async function ask(method, path, { body, again = method === "GET", once, sender = send } = {}) {
  let unsure = false;
  let told = false;
  try {
    for (let n = 0; ; n++) {
      const a = await sender(method, path, body);
      if (!failing(a)) {
        if (a.status < 400) return understood(a.text);
        if (unsure && once?.(a)) return null;
        throw new Refused(a.status, json(a.text)?.error?.message ?? `The service answered ${a.status}.`);
      }
      if (!untouched(a)) unsure = true;
      if (n + 1 === tries || !(again || untouched(a))) throw new Unknown(why(a.status));
      const wait = pause(n, a.header("Retry-After"));
      if (!told) { told = true; waiting++; }
      tell(`${why(a.status)} Trying again${wait >= 1000 ? ` in ${Math.round(wait / 1000)}\u00a0s` : ""}\u00a0…`);
      await sleep(wait);
    }
  } finally {
    if (told && --waiting === 0) tell("");
  }
}

// upload is a sender that says how far it is, from 0 to 1.
export const upload = (progress) => (method, path, body) => new Promise((done) => {
  const x = new XMLHttpRequest();
  x.open(method, path);
  x.setRequestHeader("Content-Type", "application/json");
  x.timeout = patienceUpload;
  x.upload.onprogress = (e) => { if (e.lengthComputable) progress(e.loaded / e.total); };
  x.onload = () => done({ status: x.status, text: x.responseText, header: (k) => x.getResponseHeader(k) });
  x.onerror = x.onabort = x.ontimeout = () => done({ status: 0, text: "", header: () => null });
  x.send(text(body));
});

// part of a path. Browsers take "." and "..", encoded or not, for steps in the path: what
// bears such a name would become another request.
function part(name) {
  if (name === "." || name === "..") throw new Refused(400, `A browser can not ask for the name “${name}”.`);
  return encodeURIComponent(name);
}

export const categories = async () => (await ask("GET", "/api/v1/categories")) ?? {};
export const size = async (c) => (await ask("GET", `/api/v1/categories/${part(c)}/acts/size`))[0];
export const acts = async (c, start, end) => (await ask("GET", `/api/v1/categories/${part(c)}/acts?start=${start}&end=${end}&images=0`)) ?? [];
export const vote = (id) => ask("POST", "/api/v1/acts/upvote", { body: `[${id}]` });
export const removeAct = (id) => ask("DELETE", `/api/v1/acts/${id}`, { again: true, once: gone });
export const addCategory = (name) => ask("POST", "/api/v1/categories", { body: [name], again: true, once: taken });
export const removeCategory = async (name) => ask("DELETE", `/api/v1/categories/${part(name)}`, { again: true, once: gone });
export const addUser = (username, password) => ask("POST", "/api/v1/users", { body: { username, password }, again: true, once: taken });
export const removeUser = async (name) => ask("DELETE", `/api/v1/users/${part(name)}`, { again: true, once: gone });
export const image = (id, w) => `/api/v1/acts/${id}/image${w ? `?w=${w}` : ""}`;

// After an outcome that was not known these refusals say that it had been done.
const taken = (a) => a.status === 400 && /exists already/.test(a.text);
const gone = (a) => a.status === 400 && /there is no/.test(a.text);

// addAct may be sent twice: its number is its own.
export const addAct = (act, progress) => ask("POST", "/api/v1/acts", { body: act, again: true, once: taken, sender: upload(progress) });
export const isGone = (e) => e instanceof Refused && gone({ status: e.status, text: e.message });
export const isTaken = (e) => e instanceof Refused && e.status === 400 && /actId.*exists already/.test(e.message);
export const nameTaken = (e) => e instanceof Refused && e.status === 400 && /username.*exists already/.test(e.message);
