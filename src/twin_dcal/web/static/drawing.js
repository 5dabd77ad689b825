// What is drawn from numbers, and no state: error rates at a threshold, their curve, overlays, lines between patches.

export const MAPS = {
  pair: {
    label: "Why alike or different", kind: "signed", low: "speaks for two people", high: "speaks for one person",
    says: "What made this pair alike or different: blue patches raised the similarity, orange ones lowered it.",
  },
  rollout: {
    label: "Attention", kind: "share", low: "little", high: "much",
    says: "How much each patch feeds the embedding through all attention blocks (rollout), for each photo by itself.",
  },
  glca_attention: {
    label: "GLCA attention", kind: "share", low: "little", high: "much",
    says: "Where the global-local cross-attention looked, for each photo by itself.",
  },
  glca_regions: {
    label: "GLCA regions", kind: "chosen",
    says: "The patches that global-local cross-attention chose to compare in detail; the rest is dimmed.",
  },
};

// Plasma and a blue-orange scale: told apart by the common forms of colour blindness, light and dark skin below them.
const SHARE = [[13, 8, 135], [126, 3, 168], [204, 71, 120], [248, 149, 64], [240, 249, 33]];
const FOR = [10, 132, 214];
const AGAINST = [232, 113, 10];
const SVG = "http://www.w3.org/2000/svg";

// Rates of a threshold at `score`: between two stored scores each rate is the higher of both sides (as on the server).
export function ratesAt(curve, score) {
  const below = curve.thresholds.findLastIndex((value) => value <= score);
  const above = curve.thresholds.findIndex((value) => value >= score);
  const fmr = Object.fromEntries(Object.entries(curve.fmr).map(([kind, rates]) => [kind, below < 0 ? 1 : rates[below]]));
  return { fmr, fnmr: above < 0 ? 1 : curve.fnmr[above] };
}

// The highest stored score that nearly all of the hardest impostors reach: thresholds below it are of no use.
export function allPass(curve) {
  const rates = curve.fmr.twin ?? curve.fmr.all;
  return curve.thresholds[Math.max(0, rates.findLastIndex((rate) => rate >= 0.95))];
}

export function make(name, attributes = {}, text) {
  const part = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
  if (text !== undefined) part.textContent = text;
  return part;
}

// The error curve between low and high into a 600 x 150 box, with the side of the threshold that means "one person" washed.
export function drawCurve(svg, curve, low, high, threshold) {
  const x = (value) => (600 * (Math.min(high, Math.max(low, value)) - low)) / (high - low);
  const cut = x(threshold);
  const parts = [
    make("rect", { class: "no", x: 0, y: 0, width: cut, height: 150 }),
    make("rect", { class: "yes", x: cut, y: 0, width: 600 - cut, height: 150 }),
    ...[4, 77, 150].map((y) => make("line", { class: "base", x1: 0, y1: y, x2: 600, y2: y })),
  ];
  if (curve) {
    const kinds = ["twin", "unrelated"].filter((kind) => kind in curve.fmr);
    for (const kind of kinds.length ? kinds : ["all"]) {
      parts.push(make("path", { class: kind, d: steps(curve.thresholds, curve.fmr[kind], 1, x) }));
    }
    parts.push(make("path", { class: "fnmr", d: steps(curve.thresholds, curve.fnmr, 0, x) }));
  }
  parts.push(make("line", { class: "cut", x1: cut, y1: 0, x2: cut, y2: 150 }));
  svg.replaceChildren(...parts);
}

function steps(thresholds, rates, before, x) {
  const y = (rate) => 150 - 146 * rate;
  const left = thresholds.findLastIndex((value) => x(value) <= 0); // what lies left of the box is not drawn
  const inner = thresholds.slice(left + 1).map((value, at) => `L${x(value).toFixed(1)} ${y(rates[left + 1 + at]).toFixed(1)}`).join("");
  return `M0 ${y(left < 0 ? before : rates[left])}${inner}L600 ${y(rates[rates.length - 1])}`;
}

// A grid of patches as one pixel each; the browser stretches it over the face. `most` is the largest absolute value of both.
export function drawMap(canvas, grid, kind, most) {
  const [rows, columns] = [grid.length, grid[0].length];
  canvas.width = columns;
  canvas.height = rows;
  canvas.classList.toggle("crisp", kind === "chosen");
  const pixels = new ImageData(columns, rows);
  grid.flat().forEach((value, at) => pixels.data.set(colour(value / (most || 1), kind), 4 * at));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function colour(value, kind) {
  if (kind === "chosen") return [10, 14, 20, value > 0 ? 0 : 185];
  if (kind === "signed") return [...(value >= 0 ? FOR : AGAINST), 225 * Math.min(1, Math.abs(value)) ** 0.8];
  const place = Math.min(1, Math.max(0, value)) * (SHARE.length - 1);
  const lower = Math.min(SHARE.length - 2, Math.floor(place));
  const mixed = SHARE[lower].map((part, at) => part + (place - lower) * (SHARE[lower + 1][at] - part));
  return [...mixed, 90 + 110 * Math.min(1, Math.max(0, value))];
}

export function largest(grids) {
  return Math.max(...grids.flat(2).map(Math.abs));
}

// Lines between patches that answer to each other. `frames`: the two frames' boxes; `shape`: rows and columns of the grid.
export function drawMatches(svg, box, frames, shape, matches) {
  svg.setAttribute("width", box.width);
  svg.setAttribute("height", box.height);
  const place = (frame, row, column) => [
    frame.left - box.left + (frame.width * (column + 0.5)) / shape[1],
    frame.top - box.top + (frame.height * (row + 0.5)) / shape[0],
  ];
  const parts = matches.map((match, at) => {
    const kind = match.weight >= 0 ? "for" : "against";
    const [x1, y1] = place(frames[0], match.row1, match.col1);
    const [x2, y2] = place(frames[1], match.row2, match.col2);
    const group = make("g");
    const bow = 22 * (at - (matches.length - 1) / 2); // lines within one row of patches would hide each other
    const d = `M${x1} ${y1}Q${(x1 + x2) / 2} ${(y1 + y2) / 2 + bow} ${x2} ${y2}`;
    for (const style of ["under", kind]) group.append(make("path", { class: style, d }));
    for (const [cx, cy] of [[x1, y1], [x2, y2]]) {
      group.append(make("circle", { class: kind, cx, cy, r: 8 }), make("text", { x: cx, y: cy }, at + 1));
    }
    return group;
  });
  svg.replaceChildren(...parts);
}
