// Where voxels are. Indices are (slice, row, column), positions LPS millimeters, as everywhere in clmsda.

export class Grid {
  // shape: [slices, rows, columns]. affine: 4x4 in rows, from (slice, row, column, 1) to LPS mm.
  constructor(shape, affine) {
    this.shape = shape;
    this.affine = affine;
    this.inverse = inverted(affine);
    this.spacing = [0, 1, 2].map((axis) => Math.hypot(...this.step(axis)));
  }

  // The way in LPS mm from a voxel to its next neighbor along an axis.
  step(axis) {
    return [0, 1, 2].map((row) => this.affine[row][axis]);
  }

  toLps(index) {
    return this.affine.slice(0, 3).map((row) => row[0] * index[0] + row[1] * index[1] + row[2] * index[2] + row[3]);
  }

  toIndex(lps) {
    const from = [0, 1, 2].map((row) => lps[row] - this.affine[row][3]);
    return this.inverse.map((row) => row[0] * from[0] + row[1] * from[1] + row[2] * from[2]);
  }

  // Whether an index lies in the box; voxels reach half a voxel beyond their centers.
  contains(index) {
    return index.every((value, axis) => value >= -0.5 && value <= this.shape[axis] - 0.5);
  }

  clamped(index) {
    return index.map((value, axis) => Math.min(Math.max(value, 0), this.shape[axis] - 1));
  }
}

function inverted(m) {
  const [[a, b, c], [d, e, f], [g, h, i]] = m;
  const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  const cofactors = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ];
  return cofactors.map((row) => row.map((value) => value / det));
}
