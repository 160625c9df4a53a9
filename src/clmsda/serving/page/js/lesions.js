// The table of lesions: one card each, updated in place so that what a person types is never taken away.

import { colorOf, lesions, set, state, subscribe } from "./state.js";
import { describe, drop, goTo } from "./prompts.js";

const list = document.getElementById("lesions");
const template = document.getElementById("lesion");
const GROUPS = { 1: ["up to 30 mm", "T1"], 2: ["30 to 50 mm", "T2"], 3: ["over 50 mm", "T3/T4"] };

export function showLesions() {
  subscribe(draw);
}

function draw() {
  const found = lesions();
  document.getElementById("none").hidden = found.length > 0;
  document.getElementById("count").textContent = found.length ? `${found.length}` : "";
  for (const card of [...list.children]) {
    if (!found.some((one) => String(one.label) === card.dataset.label)) card.remove();
  }
  found.forEach((lesion, place) => {
    const card = list.querySelector(`[data-label="${lesion.label}"]`) ?? made(lesion);
    if (list.children[place] !== card) list.insertBefore(card, list.children[place] ?? null);
    fill(card, lesion);
  });
}

function made({ label }) {
  const card = template.content.firstElementChild.cloneNode(true);
  card.dataset.label = label;
  card.style.setProperty("--lesion", colorOf(label));
  card.querySelector(".number").textContent = label;
  card.querySelector(".number").setAttribute("aria-label", `Select lesion ${label} and go there`);
  const name = card.querySelector(".name");
  name.addEventListener("change", () => describe(label, { name: name.value }));
  name.addEventListener("keydown", (event) => {
    if (event.key === "Enter") name.blur();
    if (event.key !== "Escape") return;
    name.value = lesions().find((one) => one.label === label)?.name ?? "";
    name.blur();
  });
  const organ = card.querySelector(".organ");
  for (const one of state.desk.organs) organ.add(new Option(one));
  organ.addEventListener("change", () => describe(label, { organ: organ.value }));
  card.querySelector(".accept").addEventListener("click", () => {
    describe(label, { accepted: !lesions().find((one) => one.label === label)?.accepted });
  });
  card.querySelector(".delete").addEventListener("click", () => drop(label));
  card.querySelector(".number").addEventListener("click", () => goTo(label));
  card.addEventListener("click", (event) => {
    if (!event.target.closest("input, select, button")) goTo(label);
  });
  card.addEventListener("focusin", () => state.selected !== label && set({ selected: label }));
  return card;
}

function fill(card, lesion) {
  const measured = lesion.measurement;
  card.classList.toggle("selected", lesion.label === state.selected);
  card.classList.toggle("accepted", lesion.accepted);
  const [name, organ] = [card.querySelector(".name"), card.querySelector(".organ")];
  if (document.activeElement !== name) name.value = lesion.name;
  if (document.activeElement !== organ) organ.value = lesion.organ;
  const accept = card.querySelector(".accept");
  accept.setAttribute("aria-pressed", lesion.accepted);
  accept.querySelector("span").textContent = lesion.accepted ? "Accepted" : "Accept";
  const put = (where, text) => (card.querySelector(where).textContent = text);
  put(".volume", measured ? `${volume(measured.volume_ml)} ml` : "–");
  put(".axes", measured ? `${measured.long_axis_mm.toFixed(1)} × ${measured.short_axis_mm.toFixed(1)} mm` : "–");
  put(".slices", measured ? slices(measured.slices) : "–");
  const [size, stage] = measured ? GROUPS[measured.size_group] : ["–", ""];
  put(".group", stage ? `${stage} · ${size}` : size);
  put(".confidence", lesion.confidence === null ? "not known" : `${Math.round(100 * lesion.confidence)} %`);
  const warnings = card.querySelector(".warnings");
  if (warnings.dataset.said !== lesion.warnings.join("\n")) {
    warnings.dataset.said = lesion.warnings.join("\n");
    warnings.replaceChildren(...lesion.warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }
}

const volume = (ml) => (ml < 0.1 ? ml.toFixed(3) : ml < 10 ? ml.toFixed(2) : ml.toFixed(1));

// As the view counts them, from 1.
function slices([first, last]) {
  const count = last - first + 1;
  return count === 1 ? `${first + 1}` : `${first + 1}–${last + 1} (${count})`;
}
