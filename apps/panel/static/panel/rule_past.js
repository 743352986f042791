/* Below the form of a rule: what it would have done on the newest prices of an asset, as soon as the rule is whole; and a
   sample of its alert for the channels that are chosen. */
"use strict";
{
  const { asking, part, fill } = window.formPreview;

  const chooseAsset = (panel, answer) => {
    const select = part(panel, "asset");
    select.replaceChildren(...answer.symbols.map((symbol) => new Option(symbol, symbol, false, symbol === answer.symbol)));
    select.closest("label").hidden = answer.symbols.length < 2;
  };

  const show = (panel, answer) => {
    panel.hidden = answer.refusal === "";
    part(panel, "sentence").textContent = answer.refusal ?? answer.sentence;
    for (const name of ["drawn", "sweep"]) {
      part(panel, name).hidden = answer.refusal !== undefined;
    }
    if (answer.refusal !== undefined) {
      return;
    }
    chooseAsset(panel, answer);
    part(panel, "drawn").hidden = answer.chart === null;
    if (answer.chart) {
      const canvas = panel.querySelector("canvas");
      canvas.setAttribute("aria-label", answer.description);
      window.priceChart(canvas, answer.chart);
    }
    fill(part(panel, "thresholds"), answer.others);
    part(panel, "sweep").hidden = answer.others.length === 0;
  };

  /* Returns a function that asks for the past of what stands in the form now. */
  const begin = (form) => {
    const panel = document.getElementById("rule-past");
    return asking(form, panel, show);
  };

  const beginSample = (form) => {
    const panel = document.getElementById("rule-sample");
    const button = panel.querySelector("button");
    form.querySelector(".field-channels")?.append(panel);
    panel.hidden = false;
    button.addEventListener("click", async () => {
      button.disabled = true;
      const response = await fetch(panel.dataset.address, { method: "POST", body: new FormData(form) }).catch(() => null);
      const answer = response?.ok ? await response.json() : { said: ["It could not be sent. Try again."] };
      fill(part(panel, "said"), answer.said);
      button.disabled = false;
    });
  };

  window.rulePast = { begin, beginSample };
}
