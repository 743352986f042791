// Puts the newest prices and alerts in the place of the older ones, and marks prices that changed.
"use strict";
(() => {
    const EVERY_MS = 3000;
    const place = document.getElementById("live");
    const pulse = document.getElementById("pulse");

    const prices = () => new Map(
        [...place.querySelectorAll("tr[data-asset]")].map(row => [row.dataset.asset, row.querySelector(".number")])
    );

    const plain = cell => Number(cell.textContent.replace(/[^0-9.]/g, ""));

    function mark(before) {
        for (const [asset, cell] of prices()) {
            const older = before.get(asset);
            if (older && older.textContent !== cell.textContent) {
                cell.classList.add(plain(cell) < plain(older) ? "fell" : "rose");
            }
        }
    }

    function moment() {
        return new Date().toISOString().slice(0, 19).replace("T", " ");
    }

    async function refresh() {
        // Who types or reads within the part would lose their place.
        const isInUse = place.contains(document.activeElement) || !document.getSelection().isCollapsed;
        if (!document.hidden && !isInUse) {
            try {
                const answer = await fetch(place.dataset.from, {signal: AbortSignal.timeout(EVERY_MS)});
                if (!answer.ok) throw new Error(String(answer.status));
                const before = prices();
                place.innerHTML = await answer.text();
                mark(before);
                pulse.textContent = `As of ${moment()}, by this machine's clock. Updates automatically.`;
                pulse.classList.remove("error");
            } catch {
                if (!pulse.classList.contains("error")) {
                    pulse.textContent = `No answer since ${moment()}. What is shown is older; it is tried again.`;
                    pulse.classList.add("error");
                }
            }
        }
        setTimeout(refresh, EVERY_MS);
    }

    setTimeout(refresh, EVERY_MS);
})();
