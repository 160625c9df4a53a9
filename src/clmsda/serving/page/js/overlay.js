// What is drawn over a slice: contours, measured axes, what was said, the crosshair, letters for directions, a scale.

import { colorOf, lesions, maskOf, shownSlice, state } from "./state.js";

const MARK = 6;

export function drawOver(pane, on, ratio) {
  on.setTransform(ratio, 0, 0, ratio, 0, 0);
  on.clearRect(0, 0, ...pane.size);
  on.lineCap = on.lineJoin = "round";
  crosshair(pane, on);
  if (state.contours) {
    for (const lesion of lesions()) axes(pane, on, lesion);
    for (const lesion of lesions()) outline(pane, on, lesion);
    for (const lesion of lesions()) {
      for (const said of lesion.steps) mark(pane, on, said, colorOf(lesion.label), lesion.label === state.selected);
    }
  }
  if (state.pending) pending(pane, on);
  if (state.drawing) drawn(pane, on);
  letters(pane, on);
  scale(pane, on);
}

// Twice: dark and wide below, so that a line shows on lung and on bone alike.
function stroke(on, color, width, path, dash = []) {
  on.setLineDash(dash);
  const shade = dash.length ? ["rgba(0,0,0,.45)", width + 1] : ["rgba(0,0,0,.65)", width + 2];
  for (const [style, wide] of [shade, [color, width]]) {
    on.beginPath();
    path();
    on.strokeStyle = style;
    on.lineWidth = wide;
    on.stroke();
  }
  on.setLineDash([]);
}

function lines(on, points) {
  points.forEach(([x, y], n) => (n ? on.lineTo(x, y) : on.moveTo(x, y)));
}

function outline(pane, on, lesion) {
  const mask = maskOf(lesion);
  if (!mask) return;
  const { a, d, e, f } = pane.map;
  const steps = mask.border(pane.plane, shownSlice(pane.plane));
  if (!steps.length) return;
  const chosen = lesion.label === state.selected;
  stroke(on, colorOf(lesion.label), chosen ? 2 : 1.5, () => {
    for (const [from, to] of steps) {
      on.moveTo(a * from[0] + e, d * from[1] + f);
      on.lineTo(a * to[0] + e, d * to[1] + f);
    }
  });
  const right = steps.reduce((best, [from]) => (a * from[0] > a * best[0] ? from : best), steps[0][0]);
  label(on, `${lesion.label}`, a * right[0] + e + 6, d * right[1] + f, colorOf(lesion.label));
}

// The long and the short axis, on the slice on which they were measured.
function axes(pane, on, lesion) {
  const measured = lesion.measurement;
  if (!measured) return;
  for (const [ends, width] of [[measured.long_axis_lps, 1.5], [measured.short_axis_lps, 1]]) {
    const found = ends.map((end) => state.volume.grid.toIndex(end));
    if (found.some((index) => away(pane, index) > 0.5)) continue;
    stroke(on, colorOf(lesion.label), width, () => lines(on, found.map((index) => pane.toScreen(index))), [4, 4]);
  }
}

// How many slices an index is away from the one shown.
const away = (pane, index) => Math.abs(index[pane.plane.through] - shownSlice(pane.plane));

function mark(pane, on, said, color, bright) {
  const to = (lps) => state.volume.grid.toIndex(lps);
  on.globalAlpha = bright ? 1 : 0.6;
  if (said.lps_mm) {
    const index = to(said.lps_mm);
    const far = away(pane, index);
    on.globalAlpha *= far <= 0.5 ? 1 : far <= 2.5 ? 0.35 : 0;
    if (on.globalAlpha) sign(on, pane.toScreen(index), said.kind === "Outside", color);
  } else if (said.kind === "RecistLine") {
    const ends = [said.start_mm, said.end_mm].map(to);
    if (ends.every((index) => away(pane, index) <= 0.5)) ticked(on, ends.map((index) => pane.toScreen(index)), color);
  } else if (said.kind === "Box") {
    hull(pane, on, corners(said.lower_mm, said.upper_mm).map(to), color);
  }
  on.globalAlpha = 1;
}

// Plus for inside, minus in a ring for outside: told apart without color, too.
function sign(on, [x, y], outside, color) {
  stroke(on, outside ? "#ff6b6b" : color, 1.75, () => {
    on.moveTo(x - MARK, y);
    on.lineTo(x + MARK, y);
    if (!outside) {
      on.moveTo(x, y - MARK);
      on.lineTo(x, y + MARK);
    } else {
      on.moveTo(x + MARK + 3, y);
      on.arc(x, y, MARK + 3, 0, 2 * Math.PI);
    }
  });
}

