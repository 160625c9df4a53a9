// Axial, coronal and sagittal: which axis of the voxels runs through each, which across the screen and which down.
//
// The planes are those of the voxels, so that what is shown is what was scanned, oblique series too. Screens are laid
// out as radiologists read them: the patient's right on the left, anterior up, head up, anterior left in sagittals.

const LETTERS = [["R", "L"], ["A", "P"], ["I", "S"]];

// name: its LPS axes through, across and down the screen, and which way the screen's right and bottom point.
const LAYOUT = {
  axial: { through: 2, across: 0, down: 1, right: 1, bottom: 1 },
  coronal: { through: 1, across: 0, down: 2, right: 1, bottom: -1 },
  sagittal: { through: 0, across: 1, down: 2, right: 1, bottom: -1 },
};

export const NAMES = Object.keys(LAYOUT);

// {axial, coronal, sagittal}: axes of the voxels (0 slice, 1 row, 2 column), and the sign of an index along the screen.
export function planesOf(grid) {
  const axisOf = nearestAxes(grid);
  return Object.fromEntries(
    Object.entries(LAYOUT).map(([name, layout]) => {
      const across = axisOf[layout.across];
      const down = axisOf[layout.down];
      const acrossSign = layout.right * Math.sign(grid.step(across)[layout.across]) || 1;
      const downSign = layout.bottom * Math.sign(grid.step(down)[layout.down]) || 1;
      const right = grid.step(across).map((value) => value * acrossSign);
      const bottom = grid.step(down).map((value) => value * downSign);
      const letters = { right: letter(right), bottom: letter(bottom), left: letter(neg(right)), top: letter(neg(bottom)) };
      return [name, { name, through: axisOf[layout.through], across, down, acrossSign, downSign, letters }];
    }),
  );
}

// For x, y and z the axis of the voxels that runs most along it, each axis once.
function nearestAxes(grid) {
  const orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
  const along = (axis, lps) => Math.abs(grid.step(axis)[lps]) / grid.spacing[axis];
  const fit = (order) => order.reduce((sum, axis, lps) => sum + along(axis, lps), 0);
  return orders.reduce((best, order) => (fit(order) > fit(best) + 1e-9 ? order : best));
}

const neg = (vector) => vector.map((value) => -value);

// "L", or "LA" where a direction lies more than 20 degrees between.
function letter(vector) {
  const length = Math.hypot(...vector);
  return vector
    .map((value, axis) => [Math.abs(value) / length, LETTERS[axis][value > 0 ? 1 : 0]])
    .filter(([share]) => share > 0.34)
    .sort((a, b) => b[0] - a[0])
    .map(([, name]) => name)
    .join("");
}
