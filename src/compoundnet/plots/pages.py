"""Pages: the templates and the style of HTML reports, and the images inside them.

A page is one file without scripts: style and images are in it, so that it can be sent by mail.
"""

from __future__ import annotations

import base64
import io
import re

import jinja2
from markupsafe import Markup, escape
from PIL import Image

_QUALITY = 85
# An option of a command in a sentence.
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*\b")


def page_templates(package: str) -> jinja2.Environment:
    """Return the templates in the folder `templates` of a package.

    They may include page.css, the common style, and `sentence|with_options` shows options such as --time as code.
    """
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader("compoundnet.plots")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["with_options"] = with_options
    return made


def with_options(sentence: str) -> Markup:
    """Return a sentence as HTML in which the options of commands are code, which does not break at their hyphens."""
    return Markup(_OPTION.sub(r'<code class="option">\g<0></code>', str(escape(sentence))))


def data_address(content: bytes, kind: str) -> str:
    """Return an image file as a data address for `src`; `kind` is its MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def jpeg_address(image: Image.Image, longest: int | None = None) -> str:
    """Return an image as the data address of a JPEG.

    Args:
        image: RGB, or what converts to it.
        longest: The longest side of the JPEG in pixels; as it is unless given.
    """
    shown = image.convert("RGB")
    if longest is not None:
        shown.thumbnail((longest, longest))
    content = io.BytesIO()
    shown.save(content, "JPEG", quality=_QUALITY)
    return data_address(content.getvalue(), "image/jpeg")
