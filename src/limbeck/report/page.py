"""The frame of every page: templates, style and script, in one file that needs nothing else."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent


def render(template: str, shown: Mapping[str, Any]) -> str:
    """A page. Everything that is shown is escaped, but for the SVG of figures; no script runs but the page's own."""
    script, style = ((FOLDER / f"page.{ending}").read_text(encoding="utf-8") for ending in ("js", "css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    loader = PackageLoader("limbeck", "report")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.get_template(template).render(**shown, script=Markup(script), style=Markup(style), script_digest=digest)
