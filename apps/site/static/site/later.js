// Puts parts of a page into it that take a while to compute, and draws their charts. A form that asks for another part
// gets it in its place; without this script it opens the page of its own.
"use strict";
(() => {
    const load = async (place, query = "") => {
        const answer = await fetch(place.dataset.from + query).catch(() => null);
        // Sent elsewhere: whoever looks is no longer signed in.
        if (!answer || !answer.ok || answer.redirected) {
            return;
        }
        place.innerHTML = await answer.text();
        place.querySelectorAll("canvas.price-chart").forEach((canvas) => {
            window.priceChart(canvas, JSON.parse(canvas.parentElement.querySelector("script").textContent));
        });
    };
    document.querySelectorAll("[data-from]").forEach((place) => load(place));
    document.querySelectorAll("form[data-into]").forEach((form) => {
        form.addEventListener("submit", (event) => {
            event.preventDefault();
            load(document.getElementById(form.dataset.into), `?${new URLSearchParams(new FormData(form))}`);
        });
    });
})();
