// Puts parts of a page into it that take a while to compute, and draws their charts. A form that asks for another part
// gets it in its place; without this script, and where the part cannot be loaded, it opens the page of its own.
"use strict";
(() => {
    // Whether the part is in its place.
    const load = async (place, query = "") => {
        const answer = await fetch(place.dataset.from + query).catch(() => null);
        // Sent elsewhere: whoever looks is no longer signed in.
        if (!answer || !answer.ok || answer.redirected) {
            return false;
        }
        place.innerHTML = await answer.text();
        place.querySelectorAll("canvas.price-chart").forEach((canvas) => {
            window.priceChart(canvas, JSON.parse(canvas.parentElement.querySelector("script").textContent));
        });
        return true;
    };
    document.querySelectorAll("[data-from]").forEach((place) => load(place));
    document.querySelectorAll("form[data-into]").forEach((form) => {
        form.addEventListener("submit", async (event) => {
            event.preventDefault();
            const query = `?${new URLSearchParams(new FormData(form))}`;
            if (!(await load(document.getElementById(form.dataset.into), query))) {
                form.submit();
            }
        });
    });
})();
