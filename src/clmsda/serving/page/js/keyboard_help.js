// The list of keys, as `?` shows it.

import { HELP } from "./keys.js";

const dialog = document.getElementById("keys");

export function fillHelp() {
  const made = (tag, text = "") => Object.assign(document.createElement(tag), { textContent: text });
  for (const [title, lines] of HELP) {
    const part = made("section");
    const list = made("dl");
    for (const [keys, what] of lines) list.append(made("dt", keys), made("dd", what));
    part.append(made("h3", title), list);
    dialog.querySelector(".columns").append(part);
  }
}

export const help = () => dialog.showModal();
