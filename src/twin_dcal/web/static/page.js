// The page: photos in, an answer from /api/verify out. Photos and history live in this tab's memory only.

import { hasCamera, takePhotos } from "./camera.js";
import { MAPS, allPass, drawCurve, drawMap, drawMatches, largest, ratesAt } from "./drawing.js";
import { showFaces } from "./faces.js";
import { draw, showList, showTiles } from "./templates.js";
import { KINDS, factsOf, likelihood, number, percent, sides } from "./words.js";

const SIDES = [0, 1];
const WHICH = ["first", "second"];
const KEPT = 20;
const MATCHES_SHOWN = 6;
const SHOWN_BEFORE = 3; // of a side, in a line of what was compared before
const TRIES = 8;
const UNUSED = " In this model the choice does not reach the similarity.";
const state = {
  token: null, model: null, threshold: 0, low: -1, high: 1, answer: null,
  photos: [[], []], faces: [[], []], seen: [[], []], // of either side, of each of its photos
  own: null, owns: new Map(), // the model's threshold and error curve for so many photos of each
  overlay: "none", history: [], asking: null,
};
const one = (id) => document.getElementById(id);
const photoParts = [...document.querySelectorAll(".photo")].map((part) => ({
  frame: part.querySelector(".frame"), input: part.querySelector("input"), face: part.querySelector(".face"),
  overlay: part.querySelector(".overlay"), tiles: part.querySelector(".tiles"), list: part.querySelector(".photographs"),
  faces: part.querySelector(":scope > .faces"), add: part.querySelector(".add"), again: part.querySelector(".again"), camera: part.querySelector(".camera"),
}));

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function show(part, shown) {
  part.toggleAttribute("hidden", !shown); // SVG elements have no `hidden` property
}

// ---- talking to the server ----

async function ask(path, options = {}) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  const reply = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  if (reply.ok) return reply.json(); // fails where the request is given up while its answer arrives
  const told = await reply.json().catch(() => ({ detail: `the server answered ${reply.status}` }));
  throw Object.assign(new Error(told.detail), { status: reply.status, wait: Number(reply.headers.get("Retry-After")) });
}

async function start() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  state.token = sessionStorage.getItem("token");
  await open();
}

async function open() {
  try {
    [state.model, state.own] = await Promise.all([ask("api/model"), ownOf([1, 1])]);
  } catch (error) {
    show(one("token-form"), error.status === 401);
    if (error.status === 401) {
      one("token-problem").textContent = state.token ? "That token is not the right one." : "";
      one("token").focus();
    } else {
      document.querySelector(".promise").textContent = `The server cannot be reached: ${error.message}`;
    }
    return;
  }
  show(one("token-form"), false);
  show(one("work"), true);
  state.threshold = state.own.threshold;
  const [rows, columns] = sides(state.model);
  for (const { frame } of photoParts) frame.style.aspectRatio = `${columns} / ${rows}`; // maps lie over all of a crop
  showFacts();
  warn(one("about-model"), state.model.warnings);
  setScale();
}

function warn(list, texts) {
  list.replaceChildren(...texts.map((text) => element("li", text[0].toUpperCase() + text.slice(1) + ".")));
  show(list, texts.length > 0);
}

// Threshold and error curve for so many photos of each.
async function ownOf([first, second]) {
  const key = `${first},${second}`;
  if (!state.owns.has(key)) state.owns.set(key, await ask(`api/rates?photos1=${first}&photos2=${second}`));
  return state.owns.get(key);
}

async function compare() {
  state.asking?.abort();
  if (!state.photos.every((side) => side.length)) return;
  const asking = new AbortController();
  state.asking = asking;
  busy("Comparing…");
  const chosen = state.faces.map((side) => [...side]);
  const sizes = state.photos.map((side) => side.length);
  const form = formOf(state.photos, chosen);
  form.append("crops", "true");
  if (sizes.every((size) => size === 1) && state.model.explains.includes("attention")) form.append("explain", "attention");
  try {
    const began = performance.now();
    const answer = await patiently(() => ask("api/verify", { method: "POST", body: form, signal: asking.signal }));
    const own = await ownOf(sizes);
    if (asking.signal.aborted) return; // other photos by now
    decideBy(own);
    state.answer = Object.assign(answer, { chosen });
    state.seen = seenIn(answer);
    one("status").textContent = `Compared in ${((performance.now() - began) / 1000).toFixed(2)} s.`;
    remember();
    showAnswer();
  } catch (error) {
    if (asking.signal.aborted) return;
    state.answer = null;
    one("status").textContent = "Not compared.";
    showProblem(error.status === undefined ? "The server cannot be reached. Is it still running?" : error.message);
    showAnswer();
  } finally {
    if (state.asking === asking) idle();
  }
}

