"""Hooks of mkdocs: add what does not lie in `docs/`, and make links of the repository links of the site."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from docs.generate import codes, commands, python, settings

HOUSE = Path(__file__).parents[2]
GENERATED = {
    "reference/codes.md": codes.page,
    "reference/commands.md": commands.page,
    "reference/python.md": python.page,
    "reference/settings.md": settings.page,
}
WRITTEN = {"index.md": "README.md", "changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Fill the section of the guide with its pages, in the order of the README's table."""
    readme = (HOUSE / "README.md").read_text(encoding="utf-8")
    pages = re.findall(r"^\| \[[\w-]+\]\((guide/[\w-]+\.md)\)", readme, flags=re.MULTILINE)
    config.nav = [{"Guide": pages} if "Guide" in section else section for section in config.nav]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the README, the guide and the generated references to the pages of `docs/`."""
    pages = {place: (HOUSE / name).read_text(encoding="utf-8") for place, name in WRITTEN.items()}
    pages |= {f"guide/{file.name}": file.read_text(encoding="utf-8") for file in sorted((HOUSE / "guide").glob("*.md"))}
    pages |= {place: page() for place, page in GENERATED.items()}
    for place, content in pages.items():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001 (mkdocs names them)
    """Turn links between files of the repository into links between pages of the site."""
    return relinked(markdown, page.file.src_uri, set(files.src_uris))


def relinked(markdown: str, page: str, pages: set[str]) -> str:
    """Rewrite the links of a page; of a link to a file that is not on the site, its words stay.

    Args:
        markdown: Of the page.
        page: Its place on the site.
        pages: All places on the site.
    """
    folder = posixpath.dirname(repository_place(page))

    def replaced(link: re.Match[str]) -> str:
        mark, words, target, anchor = link.groups(default="")
        if not target:
            return link[0]
        place = site_place(posixpath.normpath(posixpath.join(folder, target)))
        if place not in pages:
            return words
        return f"{mark}[{words}]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{anchor})"

    return LINK.sub(replaced, markdown)


def repository_place(page: str) -> str:
    """Say where in the repository a page of the site lies."""
    return WRITTEN.get(page) or (page if page.startswith("guide/") else f"docs/{page}")


def site_place(file: str) -> str:
    """Say where on the site a file of the repository lies, if it does."""
    places = {name: place for place, name in WRITTEN.items()} | {"docs/generate/codes.toml": "reference/codes.md"}
    return places.get(file) or file.removeprefix("docs/")
