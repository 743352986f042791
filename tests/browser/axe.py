"""What axe finds on a page: its rules of accessibility, run in the browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

_AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"
# (width, colour scheme, the rules that are run: those that depend on what differs from the views before; None for all)
_VIEWS = [
    (1440, "light", None),
    (1440, "dark", ["color-contrast", "link-in-text-block"]),
    (390, "dark", None),
    (390, "light", ["color-contrast", "link-in-text-block"]),
]
# The admin's own switch is asked once, when a page is opened.
_SWITCH = """isDark => {
    if (document.documentElement.hasAttribute("x-data")) document.documentElement.classList.toggle("dark", isDark);
}"""
_RUN = """
async rules => {
    const {violations} = await axe.run(document, {
        ...(rules ? {runOnly: {type: "rule", values: rules}} : {}),
        resultTypes: ["violations"], iframes: false, preload: false,
    });
    return violations.flatMap(({id, impact, nodes}) => nodes.map(node => ({
        rule: id, impact: node.impact ?? impact, element: node.target.flat().join(" "), html: node.html.slice(0, 160),
        why: [...node.any, ...node.all, ...node.none].map(check => check.message).join("; "),
    })));
}
"""


def source() -> str:
    """Return axe's own code. It fails where npm has not put it: a page that nobody checked is not accessible."""
    if not _AXE.is_file():
        pytest.fail("There is no node_modules/axe-core: run make venv-dev where npm is.")
    return _AXE.read_text()


def violations_of(page: Page, axe: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (view, violation) of the page that is open, wide and narrow, light and dark. axe: its code."""
    page.evaluate(axe)
    for width, scheme, rules in _VIEWS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.evaluate(_SWITCH, scheme == "dark")
        for violation in page.evaluate(_RUN, rules):
            yield f"{width} px, {scheme}", violation