function formOf(photos, chosen) {
  const form = new FormData();
  SIDES.forEach((side) => form.append(`face${side + 1}`, chosen[side].join()));
  SIDES.forEach((side) => photos[side].forEach((photo) => form.append(`img${side + 1}`, photo, "photo"))); // not the file's name
  return form;
}

// Of either side, of each of its photos.
function seenIn(answer) {
  return answer.photographs?.map((side) => side.map(({ face }) => face)) ?? answer.faces.map((face) => [face]);
}

function cropsOf(answer) {
  return answer.photographs?.map((side) => side.map(({ crop }) => crop)) ?? answer.crops.map((crop) => [crop]);
}

// A threshold for other numbers of photos says nothing about these.
function decideBy(own) {
  if (own === state.own) return;
  [state.own, state.threshold] = [own, own.threshold];
}

// What made this pair alike or different takes many times as long as the decision, so it is asked for when it is wanted.
async function askWhy() {
  const { answer, photos } = state;
  if (answer.asked) return;
  answer.asked = true;
  busy("Working out what made this pair alike or different; this takes a while…");
  one("answer").classList.remove("stale");
  const form = formOf(photos, answer.chosen);
  form.append("explain", "pair");
  try {
    const told = await patiently(() => ask("api/verify", { method: "POST", body: form }));
    answer.attention_maps = told.attention_maps ?? answer.attention_maps;
    if (state.answer === answer) one("status").textContent = "Worked out what made this pair alike or different.";
  } catch (error) {
    answer.asked = false;
    if (state.answer === answer) showProblem(error.status === undefined ? "The server cannot be reached. Is it still running?" : error.message);
  }
  if (state.answer !== answer) return;
  idle();
  offerOverlays();
  showOverlay();
}

async function patiently(action) {
  for (let tried = 1; ; tried += 1) {
    try {
      return await action();
    } catch (error) {
      if (error.status !== 429 || tried === TRIES) throw error;
      busy("Many requests at once; waiting for a turn…");
      await new Promise((resolve) => setTimeout(resolve, 1000 * (error.wait || 1)));
    }
  }
}

function busy(text) {
  one("status").textContent = text;
  one("status").classList.add("busy");
  one("answer").classList.add("stale");
  show(one("problem"), false);
}

function idle() {
  one("status").classList.remove("busy");
  one("answer").classList.remove("stale");
}

