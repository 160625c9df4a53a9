// What a person says of tumors, from places in voxels to what the server is told, and what comes back.

import { bytes, get, patch, post, remove } from "./api.js";
import { Mask } from "./contours.js";
import { lesionAt, lesionOf, lesions, moveTo, set, state } from "./state.js";
import { attempt, during, report, say } from "./work.js";

const NEAR_MM = 15;

const lps = (index) => state.volume.grid.toLps(index);

// Take what the server says of the CT; masks that are not here yet are fetched first. Returns the lesions.
export async function take(ct) {
  const masks = new Map();
  await Promise.all(
    ct.lesions.map(async (one) => {
      const known = state.masks.get(one.step);
      const voxels = known ? null : new Uint8Array(await bytes(`/api/ct/${ct.id}/mask/${one.step}`));
      masks.set(one.step, known ?? new Mask(voxels, one.box.lower, one.box.shape));
    }),
  );
  const selected = ct.lesions.some((one) => one.label === state.selected) ? state.selected : null;
  set({ ct, masks, selected });
  if (ct.unsaved) say(ct.unsaved, "error");
  return ct.lesions;
}

// Which lesion a point inside, or the middle of a line or box, belongs to: one that holds it, the selected one where it
// lies near, else a new one (null).
export function meant(index) {
  const there = lesionAt(index);
  if (there) return there.label;
  const lesion = lesionOf(state.selected);
  if (!lesion) return null;
  const reach = NEAR_MM + (lesion.measurement?.long_axis_mm ?? 0) / 2;
  const { spacing } = state.volume.grid;
  const beyond = index.map((value, axis) => {
    const low = lesion.box.lower[axis];
    const high = low + lesion.box.shape[axis] - 1;
    return Math.max(low - value, value - high, 0) * spacing[axis];
  });
  return Math.hypot(...beyond) <= reach || !lesion.measurement ? lesion.label : null;
}

// A click: a point inside, or outside.
export function pointAt(index, outside) {
  if (!inCt(index)) return;
  const there = lesionAt(index);
  if (!outside && there && there.label !== state.selected) {
    set({ selected: there.label });
    moveTo(index);
    return say(`${there.name} is selected: the next click says more of it.`);
  }
  if (!outside) return prompt({ kind: "Point", lps_mm: lps(index) }, meant(index), index);
  const label = state.selected ?? lesionAt(index)?.label ?? null;
  if (label === null) return say("A point outside needs a lesion: select one first, or click into a tumor.", "error");
  return prompt({ kind: "Outside", lps_mm: lps(index) }, label, index);
}

export function lineAlong(from, to) {
  if (!inCt(from) || !inCt(to)) return;
  const label = meant(from.map((value, axis) => (value + to[axis]) / 2));
  return prompt({ kind: "RecistLine", start_mm: lps(from), end_mm: lps(to) }, label, from);
}

// A box drawn on one slice: the box in patient mm around it. A box needs a width along x and y, so one that was drawn on
// a coronal or sagittal slice is taken to be as deep as it is wide.
export function boxAround(plane, from, to) {
  if (!inCt(from) || !inCt(to)) return;
  const found = [from, to].flatMap((a) => [from, to].map((b) => {
    const index = [...from];
    index[plane.across] = a[plane.across];
    index[plane.down] = b[plane.down];
    return lps(index);
  }));
  const lower = [0, 1, 2].map((axis) => Math.min(...found.map((one) => one[axis])));
  const upper = [0, 1, 2].map((axis) => Math.max(...found.map((one) => one[axis])));
  const sides = upper.map((value, axis) => value - lower[axis]);
  if (plane.name === "coronal") deepen(lower, upper, 1, sides[0]);
  if (plane.name === "sagittal") deepen(lower, upper, 0, sides[1]);
  const middle = from.map((value, axis) => (value + to[axis]) / 2);
  return prompt({ kind: "Box", lower_mm: lower, upper_mm: upper }, meant(middle), middle);
}

function deepen(lower, upper, axis, depth) {
  const middle = (lower[axis] + upper[axis]) / 2;
  lower[axis] = middle - depth / 2;
  upper[axis] = middle + depth / 2;
}

function inCt(index) {
  const is = state.volume.grid.contains(index);
  if (!is) say("That is beyond the CT: click within it.", "error");
  return is;
}

async function prompt(said, label, index) {
  const id = state.ct.id;
  return during("outlining the tumor", async (follow) => {
    set({ pending: { said, label } });
    moveTo(index);
    try {
      const { job } = await post(`/api/ct/${id}/prompt`, { label, said });
      const result = await follow(job);
      await take(await get(`/api/ct/${id}`));
      set({ selected: result.label, outside: false });
      const lesion = lesionOf(result.label);
      if (lesion && !lesion.measurement) say(`Nothing found: ${lesion.warnings[0] ?? "no tumor there"}`, "error");
    } catch (error) {
      await refresh(id);
      throw error;
    } finally {
      set({ pending: null });
    }
  });
}

// After a refusal the server's state is the truth, if it answers.
async function refresh(id) {
  try {
    await take(await get(`/api/ct/${id}`));
  } catch (error) {
    if (error.status === 404) report(error);
  }
}

const changed = (ask) => attempt(async () => take(await ask(`/api/ct/${state.ct.id}`)));

export const undo = () => state.ct?.can_undo && changed((ct) => post(`${ct}/undo`));
export const redo = () => state.ct?.can_redo && changed((ct) => post(`${ct}/redo`));
export const clear = () => lesions().length && changed((ct) => post(`${ct}/clear`));
export const describe = (label, what) => changed((ct) => patch(`${ct}/lesions/${label}`, what));
export const drop = (label) => changed((ct) => remove(`${ct}/lesions/${label}`));

// Select a lesion and go to where it was measured.
export function goTo(label) {
  const lesion = lesionOf(label);
  if (!lesion) return;
  set({ selected: label });
  const said = lesion.steps.findLast((one) => one.lps_mm)?.lps_mm;
  const center = lesion.measurement?.center_lps ?? said;
  if (center) moveTo(state.volume.grid.toIndex(center));
}
