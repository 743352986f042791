/* The form of a channel: shows what would be sent with what stands in it, as it is written. Nothing is saved. */
"use strict";
{
  const DELAY_MILLISECONDS = 400;

  const tell = (panel, answer) => {
    const part = (name) => panel.querySelector(`[data-part=${name}]`);
    const rest = answer.is_whole ? "" : " The rest shows once the channel is filled in.";
    part("about").textContent = `${answer.about}, as it would be told.${rest}`;
    part("held").textContent = answer.held;
    part("held").hidden = !answer.held;
    part("text").textContent = answer.text;
    const errors = part("errors");
    errors.replaceChildren(
      ...answer.errors.map((error) => {
        const item = document.createElement("li");
        item.textContent = error;
        return item;
      }),
    );
    errors.hidden = answer.errors.length === 0;
    panel.hidden = false;
  };

  const begin = (form, panel) => {
    let timer = 0;
    let asked = 0;
    const preview = async () => {
      asked += 1;
      const mine = asked;
      const response = await fetch(panel.dataset.address, { method: "POST", body: new FormData(form) });
      // An answer that comes after a later question is an old one.
      if (response.ok && mine === asked) {
        tell(panel, await response.json());
      }
    };
    const changed = () => {
      window.clearTimeout(timer);
      timer = window.setTimeout(() => preview().catch(() => {}), DELAY_MILLISECONDS);
    };
    form.addEventListener("input", changed);
    form.addEventListener("change", changed);
    changed();
  };

  document.addEventListener("DOMContentLoaded", () => {
    const panel = document.getElementById("channel-preview");
    const form = panel?.closest("form");
    if (form) {
      begin(form, panel);
    }
  });
}