function nameOf(side) {
  return `${WHICH[side]} photo${state.photos[side].length > 1 ? "s" : ""}`;
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

function named(text) {
  return text.replace(/^img([12])\b(?: (photo \d+))?/, (_, number, photo) => capital(nameOf(number - 1)) + (photo ? `, ${photo}` : ""));
}

function showProblem(text) {
  one("problem").textContent = named(text);
  show(one("problem"), true);
}

// ---- photos ----

// Files in the place of a side's photos, or after them.
function setPhotos(side, files, kept = []) {
  if (!files.length) return;
  const photos = [...kept, ...files];
  const problem = tooMuch(side, photos);
  if (problem) return showProblem(problem);
  state.faces[side] = photos.map((_, at) => (at < kept.length ? state.faces[side][at] : "largest"));
  change(side, photos);
}

function tooMuch(side, photos) {
  const { photo_bytes: most, photos: number, total_bytes: total } = state.model.limits;
  const megabytes = (bytes, digits) => (bytes / 2 ** 20).toFixed(digits);
  const size = (list) => list.reduce((sum, { size }) => sum + size, 0);
  if (photos.length > number) return `${photos.length} photos of one person; up to ${number} are taken.`;
  const large = photos.find((photo) => photo.size > most);
  if (large) return `${capital(WHICH[side])} photo: ${megabytes(large.size, 1)} MB; up to ${megabytes(most, 0)} MB are taken. Save it smaller.`;
  const all = size(photos) + size(state.photos[1 - side]);
  return all > total ? `All photos together: ${megabytes(all, 1)} MB; up to ${megabytes(total, 0)} MB are taken. Save them smaller.` : null;
}

function removePhoto(side, at) {
  state.faces[side].splice(at, 1);
  change(side, state.photos[side].filter((_, place) => place !== at));
  photoParts[side].again.focus();
}

function change(side, photos) {
  show(one("problem"), false);
  state.photos[side] = photos;
  state.seen[side] = photos.map(() => null);
  state.answer = null;
  showAnswer();
  showSide(side, photos.map((photo) => URL.createObjectURL(photo)));
  const missing = state.photos.findIndex((each) => !each.length);
  if (missing >= 0) one("status").textContent = `Choose the ${WHICH[missing]} photo too.`;
  compare();
}

function showSide(side, urls) {
  const { frame, face, tiles, again, add } = photoParts[side];
  const several = urls.length > 1;
  if (several) {
    face.removeAttribute("src");
    showTiles(tiles, urls, urls.map((_, at) => state.answer?.photographs?.[side][at].outlier ?? false));
  } else {
    draw(face, urls[0]);
    tiles.replaceChildren();
  }
  show(face, !several);
  show(tiles, several);
  for (const button of [again, add]) show(button, true);
  frame.classList.add("filled");
}

function listenToPhoto(side) {
  const { frame, input, again, add, camera } = photoParts[side];
  let kept = [];
  input.addEventListener("change", () => {
    setPhotos(side, [...input.files], kept);
    input.value = ""; // the same file may be chosen again
    kept = [];
  });
  input.addEventListener("cancel", () => {
    kept = [];
  });
  again.setAttribute("aria-label", `Replace ${WHICH[side]} photo`);
  again.addEventListener("click", () => input.click());
  add.setAttribute("aria-label", `Add to ${WHICH[side]} photo`);
  add.addEventListener("click", () => {
    kept = state.photos[side];
    input.click();
  });
  frame.addEventListener("dragover", (event) => {
    event.preventDefault();
    frame.classList.add("over");
  });
  frame.addEventListener("dragleave", () => frame.classList.remove("over"));
  frame.addEventListener("drop", (event) => {
    event.preventDefault();
    frame.classList.remove("over");
    setPhotos(side, [...event.dataTransfer.files]);
  });
  show(camera, hasCamera());
  camera.setAttribute("aria-label", `Take ${WHICH[side]} photo with the camera`);
  camera.addEventListener("click", () => takePhotos().then(
    (taken) => taken.length && setPhotos(side, taken, state.photos[side]), (error) => showProblem(error.message),
  ));
}

// ---- the decision ----

function isSame() {
  return state.answer.similarity >= state.threshold;
}

function showAnswer() {
  const { answer } = state;
  show(one("answer"), answer !== null);
  show(one("mark"), answer !== null);
  show(one("overlays"), isExplained());
  if (answer) {
    cropsOf(answer).forEach((urls, side) => showSide(side, urls));
    warn(one("warnings"), answer.warnings.filter((text) => !state.model.warnings.includes(text)).map(named));
    setScale();
    if (isExplained()) offerOverlays();
  }
  offerFaces();
  showOverlay();
  showDecision();
}

// Maps are of one photo each.
function isExplained() {
  return state.answer !== null && !state.answer.photographs && state.model.explains.length > 0;
}

function offerFaces() {
  photoParts.forEach(({ faces, list }, side) => {
    const [photos, seen] = [state.photos[side], state.seen[side]];
    const choose = (at, number) => {
      state.faces[side][at] = number;
      compare();
    };
    const single = photos.length === 1;
    showFaces(faces, `the ${WHICH[side]} photo`, single ? seen[0] : null, single ? photos[0] : null, (number) => choose(0, number));
    showList(list, photos, state.answer?.photographs?.[side] ?? null, WHICH[side], choose, (at) => removePhoto(side, at));
  });
}

function showDecision() {
  const { answer, own, threshold, low, high } = state;
  drawCurve(one("curve"), own.curve, low, high, threshold);
  one("threshold-value").textContent = number(threshold);
  show(one("reset"), Math.abs(threshold - state.own.threshold) > 5e-4);
  showRates();
  let spoken = `${number(threshold)}`;
  if (answer) {
    const same = isSame();
    const verdict = same ? "Same person" : "Two different people";
    if (one("verdict").textContent !== verdict) one("verdict").textContent = verdict;
    one("answer").className = same ? "same" : "different";
    const gap = Math.abs(answer.similarity - threshold);
    one("why").textContent = `Similarity ${number(answer.similarity)} is ${number(gap)} ${same ? "above" : "below"} the threshold of ${number(threshold)}.`;
    const share = answer.verification_score;
    show(one("probability"), share !== null);
    if (share !== null) one("probability").textContent = likelihood(share, same);
    showAlike();
    const place = (answer.similarity - low) / (high - low);
    one("mark").style.left = `${100 * place}%`;
    one("mark").className = `mark ${place < 0.12 ? "left" : place > 0.88 ? "right" : ""}`;
    one("mark-value").textContent = `this pair ${number(answer.similarity)}`;
    spoken += `: ${verdict.toLowerCase()}`;
  }
  one("threshold").setAttribute("aria-valuetext", spoken);
}

function showAlike() {
  const { answer, own: { curve } } = state;
  show(one("alike"), curve !== null);
  if (!curve) return;
  const { fmr, fnmr } = ratesAt(curve, answer.similarity);
  const kind = "twin" in fmr ? "twin" : "all";
  const who = kind === "twin" ? "pairs of twins" : "pairs of two people";
  one("alike").textContent = `In validation${ofMany()}, ${percent(fmr[kind])} of ${who} were at least this alike, and ${percent(fnmr)} of the pairs of one person less so.`;
}

// Of how many photos the model's figures are, where they are of several.
function ofMany() {
  const [first, second] = state.own.photographs;
  return first + second === 2 ? "" : first === second ? `, with ${first} photos of each` : `, with ${first} and ${second} photos`;
}

function setScale() {
  const values = [state.threshold, state.own.threshold, state.answer?.similarity ?? 1, state.own.curve ? allPass(state.own.curve) : -1];
  state.low = Math.max(-1, Math.floor(10 * Math.min(...values) - 0.5) / 10);
  state.high = 1;
  const slider = one("threshold");
  [slider.min, slider.max, slider.value] = [state.low, state.high, state.threshold];
  one("scale-low").textContent = state.low.toFixed(1).replace("-", "−");
  one("scale-high").textContent = "1.0";
  showDecision();
}

function showRates() {
  const { own: { curve }, threshold } = state;
  show(one("rates"), curve !== null);
  one("rates-of").textContent = `Judged wrongly at this threshold, among the model’s validation pairs${ofMany()}`;
  if (!curve) {
    one("rates-note").textContent = "This model file stores no error curve, so error rates at a threshold are not known. Evaluate it on validation data with dcal-evaluate --optimize_threshold --save to store one.";
    one("curve").setAttribute("aria-label", "No error rates are known for this model.");
    return;
  }
  const { fmr, fnmr } = ratesAt(curve, threshold);
  const measured = ["twin", "unrelated"].filter((kind) => kind in fmr);
  const kinds = measured.length ? measured : ["all"];
  const rows = [...kinds.map((kind) => [kind, fmr[kind], curve.num_impostors[kind]]), ["fnmr", fnmr, curve.num_genuine]];
  let weak = false;
  one("rates").tBodies[0].replaceChildren(...rows.map(([kind, rate, count]) => {
    weak ||= Math.round(rate * count) < 30;
    const row = element("tr", undefined, kind);
    const head = element("th", `${KINDS[kind][0]} (${KINDS[kind][1]})`);
    head.scope = "row";
    row.append(head, element("td", percent(rate)), element("td", `of ${count.toLocaleString("en")}`));
    return row;
  }));
  const missing = ["twin", "unrelated"].filter((kind) => measured.length && !(kind in fmr)).map((kind) => (kind === "twin" ? "twins" : "strangers"));
  one("rates-note").textContent = [
    missing.length ? `Validation had no pairs of ${missing.join(" or ")}.` : "",
    weak ? "A rate with fewer than 30 errors behind it is rough." : "",
  ].join(" ");
  one("curve").setAttribute("aria-label", `Error rates over the threshold. At ${number(threshold)}: ${rows.map(([kind, rate]) => `${KINDS[kind][0]} ${percent(rate)}`).join("; ")}.`);
}

function showFacts() {
  one("facts").replaceChildren(...factsOf(state.model, state.own.curve).map(([name, value]) => {
    const row = element("div");
    row.append(element("dt", name), element("dd", value));
    return row;
  }));
}

// ---- overlays ----

function offerOverlays() {
  const maps = state.answer.attention_maps;
  const whyOffered = state.model.explains.includes("pair");
  const names = ["none", ...Object.keys(MAPS).filter((name) => maps?.[name] || (name === "pair" && whyOffered))];
  if (!names.includes(state.overlay)) state.overlay = "none";
  const offered = [...one("choices").querySelectorAll("input")].map((input) => input.value);
  if (offered.join() !== names.join()) offerChoices(names); // built anew, the buttons would lose the focus
  one("choices").querySelector(`[value=${state.overlay}]`).checked = true;
  show(one("matches-choice"), whyOffered || maps?.matches.length > 0);
}

function offerChoices(names) {
  one("choices").replaceChildren(...names.map((name) => {
    const label = element("label");
    const input = Object.assign(element("input"), { type: "radio", name: "overlay", value: name });
    input.addEventListener("change", () => {
      state.overlay = name;
      showOverlay();
    });
    label.append(input, element("span", name === "none" ? "Photos only" : MAPS[name].label));
    return label;
  }));
}

function showOverlay() {
  const maps = state.answer?.attention_maps;
  const grids = maps?.[state.overlay] ?? null;
  const map = grids ? MAPS[state.overlay] : null;
  if (isExplained() && !maps?.pair && (state.overlay === "pair" || (one("matches").checked && state.model.explains.includes("pair")))) askWhy();
  photoParts.forEach(({ overlay }, side) => {
    show(overlay, map !== null);
    if (map) drawMap(overlay, grids[side], map.kind, map.kind === "share" ? largest([grids[side]]) : largest(grids));
  });
  show(one("legend"), Boolean(map?.low));
  one("overlay-says").textContent = map ? map.says + (state.overlay === "glca_regions" && !maps.regions_count ? UNUSED : "") : "";
  if (map?.low) {
    one("ramp").className = `ramp ${map.kind}`;
    [one("low").textContent, one("high").textContent] = [map.low, map.high];
  }
  showLines();
}

function showLines() {
  const maps = state.answer?.attention_maps;
  const shown = Boolean(maps?.matches.length) && one("matches").checked;
  show(one("lines"), shown);
  if (!shown) return;
  const strongest = [...maps.matches].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, MATCHES_SHOWN);
  const grid = (maps.pair ?? maps.rollout ?? maps.glca_attention ?? maps.glca_regions)?.[0];
  if (!grid) return;
  const frames = photoParts.map(({ frame }) => frame.getBoundingClientRect());
  drawMatches(one("lines"), one("pair").getBoundingClientRect(), frames, [grid.length, grid[0].length], strongest);
  if (!one("overlay-says").textContent) {
    one("overlay-says").textContent = "Lines join patches that answer to each other: blue ones spoke for one person, orange ones for two.";
  }
}

