// What is said about numbers, and no state.

export const KINDS = {
  twin: ["Twins passed as one", "FMR"], unrelated: ["Strangers passed as one", "FMR"],
  all: ["Two people passed as one", "FMR"], fnmr: ["One person refused", "FNMR"],
};

export function number(value) {
  return value.toFixed(3).replace("-", "−");
}

export function percent(share, digits) {
  const value = 100 * share;
  if (value === 0) return "0\u202f%";
  if (digits === undefined && value < 0.1) return `${value.toPrecision(1)}\u202f%`;
  let places = digits ?? (value < 10 ? 1 : 0);
  while (value < 100 && Number(value.toFixed(places)) === 100) places += 1; // 99.9 is not all
  return `${value.toFixed(places)}\u202f%`;
}

export function likelihood(share, same) {
  const figure = share > 0.999 ? `over ${percent(0.999, 1)}` : share < 0.001 ? `under ${percent(0.001)}` : percent(share);
  const told = `Probability that both show one person: ${figure}, were such pairs and the hardest impostors equally frequent.`;
  if (share >= 0.5 === same) return told;
  return `${told} The threshold is ${same ? "more lenient" : "stricter"} than even odds.`;
}

// Rows and columns of what the network sees.
export function sides(model) {
  return Array.isArray(model.image_size) ? model.image_size : [model.image_size, model.image_size];
}

// Names and values: the model, its threshold, and where both are from.
export function factsOf(model, curve) {
  const told = model.threshold_source;
  const words = { checkpoint: "the model file", user: "whoever started this page", optimize_threshold: "optimize_threshold" };
  const rows = [
    ["Model", `${model.file}, ${model.backbone}, ${model.branches.join(" + ")}`], ["SHA-256", model.sha256],
    ["Input", `${sides(model).join(" × ")} pixels, on ${model.device}`],
    ["Threshold", `${number(model.threshold)}, set by ${words[told.set_by] ?? told.set_by}`],
  ];
  if (told.data) rows.push(["Measured on", told.data]);
  if (told.criterion) rows.push(["Chosen by", told.criterion === "eer" ? "equal error rates (EER)" : told.criterion]);
  if (typeof told.fmr === "number") rows.push(["FMR there", `${percent(told.fmr)} of ${told.impostors === "twin" ? "twin pairs" : "impostor pairs"}`]);
  if (typeof told.fnmr === "number") rows.push(["FNMR there", percent(told.fnmr)]);
  if (curve) rows.push(["Error curve", curve.data]);
  rows.push(["Program", `twin_dcal ${model.version}`]);
  return rows;
}
