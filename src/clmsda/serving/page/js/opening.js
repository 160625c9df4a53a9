// Opening a CT: one that was named at the start, one that is sent, one of the PACS; and closing it again.

import { get, post, remove, send } from "./api.js";
import { Grid } from "./grid.js";
import { planesOf } from "./planes.js";
import { take } from "./prompts.js";
import { set, state } from "./state.js";
import { attempt, during, say, share } from "./work.js";
import { fetchVolume } from "./volume.js";

const dialog = document.getElementById("opening");
const found = dialog.querySelector(".found");
let opened = () => {};
let list = 0; // which list the dialog was last asked for

// panes: what to reset for another CT. then: called when one is open.
export function listenToOpening(then) {
  opened = then;
  for (const input of dialog.querySelectorAll("input[type=file]")) {
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = "";
      if (files.length) upload(files);
    });
  }
  dialog.querySelector(".pacs").addEventListener("submit", (event) => {
    event.preventDefault();
    open({ pacs: { series: event.target.uid.value.trim() } });
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    const files = await dropped(event.dataTransfer);
    if (files.length) upload(files);
  });
}

// At the start: what is open already, or the one CT that was given; else what there is to choose from.
export async function begin() {
  await refresh();
  const { desk } = state;
  const asked = desk.open.find((one) => `#${one.id}` === location.hash) ?? desk.open.at(-1);
  if (asked) return show(asked.id);
  const { given } = desk;
  if (given.length === 1 && !given[0].error && (given[0].series === null || given[0].series.length === 1)) {
    return open({ given: 0, series: given[0].series?.[0].uid ?? null });
  }
  if (given.length) await choose();
}

// The desk, once all that was given has been looked through.
async function refresh() {
  let desk = await get("/api/desk");
  set({ desk });
  while (desk.given.some((one) => one.listed === false)) {
    share("looking through the files", null);
    await new Promise((wake) => setTimeout(wake, 300));
    desk = await get("/api/desk");
  }
  set({ desk });
}

// The dialog is there at once, its list as soon as the server has answered; by then another may be asked for, or none.
export async function choose() {
  const mine = (list += 1);
  if (!dialog.open) dialog.showModal();
  const answered = await attempt(async () => {
    await refresh();
    return true;
  });
  if (mine !== list || !dialog.open) return;
  if (!answered) return leave();
  const { desk } = state;
  const items = [
    ...desk.open.map((one) => entry(one.name, `open, ${one.shape.join(" × ")}`, () => enter(one.id), () => close(one.id))),
    ...desk.given.flatMap((one) => givenEntries(one)),
  ];
  found.replaceChildren(...items);
  dialog.querySelector(".pacs").hidden = !desk.pacs;
}

function leave() {
  list += 1;
  dialog.close();
}

function givenEntries(one) {
  if (one.error) return [entry(one.name, one.error)];
  if (one.series === null) return [entry(one.name, "", () => open({ given: one.index, series: null }))];
  if (!one.series.length) return [entry(one.name, "holds no CT series")];
  return one.series.map((series) => entry(...seriesText(series, one.name), () => open({ given: one.index, series: series.uid })));
}

const seriesText = (series, name) => [series.description || name, `${name}, ${series.slices} slices, …${series.uid.slice(-12)}`];

// A line of the list. act: none for what cannot be opened. drop: closes it.
function entry(title, facts, act = null, drop = null) {
  const row = Object.assign(document.createElement("div"), { className: "entry" });
  const button = Object.assign(document.createElement("button"), { disabled: !act });
  button.append(Object.assign(document.createElement("b"), { textContent: title }));
  button.append(Object.assign(document.createElement("span"), { textContent: facts }));
  if (act) button.addEventListener("click", act);
  row.append(button);
  if (drop) {
    const away = Object.assign(document.createElement("button"), { textContent: "Close it" });
    away.setAttribute("aria-label", `Close ${title}`);
    away.addEventListener("click", drop);
    row.append(away);
  }
  return row;
}

function enter(id) {
  leave();
  return show(id);
}

async function close(id) {
  await attempt(() => remove(`/api/ct/${id}`));
  if (state.ct?.id === id) set({ ct: null, volume: null, planes: null, masks: new Map(), selected: null });
  await choose();
}

async function open(what) {
  leave();
  const id = await during("opening the CT", async (follow) => (await follow((await post("/api/open", what)).job)).id);
  if (id) await show(id);
}

async function upload(files) {
  leave();
  const most = state.desk?.most_upload_bytes ?? Infinity;
  const size = files.reduce((sum, file) => sum + file.size, 0);
  if (size > most) return say(`That is ${mb(size)} MB; this server takes at most ${mb(most)} MB.`, "error");
  const result = await during("sending the CT", async (follow) => follow((await send("/api/upload", files)).job));
  if (result?.id) return show(result.id);
  if (!result?.upload) return;
  found.replaceChildren(
    ...result.series.map((one) => entry(...seriesText(one, "sent"), () => open({ upload: result.upload, series: one.uid }))),
  );
  dialog.showModal();
}

const mb = (count) => Math.ceil(count / 2 ** 20);

async function show(id) {
  await during("fetching the CT", async () => {
    const ct = await get(`/api/ct/${id}`);
    const grid = new Grid(ct.grid.shape, ct.grid.affine_lps);
    const stop = new AbortController();
    const volume = await fetchVolume(id, grid, (done) => share("fetching the CT", done, stop), stop.signal);
    const cross = grid.shape.map((count) => (count - 1) / 2);
    set({ volume, planes: planesOf(grid), masks: new Map(), selected: null, cross, drawing: null, pending: null, ct: { ...ct, lesions: [] } });
    history.replaceState(null, "", `#${id}`);
    opened();
    await take(ct);
  });
}

// All files of what was dropped, folders too.
async function dropped(transfer) {
  const roots = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!roots.length) return [...transfer.files];
  const files = [];
  const walk = async (node) => {
    if (node.isFile) return files.push(await new Promise((done, failed) => node.file(done, failed)));
    const reader = node.createReader();
    for (;;) {
      const inside = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!inside.length) return;
      for (const one of inside) await walk(one);
    }
  };
  for (const root of roots) await walk(root);
  return files;
}
