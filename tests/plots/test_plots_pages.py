"""Sentences on pages."""

from __future__ import annotations

import pytest

pytest.importorskip("jinja2")

from compoundnet.plots.pages import with_options


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("6 s are left of --time", '6 s are left of <code class="option">--time</code>'),
        ("judge it: --max-latency 2.2ms.", 'judge it: <code class="option">--max-latency</code> 2.2ms.'),
        ("(--set minival=0.1)", '(<code class="option">--set</code> minival=0.1)'),
        ("a--b and ---c are none", "a--b and ---c are none"),
        ("<b>--time</b> & more", '&lt;b&gt;<code class="option">--time</code>&lt;/b&gt; &amp; more'),
    ],
)
def test_options_are_code(sentence: str, shown: str) -> None:
    assert with_options(sentence) == shown
