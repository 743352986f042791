// Offers assets that match what is typed in a field with data-pick, the address that finds them, in the list of the field.
"use strict";
(() => {
    const DELAY_MS = 300;

    // Returns a function that calls another a moment after its last call; an answer that was read after a later call is dropped.
    function askLater(ask, show) {
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
                    show(answer, value);
                }
            }, DELAY_MS);
        };
    }
    window.askLater = askLater;

    const search = askLater(
        field => fetch(`${field.dataset.pick}?term=${encodeURIComponent(field.value)}`),
        (answer, field) => field.list.replaceChildren(...answer.assets.map(one => {
            const option = document.createElement("option");
            option.value = one.symbol;
            option.label = one.name ? `${one.symbol} · ${one.name}` : one.symbol;
            return option;
        })),
    );

    document.addEventListener("input", event => {
        if (event.target.dataset.pick) {
            search(event.target);
        }
    });
})();
