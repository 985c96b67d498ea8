// A room's settings: shown as they are, changed by UpdateRoom.

import { el } from "./dom.js";

export function settings({ api, attempt }, arn) {
  const name = el("input", { name: "name", maxlength: 128, pattern: "[a-zA-Z0-9\\-_]*", autocomplete: "off", spellcheck: "false" });
  const rate = el("input", { name: "rate", type: "number", min: 1, max: 100, required: true });
  const length = el("input", { name: "length", type: "number", min: 1, max: 500, required: true });
  const handler = el("input", { name: "handler", maxlength: 170, autocomplete: "off", spellcheck: "false", placeholder: "none" });
  const fallback = el("select", { name: "fallback" }, ["ALLOW", "DENY"].map((value) => el("option", { value }, value)));
  const logging = el("textarea", { name: "logging", rows: 1, spellcheck: "false", placeholder: "none" });
  const save = el("button", { disabled: true }, "Save");
  const form = el("form", {},
    el("label", {}, "Name", name),
    el("div", { class: "pair" },
      el("label", {}, "Messages a second", rate),
      el("label", {}, "Characters", length)),
    el("label", {}, "Message review handler ", el("span", { class: "muted" }, "ARN of a function"), handler),
    el("label", {}, "If it does not answer", fallback),
    el("label", {}, "Logging configurations ", el("span", { class: "muted" }, "an ARN a line"), logging),
    save);
  let isTouched = false;
  form.addEventListener("input", () => {
    isTouched = true;
    save.disabled = false;
  });
  const show = (told) => {
    // What is being typed stays.
    if (isTouched || !told) return;
    name.value = told.name ?? "";
    rate.value = told.maximumMessageRatePerSecond;
    length.value = told.maximumMessageLength;
    handler.value = told.messageReviewHandler?.uri ?? "";
    fallback.value = told.messageReviewHandler?.fallbackResult ?? "ALLOW";
    logging.value = (told.loggingConfigurationIdentifiers ?? []).join("\n");
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = {
      identifier: arn,
      name: name.value,
      maximumMessageRatePerSecond: Number(rate.value),
      maximumMessageLength: Number(length.value),
      messageReviewHandler: { uri: handler.value.trim(), fallbackResult: fallback.value },
      loggingConfigurationIdentifiers: logging.value.split(/\s+/).filter(Boolean),
    };
    if (await attempt(() => api.call("UpdateRoom", input), "The settings are saved and in force.")) {
      isTouched = false;
      save.disabled = true;
    }
  });
  return { element: form, show };
}
