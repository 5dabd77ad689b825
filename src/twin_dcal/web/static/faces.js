// The faces of a photo that has several: the photo with a button around each, to choose which is compared.

// `box`: where to draw, or hide; `name`: of the photo; `seen`: what the server found (SeenFace) or null; `photo`: the file; `choose`: called with a number.
export function showFaces(box, name, seen, photo, choose) {
  const several = seen !== null && photo !== null && seen.boxes.length > 1;
  box.toggleAttribute("hidden", !several);
  if (!several) {
    box.replaceChildren();
    return;
  }
  const count = seen.boxes.length;
  let buttons = [...box.querySelectorAll("button")];
  if (box.photo !== photo || buttons.length !== count) { // drawn anew, the buttons would lose the focus
    box.photo = photo;
    buttons = seen.boxes.map((place, at) => faceButton(place, seen.picture, at + 1, count, choose));
    box.replaceChildren(document.createElement("p"), stage(photo, seen.picture, buttons));
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `Faces of ${name}`);
  }
  box.querySelector("p").textContent = `${count} faces; number ${seen.number} from the left is compared. Choose another here.`;
  buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(at + 1 === seen.number)));
}

function stage(photo, [width, height], buttons) {
  const made = document.createElement("div");
  made.className = "stage";
  made.style.aspectRatio = `${width} / ${height}`; // also for what the browser cannot show
  const image = document.createElement("img");
  image.alt = "";
  image.onload = image.onerror = () => URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(photo);
  made.append(image, ...buttons);
  return made;
}

function faceButton([x, y, width, height], picture, number, count, choose) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.number = number;
  button.setAttribute("aria-label", `Compare face ${number} of ${count} from the left`);
  const within = (value, most) => `${(100 * Math.min(Math.max(value, 0), most)) / most}%`;
  button.style.left = within(x, picture[0]);
  button.style.top = within(y, picture[1]);
  button.style.right = within(picture[0] - x - width, picture[0]);
  button.style.bottom = within(picture[1] - y - height, picture[1]);
  button.addEventListener("click", () => choose(number));
  return button;
}
