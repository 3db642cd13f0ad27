"""The report: one page, one file, made from the tables alone.

`render` writes it. A page of the report is a module of `cellgauge.report.pages` with a function `pages(tables)` and a
template that its pages name; to add one, write both and list the module in MODULES. What the page's script can do for it
(filters, choices, sorting) is asked for by attributes of the HTML, which assets/report.js describes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellgauge.core.atomic import atomic_path
from cellgauge.report.charts import marker
from cellgauge.report.pages import catalogue, cost, gaps, guide, overview, provenance, published, splits, tasks
from cellgauge.results import colors
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
    pages = [page for module in MODULES for page in module.pages(tables)]
    _write(output, "report.html", _asset("report.js"), tables=tables, pages=pages, label_colors=colors.LABELS)


def write_page(
    output: str | Path, title: str, template: str, context: Mapping[str, Any], links: Sequence[tuple[str, str]] = ()
) -> None:
    """Write a page without a script, one HTML file around one template; `links` are (address, text) of its navigation."""
    _write(output, "plain.html", "", title=title, template=template, context=context, links=links)


def _write(output: str | Path, name: str, script: str, **context: Any) -> None:
    style = colors.stylesheet() + _asset("report.css")
    inside = {"style": style, "script": script, "policy": policy(style, script)}
    text = _environment().get_template(name).render(**inside, **context)
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")


@cache  # it keeps the templates that it has compiled
def _environment() -> jinja2.Environment:
    """Return what the templates are rendered with: text is escaped, an unknown name is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"dash": DASH, "marker": marker}
    filters = (alternatives, headline, linked, mebibytes, profile, readable, safe_link, seconds, size)
    environment.filters |= {function.__name__: function for function in filters}
    return environment


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


def safe_link(address: str) -> str:
    """Return `address` where it is http or https, else "": a page may offer no other link to click."""
    return address if address.lower().startswith(("http://", "https://")) else ""


def _asset(name: str) -> str:
    return (HERE / "assets" / name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy by which a browser runs our script and style alone and requests nothing.

    It holds the second line of defence: should a name ever get past the escaping, it cannot run.
    """
    rules = {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    rules |= {"script-src": _digest(script), "style-src": _digest(style)}
    return "; ".join(f"{kind} {source}" for kind, source in rules.items())


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
