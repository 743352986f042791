/* The form of a rule: shows the parameters of the chosen kind alone, and says what the rule means as it is written.
   Without this script all of them are shown, each with the kinds that it is for. */
"use strict";
{
  const { asking, part, fill } = window.formPreview;

  const rowOf = (form, name) => form.querySelector(`.field-${name}`)?.closest(".form-row");

  const show = (form, name, isShown) => {
    const row = rowOf(form, name);
    if (row) {
      row.hidden = !isShown;
      row.style.display = isShown ? "" : "none";
    }
  };

  const arrange = (form, kindsWith) => {
    const kind = form.elements.kind.value;
    for (const [name, kinds] of Object.entries(kindsWith)) {
      show(form, name, kinds.includes(kind));
    }
    const more = rowOf(form, "recovery")?.closest("fieldset");
    if (more) {
      more.style.display = ["recovery", "ref", "min_coverage"].some((name) => kindsWith[name].includes(kind)) ? "" : "none";
    }
    for (const name of ["symbols", "tag", "feed"]) {
      show(form, name, form.elements.watch.value === name);
    }
  };

  const showPreview = (panel, answer) => {
    part(panel, "summary").textContent = answer.summary;
    fill(part(panel, "errors"), answer.errors.map((error) => error.message));
    fill(part(panel, "warnings"), answer.warnings);
    const assets = answer.assets.map((asset) => `${asset.symbol}: ${asset.summary}`);
    fill(part(panel, "assets"), answer.more ? [...assets, `and ${answer.more} more`] : assets);
    panel.hidden = false;
  };

  const begin = (form, panel) => {
    const kindsWith = JSON.parse(form.elements.kind.dataset.kindsWith);
    const ask = asking(form, panel, showPreview);
    const changed = () => {
      arrange(form, kindsWith);
      ask();
    };
    // Where one kind's parameters are shown, they need not say whose they are.
    form.querySelectorAll(".rule-kinds").forEach((text) => text.remove());
    rowOf(form, "recovery").closest("fieldset").after(panel);
    form.addEventListener("input", changed);
    form.addEventListener("change", changed);
    // Select2 tells jQuery only.
    window.django?.jQuery(form).on("change", "select", changed);
    arrange(form, kindsWith);
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
