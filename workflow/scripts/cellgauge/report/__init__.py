"""The report: one page, one file, made from the tables alone.

`render` writes it. A page of the report is a module of `cellgauge.report.pages` with a function `pages(tables)` and a
template that its pages name; to add one, write both and list the module in MODULES. What the page's script can do for it
(filters, choices, sorting) is asked for by attributes of the HTML, which assets/report.js describes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cellgauge.core.atomic import atomic_path
from cellgauge.report.charts import marker
from cellgauge.report.pages import catalogue, cost, gaps, guide, overview, provenance, published, splits, tasks
from cellgauge.results import colors as colors
from cellgauge.results.numbers import DASH, alternatives, mebibytes, readable, seconds, size
from cellgauge.results.provenance import headline
from cellgauge.results.read import Tables
from cellgauge.results.words import profile

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

HERE = Path(__file__).parent
MODULES = (overview, tasks, splits, cost, published, gaps, catalogue, provenance, guide)
"""The pages in the order of the navigation."""


def render(tables_dir: str | Path, output: str | Path) -> None:
    """Write the report of the tables in `tables_dir` as one HTML file that needs no other and no network.

    The same tables give the same bytes. Raise CellgaugeError where a table is missing, unreadable or lacks a column.
    """
    tables = Tables.read(tables_dir)
    style = colors.stylesheet() + asset("report.css")
    script = asset("report.js")
    pages = [page for module in MODULES for page in module.pages(tables)]
    text = environment().get_template("report.html").render(
        tables=tables,
        pages=pages,
        label_colors=colors.LABELS,
        style=style,
        script=script,
        policy=policy(style, script),
    )  # fmt: skip
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")


@cache  # it keeps the templates that it has compiled
def environment() -> jinja2.Environment:
    """Return what the templates are rendered with: text is escaped, an unknown name is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"dash": DASH}
    filters = (alternatives, headline, linked, mebibytes, profile, readable, seconds, size)
    environment.filters |= {"data": _data, "marker": _marker, **{function.__name__: function for function in filters}}
    return environment


def _data(about: Mapping[str, str]) -> Markup:
    """Return attributes data-KEY="VALUE", escaped."""
    from markupsafe import Markup

    return Markup("").join(Markup(' data-{}="{}"').format(key, value) for key, value in about.items())


LINK = re.compile(
    r"(https?://[^\s<>\"']+[^\s<>\"'.,;:)])|\b(10\.\d{4,9}/[^\s<>\"']+[^\s<>\"'.,;:)])|\b(MIT|Apache-2\.0|BSD-3-Clause|CC-BY-4\.0)\b"
)
"""Addresses, DOIs and the names of licences (as SPDX writes them) in a text."""


def linked(text: str) -> Markup:
    """Return text, escaped, with links where it holds what LINK finds."""
    from markupsafe import Markup

    parts, end = Markup(""), 0
    for match in LINK.finditer(text):
        address, doi, licence = match.groups()
        href = address or (f"https://doi.org/{doi}" if doi else f"https://spdx.org/licenses/{licence}.html")
        parts += text[end : match.start()]
        parts += Markup('<a href="{}" rel="noopener noreferrer">{}</a>').format(href, match.group())
        end = match.end()
    return parts + text[end:]


def _marker(kind: str, css: str = "") -> Markup:
    from markupsafe import Markup

    return Markup(marker(kind, 0, 0, css))


def asset(name: str) -> str:
    """Return the text of a file of report/assets."""
    return (HERE / "assets" / name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy by which a browser runs our script and style alone and requests nothing.

    It holds the second line of defence: should a name ever get past the escaping, it cannot run.
    """
    allowed = {kind: f"'sha256-{_digest(text)}'" for kind, text in (("script-src", script), ("style-src", style))}
    rules = {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'", **allowed}
    return "; ".join(f"{kind} {source}" for kind, source in rules.items())


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
