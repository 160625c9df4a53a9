// A former scan beside this one: its measurements are sent, the response table comes back.

import { get, send } from "./api.js";
import { goTo } from "./prompts.js";
import { lesions, state } from "./state.js";
import { during, say } from "./work.js";

const input = document.getElementById("former-file");
const panel = document.getElementById("former");
const WORDS = { CR: "complete response", PR: "partial response", SD: "stable disease", PD: "progressive disease", NE: "not evaluable" };
let stands = ""; // the lesions that the table is about

// Ask for the former scan's measurements, then show how the lesions responded.
export function compare() {
  if (!state.ct) return;
  if (!lesions().some((one) => one.measurement)) return say("There is no lesion to compare yet: click into a tumor first.", "error");
  input.click();
}

input.addEventListener("change", () => {
  const [file] = input.files;
  input.value = "";
  if (file) load(file);
});

async function load(file) {
  const path = `/api/ct/${state.ct.id}/former`;
  const answer = await during("comparing with the former scan", () => send(path, [file]));
  if (answer) show(answer, file.name);
}

// After a change of lesions: the table as it is now.
export async function follow() {
  if (panel.hidden || !state.ct || stands === standing()) return;
  stands = standing();
  try {
    show(await get(`/api/ct/${state.ct.id}/former`), panel.dataset.name);
  } catch (error) {
    say(error.message, "error");
  }
}

export function forget() {
  panel.hidden = true;
}

const standing = () => lesions().map((one) => `${one.label} ${one.step} ${one.organ}`).join();

const made = (tag, text = "", className = "") => Object.assign(document.createElement(tag), { textContent: text, className });

function show(report, name) {
  stands = standing();
  panel.dataset.name = name;
  const close = made("button", "Close");
  close.addEventListener("click", forget);
  const head = made("div", "", "head");
  head.append(made("h2", "Former scan"), close);
  const verdict = made("p", "", "verdict");
  verdict.append(made("b", report.category), ` ${WORDS[report.category] ?? ""}, not confirmed`);
  const { baseline_mm: before, mm, change_percent: change } = report.sum;
  const sums = before === null ? "" : `Sum of targets ${number(before)} → ${number(mm)} mm (${percent(change)})`;
  const reasons = report.follow_ups.flatMap((one) => one.reasons ?? []);
  const notes = made("ul", "", "warnings");
  notes.append(...report.notes.map((text) => made("li", text)));
  panel.replaceChildren(head, made("p", name, "file"), verdict, made("p", sums), table(report), made("p", reasons.join("; "), "file"), notes);
  panel.hidden = false;
}

function table(report) {
  const found = made("table");
  const header = found.createTHead().insertRow();
  for (const text of ["", "then", "now", "mm", "volume"]) header.append(made("th", text));
  const body = found.createTBody();
  for (const lesion of report.lesions) {
    const [then, now] = lesion.time_points;
    const row = body.insertRow();
    const label = made("button", `${lesion.label}`);
    label.title = lesion.target ? "target" : lesion.why_not ?? "non-target";
    label.addEventListener("click", () => goTo(now.labels?.[0] ?? lesion.label));
    row.insertCell().append(label, lesion.target ? " target" : "");
    row.insertCell().textContent = number(then.diameter_mm);
    row.insertCell().textContent = now.state === "measured" || now.diameter_mm !== null ? number(now.diameter_mm) : now.state;
    row.insertCell().textContent = percent(now.diameter_change_percent);
    row.insertCell().textContent = percent(now.volume_change_percent ?? now.change_percent);
  }
  for (const one of report.follow_ups.flatMap((point) => point.new_lesions ?? [])) {
    const row = body.insertRow();
    row.insertCell().textContent = `${one.label ?? ""} new`;
    row.insertCell().textContent = "–";
    row.insertCell().textContent = one.diameter_mm ? number(one.diameter_mm) : one.text ?? "";
  }
  return found;
}

const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(1));
const percent = (value) => (value === null || value === undefined ? "–" : `${value > 0 ? "+" : ""}${value.toFixed(0)} %`);
