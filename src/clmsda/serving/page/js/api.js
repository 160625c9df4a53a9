// The server's API: what it refuses becomes a Refusal with its one line.

export class Refusal extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const GONE = "the server does not answer: is clmsda serve still running?";

async function ask(method, path, { body, type, signal } = {}) {
  const headers = method === "GET" ? {} : { "X-Clmsda": "1" };
  if (type) headers["Content-Type"] = type;
  let answer;
  try {
    answer = await fetch(path, { method, headers, body, signal, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(GONE);
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Refusal(told.error ?? `the server answered ${answer.status}`, answer.status);
}

export const get = async (path) => (await ask("GET", path)).json();
export const post = async (path, said = {}) => json("POST", path, said);
export const patch = async (path, said) => json("PATCH", path, said);
export const remove = async (path) => (await ask("DELETE", path)).json();
export const bytes = async (path) => (await ask("GET", path)).arrayBuffer();

async function json(method, path, said) {
  return (await ask(method, path, { body: JSON.stringify(said), type: "application/json" })).json();
}

// Send one file as it is, or several as a form. Several answers name a job.
export async function send(path, files) {
  if (files.length === 1) {
    const named = `${path}${path.includes("?") ? "&" : "?"}name=${encodeURIComponent(files[0].name)}`;
    return (await ask("POST", named, { body: files[0], type: "application/octet-stream" })).json();
  }
  const form = new FormData();
  for (const file of files) form.append("file", file, file.name);
  return (await ask("POST", path, { body: form })).json();
}

// A body in pieces. told: called with the share that is here.
export async function stream(path, told, signal) {
  const answer = await ask("GET", path, { signal });
  const size = Number(answer.headers.get("Content-Length"));
  const whole = new Uint8Array(size);
  const reader = answer.body.getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > size) break;
    whole.set(value, at);
    at += value.length;
    told(at / size);
  }
  if (at !== size) throw new Refusal("the CT came only in part: reload the page");
  return whole.buffer;
}

// Wait for a job. told: called with what it is doing. Returns its result.
export async function finished(job, told) {
  for (let wait = 0.2; ; wait = 1) {
    const now = await get(`/api/jobs/${job}?wait=${wait}`);
    if (now.done && now.error) throw new Refusal(now.error);
    if (now.done) return now.result;
    told(now);
  }
}

export const cancel = (job) => remove(`/api/jobs/${job}`);

// Save what the server answers under a name, by the browser's own download.
export async function download(path, name) {
  const answer = await ask("GET", path);
  const named = /filename="?([^";]+)"?/.exec(answer.headers.get("Content-Disposition") ?? "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = named?.[1] ?? name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
