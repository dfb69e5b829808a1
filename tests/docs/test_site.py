"""The site is built without a warning and without a network, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
HOUSE = Path(__file__).parents[2]
LOADED = r"""<(?:script|img|iframe)[^>]*\ssrc=["']?(https?:[^"'\s>]+)|<link[^>]*\shref=["']?(https?:[^"'\s>]+)"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    proxy = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")  # nothing answers there
    env = {**os.environ, **proxy, "PYTHONPATH": str(HOUSE), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-P", "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=HOUSE, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_of_the_guide_and_the_references_is_there(site):
    pages = {page.relative_to(site).with_suffix("").as_posix() for page in site.rglob("*.html")}
    guides = {f"guide/{page.stem}" for page in (HOUSE / "guide").glob("*.md")}
    assert guides | {"index", "reference/codes", "reference/commands", "reference/settings", "changelog"} <= pages


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = [match for page in site.rglob("*.html") for match in re.findall(LOADED, page.read_text())]
    styles = [
        url for style in site.rglob("*.css") for url in re.findall(r"url\(\"?(https?:[^)\"]+)", style.read_text())
    ]
    assert (loaded, styles) == ([], [])


def test_no_source_of_the_site_is_in_it(site):
    assert not [file for file in site.rglob("*") if file.suffix in {".py", ".toml", ".md"}]
