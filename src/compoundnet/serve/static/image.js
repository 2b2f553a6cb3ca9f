// The second half: an image in, its classes and their maps out.
import { byId, ask, show } from "./page.js";

let image = null; // the File that was last given
let explained = null; // the server's answer
let requests = 0;
const opened = new Set(); // models that have answered before

export function startImage(maxBytes) {
  byId("limit").textContent = `At most ${maxBytes / 1e6} MB.`;
  const take = (files) => {
    if (!files?.length) return;
    image = files[0];
    explain(maxBytes);
  };
  byId("file").addEventListener("change", () => {
    take(byId("file").files);
    byId("file").value = ""; // so that the same file can be chosen again
  });
  byId("model").addEventListener("change", () => image && explain(maxBytes));
  byId("class-list").addEventListener("change", (event) => select(Number(event.target.value)));
  byId("image-form").addEventListener("submit", (event) => event.preventDefault());
  // Anywhere on the page: an image that misses the box must not replace the page.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) document.body.classList.remove("dragging");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
}

async function explain(maxBytes) {
  const mine = ++requests; // an answer about an earlier image is dropped
  const name = image.name || "image";
  show("image-error", "");
  byId("classes").hidden = true;
  byId("explained").hidden = true;
  const model = byId("model").value;
  const wait = opened.has(model) ? "" : ` Opening ${model} for the first time takes some seconds.`;
  byId("image-status").textContent = `Explaining ${name}.${wait}`;
  try {
    if (image.size > maxBytes) throw new Error(`${name} is larger than ${maxBytes / 1e6} MB; make it smaller.`);
    const query = new URLSearchParams({ model, name });
    const answer = await ask(`api/explain?${query}`, { method: "POST", body: image });
    opened.add(model);
    if (mine === requests) display(answer, name);
  } catch (error) {
    if (mine !== requests) return;
    byId("image-status").textContent = "";
    show("image-error", error.message);
  }
}

function display(answer, name) {
  explained = { ...answer, name };
  const shares = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const withShare = (found) => `${found.label}, ${shares.format(found.probability)}`;
  // A model of several labels an image has a threshold for each label; an image may have none of them.
  const several = answer.classes[0].threshold !== null;
  const predicted = several ? answer.classes.filter(reaches) : answer.classes.slice(0, 1);
  byId("image-status").textContent = `${name}: ${predicted.map(withShare).join("; ") || "none of the labels"}. ${answer.note ?? ""}`.trim();
  byId("class-list").replaceChildren(
    ...answer.classes.map((found, index) => classRow(index, found, shares)),
    classRow(-1, { label: "the image alone" }, shares),
  );
  byId("image-command").textContent = answer.command;
  byId("classes").hidden = false;
  byId("explained").hidden = false;
  select(0);
}

function reaches(found) {
  return found.probability >= found.threshold;
}

function classRow(index, found, shares) {
  const made = document.createElement("label");
  made.className = "class";
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "class", value: index });
  radio.checked = index === 0;
  const text = (value, kind) => Object.assign(document.createElement("span"), { textContent: value, className: kind });
  const below = found.threshold != null && !reaches(found);
  const label = below ? `${found.label} (below its threshold, ${shares.format(found.threshold)})` : found.label;
  const probability = found.probability;
  made.append(radio, text(label, "label"), text(probability === undefined ? "" : shares.format(probability), "share"));
  if (probability !== undefined) {
    const bar = text("", "bar");
    const filled = document.createElement("span");
    filled.style.width = `${100 * probability}%`;
    bar.append(filled);
    made.append(bar);
  }
  return made;
}

function select(index) {
  const found = explained.classes[index];
  const shown = byId("map") ?? Object.assign(document.createElement("img"), { id: "map" });
  shown.src = `data:image/jpeg;base64,${found ? found.overlay : explained.image}`;
  shown.alt = found ? `${explained.name}, with the evidence for ${found.label} marked` : explained.name;
  byId("figure").prepend(shown);
  byId("map-caption").textContent = found
    ? `Evidence for “${found.label}”: yellow most, violet least. ${explained.model} sees ${explained.input}` +
      `${explained.cropped ? "; the dark margin is cropped off" : ""}.`
    : `${explained.name}, ${explained.width} × ${explained.height} px.`;
}
