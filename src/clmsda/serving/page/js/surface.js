// The surface of a mask for the 3-D view: surface nets, a vertex in each cell that the border crosses, then smoothed.

const CORNERS = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => [(n >> 2) & 1, (n >> 1) & 1, n & 1]);
const EDGES = [];
for (let a = 0; a < 8; a++) for (const bit of [1, 2, 4]) if (!(a & bit)) EDGES.push([a, a | bit]);

// {points: RAS mm, three by three; triangles: indices of points}.
export function surfaceOf(mask, grid, smoothings = 3) {
  const { vertices, at } = cells(mask);
  const triangles = faces(mask, at);
  for (let n = 0; n < smoothings; n++) smooth(vertices, triangles);
  const points = new Float32Array(3 * vertices.length);
  vertices.forEach((index, n) => {
    const [x, y, z] = grid.toLps(index.map((value, axis) => value + mask.lower[axis]));
    points.set([-x, -y, z], 3 * n);
  });
  return { points, triangles: new Uint32Array(triangles.flat()) };
}

const inside = ({ voxels, shape: [K, J, I] }, k, j, i) =>
  k >= 0 && j >= 0 && i >= 0 && k < K && j < J && i < I && voxels[(k * J + j) * I + i] > 0;

// A vertex per cell of eight voxel centers that are not all alike: the mean of where its edges cross the border.
function cells(mask) {
  const vertices = [];
  const at = new Map();
  const [K, J, I] = mask.shape;
  for (let k = -1; k < K; k++) {
    for (let j = -1; j < J; j++) {
      for (let i = -1; i < I; i++) {
        const found = CORNERS.map(([a, b, c]) => inside(mask, k + a, j + b, i + c));
        const crossed = EDGES.filter(([a, b]) => found[a] !== found[b]);
        if (!crossed.length) continue;
        const mean = [0, 1, 2].map((axis) => crossed.reduce((sum, [a, b]) => sum + CORNERS[a][axis] + CORNERS[b][axis], 0) / (2 * crossed.length));
        at.set(`${k},${j},${i}`, vertices.length);
        vertices.push([k + mean[0], j + mean[1], i + mean[2]]);
      }
    }
  }
  return { vertices, at };
}

// Two triangles for each pair of neighboring voxels of which one is inside.
function faces(mask, at) {
  const triangles = [];
  const [K, J, I] = mask.shape;
  for (let axis = 0; axis < 3; axis++) {
    const step = [0, 0, 0];
    step[axis] = 1;
    const [u, v] = [0, 1, 2].filter((one) => one !== axis);
    for (let k = -step[0]; k < K; k++) {
      for (let j = -step[1]; j < J; j++) {
        for (let i = -step[2]; i < I; i++) {
          const here = inside(mask, k, j, i);
          if (here === inside(mask, k + step[0], j + step[1], i + step[2])) continue;
          const corner = (du, dv) => {
            const cell = [k, j, i];
            cell[u] -= du;
            cell[v] -= dv;
            return at.get(cell.join());
          };
          const [a, b, c, d] = [corner(1, 1), corner(0, 1), corner(0, 0), corner(1, 0)];
          const out = here === (axis !== 1);
          triangles.push(...(out ? [[a, b, c], [a, c, d]] : [[a, c, b], [a, d, c]]));
        }
      }
    }
  }
  return triangles;
}

// Each vertex half-way to the mean of its neighbors.
function smooth(vertices, triangles) {
  const sums = vertices.map(() => [0, 0, 0, 0]);
  for (const [a, b, c] of triangles) {
    for (const [p, q] of [[a, b], [b, c], [c, a]]) {
      for (const [to, from] of [[p, q], [q, p]]) {
        for (let axis = 0; axis < 3; axis++) sums[to][axis] += vertices[from][axis];
        sums[to][3] += 1;
      }
    }
  }
  sums.forEach((sum, n) => {
    if (sum[3]) vertices[n] = vertices[n].map((value, axis) => (value + sum[axis] / sum[3]) / 2);
  });
}
