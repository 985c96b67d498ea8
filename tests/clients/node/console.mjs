// What people do on the operator's page. Functions that run in the page itself use nothing from here.

export const submit = (selector, values) => {
  const form = document.querySelector(selector);
  for (const [name, value] of Object.entries(values)) {
    const field = form.elements[name];
    if (field.type === "checkbox") field.checked = value;
    else field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
  form.requestSubmit();
};

export const press = (name, root = "body") => {
  const named = (button) => (button.getAttribute("aria-label") ?? button.textContent) === name;
  const found = [...document.querySelectorAll(`${root} button`)].filter(named);
  if (found.length !== 1) throw new Error(`${found.length} buttons are called ${name}`);
  found[0].click();
};

export const shows = (text, root = "body") => document.querySelector(root)?.innerText.includes(text);

export const roomHash = (arn) => `#/room/${encodeURIComponent(arn)}`;

/** A tab in which this key is signed in. */
export async function signIn({ browser, server }, { accessKeyId: id, secretAccessKey: secret }, hash = "", kept = false) {
  const page = await browser.open(`${server.controlUrl}/console${hash}`);
  await page.run(submit, ".sign-in", { id, secret, kept });
  await page.until(() => document.querySelector(".shell h1"), "it is signed in");
  return page;
}
