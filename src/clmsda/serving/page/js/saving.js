// The save dialog: downloads, files in the server's folder, objects in the PACS.

import { download, finished, post } from "./api.js";
import { lesions, state } from "./state.js";

const dialog = document.getElementById("saving");
const told = dialog.querySelector(".told");
const boxes = [...dialog.querySelectorAll("input[type=checkbox]")];
const buttons = [...dialog.querySelectorAll(".end button:not(.close)")];
const DICOM = ["seg.dcm", "rtstruct.dcm", "sr.dcm"];

export function listenToSaving() {
  dialog.querySelector(".to-here").addEventListener("click", () => run(toHere));
  dialog.querySelector(".to-folder").addEventListener("click", () => run(() => toServer("folder", chosen())));
  dialog.querySelector(".to-pacs").addEventListener("click", () => run(toPacs));
}

export function save() {
  if (!state.ct) return;
  const found = lesions().filter((one) => one.measurement);
  const accepted = found.filter((one) => one.accepted).length;
  dialog.querySelector(".which").textContent = found.length
    ? `${found.length} ${found.length === 1 ? "lesion" : "lesions"}, ${accepted} accepted.`
    : "There is no lesion yet: click into a tumor first.";
  dialog.querySelector(".to-folder").hidden = !state.desk.saves.folder;
  dialog.querySelector(".to-pacs").hidden = !state.desk.saves.pacs;
  for (const button of buttons) button.disabled = !found.length;
  tell("");
  dialog.showModal();
}

const chosen = () => boxes.filter((box) => box.checked).map((box) => box.value);

function tell(text, kind = "") {
  told.textContent = text;
  told.className = `told ${kind}`;
}

async function run(work) {
  if (!chosen().length) return tell("Choose at least one of them.", "error");
  for (const button of buttons) button.disabled = true;
  try {
    await work();
  } catch (error) {
    tell(error.message, "error");
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

async function toHere() {
  const kinds = chosen();
  for (const [n, kind] of kinds.entries()) {
    tell(`Writing ${kind} (${n + 1} of ${kinds.length})…`);
    await download(`/api/ct/${state.ct.id}/save/${kind}`, kind);
  }
  tell(`Downloaded: ${kinds.join(", ")}.`, "done");
}

// A PACS keeps DICOM objects only.
async function toPacs() {
  const kinds = chosen().filter((kind) => DICOM.includes(kind));
  if (!kinds.length) return tell("A PACS takes SEG, RTSTRUCT and SR: choose at least one of them.", "error");
  await toServer("pacs", kinds);
}

async function toServer(to, kinds) {
  tell("Writing…");
  const { job } = await post(`/api/ct/${state.ct.id}/save`, { kinds, to });
  const { written } = await finished(job, ({ doing }) => tell(`${doing}…`));
  tell(`${to === "pacs" ? "Stored in the PACS" : "Written"}: ${written.join(", ")}.`, "done");
}
