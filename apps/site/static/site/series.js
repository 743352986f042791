// While a derived series is written: offers assets that match what is typed, and says what the series would compute.
"use strict";
(() => {
    const DELAY_MS = 300;
    const form = document.getElementById("series");
    const offered = document.getElementById("assets");
    const sentences = document.getElementById("sentences");

    // Returns a function that calls another a moment after its last call; an answer that was read after a later call is dropped.
    function later(ask, show) {
        let timer = 0;
        let asked = 0;
        return value => {
            asked += 1;
            const mine = asked;
            clearTimeout(timer);
            timer = setTimeout(async () => {
                const response = await ask(value).catch(() => null);
                const answer = response?.ok ? await response.json() : null;
                if (answer && mine === asked) {
                    show(answer);
                }
            }, DELAY_MS);
        };
    }

    function paragraph(text, name, role) {
        const made = document.createElement("p");
        made.className = name;
        made.textContent = text;
        if (role) {
            made.setAttribute("role", role);
        }
        return made;
    }

    const search = later(
        term => fetch(`${form.dataset.pick}?term=${encodeURIComponent(term)}`),
        answer => offered.replaceChildren(...answer.assets.map(one => {
            const option = document.createElement("option");
            option.value = one.symbol;
            option.label = one.name ? `${one.symbol} · ${one.name}` : one.symbol;
            return option;
        })),
    );

    // Beside what is still blank nothing is said before it is submitted.
    function errorsOf(place, rows, answer) {
        const row = rows.indexOf(place.closest("fieldset"));
        const name = place.dataset.error;
        return answer.errors.filter(one => {
            if (one.row !== null) {
                return one.row === row;
            }
            const field = form.elements[one.field];
            return one.field === name && (name === "legs" ? rows.every(isFilled) : field && field.value);
        });
    }

    const isFilled = (row, index) => index > 1 || row.querySelector("[name=asset]").value.trim();

    const preview = later(
        () => fetch(form.dataset.preview, {method: "POST", body: new FormData(form)}),
        answer => {
            const rows = [...form.querySelectorAll("fieldset.leg")];
            sentences.replaceChildren(...answer.sentences.map(text => paragraph(text, "notice")));
            for (const place of form.querySelectorAll("[data-error]")) {
                const texts = errorsOf(place, rows, answer).map(one => one.text);
                place.replaceChildren(...texts.map(text => paragraph(text, "error")));
            }
        },
    );

    function showWeights() {
        form.classList.toggle("unweighted", form.elements.kind.value !== "basket");
    }

    form.addEventListener("input", event => {
        if (event.target.name === "asset") {
            search(event.target.value);
        }
        showWeights();
        preview();
    });
    showWeights();
})();
