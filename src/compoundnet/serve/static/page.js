// What both halves of the page use: elements, requests, and numbers as people read them.

export const byId = (id) => document.getElementById(id);

export function option(name) {
  return new Option(name, name);
}

/** A row of a table; its first cell heads it. */
export function row(...texts) {
  const made = document.createElement("tr");
  texts.forEach((text, index) => {
    const cell = document.createElement(index === 0 ? "th" : "td");
    if (index === 0) cell.scope = "row";
    cell.textContent = text;
    made.append(cell);
  });
  return made;
}

/** The server's answer. Throws an Error whose message is for the person who uses the page. */
export async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer. Is `compoundnet serve` still running?");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/** Runs `work` with at most one run at a time; calls during a run lead to one more run after it. */
export function onlyLatest(work) {
  let running = false;
  let again = false;
  return async function run() {
    again = true;
    if (running) return;
    running = true;
    while (again) {
      again = false;
      await work();
    }
    running = false;
  };
}

export function show(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = text === "";
}

const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
export const count = (value) => SHORT.format(value);
export const digits = (value) => Number(value.toPrecision(3)).toString();
export const megabytes = (value) => `${digits(value / 1e6)} MB`;
export const whole = (value) => value.toLocaleString("en");
