// Starts the two halves of the page with what the server offers.
import { startImage } from "./image.js";
import { byId, ask, option } from "./page.js";
import { startPlan } from "./plan.js";

try {
  const choices = await ask("api/choices");
  byId("network").replaceChildren(
    ...Object.entries(choices.baselines).map(([family, names]) => {
      const group = document.createElement("optgroup");
      group.label = family;
      group.append(...names.map(option));
      return group;
    }),
  );
  byId("network").value = "efficientnet-b0";
  byId("rule").append(...Object.entries(choices.rules).map(([name, about]) => new Option(`${name}: ${about}`, name)));
  byId("model").replaceChildren(...choices.models.map(option));
  startPlan();
  startImage(choices.max_bytes);
} catch (error) {
  byId("failure").textContent = error.message;
  byId("failure").hidden = false;
}

for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId(button.dataset.copies).textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}
