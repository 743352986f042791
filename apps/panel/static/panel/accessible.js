// Names the elements that scripts of Django's admin draw without a name: the fields of Select2, and the signs beside
// lists of choices. Keeps the element that Tab came to wholly in view, above the bar at the bottom of the page.
"use strict";
(() => {
    const textOf = label => label.textContent.trim().replace(/:$/, "");

    function name(root) {
        for (const box of root.querySelectorAll(".select2-container")) {
            const select = box.previousElementSibling;
            const label = select?.labels?.[0] ? textOf(select.labels[0]) : select?.getAttribute("aria-label");
            if (!label) continue;
            for (const part of box.querySelectorAll("[role=combobox], [role=textbox], [role=searchbox], input")) {
                if (part.getAttribute("aria-label") !== label) part.setAttribute("aria-label", label);
            }
        }
        // The list of what is chosen has the sign that empties it among its items.
        for (const sign of root.querySelectorAll("ul.select2-selection__rendered > span:not([role])")) sign.setAttribute("role", "listitem");
        for (const sign of root.querySelectorAll(".help-tooltip[aria-label]:not([role])")) sign.setAttribute("role", "img");
    }

    // Browsers scroll only the line with the cursor into view. What is drawn above it later would move it out of view
    // again; from when the reader scrolls, they decide what is in view.
    let tabbedTo = null;
    function show() {
        if (tabbedTo === document.activeElement) tabbedTo?.scrollIntoView({block: "nearest"});
    }
    document.addEventListener("keyup", event => {
        if (event.key !== "Tab") return;
        tabbedTo = document.activeElement;
        show();
    });
    for (const kind of ["wheel", "touchmove", "pointerdown"]) {
        document.addEventListener(kind, () => { tabbedTo = null; }, {passive: true});
    }

    document.addEventListener("DOMContentLoaded", () => {
        document.getElementById("main")?.setAttribute("role", "main");
        // Where the link past the navigation leads.
        document.getElementById("content")?.setAttribute("tabindex", "-1");
        new ResizeObserver(show).observe(document.body);
        name(document);
        // Select2 and the signs are drawn later, and again in rows that are added.
        new MutationObserver(() => name(document)).observe(document.body, {childList: true, subtree: true});
    });
})();
