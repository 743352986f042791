// Puts newer parts in the place of the older ones, and marks prices that changed. Each part is an element with an id and
// the attribute data-live; the newer ones come from the address that an element's data-from names.
"use strict";
(() => {
    const EVERY_MS = 3000;
    const root = document.querySelector("[data-from]");
    const pulse = document.getElementById("pulse");

    const prices = () => new Map(
        [...root.querySelectorAll("tr[data-asset]")].map(row => [row.dataset.asset, row.querySelector(".number")])
    );

    const plain = cell => window.reader.read(cell.textContent);

    function mark(before) {
        for (const [asset, cell] of prices()) {
            const older = before.get(asset);
            if (older && older.textContent !== cell.textContent) {
                cell.classList.add(plain(cell) < plain(older) ? "fell" : "rose");
            }
        }
    }

    function replace(text) {
        const newer = new DOMParser().parseFromString(text, "text/html");
        for (const part of document.querySelectorAll("[data-live]")) {
            const found = newer.getElementById(part.id);
            if (found) part.replaceChildren(...found.childNodes);
        }
    }

    // Who types or reads within a part would lose their place.
    const isInUse = () => document.activeElement?.closest("[data-live]") || !document.getSelection().isCollapsed;

    async function refresh() {
        if (!document.hidden && !isInUse()) {
            try {
                const answer = await fetch(root.dataset.from, {signal: AbortSignal.timeout(EVERY_MS)});
                if (!answer.ok) throw new Error(String(answer.status));
                const text = await answer.text();
                // The reader may have come there during the request.
                if (!isInUse()) {
                    const before = prices();
                    replace(text);
                    mark(before);
                    document.dispatchEvent(new Event("live"));
                    pulse.textContent = `As of ${window.reader.moment(new Date())}, by this machine's clock. Updates automatically.`;
                    pulse.classList.remove("error");
                }
            } catch {
                if (!pulse.classList.contains("error")) {
                    pulse.textContent = `No answer since ${window.reader.moment(new Date())}. What is shown is older; it is tried again.`;
                    pulse.classList.add("error");
                }
            }
        }
        setTimeout(refresh, EVERY_MS);
    }

    // The form of a new row has this script too, and no part that updates itself.
    if (root) setTimeout(refresh, EVERY_MS);
})();
