// Several photos of one person: tiles in their frame, and a list of what each does to the decision. No state.

import { showFaces } from "./faces.js";
import { number, percent } from "./words.js";

function made(name, kind, text = "") {
  const part = document.createElement(name);
  part.className = kind;
  part.textContent = text;
  return part;
}

// What this browser cannot draw (HEIC, a damaged file) leaves an empty place until the server has read it, no broken picture.
export function draw(image, source) {
  image.onload = image.onerror = ({ type }) => {
    image.classList.toggle("undrawn", type === "error");
    if (source.startsWith("blob:")) URL.revokeObjectURL(source);
  };
  image.src = source;
}

// `sources`: addresses of pictures; `outliers`: whether each does not look like the others.
export function showTiles(box, sources, outliers) {
  box.style.setProperty("--columns", Math.ceil(Math.sqrt(sources.length)));
  box.replaceChildren(...sources.map((source, at) => {
    const tile = made("span", outliers[at] ? "tile outlier" : "tile");
    const image = Object.assign(document.createElement("img"), { alt: "" });
    draw(image, source);
    tile.append(image, made("b", "", String(at + 1)));
    return tile;
  }));
}

// `photos`: files; `told`: what the server said of each (Photograph), or null before there is an answer; `who`: "first" or
// "second"; `choose` and `remove`: called with the photo's place, `choose` with the number of its face too.
export function showList(list, photos, told, who, choose, remove) {
  const shown = photos.length > 1;
  list.toggleAttribute("hidden", !shown);
  if (list.photos?.join("\n") !== photos.map(key).join("\n") || !shown) { // drawn anew, its buttons would lose the focus
    list.photos = photos.map(key);
    list.replaceChildren(...(shown ? photos.map((_, at) => row(at, who, remove)) : []));
  }
  if (!shown) return;
  [...list.children].forEach((item, at) => {
    const each = told?.[at] ?? null;
    item.classList.toggle("outlier", each?.outlier ?? false);
    item.querySelector(".says").textContent = each ? says(each) : "";
    showFaces(item.querySelector(".faces"), `photo ${at + 1} of the ${who} photos`, each?.face ?? null, photos[at], (face) => choose(at, face));
  });
}

const keys = new WeakMap();
let met = 0;
function key(photo) {
  if (!keys.has(photo)) keys.set(photo, (met += 1));
  return keys.get(photo);
}

function row(at, who, remove) {
  const item = made("li", "");
  const button = Object.assign(made("button", "quiet", "Remove"), { type: "button" });
  button.setAttribute("aria-label", `Remove photo ${at + 1} of the ${who} photos`);
  button.addEventListener("click", () => remove(at));
  const head = made("div", "scale-head");
  head.append(made("strong", "", `Photo ${at + 1}`), button);
  item.append(head, made("p", "says"), made("div", "faces"));
  return item;
}

function says({ weight, contribution, outlier }) {
  const change = `${contribution < 0 ? "lowers" : "raises"} the similarity by ${number(Math.abs(contribution))}`;
  const told = `Weighs ${percent(weight, 0)}, ${change}.`;
  return outlier ? `Does not look like the others. ${told}` : told;
}
