// While a derived series is written: says what the series would compute.
"use strict";
(() => {
    const form = document.getElementById("series");
    const sentences = document.getElementById("sentences");

    function paragraph(text, name, role) {
        const made = document.createElement("p");
        made.className = name;
        made.textContent = text;
        if (role) {
            made.setAttribute("role", role);
        }
        return made;
    }

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

    const preview = window.askLater(
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
        showWeights();
        preview();
    });
    showWeights();
})();
