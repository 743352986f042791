// Presses the page's one button for whoever is signed in: the link was their click. Programs that look at links before
// people do have nobody's session, and are shown the page without this.
"use strict";
document.querySelector("form[data-at-once]")?.requestSubmit();
