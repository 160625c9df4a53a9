// The 3-D view, by NiiVue: the CT made coarser, and each lesion's surface. It is drawn by itself where a graphics card
// draws it; where the processor would have to, when it is asked for, so that the page stays quick.

import { Grid } from "./grid.js";
import { surfaceOf } from "./surface.js";
import { colorOf, lesions, maskOf, state, subscribe } from "./state.js";
import { say } from "./work.js";

const canvas = document.getElementById("volume");
const button = document.getElementById("three");
const RENDER = 4;
let niivue = null;
let wanted = false;
let shown = null; // the CT's voxels that are in the view
let surfaces = ""; // which lesions are
let busy = false;

export function showIn3d() {
  wanted = isQuick();
  button.addEventListener("click", () => {
    wanted = true;
    draw();
  });
  subscribe(draw);
}

function isQuick() {
  const gl = document.createElement("canvas").getContext("webgl2");
  const facts = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = facts ? gl.getParameter(facts.UNMASKED_RENDERER_WEBGL) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return Boolean(gl) && !/swiftshader|llvmpipe|software|basic render/i.test(name);
}

async function draw() {
  button.hidden = !state.volume || wanted;
  canvas.hidden = !state.volume || !wanted;
  if (busy || !wanted || !state.volume || !canvas.clientWidth) return;
  const key = lesions().map((one) => `${one.label} ${one.step} ${one.label === state.selected}`).join();
  if (shown === state.volume && surfaces === key) return;
  busy = true;
  try {
    niivue ??= await start();
    if (shown !== state.volume) await load(state.volume);
    addSurfaces();
    surfaces = key;
  } catch (error) {
    wanted = false;
    console.error(error);
    say("This browser cannot draw in 3-D; the other views are not touched by that.");
  } finally {
    busy = false;
  }
}

async function start() {
  if (!window.niivue) {
    await new Promise((done, failed) => {
      const script = Object.assign(document.createElement("script"), { src: "vendor/niivue.umd.js", onload: done, onerror: failed });
      document.head.append(script);
    });
  }
  const made = new window.niivue.Niivue({
    backColor: [0, 0, 0, 1], show3Dcrosshair: false, crosshairWidth: 0, dragAndDropEnabled: false, isOrientCube: true,
    isOrientationTextVisible: false, logLevel: "error", loadingText: "", meshXRay: 0.4, sliceType: RENDER,
    viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
  });
  await made.attachToCanvas(canvas, false);
  made.setSliceType(RENDER);
  made.setRenderAzimuthElevation(200, 15);
  return made;
}

async function load(volume) {
  const coarse = coarser(volume, isQuick() ? 192 : 96);
  for (const one of [...niivue.volumes]) niivue.removeVolume(one);
  await niivue.loadFromArrayBuffer(nifti(coarse), "ct.nii");
  const image = niivue.volumes[0];
  image.colormap = "ct_bones";
  [image.cal_min, image.cal_max] = [120, 700];
  niivue.updateGLVolume();
  shown = volume;
}

function addSurfaces() {
  const { NVMesh } = window.niivue;
  for (const mesh of [...niivue.meshes]) niivue.removeMesh(mesh);
  for (const lesion of lesions()) {
    const mask = maskOf(lesion);
    if (!mask || !lesion.measurement) continue;
    const { points, triangles } = surfaceOf(mask, state.volume.grid);
    const color = [1, 3, 5].map((at) => parseInt(colorOf(lesion.label).slice(at, at + 2), 16));
    const name = `lesion ${lesion.label}`;
    niivue.addMesh(new NVMesh(points, triangles, name, new Uint8Array([...color, 255]), 1, true, niivue.gl));
  }
  niivue.drawScene();
}

// The mean of blocks of voxels, so that no side is longer than `most`.
function coarser({ voxels, grid }, most) {
  const blocks = grid.shape.map((count) => Math.ceil(count / most));
  const shape = grid.shape.map((count, axis) => Math.max(1, Math.floor(count / blocks[axis])));
  const [, J, I] = grid.shape;
  const out = new Int16Array(shape[0] * shape[1] * shape[2]);
  const size = blocks[0] * blocks[1] * blocks[2];
  let to = 0;
  for (let k = 0; k < shape[0]; k++) {
    for (let j = 0; j < shape[1]; j++) {
      for (let i = 0; i < shape[2]; i++) {
        let sum = 0;
        for (let c = 0; c < blocks[0]; c++) {
          for (let b = 0; b < blocks[1]; b++) {
            const row = ((k * blocks[0] + c) * J + j * blocks[1] + b) * I + i * blocks[2];
            for (let a = 0; a < blocks[2]; a++) sum += voxels[row + a];
          }
        }
        out[to++] = sum / size;
      }
    }
  }
  const first = grid.toLps(blocks.map((block) => (block - 1) / 2));
  const affine = [0, 1, 2].map((row) => [0, 1, 2].map((axis) => grid.affine[row][axis] * blocks[axis]).concat(first[row]));
  return { voxels: out, grid: new Grid(shape, [...affine, [0, 0, 0, 1]]) };
}

// A NIfTI-1 file of int16: columns, rows, slices to RAS mm.
function nifti({ voxels, grid }) {
  const buffer = new ArrayBuffer(352 + voxels.byteLength);
  const head = new DataView(buffer);
  head.setInt32(0, 348, true);
  [3, grid.shape[2], grid.shape[1], grid.shape[0], 1, 1, 1, 1].forEach((value, n) => head.setInt16(40 + 2 * n, value, true));
  head.setInt16(70, 4, true);
  head.setInt16(72, 16, true);
  [1, grid.spacing[2], grid.spacing[1], grid.spacing[0], 1, 1, 1, 1].forEach((value, n) => head.setFloat32(76 + 4 * n, value, true));
  head.setFloat32(108, 352, true);
  head.setFloat32(112, 1, true);
  head.setUint8(123, 2);
  head.setInt16(254, 1, true);
  for (let row = 0; row < 3; row++) {
    [2, 1, 0, 3].forEach((axis, n) => head.setFloat32(280 + 16 * row + 4 * n, grid.affine[row][axis] * (row < 2 ? -1 : 1), true));
  }
  new Uint8Array(buffer).set([0x6e, 0x2b, 0x31], 344);
  new Int16Array(buffer, 352).set(voxels);
  return buffer;
}
