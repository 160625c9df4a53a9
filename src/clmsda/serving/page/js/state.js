// What the page knows, in one place; who draws it subscribes. Nothing here touches the document.

export const PRESETS = { lung: { width: 1500, center: -600 }, mediastinum: { width: 400, center: 40 } };
const COLORS = ["#4dd0e1", "#ffb74d", "#b5e550", "#f48fb1", "#b39dff", "#fff176", "#ff8a65", "#80e5b8"];

export const state = {
  desk: null,
  ct: null, // as /api/ct/{id} says
  volume: null,
  planes: null,
  masks: new Map(), // by step
  selected: null, // a lesion's label, or null: the next click makes a new one
  cross: [0, 0, 0], // (slice, row, column), fractions too
  window: { ...PRESETS.lung },
  tool: "point", // point, line, box, look, window
  outside: false,
  contours: true,
  sharp: false,
  active: "axial", // the pane that keys speak to
  big: null, // the pane that fills the view
  pending: null, // what was said and is worked on: {said, label}
  drawing: null, // a line or box being drawn: {kind, pane, from, to} as indices
};

const subscribers = new Set();
let asked = false;

export const subscribe = (draw) => subscribers.add(draw);

// Change what is known; all is drawn once before the next frame.
export function set(changes) {
  Object.assign(state, changes);
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    for (const draw of subscribers) draw();
  });
}

export const lesions = () => state.ct?.lesions ?? [];
export const lesionOf = (label) => lesions().find((one) => one.label === label) ?? null;
export const maskOf = (lesion) => state.masks.get(lesion.step) ?? null;
export const colorOf = (label) => COLORS[(label - 1) % COLORS.length];

// The lesion whose mask holds an index.
export const lesionAt = (index) => lesions().find((one) => maskOf(one)?.holds(index)) ?? null;

// Move the crosshair, within the CT.
export function moveTo(index) {
  if (state.volume) set({ cross: state.volume.grid.clamped(index) });
}

export const shownSlice = (plane) => Math.round(state.cross[plane.through]);