// A line with a tick at each end.
function ticked(on, [from, to], color) {
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]) || 1;
  const [nx, ny] = [((from[1] - to[1]) / length) * MARK, ((to[0] - from[0]) / length) * MARK];
  stroke(on, color, 1.25, () => {
    lines(on, [from, to]);
    for (const [x, y] of [from, to]) lines(on, [[x - nx, y - ny], [x + nx, y + ny]]);
  });
}

export function corners(lower, upper) {
  return [0, 1, 2, 3, 4, 5, 6, 7].map((n) => [0, 1, 2].map((axis) => ((n >> axis) & 1 ? upper : lower)[axis]));
}

// What corners enclose, where the shown slice runs through them.
function hull(pane, on, found, color) {
  const depths = found.map((index) => index[pane.plane.through]);
  const at = shownSlice(pane.plane);
  if (at < Math.min(...depths) - 0.5 || at > Math.max(...depths) + 0.5) return;
  const around = convex(found.map((index) => pane.toScreen(index)));
  stroke(on, color, 1.25, () => lines(on, [...around, around[0]]), [6, 4]);
}

function convex(points) {
  const sorted = [...points].sort((p, q) => p[0] - q[0] || p[1] - q[1]);
  const half = (list) =>
    list.reduce((chain, p) => {
      const left = ([a, b]) => (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]);
      while (chain.length > 1 && left(chain.slice(-2)) <= 0) chain.pop();
      return [...chain, p];
    }, []);
  return [...half(sorted).slice(0, -1), ...half(sorted.reverse()).slice(0, -1)];
}

// What is worked on: its mark in white, until the lesion is there.
function pending(pane, on) {
  mark(pane, on, state.pending.said, "#ffffff", true);
}

function drawn(pane, on) {
  const { kind, from, to } = state.drawing;
  if (state.drawing.pane !== pane.name || !to) {
    if (state.drawing.pane === pane.name) sign(on, pane.toScreen(from), false, "#fff");
    return;
  }
  const [start, end] = [pane.toScreen(from), pane.toScreen(to)];
  if (kind === "line") ticked(on, [start, end], "#fff");
  else stroke(on, "#fff", 1.25, () => on.rect(start[0], start[1], end[0] - start[0], end[1] - start[1]), [6, 4]);
  const [p, q] = [from, to].map((index) => state.volume.grid.toLps(index));
  const sides = [pane.plane.across, pane.plane.down].map((axis) => Math.abs(to[axis] - from[axis]) * state.volume.grid.spacing[axis]);
  const text = kind === "line" ? Math.hypot(...p.map((value, n) => value - q[n])).toFixed(1) : sides.map((side) => side.toFixed(0)).join(" x ");
  label(on, `${text} mm`, end[0] + 10, end[1] - 10, "#fff");
}

// A gap in the middle, so that it never hides what it points at.
function crosshair(pane, on) {
  const [x, y] = pane.toScreen(state.cross).map((value) => Math.round(value) + 0.5);
  const [width, height] = pane.size;
  on.strokeStyle = "rgba(120,190,255,.5)";
  on.lineWidth = 1;
  on.beginPath();
  for (const [from, to] of [[[0, y], [x - 14, y]], [[x + 14, y], [width, y]], [[x, 0], [x, y - 14]], [[x, y + 14], [x, height]]]) {
    lines(on, [from, to]);
  }
  on.stroke();
}

function label(on, text, x, y, color, align = "left") {
  on.font = "600 12px system-ui, sans-serif";
  on.textAlign = align;
  on.textBaseline = "middle";
  on.lineWidth = 3;
  on.strokeStyle = "rgba(0,0,0,.75)";
  on.strokeText(text, x, y);
  on.fillStyle = color;
  on.fillText(text, x, y);
}

function letters(pane, on) {
  const [width, height] = pane.size;
  const { left, right, top, bottom } = pane.plane.letters;
  label(on, left, 8, height / 2, "#9fb3c8");
  label(on, right, width - 8, height / 2, "#9fb3c8", "right");
  label(on, top, width / 2, 12, "#9fb3c8", "center");
  label(on, bottom, width / 2, height - 12, "#9fb3c8", "center");
}

// A bar of a round length, at most a quarter of the pane.
function scale(pane, on) {
  const [width, height] = pane.size;
  const most = width / 4 / pane.scale;
  const mm = [200, 100, 50, 20, 10, 5, 2, 1].find((one) => one <= most) ?? 1;
  const long = mm * pane.scale;
  stroke(on, "#9fb3c8", 1.25, () => {
    lines(on, [[width - 12 - long, height - 14], [width - 12 - long, height - 10], [width - 12, height - 10], [width - 12, height - 14]]);
  });
  label(on, mm >= 10 ? `${mm / 10} cm` : `${mm} mm`, width - 12 - long / 2, height - 20, "#9fb3c8", "center");
}
