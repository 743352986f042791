// Puts how often a portfolio would have drifted into its page, once it is computed.
"use strict";
(async () => {
    const place = document.getElementById("drift");
    const answer = place ? await fetch(place.dataset.from).catch(() => null) : null;
    if (answer && answer.ok) {
        place.innerHTML = await answer.text();
    }
})();
