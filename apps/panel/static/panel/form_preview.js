/* For forms that show, as they are written, what they would do. Nothing is saved. Used by the forms of rules and channels. */
"use strict";
{
  const DELAY_MILLISECONDS = 400;

  /* Returns a function that asks the panel's address about what stands in the form, a moment after its last call, and
     has the answer notified. */
  const asking = (form, panel, show) => {
    let timer = 0;
    let asked = 0;
    const ask = async () => {
      const mine = asked;
      const response = await fetch(panel.dataset.address, { method: "POST", body: new FormData(form) });
      const answer = response.ok ? await response.json() : null;
      // An answer that was read after a later change is about an older form.
      if (answer && mine === asked) {
        show(panel, answer);
      }
    };
    return () => {
      asked += 1;
      window.clearTimeout(timer);
      timer = window.setTimeout(() => ask().catch(() => {}), DELAY_MILLISECONDS);
    };
  };

  const part = (panel, name) => panel.querySelector(`[data-part=${name}]`);

  const fill = (list, texts) => {
    list.replaceChildren(
      ...texts.map((text) => {
        const item = document.createElement("li");
        item.textContent = text;
        return item;
      }),
    );
    list.hidden = texts.length === 0;
  };

  window.formPreview = { asking, part, fill };
}
