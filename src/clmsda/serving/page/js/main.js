// The page: puts its parts together. Each part draws itself from the state when that changes.

import { compare, follow, forget } from "./former.js";
import { help, fillHelp } from "./keyboard_help.js";
import { listenToKeys } from "./keys.js";
import { showLesions } from "./lesions.js";
import { begin, choose, listenToOpening } from "./opening.js";
import { Pane, drawPanes } from "./pane.js";
import { NAMES } from "./planes.js";
import { listen } from "./pointer.js";
import { meant, redo, undo } from "./prompts.js";
import { listenToSaving, save } from "./saving.js";
import { PRESETS, lesionAt, lesionOf, moveTo, set, shownSlice, state, subscribe } from "./state.js";
import { showIn3d } from "./three.js";
import { attempt, callOff, hush } from "./work.js";

const byId = (id) => document.getElementById(id);
const put = (id, text) => (byId(id).textContent = text);
const elements = Object.fromEntries([...document.querySelectorAll(".pane")].map((one) => [one.dataset.pane, one]));
const panes = Object.fromEntries(NAMES.map((name) => [name, new Pane(name, elements[name])]));
const tools = [...document.querySelectorAll("[data-tool]")];
const presets = [...document.querySelectorAll("[data-preset]")];

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
}

function listenToButtons() {
  for (const [id, act] of Object.entries({ open: choose, first: choose, compare, save, theme, help, undo, redo, cancel: callOff })) {
    byId(id).addEventListener("click", act);
  }
  byId("outside").addEventListener("click", () => set({ outside: !state.outside, tool: "point" }));
  byId("contours").addEventListener("click", () => set({ contours: !state.contours }));
  byId("new").addEventListener("click", () => set({ selected: null, outside: false }));
  for (const one of tools) one.addEventListener("click", () => set({ tool: one.dataset.tool, outside: false, drawing: null }));
  for (const one of presets) one.addEventListener("click", () => set({ window: { ...PRESETS[one.dataset.preset] } }));
  byId("message").querySelector("button").addEventListener("click", hush);
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
}

function listenToPanes() {
  for (const [name, element] of Object.entries(elements)) {
    element.querySelector(".big").addEventListener("click", () => set({ big: state.big === name ? null : name }));
    if (!panes[name]) continue;
    listen(panes[name]);
    element.addEventListener("focusin", () => set({ active: name }));
    element.querySelector(".slider").addEventListener("input", (event) => {
      const cross = [...state.cross];
      const { through } = panes[name].plane;
      cross[through] = Number(event.target.value) - 1;
      moveTo(cross);
    });
  }
}

function drawFrame() {
  const { ct, volume } = state;
  document.body.dataset.tool = state.outside ? "outside" : state.tool;
  byId("welcome").hidden = Boolean(volume);
  put("ct", ct?.name ?? "no CT");
  document.title = ct ? `${ct.name} · clmsda` : "clmsda";
  for (const id of ["compare", "save"]) byId(id).disabled = !volume;
  byId("undo").disabled = !ct?.can_undo;
  byId("redo").disabled = !ct?.can_redo;
  byId("outside").setAttribute("aria-pressed", state.outside);
  byId("contours").setAttribute("aria-pressed", state.contours);
  byId("new").setAttribute("aria-pressed", state.selected === null);
  for (const one of tools) one.setAttribute("aria-pressed", one.dataset.tool === state.tool && !state.outside);
  for (const one of presets) {
    const { center, width } = PRESETS[one.dataset.preset];
    one.setAttribute("aria-pressed", center === state.window.center && width === state.window.width);
  }
  byId("views").dataset.big = state.big ?? "";
  for (const [name, element] of Object.entries(elements)) {
    element.classList.toggle("active", name === state.active);
    element.classList.toggle("big", name === state.big);
    if (volume && panes[name]) titled(panes[name]);
  }
  if (state.desk) {
    put("notice", state.desk.notice);
    put("model", `model ${state.desk.model.name} · ${state.desk.version}`);
  }
  const notes = ct?.warnings ?? [];
  if (byId("notes").childElementCount !== notes.length) {
    byId("notes").replaceChildren(...notes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }
}

function titled(pane) {
  const { plane, element } = pane;
  const count = state.volume.grid.shape[plane.through];
  const at = shownSlice(plane) + 1;
  const name = plane.name[0].toUpperCase() + plane.name.slice(1);
  element.querySelector(".title").textContent = `${name} ${at} / ${count}`;
  const slider = element.querySelector(".slider");
  [slider.max, slider.value] = [count, at];
}

// Where the pointer is, else the crosshair; and what a click there would do.
function drawReadings() {
  if (!state.volume) return put("where", "");
  const pane = panes[state.hovered];
  const index = pane?.hover ?? state.cross;
  const hu = state.volume.hu(index);
  const lps = state.volume.grid.toLps(index).map((value) => value.toFixed(1));
  put("where", `LPS ${lps.join("  ")} mm   ${hu === null ? "beyond the CT" : `${hu} HU`}`);
  put("window", `Window ${state.window.center} / ${state.window.width}`);
  put("hint", hint(index));
}

function hint(under) {
  const { drawing } = state;
  const index = drawing?.to ? drawing.from.map((value, axis) => (value + drawing.to[axis]) / 2) : under;
  const chosen = lesionOf(state.selected);
  const label = meant(index);
  if (state.outside) return chosen ? `Click: outside of lesion ${chosen.label}.` : "Click: outside of the lesion there.";
  if (state.tool === "look") return "Click: move the crosshair.";
  if (state.tool === "window") return "Drag: across for width, down for center.";
  if (state.tool === "line") return `Draw the long diameter${label ? ` of lesion ${label} anew` : ": a new lesion"}.`;
  if (state.tool === "box") return `Draw a box around ${label ? `lesion ${label} anew` : "a tumor: a new lesion"}.`;
  const there = lesionAt(index);
  if (there && there !== chosen) return `Click: select lesion ${there.label}.`;
  if (label === null) return "Click into a tumor: a new lesion.";
  return `Click: more of lesion ${label}. With Shift, or by a long press: less.`;
}

function start() {
  fillHelp();
  listenToButtons();
  listenToPanes();
  listenToKeys(panes, { open: choose, save, compare, help, theme });
  listenToSaving();
  listenToOpening(() => {
    for (const pane of Object.values(panes)) pane.reset();
    forget();
  });
  for (const draw of [drawFrame, () => drawPanes(Object.values(panes)), drawReadings, follow]) subscribe(draw);
  showLesions();
  showIn3d();
  window.clmsda = { state, panes }; // for tests, and for who looks into it
  attempt(begin);
}

start();
