"""Pages without a script: the report's style around one template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellgauge.core.atomic import atomic_path
from cellgauge.report import asset, environment, policy
from cellgauge.results import colors


def write_page(
    output: str | Path, title: str, template: str, context: Mapping[str, Any], links: Sequence[tuple[str, str]] = ()
) -> None:
    """Write one HTML file that needs no other and no network; `links` are (address, text) of its navigation."""
    style = colors.stylesheet() + asset("report.css")
    text = environment().get_template("plain.html").render(
        title=title, template=template, context=context, links=links, style=style, policy=policy(style, "")
    )  # fmt: skip
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
