"""Links of the repository become links of the site."""

import pytest

pytest.importorskip("mkdocs")
from docs.generate.hooks import relinked

PAGES = {"index.md", "guide/data.md", "architecture.md", "architecture.svg", "reference/codes.md", "contributing.md"}


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("index.md", "[data](guide/data.md)", "[data](guide/data.md)"),
        ("index.md", "![rooms](docs/architecture.svg)", "![rooms](architecture.svg)"),
        ("index.md", "see [pipelines/](pipelines/).", "see pipelines/."),
        ("guide/data.md", "[codes](../docs/generate/codes.toml)", "[codes](../reference/codes.md)"),
        ("guide/data.md", "[top](../README.md#results)", "[top](../index.md#results)"),
        ("guide/data.md", "[here](#below)", "[here](#below)"),
        ("contributing.md", "[rooms](docs/architecture.md)", "[rooms](architecture.md)"),
        ("architecture.md", "[rules](../CONTRIBUTING.md)", "[rules](contributing.md)"),
        ("architecture.md", "[paper](https://arxiv.org/abs/1)", "[paper](https://arxiv.org/abs/1)"),
    ],
)
def test_a_link_leads_to_the_page_on_the_site(page, text, expected):
    assert relinked(text, page, PAGES) == expected
