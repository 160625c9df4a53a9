// Long work: one piece at a time, with what it is doing, the time left, and a way out. Errors as one line on the view.

import { Refusal, cancel, finished } from "./api.js";

const bar = document.getElementById("progress");
const line = document.getElementById("message");
let job = null; // what runs now: an id, or an AbortController
let busy = false;
let shown = null; // a timer: short work shows no bar

export const isBusy = () => busy;

// Do work, and say in one line what went wrong. doing: what it is called. work: is given `follow`, which waits for a job.
export async function during(doing, work) {
  if (busy) return say("Still at work: wait, or press Esc to cancel.", "note");
  busy = true;
  document.body.dataset.busy = "1";
  clearTimeout(shown);
  shown = setTimeout(() => (bar.hidden = false), 150);
  told({ doing, share: null, seconds_left: null });
  hush();
  try {
    return await work(follow);
  } catch (error) {
    if (error.name !== "AbortError") report(error);
  } finally {
    busy = false;
    delete document.body.dataset.busy;
    job = null;
    clearTimeout(shown);
    bar.hidden = true;
  }
}

async function follow(id) {
  job = id;
  return finished(id, told);
}

// Show a share of work that is done here. stop: an AbortController, for cancel.
export function share(doing, done, stop = null) {
  job = stop;
  told({ doing, share: done, seconds_left: null });
}

function told({ doing, share: done, seconds_left: left }) {
  const time = left === null ? "" : left >= 1 ? `about ${Math.ceil(left)} s left` : "nearly done";
  bar.querySelector(".doing").textContent = sentence(doing);
  bar.querySelector(".left").textContent = time;
  const meter = bar.querySelector("progress");
  if (done === null) meter.removeAttribute("value");
  else meter.value = done;
}

export async function callOff() {
  if (!job) return false;
  try {
    if (job instanceof AbortController) job.abort();
    else await cancel(job);
  } catch (error) {
    report(error);
  }
  return true;
}

// One line that stays until it is read, or something else is done. kind: error, note or done.
export function say(text, kind = "note") {
  line.className = kind;
  line.querySelector("span").textContent = sentence(text);
  line.hidden = false;
}

export function hush() {
  line.hidden = true;
}

export function report(error) {
  if (!(error instanceof Refusal)) console.error(error);
  say(error.message, "error");
}

// Run what ends at once; errors in one line.
export async function attempt(work) {
  hush();
  try {
    return await work();
  } catch (error) {
    report(error);
  }
}

// With a capital, unless it begins with a file's name.
const sentence = (text) => text.replace(/^[a-z](?=[a-z'-]*([ ,:]|$))/, (first) => first.toUpperCase());
