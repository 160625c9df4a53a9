// The keyboard, for everything; `?` shows this list.

import { boxAround, describe, drop, goTo, lineAlong, pointAt, redo, undo } from "./prompts.js";
import { scroll } from "./pointer.js";
import { NAMES } from "./planes.js";
import { PRESETS, lesionOf, lesions, moveTo, set, shownSlice, state } from "./state.js";
import { callOff, hush } from "./work.js";

const TOOLS = { p: "point", l: "line", b: "box", v: "look", d: "window" };
const PANES = { 1: "axial", 2: "coronal", 3: "sagittal", 4: "volume" };

export const HELP = [
  ["Say", [
    ["Click, Enter", "inside: a new lesion, or more of the selected one"],
    ["Shift or Alt + click, Shift + Enter", "outside: take away"],
    ["P  L  B", "point, RECIST line (long diameter), box"],
    ["X", "the next click is outside"],
    ["N", "select none: the next click is a new lesion"],
    ["Ctrl + Z, Ctrl + Y", "undo, redo"],
    ["Esc", "cancel the work, the line or box, the selection"],
  ]],
  ["Look", [
    ["Wheel, Page Up, Page Down", "through slices (with Shift: ten)"],
    ["Arrows", "move the crosshair (with Shift: ten)"],
    ["Ctrl + wheel, + and −", "zoom; R resets it"],
    ["Middle drag, Ctrl + drag", "pan"],
    ["Right drag, or D", "window: across for width, down for center"],
    ["Q  W", "window of the lung, of the mediastinum"],
    ["V", "look only: clicks move the crosshair"],
    ["1  2  3  4,  0", "axial, coronal, sagittal, 3-D large; all four"],
    ["H  I", "hide contours; sharp voxels"],
  ]],
  ["Lesions", [
    ["[  ]", "the one before, the next; goes there"],
    ["G", "go to the selected one"],
    ["A", "accept, or take that back"],
    ["E", "edit its name"],
    ["Delete", "delete it"],
  ]],
  ["Page", [
    ["O  C  S", "open, compare with a former scan, save"],
    ["T", "light or dark"],
    ["Tab", "to the next view, button or field"],
    ["?", "this list"],
  ]],
];

// panes: by name. does: {open, save, compare, help, theme}, each without arguments.
export function listenToKeys(panes, does) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input:not([type=range]), select, textarea")) return;
    if (event.target.closest("input") && /^(Arrow|Page|Home|End)/.test(event.key)) return; // a slider's own
    const onButton = event.target.closest("button, summary, a");
    if (onButton && (event.key === "Enter" || event.key === " ")) return;
    if (act(event, panes, does)) event.preventDefault();
  });
}

function act(event, panes, does) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") return event.shiftKey ? redo() : undo(), true;
    if (key === "y") return redo(), true;
    return false;
  }
  const page = { o: does.open, s: does.save, c: does.compare, t: does.theme, "?": does.help }[key];
  if (page) return page(), true;
  if (!state.volume) return false;
  return looks(event, key, panes) || says(event, key, panes) || chooses(key);
}

function looks(event, key, panes) {
  const pane = panes[state.active] ?? panes.axial;
  const many = event.shiftKey ? 10 : 1;
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  if (arrows) return step(pane, arrows, many), true;
  if (key === "PageUp" || key === ",") return scroll(pane, -many), true;
  if (key === "PageDown" || key === ".") return scroll(pane, many), true;
  if (key === "+" || key === "=") return pane.zoomAt(...pane.toScreen(state.cross), 1.25), true;
  if (key === "-") return pane.zoomAt(...pane.toScreen(state.cross), 0.8), true;
  if (key === "r") return Object.values(panes).forEach((one) => one.reset()), set({}), true;
  if (key === "q") return set({ window: { ...PRESETS.lung } }), true;
  if (key === "w") return set({ window: { ...PRESETS.mediastinum } }), true;
  if (key === "h") return set({ contours: !state.contours }), true;
  if (key === "i") return set({ sharp: !state.sharp }), true;
  if (key === "0") return set({ big: null }), true;
  const big = PANES[key];
  if (!big) return false;
  set({ big: state.big === big ? null : big, active: NAMES.includes(big) ? big : state.active });
  return true;
}

// The crosshair by one voxel along the screen.
function step(pane, [right, bottom], many) {
  const { across, down, acrossSign, downSign } = pane.plane;
  const cross = [...state.cross];
  cross[across] = Math.round(cross[across]) + right * acrossSign * many;
  cross[down] = Math.round(cross[down]) + bottom * downSign * many;
  moveTo(cross);
  pane.reveal(state.cross);
  if (state.drawing?.pane === pane.name) set({ drawing: { ...state.drawing, to: state.cross } });
}

function says(event, key, panes) {
  const pane = panes[state.active] ?? panes.axial;
  if (TOOLS[key]) return set({ tool: TOOLS[key], drawing: null, outside: false }), true;
  if (key === "x") return set({ outside: !state.outside, tool: "point" }), true;
  if (key === "n") return set({ selected: null, outside: false }), true;
  if (key === "Escape") return escape(), true;
  if (key !== "Enter") return false;
  const here = [...state.cross];
  here[pane.plane.through] = shownSlice(pane.plane);
  if (state.tool === "line" || state.tool === "box") corner(pane, here);
  else pointAt(here, event.shiftKey || event.altKey || state.outside);
  return true;
}

// Enter begins a line or box at the crosshair; Enter again ends it.
function corner(pane, here) {
  const { drawing, tool } = state;
  if (!drawing) return set({ drawing: { kind: tool, pane: pane.name, from: here, to: null } });
  set({ drawing: null });
  if (tool === "line") lineAlong(drawing.from, here);
  else boxAround(pane.plane, drawing.from, here);
}

async function escape() {
  hush();
  if (await callOff()) return;
  if (state.drawing) set({ drawing: null });
  else if (state.outside || state.tool !== "point") set({ outside: false, tool: "point" });
  else set({ selected: null });
}

function chooses(key) {
  const labels = lesions().map((one) => one.label);
  if (key === "[" || key === "]") {
    const at = labels.indexOf(state.selected);
    const next = key === "]" ? at + 1 : (at < 0 ? labels.length : at) - 1;
    if (labels.length) goTo(labels[(next + labels.length) % labels.length]);
    return true;
  }
  const lesion = lesionOf(state.selected);
  if (!lesion) return false;
  if (key === "g") return goTo(lesion.label), true;
  if (key === "a") return describe(lesion.label, { accepted: !lesion.accepted }), true;
  if (key === "Delete" || key === "Backspace") return drop(lesion.label), true;
  if (key === "e") {
    const field = document.querySelector(`[data-label="${lesion.label}"] .name`);
    field?.focus();
    field?.select();
    return true;
  }
  return false;
}
