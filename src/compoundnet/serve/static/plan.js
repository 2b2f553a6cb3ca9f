// The first half: sliders and numbers in, a network's stages and cost out.
import { byId, ask, count, digits, megabytes, onlyLatest, row, show, whole } from "./page.js";

const BYTES = 4; // of one parameter in float32
// Sliders of a budget are logarithmic: from 10^low to 10^high millions.
const RANGES = { macs: [0, 5.5], params: [-1, 3] };

export function startPlan() {
  const update = onlyLatest(refresh);
  byId("phi-slider").addEventListener("input", () => (byId("phi").value = byId("phi-slider").value));
  byId("phi").addEventListener("input", () => (byId("phi-slider").value = byId("phi").value));
  for (const [name, range] of Object.entries(RANGES)) {
    const slider = byId(`${name}-slider`);
    const number = byId(name);
    slider.addEventListener("input", () => {
      number.value = digits(fromSlider(slider.value, range));
      changed(name);
    });
    number.addEventListener("input", () => changed(name));
    place(name);
  }
  byId("megabytes").addEventListener("input", () => {
    byId("params").value = Number((byId("megabytes").value / BYTES).toPrecision(6));
    byId("params-on").checked = true;
    place("params");
  });
  byId("plan-form").addEventListener("input", update);
  byId("plan-form").addEventListener("submit", (event) => event.preventDefault());
  update();
}

/** A bound was set to another value: it counts from now on, and its other forms follow. */
function changed(name) {
  byId(`${name}-on`).checked = true;
  if (name === "params") byId("megabytes").value = Number((byId("params").value * BYTES).toPrecision(6));
  place(name);
}

function fromSlider(position, [low, high]) {
  return 10 ** (low + (position / 1000) * (high - low));
}

function place(name) {
  const [low, high] = RANGES[name];
  const slider = byId(`${name}-slider`);
  const value = Number(byId(name).value);
  const wanted = Math.round((1000 * (Math.log10(value) - low)) / (high - low));
  if (value > 0 && document.activeElement !== slider) slider.value = wanted;
  slider.setAttribute("aria-valuetext", `${value} million`);
}

async function refresh() {
  const byPhi = byId("plan-form").elements.mode.value === "scale";
  byId("by-phi").hidden = !byPhi;
  byId("by-budget").hidden = byPhi;
  byId("plan-result").setAttribute("aria-busy", "true");
  try {
    const answer = await ask(byPhi ? scaleAddress() : planAddress());
    fill(answer);
    show("plan-error", "");
    byId("planned").hidden = false;
  } catch (error) {
    show("plan-error", error.message);
    byId("planned").hidden = true;
  }
  byId("plan-result").setAttribute("aria-busy", "false");
}

function scaleAddress() {
  if (byId("phi").value === "") throw new Error("Give phi as a number.");
  return `api/scale?${withRule({ network: byId("network").value, phi: byId("phi").value })}`;
}

/** The query of a request, with the rule if one is chosen. */
function withRule(values) {
  const rule = byId("rule").value;
  return new URLSearchParams(rule === "" ? values : { ...values, rule });
}

function planAddress() {
  const query = withRule({ network: byId("network").value });
  for (const name of Object.keys(RANGES)) {
    if (!byId(`${name}-on`).checked) continue;
    const value = byId(name).value;
    if (value === "") throw new Error("Give each bound that is ticked as a number.");
    query.set(`max_${name}`, `${value}M`);
  }
  return `api/plan?${query}`;
}

function fill(answer) {
  const { cost, base_cost: base } = answer;
  byId("planned-name").textContent = answer.name;
  const scaled =
    `Rule ${answer.rule}, φ ${digits(answer.phi)}: depth × ${digits(answer.depth)}, width × ${digits(answer.width)},` +
    ` resolution × ${digits(answer.factor)}.`;
  const figure = { macs: "multiply-adds", params: "parameters" }[answer.binding];
  const stopped = figure ? `The bound on ${figure} stops a larger one.` : "";
  byId("planned-summary").textContent = [answer.note, scaled, stopped].filter(Boolean).join(" ");
  byId("plan-command").textContent = answer.command;
  const times = (value, of) => `× ${digits(value / of)}`;
  const figures = [
    ["parameters", count, cost.params, base.params],
    ["multiply-adds of an image", count, cost.macs, base.macs],
    ["activations of an image", count, cost.activations, base.activations],
    ["weights, float32", megabytes, answer.weights_bytes, answer.base_weights_bytes],
    ["memory, inference", megabytes, cost.memory_bytes, base.memory_bytes],
    ["memory, training step", megabytes, cost.training_memory_bytes, base.training_memory_bytes],
    ["SRAM, int8 on a microcontroller", megabytes, cost.sram_bytes, base.sram_bytes],
    ["flash, int8 on a microcontroller", megabytes, cost.flash_bytes, base.flash_bytes],
    ["input side", (value) => `${value} px`, answer.resolution, answer.base_resolution],
    ["receptive field", (value) => `${whole(value)} px`, cost.receptive_field, base.receptive_field],
  ];
  byId("costs").tBodies[0].replaceChildren(
    ...figures.map(([name, text, value, of]) => row(name, text(value), text(of), times(value, of))),
  );
  byId("stages").tBodies[0].replaceChildren(
    ...answer.stages.map((stage) =>
      row(
        stage.stage,
        stage.operator,
        `${stage.resolution} × ${stage.resolution}`,
        stage.channels,
        stage.layers,
        whole(stage.params),
        count(stage.macs),
      ),
    ),
  );
  byId("alternatives-box").hidden = answer.alternatives === null;
  byId("alternatives").tBodies[0].replaceChildren(
    ...Object.entries(answer.alternatives ?? {}).map(([way, found]) => {
      const name = ["depth", "width", "resolution"].includes(way) ? `${way} alone` : way;
      if (found === null) return row(name, "does not fit", "", "", "", "", "", "");
      const multipliers = [found.depth, found.width].map((value) => `× ${digits(value)}`);
      const counts = [found.params, found.macs, found.activations].map(count);
      return row(name, ...multipliers, `${found.resolution} px`, ...counts, megabytes(found.memory_bytes));
    }),
  );
}
