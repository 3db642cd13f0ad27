"""What MkDocs needs to make a site of the documents, which are written to be read in the repository too (mkdocs.yml: hooks)."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "readme.md",
    "config/README.md": "configuration.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "docs/adr": "adr/index.md",
}
"""Pages of the site that lie outside `docs`, and the list of decisions, with their names on the site."""
LINK = re.compile(r"(?P<text>\[[^\]]*\])\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside `docs`."""
    for source, name in PAGES.items():
        text = decisions() if source == "docs/adr" else (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Point links of the repository to the pages of the site; what is not on the site becomes a plain name."""
    sources = {name: source for source, name in PAGES.items()}
    name = page.file.src_uri
    folder = posixpath.dirname(sources.get(name, f"docs/{name}")) if name != "adr/index.md" else "docs/adr"

    def on_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link["path"]))
        target_name = PAGES.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(target_name):
            path = posixpath.relpath(target_name, posixpath.dirname(name) or ".")
            return f"{link['text']}({path}{link['anchor'] or ''})"
        if not (ROOT / target).exists():
            raise FileNotFoundError(f"{name}: {link[0]} leads nowhere")
        return f"`{target}`"

    return LINK.sub(on_site, markdown)


def decisions() -> str:
    """Return the list of the decisions."""
    titles = {
        path.name: path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        for path in sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    }
    return "\n".join(["# Decisions", "", *(f"- [{title}]({name})" for name, title in titles.items()), ""])
