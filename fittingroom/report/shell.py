"""What all pages share: one shell around them, the light switch, and the policy that lets a page use its own style and script alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fittingroom.report import text

__all__ = ["policy", "render_page", "templates"]


def render_page(template: str, styles: Sequence[str] = (), scripts: Sequence[str] = (), **values: Any) -> str:
    """Return a whole page, from doctype to last newline, with style and script inside; write it as UTF-8.

    Args:
        template: its file, which extends ``shell.html``.
        styles: style sheets beside the one of every page.
        scripts: scripts beside the light switch.
        values: what the template shows; `text` is there too.
    """
    environment = templates()
    style, script = (
        "\n".join(environment.get_template(name).render().strip() for name in names)
        for names in (("style.css", *styles), ("light.js", *scripts))
    )
    shown = {"style": Markup(style), "script": Markup(script), "policy": policy(style, script), "text": text, **values}
    return environment.get_template(template).render(shown).rstrip() + "\n"


def templates() -> Environment:
    """Return the templates; values put into them are escaped, and one that is missing is an error."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def policy(style: str, script: str) -> str:
    """Return the content security policy of a page with this inline style and script, both named by their hashes."""

    def source(content: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'"

    return f"default-src 'none'; style-src {source(style)}; script-src {source(script)}; img-src data:; base-uri 'none'; form-action 'none'"
