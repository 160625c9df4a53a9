// The border of a mask's slice by marching squares at 0.5, as `clmsda.contours` draws it: halfway between the centers
// of inside and outside voxels; voxels that touch at a corner only are kept apart.

// Steps through a cell of four voxel centers as [x, y] in half voxels from its upper left one; a cell's code has the
// bits 1, 2, 4, 8 for upper left, upper right, lower left and lower right.
const [TOP, BOTTOM, LEFT, RIGHT] = [[1, 0], [1, 2], [0, 1], [2, 1]];
const STEPS = {
  1: [[TOP, LEFT]], 2: [[RIGHT, TOP]], 3: [[RIGHT, LEFT]], 4: [[LEFT, BOTTOM]], 5: [[TOP, BOTTOM]],
  6: [[RIGHT, TOP], [LEFT, BOTTOM]], 7: [[RIGHT, BOTTOM]], 8: [[BOTTOM, RIGHT]], 9: [[TOP, LEFT], [BOTTOM, RIGHT]],
  10: [[BOTTOM, TOP]], 11: [[BOTTOM, LEFT]], 12: [[LEFT, RIGHT]], 13: [[TOP, RIGHT]], 14: [[LEFT, TOP]],
};

// A lesion's mask: the box of voxels that holds it. lower, shape: (slice, row, column).
export class Mask {
  constructor(voxels, lower, shape) {
    this.voxels = voxels;
    this.lower = lower;
    this.shape = shape;
    this.cache = new Map();
  }

  // Whether the voxel nearest to an index belongs to it.
  holds(index) {
    const at = index.map((value, axis) => Math.round(value) - this.lower[axis]);
    if (at.some((value, axis) => value < 0 || value >= this.shape[axis])) return false;
    return this.voxels[(at[0] * this.shape[1] + at[1]) * this.shape[2] + at[2]] > 0;
  }

  // [[x, y], [x, y]] steps along the border on slice `at` of a plane, in voxels across and down.
  border(plane, at) {
    const key = `${plane.through} ${plane.across} ${at}`;
    if (!this.cache.has(key)) this.cache.set(key, this.#march(plane, at - this.lower[plane.through]));
    return this.cache.get(key);
  }

  #march({ through, across, down }, at) {
    if (at < 0 || at >= this.shape[through]) return [];
    const strides = [this.shape[1] * this.shape[2], this.shape[2], 1];
    const [width, height] = [this.shape[across], this.shape[down]];
    const inside = (x, y) =>
      x >= 0 && y >= 0 && x < width && y < height && this.voxels[at * strides[through] + x * strides[across] + y * strides[down]] > 0;
    const steps = [];
    for (let y = -1; y < height; y++) {
      for (let x = -1; x < width; x++) {
        const code = inside(x, y) + 2 * inside(x + 1, y) + 4 * inside(x, y + 1) + 8 * inside(x + 1, y + 1);
        for (const step of STEPS[code] ?? []) {
          steps.push(step.map(([dx, dy]) => [this.lower[across] + x + dx / 2, this.lower[down] + y + dy / 2]));
        }
      }
    }
    return steps;
  }
}
