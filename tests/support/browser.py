"""Pages in a real Chromium, the system's own: what they complain of, and what every page must hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page


class Watched:
    """A page of a browser, and what has gone wrong on it so far: console errors, exceptions, failed requests."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url[:200]}"))

    def overflow(self) -> float:
        """CSS pixels by which the page is wider than its window."""
        return float(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def broken_pictures(self) -> list[str]:
        """Addresses (their beginning) of pictures that did not load."""
        found: list[str] = self.page.evaluate(
            "[...document.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.src.slice(0, 80))"
        )
        return found

    def broken_links(self) -> list[str]:
        """Links within the page that lead to nothing."""
        found: list[str] = self.page.evaluate(
            """[...document.querySelectorAll('a[href^="#"]')].map(link => link.getAttribute('href'))
               .filter(href => !document.getElementById(decodeURIComponent(href.slice(1))))"""
        )
        return found

    def contrasts(self) -> dict[tuple[str, str], float]:
        """The contrast, as WCAG 2.2 defines it, of every pair of a colour of text and its ground on the page."""
        pairs: list[list[str]] = self.page.evaluate(
            """() => {
              const ground = node => { while (node) { const c = getComputedStyle(node).backgroundColor;
                if (c !== 'rgba(0, 0, 0, 0)') return c; node = node.parentElement; } };
              const found = {};
              for (const node of document.querySelectorAll('main *, nav *, header *'))
                if ([...node.childNodes].some(c => c.nodeType === 3 && c.data.trim())
                    && +getComputedStyle(node).opacity === 1)
                  found[getComputedStyle(node).color + '|' + ground(node)] = 1;
              return Object.keys(found).map(key => key.split('|'));
            }"""
        )
        return {(text, ground): _contrast(text, ground) for text, ground in pairs}


def _contrast(first: str, second: str) -> float:
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@contextmanager
def page(width: int, height: int, dark: bool = False) -> Iterator[Watched]:
    """A window of Debian's Chromium of that many CSS pixels. Skips the test where there is no Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to run as root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=sandbox)
        try:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
            )
            yield Watched(context.new_page())
        finally:
            browser.close()
