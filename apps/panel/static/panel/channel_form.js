/* The form of a channel: shows what would be sent with what stands in it, as it is written. */
"use strict";
{
  const { asking, part, fill } = window.formPreview;

  const showPreview = (panel, answer) => {
    const rest = answer.is_whole ? "" : " The rest shows once the channel is filled in.";
    part(panel, "about").textContent = `${answer.about}, as it would be notified.${rest}`;
    part(panel, "deferred").textContent = answer.deferred;
    part(panel, "deferred").hidden = !answer.deferred;
    part(panel, "text").textContent = answer.text;
    fill(part(panel, "errors"), answer.errors);
    panel.hidden = false;
  };

  document.addEventListener("DOMContentLoaded", () => {
    const panel = document.getElementById("channel-preview");
    const form = panel?.closest("form");
    if (form) {
      const changed = asking(form, panel, showPreview);
      form.addEventListener("input", changed);
      form.addEventListener("change", changed);
      changed();
    }
  });
}
