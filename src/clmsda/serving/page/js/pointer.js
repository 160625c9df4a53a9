// Mouse, pen and fingers on a pane.
//
// Mouse: click says, drag moves the crosshair (or draws, with a tool), right drag sets the window, middle drag pans, the
// wheel goes through slices, with Ctrl it zooms. Fingers: tap says, long press says outside, one moves through slices,
// two zoom and pan.

import { boxAround, lineAlong, pointAt } from "./prompts.js";
import { moveTo, set, shownSlice, state } from "./state.js";

const STILL_PX = 5;
const LONG_MS = 550;

export function listen(pane) {
  const on = pane.over;
  const pointers = new Map();
  let gesture = null;
  let timer = null;

  const place = (event) => {
    const box = on.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  on.addEventListener("contextmenu", (event) => event.preventDefault());

  on.addEventListener("pointerdown", (event) => {
    if (!state.volume) return;
    pane.element.focus({ preventScroll: true });
    on.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    clearTimeout(timer);
    if (pointers.size === 2) {
      gesture = pinch([...pointers.values()]);
      set({ drawing: null });
      return;
    }
    gesture = begin(pane, event, place(event));
    if (event.pointerType === "touch" && gesture.kind === "tap") {
      timer = setTimeout(() => {
        if (gesture?.kind !== "tap" || gesture.moved) return;
        navigator.vibrate?.(15);
        pointAt(pane.toIndex(...gesture.from), true);
        gesture = null;
      }, LONG_MS);
    }
  });

  on.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (state.volume) {
      pane.hover = pane.toIndex(...at);
      if (!gesture) return set({ hovered: pane.name });
    }
    if (!pointers.has(event.pointerId) || !gesture) return;
    pointers.set(event.pointerId, at);
    if (gesture.kind === "pinch") return pinched(pane, gesture, [...pointers.values()]);
    if (Math.hypot(at[0] - gesture.from[0], at[1] - gesture.from[1]) > STILL_PX) gesture.moved = true;
    if (gesture.moved) moved(pane, gesture, at);
    gesture.last = at;
  });

  on.addEventListener("pointerup", (event) => {
    clearTimeout(timer);
    pointers.delete(event.pointerId);
    const done = gesture;
    if (done?.kind === "pinch" && pointers.size) return;
    gesture = null;
    if (done) end(pane, done, place(event));
  });

  on.addEventListener("pointercancel", (event) => {
    clearTimeout(timer);
    pointers.delete(event.pointerId);
    gesture = null;
    set({ drawing: null });
  });

  on.addEventListener("pointerleave", () => {
    pane.hover = null;
    set({ hovered: null });
  });

  let turned = 0;
  on.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      if (!state.volume) return;
      if (event.ctrlKey || event.metaKey) return pane.zoomAt(...place(event), Math.exp(-event.deltaY / 300));
      turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
      const steps = Math.trunc(turned / 40) || (Math.abs(event.deltaY) >= 40 ? Math.sign(turned) : 0);
      if (!steps) return;
      turned -= steps * 40;
      if (Math.abs(turned) > 40) turned = 0;
      scroll(pane, Math.sign(steps) * Math.max(1, Math.round(Math.abs(steps) / 3)));
    },
    { passive: false },
  );
}

// Through slices: down the wheel is towards the feet, the back, or the patient's right.
export function scroll(pane, steps) {
  const { through } = pane.plane;
  const axis = { axial: 2, coronal: 1, sagittal: 0 }[pane.name];
  const towards = { axial: -1, coronal: 1, sagittal: -1 }[pane.name];
  const sign = Math.sign(state.volume.grid.step(through)[axis]) * towards || 1;
  const cross = [...state.cross];
  cross[through] = shownSlice(pane.plane) + sign * steps;
  moveTo(cross);
}

function begin(pane, event, from) {
  const base = { from, last: from, moved: false, outside: event.shiftKey || event.altKey, touch: event.pointerType === "touch" };
  if (event.button === 1 || (event.button === 0 && event.ctrlKey)) return { ...base, kind: "pan" };
  if (event.button === 2 || state.tool === "window") return { ...base, kind: "window", window: { ...state.window } };
  if (state.tool === "line" || state.tool === "box") {
    const index = pane.toIndex(...from);
    set({ drawing: { kind: state.tool, pane: pane.name, from: index, to: null } });
    return { ...base, kind: "draw" };
  }
  return { ...base, kind: "tap", slice: shownSlice(pane.plane) };
}

function moved(pane, gesture, at) {
  const [dx, dy] = [at[0] - gesture.last[0], at[1] - gesture.last[1]];
  if (gesture.kind === "pan") return pane.pan(dx, dy);
  if (gesture.kind === "draw") return state.drawing && set({ drawing: { ...state.drawing, to: pane.toIndex(...at) } });
  if (gesture.kind === "window") {
    const { center, width } = gesture.window;
    const gain = Math.max(width, 200) / 300;
    return set({
      window: {
        center: Math.round(center + (at[1] - gesture.from[1]) * gain),
        width: Math.max(Math.round(width + (at[0] - gesture.from[0]) * gain), 1),
      },
    });
  }
  if (!gesture.touch) return moveTo(pane.toIndex(...at));
  const steps = Math.trunc((at[1] - gesture.from[1]) / 10) - Math.trunc((gesture.last[1] - gesture.from[1]) / 10);
  if (steps) scroll(pane, steps);
}

function end(pane, gesture, at) {
  if (gesture.kind === "draw") {
    const drawing = state.drawing;
    set({ drawing: null });
    if (!drawing || !gesture.moved) return;
    const to = pane.toIndex(...at);
    return drawing.kind === "line" ? lineAlong(drawing.from, to) : boxAround(pane.plane, drawing.from, to);
  }
  if (gesture.kind !== "tap" || gesture.moved) return;
  const index = pane.toIndex(...gesture.from);
  if (state.tool === "look") return moveTo(index);
  return pointAt(index, gesture.outside || state.outside);
}

const spread = ([[ax, ay], [bx, by]]) => ({ x: (ax + bx) / 2, y: (ay + by) / 2, d: Math.hypot(ax - bx, ay - by) });
const pinch = (points) => ({ kind: "pinch", ...spread(points) });

function pinched(pane, gesture, points) {
  if (points.length < 2) return;
  const now = spread(points);
  pane.pan(now.x - gesture.x, now.y - gesture.y);
  pane.zoomAt(now.x, now.y, now.d / (gesture.d || 1));
  Object.assign(gesture, now);
}
