// The form for an access key.

import { el } from "./dom.js";

/** `enter(id, secret, isKept)` tries a key. */
export function signIn(enter, problem) {
  const said = el("p", { class: "problem", role: "alert", hidden: !problem }, problem);
  const go = el("button", { class: "primary" }, "Sign in");
  const form = el("form", { class: "sign-in" },
    el("p", { class: "brand" }, "Uproar"),
    el("h1", {}, "Sign in"),
    el("p", { class: "muted" }, "With an access key of this server. The secret stays in this page, which signs each request with it."),
    el("label", {}, "Access key id", el("input", { name: "id", required: true, autocomplete: "username", autocapitalize: "off", spellcheck: "false" })),
    el("label", {}, "Secret", el("input", { name: "secret", type: "password", required: true, autocomplete: "current-password" })),
    el("label", { class: "check" }, el("input", { name: "kept", type: "checkbox" }), "Keep me signed in while this tab is open"),
    said,
    go,
    el("p", { class: "muted small" }, "No key? On the server: ", el("code", {}, "uproar keys create --role operate")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    said.hidden = true;
    try {
      await enter(form.elements.id.value.trim(), form.elements.secret.value, form.elements.kept.checked);
    } catch (error) {
      said.textContent = error.message;
      said.hidden = false;
      form.elements.secret.select();
    } finally {
      go.disabled = false;
    }
  });
  return form;
}
