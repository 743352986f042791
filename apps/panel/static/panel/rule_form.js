/* The form of a rule: shows the parameters of the chosen kind alone, builds a condition of several, and says beside each
   field how it was read or what is wrong, once it was touched, and below what the rule means.
   Without this script all parameters are shown, each with the kinds that it is for, and several conditions are written. */
"use strict";
{
  const { asking, part, fill } = window.formPreview;
  const COMBINED = "combined";

  const fieldOf = (form, name) => form.querySelector(`.field-${name}`);
  const rowOf = (form, name) => fieldOf(form, name)?.closest(".form-row");
  const labelOf = (form, name) => fieldOf(form, name)?.querySelector("label")?.textContent.trim() ?? name;

  const show = (row, isShown) => {
    if (row) {
      row.hidden = !isShown;
      row.style.display = isShown ? "" : "none";
    }
  };

  const arrange = (form, kindsWith) => {
    const kind = form.elements.kind.value;
    for (const [name, kinds] of Object.entries(kindsWith)) {
      show(rowOf(form, name), kinds.includes(kind));
    }
    const more = rowOf(form, "recovery")?.closest("fieldset");
    if (more) {
      more.style.display = ["recovery", "ref", "min_coverage"].some((name) => kindsWith[name].includes(kind)) ? "" : "none";
    }
    for (const name of ["symbols", "tag", "feed"]) {
      show(rowOf(form, name), form.elements.watch.value === name);
    }
  };

  /* Says something beside a field: how it was read, or what is wrong with it. */
  const noteOf = (form, name) => {
    const field = fieldOf(form, name);
    let note = field?.querySelector(".form-note");
    if (field && !note) {
      note = document.createElement("p");
      note.className = "form-note";
      note.setAttribute("aria-live", "polite");
      // What the server said of it is said anew, as it is now.
      field.querySelectorAll("ul.errorlist, .text-red-600").forEach((one) => one.remove());
      (field.querySelector("input, select, textarea")?.closest(".grow") ?? field).append(note);
    }
    return note;
  };

  const say = (form, name, text, isWrong) => {
    if (!text && !fieldOf(form, name)?.querySelector(".form-note")) {
      return;
    }
    const note = noteOf(form, name);
    if (note) {
      note.textContent = text;
      note.classList.toggle("is-wrong", isWrong);
      form.elements[name]?.setAttribute?.("aria-invalid", String(isWrong));
    }
  };

  /* The written form and the builder: one is shown, and each can be had of the other. */
  const beginBuilder = (form, kindsWith, changed) => {
    const parts = JSON.parse(document.getElementById("rule-builder-parts").textContent);
    const written = form.elements.written;
    const built = form.elements.built;
    const row = rowOf(form, "written");
    const classes = {
      input: form.elements.level.className,
      select: form.elements.kind.className,
      button: "builder-button border border-base-200 cursor-pointer font-medium px-3 py-2 rounded-default dark:border-base-700",
    };
    const builder = window.ruleBuilder.begin({ parts, classes, changed });
    const frame = document.createElement("div");
    const toggle = document.createElement("button");
    const refusal = document.createElement("p");
    toggle.type = "button";
    toggle.className = classes.button;
    refusal.className = "form-note";
    refusal.setAttribute("role", "alert");
    frame.className = "builder-frame";
    frame.append(builder.element, toggle, refusal);
    row.before(frame);
    let isBuilt = true;
    // What the text was made of, so that going back finds what was typed.
    let made = null;

    const convert = async (posted) => {
      const body = new FormData();
      body.append("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
      Object.entries(posted).forEach(([name, value]) => body.append(name, value));
      const response = await fetch(document.getElementById("rule-preview").dataset.condition, { method: "POST", body });
      return response.ok ? response.json() : { error: "It could not be converted. Try again." };
    };

    const sync = () => {
      const isCombined = form.elements.kind.value === COMBINED;
      show(frame, isCombined);
      show(row, isCombined && !isBuilt);
      show(builder.element, isBuilt);
      toggle.textContent = isBuilt ? "Show its written form" : "Back to the builder";
      built.value = isCombined && isBuilt && builder.tree() ? JSON.stringify(builder.tree()) : "";
    };

    const refuse = (text = "") => {
      refusal.textContent = text;
      refusal.classList.toggle("is-wrong", Boolean(text));
    };

    const toWritten = async () => {
      const answer = await convert({ built: JSON.stringify(builder.tree()) });
      refuse(answer.error);
      if (!answer.error) {
        // The text stays as it was written where the builder has not changed what it says.
        const tree = JSON.stringify(builder.tree());
        if (made?.tree !== tree) {
          written.value = answer.written;
          made = { tree, text: written.value };
        }
        isBuilt = false;
      }
    };

    const toBuilder = async () => {
      if (made?.text === written.value) {
        refuse();
        isBuilt = true;
        return;
      }
      const answer = await convert({ written: written.value });
      refuse(answer.error);
      if (!answer.error) {
        builder.show(answer.built);
        made = { tree: JSON.stringify(builder.tree()), text: written.value };
        isBuilt = true;
      }
    };

    toggle.addEventListener("click", async () => {
      await (isBuilt ? toWritten() : toBuilder());
      changed();
    });

    /* Begins with the leaf that stands in the fields, of the kind that was chosen before. */
    const combine = (kind) => {
      const values = { kind };
      for (const name of Object.keys(parts.parameters).filter((one) => kindsWith[one].includes(kind))) {
        values[name] = form.elements[name].value;
      }
      builder.combine(values);
    };

    const start = async () => {
      if (built.value) {
        builder.show(JSON.parse(built.value));
      } else if (written.value.trim()) {
        await toBuilder();
        isBuilt = !refusal.textContent;
      }
    };

    return { builder, combine, start, sync, isBuilt: () => isBuilt };
  };

  const begin = async (form, panel) => {
    const kindsWith = JSON.parse(form.elements.kind.dataset.kindsWith);
    const isAllTouched = panel.dataset.bound === "yes";
    const touched = new Set();
    let kindBefore = form.elements.kind.value;
    let building = null;

    const askPast = window.rulePast.begin(form);

    const showPreview = (_, answer) => {
      if (answer.is_whole) {
        askPast();
      } else {
        document.getElementById("rule-past").hidden = true;
      }
      const isCombined = form.elements.kind.value === COMBINED;
      let { errors } = answer;
      if (isCombined && building.isBuilt()) {
        const inside = (one) => one.field === "written";
        const left = building.builder.say(errors.filter((one) => inside(one) && one.path), answer.read.filter(inside), isAllTouched);
        errors = [...errors.filter((one) => !(inside(one) && one.path)), ...left];
      }
      const names = new Set([...answer.read, ...answer.errors].map((one) => one.field));
      form.querySelectorAll(".form-row .form-note").forEach((note) => {
        names.add([...note.closest("[class*=field-]").classList].find((one) => one.startsWith("field-")).slice(6));
      });
      const others = [];
      const missing = [];
      for (const name of names) {
        const error = errors.find((one) => one.field === name);
        const isSeen = name !== "written" || (isCombined && !building.isBuilt());
        const isTouched = isAllTouched || touched.has(name);
        const text = isSeen && name !== "written" ? (answer.read.find((one) => one.field === name)?.text ?? "") : "";
        if (error && !isSeen) {
          others.push(error.message);
        } else if (error && !isTouched) {
          missing.push(labelOf(form, name));
        }
        say(form, name, error && isSeen && isTouched ? error.message : text, Boolean(error && isSeen && isTouched));
      }
      part(panel, "summary").textContent = answer.summary;
      part(panel, "missing").textContent = missing.length ? `Still to be filled in: ${missing.join(", ")}.` : "";
      fill(part(panel, "errors"), others);
      fill(part(panel, "warnings"), answer.warnings);
      const assets = answer.assets.map((asset) => `${asset.symbol}: ${asset.summary}`);
      fill(part(panel, "assets"), answer.more ? [...assets, `and ${answer.more} more`] : assets);
      panel.hidden = false;
    };

    const ask = asking(form, panel, showPreview);
    const changed = () => {
      const kind = form.elements.kind.value;
      if (kind === COMBINED && !building.builder.tree()) {
        building.combine(kindBefore === COMBINED ? "" : kindBefore);
      }
      kindBefore = kind;
      arrange(form, kindsWith);
      building.sync();
      ask();
    };
    building = beginBuilder(form, kindsWith, changed);
    // Where one kind's parameters are shown, they need not say whose they are.
    form.querySelectorAll(".rule-kinds").forEach((text) => text.remove());
    rowOf(form, "recovery").closest("fieldset").after(panel, document.getElementById("rule-past"));
    window.rulePast.beginSample(form);
    await building.start();
    form.addEventListener("input", changed);
    form.addEventListener("change", (event) => {
      touched.add(event.target.name);
      changed();
    });
    // Select2 tells jQuery only.
    window.django?.jQuery(form).on("change", "select", changed);
    arrange(form, kindsWith);
    building.sync();
    if (form.elements.kind.value) {
      changed();
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    const panel = document.getElementById("rule-preview");
    const form = panel?.closest("form");
    if (form?.elements.kind) {
      begin(form, panel);
    }
  });
}
