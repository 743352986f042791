/* The form of a feed: a field for each option of the chosen provider. The form sends the options as JSON, from the text
   field below them, which this script keeps in step. Without scripts, people write that JSON themselves. */
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const described = document.getElementById("provider-facts");
  const form = described?.closest("form");
  if (!form) {
    return;
  }
  const facts = JSON.parse(described.textContent);
  const BOX =
    "bg-white border border-base-300 max-w-2xl px-3 py-2 rounded-default w-full dark:bg-base-900 dark:border-base-700";
  const NUMBER = /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$/;

  const element = (name, text = "", classes = "") => {
    const made = document.createElement(name);
    made.textContent = text;
    made.className = classes;
    return made;
  };

  const isJson = (text) => {
    try {
      JSON.parse(text);
      return true;
    } catch {
      return false;
    }
  };

  // Return option -> text of its field, of options that are written as JSON; undefined where that is no mapping.
  const readAll = (written) => {
    let options;
    try {
      options = JSON.parse(written.trim() || "{}");
    } catch {
      return undefined;
    }
    if (options === null || typeof options !== "object" || Array.isArray(options)) {
      return undefined;
    }
    const texts = Object.entries(options).map(([name, value]) => [
      name,
      value === null ? "" : typeof value === "string" ? value : JSON.stringify(value),
    ]);
    return Object.fromEntries(texts);
  };

  // Return the text of a field as JSON. In a field of a number, a text that is no number is sent as a string: the server
  // refuses it, and the page says so beside the field.
  const asJson = (option, text) => {
    const isNumber = option?.type === "number" && NUMBER.test(text);
    const isData = (!option || option.type === "data") && isJson(text);
    return isNumber || isData ? text : JSON.stringify(text);
  };

  const writeAll = (options, texts) => {
    const pairs = Object.entries(texts).filter(([, text]) => text.trim());
    const written = pairs.map(([name, text]) => {
      const option = options.find((one) => one.name === name);
      return `${JSON.stringify(name)}: ${asJson(option, text.trim())}`;
    });
    return written.length ? `{${written.join(", ")}}` : "{}";
  };

  const inputOf = (option) => {
    if (option.choices.length) {
      const made = element("select", "", BOX);
      made.append(...option.choices.map((choice) => new Option(choice, choice)));
      return made;
    }
    const made = element(option.type === "data" ? "textarea" : "input", "", BOX);
    made.placeholder = option.default;
    made.autocomplete = "off";
    if (option.type === "number") {
      made.inputMode = "decimal";
    }
    return made;
  };

  const arrange = (select) => {
    const prefix = select.name.slice(0, -"provider".length);
    const written = form.elements[`${prefix}options`];
    if (!written || written.dataset.arranged) {
      return;
    }
    written.dataset.arranged = "yes";
    const group = element("div", "", "flex flex-col gap-3 mb-3");
    const details = element("details", "", "relative");
    details.append(element("summary", "The options as JSON", "cursor-pointer mb-2"));
    written.before(group, details);
    details.append(written);
    written.setAttribute("aria-label", "The options as JSON");

    // Provider -> what was written for it, so that it is there again when the provider is chosen again.
    const kept = {};
    const faults = { [select.value]: JSON.parse(written.dataset.faults ?? "{}") };
    let shown = select.value;
    kept[shown] = readAll(written.value) ?? {};
    details.open = readAll(written.value) === undefined;

    const draw = () => {
      const options = facts[shown]?.options ?? [];
      const fields = options.map((option) => {
        const id = `id_${prefix}option_${option.name}`;
        const row = element("div", "", "flex flex-col gap-1");
        const label = element("label", option.label + (option.is_required ? " *" : ""), "font-semibold");
        label.htmlFor = id;
        const input = inputOf(option);
        input.id = id;
        input.value = kept[shown][option.name] ?? (option.choices.length ? option.default : "");
        const help = element("p", option.help, "text-sm");
        help.id = `${id}_help`;
        input.setAttribute("aria-describedby", help.id);
        row.append(label, input);
        const fault = faults[shown]?.[option.name];
        if (fault) {
          const error = element("p", fault, "text-red-700 dark:text-red-400");
          error.id = `${id}_error`;
          input.setAttribute("aria-invalid", "true");
          input.setAttribute("aria-describedby", `${error.id} ${help.id}`);
          row.append(error);
        }
        row.append(help);
        input.addEventListener("input", () => {
          kept[shown][option.name] = input.value;
          written.value = writeAll(options, kept[shown]);
        });
        return row;
      });
      group.replaceChildren(...(fields.length ? fields : [element("p", "It has no options.")]));
    };

    select.addEventListener("change", () => {
      shown = select.value;
      kept[shown] ??= {};
      written.value = writeAll(facts[shown]?.options ?? [], kept[shown]);
      draw();
    });
    written.addEventListener("input", () => {
      const texts = readAll(written.value);
      if (texts) {
        kept[shown] = texts;
        draw();
      }
    });
    draw();
    // Hide the errors that are shown beside their fields.
    const names = (facts[shown]?.options ?? []).map((option) => option.name);
    const said = Object.entries(faults[shown]).filter(([name]) => names.includes(name));
    for (const item of written.closest(".form-row, td, .field-options")?.querySelectorAll(".errorlist li") ?? []) {
      item.hidden = said.some(([, text]) => text === item.textContent.trim());
    }
  };

  const arrangeAll = () => {
    for (const select of form.querySelectorAll("select[name^=sources-][name$=-provider]")) {
      if (!select.name.includes("__prefix__")) {
        arrange(select);
      }
    }
  };
  document.addEventListener("formset:added", arrangeAll);
  arrangeAll();
});
