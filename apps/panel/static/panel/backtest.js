// Moves the bar of a backtest that is not over, and shows what it found once it is; sends the choice of an asset.
"use strict";
(() => {
  const EVERY_MILLISECONDS = 1000;

  async function look(box) {
    try {
      const answer = await fetch(box.dataset.status, { headers: { Accept: "application/json" } });
      if (answer.ok) {
        const run = await answer.json();
        // Also where it has begun, since the words above the bar are another's then.
        if (run.over || run.status !== box.dataset.is) {
          window.location.reload();
          return;
        }
        const bar = box.querySelector('[role="progressbar"]');
        bar.setAttribute("aria-valuenow", run.percent);
        bar.firstElementChild.style.width = `${run.percent}%`;
        box.querySelector("[data-percent]").textContent = run.percent;
      }
    } catch {
      // The site is away for a moment: the next look finds it.
    }
    setTimeout(look, EVERY_MILLISECONDS, box);
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-status]").forEach((box) => setTimeout(look, EVERY_MILLISECONDS, box));
    document.querySelectorAll("select[data-sends]").forEach((select) => {
      select.addEventListener("change", () => select.form.requestSubmit());
    });
  });
})();
