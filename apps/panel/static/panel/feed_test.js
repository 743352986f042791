/* The form of a feed: says beside each source what its provider wants, and asks the sources before anything is saved. */
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const panel = document.getElementById("feed-test");
  const form = panel?.closest("form");
  if (!form) {
    return;
  }
  const facts = JSON.parse(document.getElementById("provider-facts").textContent);
  const results = panel.querySelector("[data-part=results]");
  const button = panel.querySelector("[data-part=ask]");

  const element = (name, text, classes = "") => {
    const made = document.createElement(name);
    made.textContent = text;
    made.className = classes;
    return made;
  };

  const describe = (select) => {
    const known = facts[select.value];
    // Beside what the look of the form puts around it, which places the arrow of the list in its middle.
    const frame = select.parentElement;
    let note = frame.parentElement.querySelector(".provider-note");
    if (!note) {
      note = element("p", "", "provider-note form-note");
      note.setAttribute("role", "status");
      frame.after(note);
    }
    const seconds = Number(form.querySelector("[name=interval_seconds]")?.value);
    const isTooOften = known && seconds > 0 && seconds < known.least_seconds;
    note.textContent = known ? [...known.texts, ...(isTooOften ? [known.too_often] : [])].join(" ") : "";
  };
  const describeAll = () => {
    for (const select of form.querySelectorAll("select[name^=sources-][name$=-provider]")) {
      if (!select.name.includes("__prefix__")) {
        describe(select);
      }
    }
  };
  form.addEventListener("change", describeAll);
  form.addEventListener("input", describeAll);
  document.addEventListener("formset:added", describeAll);
  describeAll();

  const show = (answer) => {
    const shown = answer.sources.map((one) => {
      const part = document.createElement("div");
      part.append(element("h3", one.source, "font-semibold"));
      if (one.failure) {
        part.append(element("p", one.failure, "text-red-700 dark:text-red-400"));
      }
      part.append(...one.lines.map((line) => element("p", line)));
      return part;
    });
    results.replaceChildren(...(shown.length ? shown : [element("p", "There is no source to ask. Add one.")]));
  };

  button.addEventListener("click", async () => {
    button.disabled = true;
    results.replaceChildren(element("p", "Asking …"));
    try {
      const response = await fetch(panel.dataset.address, { method: "POST", body: new FormData(form) });
      if (!response.ok) {
        throw new Error(String(response.status));
      }
      show(await response.json());
    } catch {
      results.replaceChildren(element("p", "The test did not come to an end. Try it again."));
    }
    button.disabled = false;
    // The bar with the buttons of the form would lie over it.
    results.scrollIntoView({ block: "center" });
  });
});
