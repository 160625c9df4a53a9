// A CT's voxels: fetched once, with progress, checked against the grid that the server names.

import { stream } from "./api.js";

const HEADER = 348;
const INT16 = 4;

export class Volume {
  constructor(voxels, grid) {
    this.voxels = voxels;
    this.grid = grid;
  }

  // Hounsfield units of the voxel nearest to an index; null beyond the CT.
  hu(index) {
    if (!this.grid.contains(index)) return null;
    const [k, j, i] = this.grid.clamped(index.map(Math.round));
    return this.voxels[(k * this.grid.shape[1] + j) * this.grid.shape[2] + i];
  }

  // The slice `at` of a plane as pixels of a 2-D canvas, through a table from HU to color.
  paint(plane, at, table, pixels) {
    const [slices, rows, columns] = this.grid.shape;
    const strides = [rows * columns, columns, 1];
    const shape = [slices, rows, columns];
    const across = strides[plane.across];
    const width = shape[plane.across];
    for (let y = 0, to = 0; y < shape[plane.down]; y++) {
      let from = at * strides[plane.through] + y * strides[plane.down];
      for (let x = 0; x < width; x++, from += across) pixels[to++] = table[this.voxels[from] + 32768];
    }
  }
}

// Fetch a CT. told: called with the share that is here, 0..1. Throws Refusal.
export async function fetchVolume(ct, grid, told, signal) {
  const buffer = await stream(`/api/ct/${ct}/volume.nii`, told, signal);
  const head = new DataView(buffer);
  const at = head.getFloat32(108, true);
  const shape = [3, 2, 1].map((axis) => head.getInt16(40 + 2 * axis, true));
  const count = shape[0] * shape[1] * shape[2];
  if (head.getInt32(0, true) !== HEADER || head.getInt16(70, true) !== INT16 || buffer.byteLength < at + 2 * count) {
    throw new Error("the CT came damaged from the server: reload the page");
  }
  if (String(shape) !== String(grid.shape) || !lies(head, grid)) {
    throw new Error("the CT's voxels do not lie where the server says: reload the page");
  }
  return new Volume(new Int16Array(buffer, at, count), grid);
}

// Whether the NIfTI's affine (column, row, slice to RAS) is the grid's (slice, row, column to LPS).
function lies(head, grid) {
  return [0, 1, 2].every((row) =>
    [2, 1, 0, 3].every((axis, place) => {
      const found = head.getFloat32(280 + 16 * row + 4 * place, true) * (row < 2 ? -1 : 1);
      return Math.abs(found - grid.affine[row][axis]) < 1e-3 + 1e-5 * Math.abs(found);
    }),
  );
}
