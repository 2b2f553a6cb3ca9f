// The second half: a photo in, its classes and where each lies out.
import { byId, ask, show } from "./page.js";

let photo = null; // the File that was last given
let explained = null; // what the server said of it
let asked = 0;
const opened = new Set(); // models that have answered

export function startPhoto(maxBytes) {
  byId("limit").textContent = `At most ${maxBytes / 1e6} MB.`;
  const take = (files) => {
    if (!files?.length) return;
    photo = files[0];
    look(maxBytes);
  };
  byId("file").addEventListener("change", () => {
    take(byId("file").files);
    byId("file").value = ""; // so that the same file can be chosen again
  });
  byId("model").addEventListener("change", () => photo && look(maxBytes));
  byId("class-list").addEventListener("change", (event) => select(Number(event.target.value)));
  byId("photo-form").addEventListener("submit", (event) => event.preventDefault());
  // Anywhere on the page: a photo that misses the box must not replace the page.
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

async function look(maxBytes) {
  const mine = ++asked; // an answer to an earlier photo is dropped
  const name = photo.name || "picture";
  show("photo-error", "");
  byId("classes").hidden = true;
  byId("explained").hidden = true;
  const model = byId("model").value;
  const wait = opened.has(model) ? "" : ` Opening ${model} for the first time takes some seconds.`;
  byId("photo-status").textContent = `Looking at ${name}.${wait}`;
  try {
    if (photo.size > maxBytes) throw new Error(`${name} is larger than ${maxBytes / 1e6} MB; make it smaller.`);
    const query = new URLSearchParams({ model, name });
    const answer = await ask(`api/explain?${query}`, { method: "POST", body: photo });
    opened.add(model);
    if (mine === asked) tell(answer, name);
  } catch (error) {
    if (mine !== asked) return;
    byId("photo-status").textContent = "";
    show("photo-error", error.message);
  }
}

function tell(answer, name) {
  explained = { ...answer, photo: name };
  const shares = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const first = answer.classes[0];
  byId("photo-status").textContent = `${name}: ${first.label}, ${shares.format(first.probability)}.`;
  byId("class-list").replaceChildren(
    ...answer.classes.map((found, index) => classRow(index, found.label, shares.format(found.probability), found.probability)),
    classRow(-1, "the photo alone", "", null),
  );
  byId("photo-command").textContent = answer.command;
  byId("classes").hidden = false;
  byId("explained").hidden = false;
  select(0);
}

function classRow(index, label, share, probability) {
  const made = document.createElement("label");
  made.className = "class";
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "class", value: index });
  radio.checked = index === 0;
  const text = (value, kind) => Object.assign(document.createElement("span"), { textContent: value, className: kind });
  made.append(radio, text(label, "label"), text(share, "share"));
  if (probability !== null) {
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
  const image = byId("map") ?? Object.assign(document.createElement("img"), { id: "map" });
  image.src = `data:image/jpeg;base64,${found ? found.overlay : explained.picture}`;
  image.alt = found ? `${explained.photo}, with what speaks for ${found.label} marked` : explained.photo;
  byId("figure").prepend(image);
  byId("map-caption").textContent = found
    ? `What speaks for “${found.label}”: yellow most, violet least. The grey margin is cropped off before` +
      ` ${explained.model} sees the photo.`
    : `${explained.photo}, ${explained.width} × ${explained.height} px.`;
}