// ---- history: this tab's memory ----

function remember() {
  state.history.unshift({ photos: [...state.photos], answer: state.answer, own: state.own, threshold: state.threshold });
  state.history.length = Math.min(state.history.length, KEPT);
  showHistory();
}

function recall(entry) {
  state.asking?.abort();
  idle();
  [state.photos, state.answer, state.own, state.threshold] = [[...entry.photos], entry.answer, entry.own, entry.threshold];
  [state.faces, state.seen] = [entry.answer.chosen.map((side) => [...side]), seenIn(entry.answer)];
  show(one("problem"), false);
  one("status").textContent = "From this tab’s memory.";
  showAnswer();
}

function showHistory() {
  show(one("past"), state.history.length > 0);
  one("history").replaceChildren(...state.history.map((entry) => {
    const same = entry.answer.similarity >= entry.threshold;
    const button = Object.assign(element("button"), { type: "button" });
    const thumbs = element("span", undefined, "thumbs");
    thumbs.append(...cropsOf(entry.answer).flatMap((side) => side.slice(0, SHOWN_BEFORE)).map((src) => Object.assign(element("img"), { src, alt: "" })));
    button.append(thumbs, element("span", same ? "Same person" : "Two people", same ? "same" : "different"));
    button.append(element("span", `${number(entry.answer.similarity)} at ${number(entry.threshold)}`));
    button.addEventListener("click", () => recall(entry));
    const item = element("li");
    item.append(button);
    return item;
  }));
}

// ---- listening ----

SIDES.forEach(listenToPhoto);
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
one("threshold").addEventListener("input", (event) => {
  state.threshold = Number(event.target.value);
  if (Math.abs(state.threshold - state.own.threshold) <= 5e-4) state.threshold = state.own.threshold; // its own digits
  showDecision();
});
one("reset").addEventListener("click", () => {
  state.threshold = state.own.threshold;
  setScale();
  one("threshold").focus();
});
one("matches").addEventListener("change", showOverlay);
one("clear").addEventListener("click", () => {
  state.history = [];
  showHistory();
});
one("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = one("token").value.trim();
  sessionStorage.setItem("token", state.token);
  open();
});
new ResizeObserver(showLines).observe(one("pair"));
start();
