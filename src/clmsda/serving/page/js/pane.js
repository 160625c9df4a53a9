// One plane on the screen: a canvas with the slice, a canvas above it for all else, and the map between screen and voxels.

import { drawOver } from "./overlay.js";
import { set, shownSlice, state } from "./state.js";

export class Pane {
  constructor(name, element) {
    this.name = name;
    this.element = element;
    [this.image, this.over] = element.querySelectorAll("canvas");
    this.pixels = document.createElement("canvas");
    this.painted = "";
    this.zoom = 1;
    this.shift = [0, 0]; // of the middle of the CT, screen pixels
    this.hover = null; // the index under the pointer
    new ResizeObserver(() => set({})).observe(element);
  }

  get plane() {
    return state.planes[this.name];
  }

  get size() {
    return [this.element.clientWidth, this.element.clientHeight];
  }

  reset() {
    this.zoom = 1;
    this.shift = [0, 0];
  }

  // Screen pixels per millimeter: the whole CT fits at zoom 1.
  get scale() {
    const { shape, spacing } = state.volume.grid;
    const [width, height] = this.size;
    const fit = (axis, pixels) => pixels / (shape[axis] * spacing[axis]);
    return Math.max(Math.min(fit(this.plane.across, width), fit(this.plane.down, height)) * this.zoom, 1e-6);
  }

  // x = a * across + e, y = d * down + f: from voxels to CSS pixels of the pane.
  get map() {
    const { shape, spacing } = state.volume.grid;
    const { across, down, acrossSign, downSign } = this.plane;
    const [width, height] = this.size;
    const a = acrossSign * this.scale * spacing[across];
    const d = downSign * this.scale * spacing[down];
    const e = width / 2 + this.shift[0] - (a * (shape[across] - 1)) / 2;
    const f = height / 2 + this.shift[1] - (d * (shape[down] - 1)) / 2;
    return { a, d, e, f };
  }

  toScreen(index) {
    const { a, d, e, f } = this.map;
    return [a * index[this.plane.across] + e, d * index[this.plane.down] + f];
  }

  // The index under a point of the pane: within the slice exactly there, on the slice that is shown.
  toIndex(x, y) {
    const { a, d, e, f } = this.map;
    const index = [0, 0, 0];
    index[this.plane.across] = (x - e) / a;
    index[this.plane.down] = (y - f) / d;
    index[this.plane.through] = shownSlice(this.plane);
    return index;
  }

  // Zoom so that what is under a point stays there.
  zoomAt(x, y, factor) {
    const before = this.zoom;
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.5), 20);
    const ratio = this.zoom / before;
    const middle = this.size.map((value) => value / 2);
    this.shift = [x, y].map((value, n) => value - middle[n] - (value - middle[n] - this.shift[n]) * ratio);
    set({});
  }

  pan(dx, dy) {
    this.shift = [this.shift[0] + dx, this.shift[1] + dy];
    set({});
  }

  // Bring an index into sight where it is out of it.
  reveal(index) {
    const [x, y] = this.toScreen(index);
    const [width, height] = this.size;
    if (x < 20 || y < 20 || x > width - 20 || y > height - 20) this.pan(width / 2 - x, height / 2 - y);
  }

  draw(table, tableKey) {
    const [width, height] = this.size;
    if (!state.volume || width < 2 || height < 2) return;
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.image, this.over]) {
      const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
      if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    }
    this.#paint(table, tableKey);
    const { a, d, e, f } = this.map;
    const on = this.image.getContext("2d", { alpha: false });
    on.setTransform(1, 0, 0, 1, 0, 0);
    on.fillStyle = "#000";
    on.fillRect(0, 0, this.image.width, this.image.height);
    on.setTransform(a * ratio, 0, 0, d * ratio, e * ratio, f * ratio);
    on.imageSmoothingEnabled = !state.sharp;
    on.imageSmoothingQuality = "medium";
    on.drawImage(this.pixels, -0.5, -0.5); // a voxel reaches half a voxel around its center
    drawOver(this, this.over.getContext("2d"), ratio);
  }

  // The slice's pixels in their own size, anew only where slice or window changed.
  #paint(table, tableKey) {
    const { plane, pixels } = this;
    const { volume } = state;
    const key = `${state.ct.id} ${shownSlice(plane)} ${tableKey}`;
    if (key === this.painted) return;
    const [width, height] = [volume.grid.shape[plane.across], volume.grid.shape[plane.down]];
    if (pixels.width !== width || pixels.height !== height) [pixels.width, pixels.height] = [width, height];
    const on = pixels.getContext("2d");
    const data = on.createImageData(width, height);
    volume.paint(plane, shownSlice(plane), table, new Uint32Array(data.data.buffer));
    on.putImageData(data, 0, 0);
    this.painted = key;
  }
}

const table = new Uint32Array(65536);
let tableKey = "";

// From HU + 32768 to a gray, for the window as it is.
function grays() {
  const { center, width } = state.window;
  const key = `${center} ${width}`;
  if (key !== tableKey) {
    for (let n = 0; n < 65536; n++) {
      const gray = Math.min(Math.max(Math.round(((n - 32768 - center) / width + 0.5) * 255), 0), 255);
      table[n] = 0xff000000 | (gray << 16) | (gray << 8) | gray;
    }
    tableKey = key;
  }
  return table;
}

export function drawPanes(panes) {
  const found = grays();
  for (const pane of panes) pane.draw(found, tableKey);
}
