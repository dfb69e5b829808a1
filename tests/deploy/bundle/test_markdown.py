import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from effxfer.deploy.bundle.markdown import Markdown, escape, format_code, quote_string, to_one_line

AWKWARD = (
    "<img src=x onerror=alert(1)>", "[click](http://evil.example)", "![x](http://evil.example/p.png)", "a|b", "`x`",
    "``", "a\nb", "# not a heading", "- no list", "1. no list", "2) nor this", "+ x", "=====", "> no quote", "***",
    "http://evil.example", "www.evil.example", "me@evil.example", "<http://evil.example>", "&lt;b&gt;", "~~x~~", "$x$",
    "{{ 7 * 7 }}", "\\", "\\|", "[x]: http://evil.example", "a\u202eb", "\u2028", "\x00", "  ", "", "\U0001f600", "é",
)  # fmt: skip
names = st.text(max_size=20) | st.sampled_from(AWKWARD) | st.text("`|\\<>[]()*_#-+=.!~:/&\n 1w", max_size=12)
PLAIN = {"text", "text_special"}
parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def inline(text):
    (token,) = [token for token in parser.parse(text) if token.type == "inline"] or [None]
    return token.children if token else []


def every(test):
    for name in AWKWARD:
        test = example(name)(test)
    return given(names)(test)


@every
def test_a_name_shows_as_it_is_and_is_nothing_else(name):
    for before in ("", "- ", "# ", "text "):
        tokens = inline(f"{before}{escape(name)}")
        assert {token.type for token in tokens} <= PLAIN
        assert "".join(token.content for token in tokens) == f"{before.lstrip('-# ')}{to_one_line(name)}".strip()
        kinds = [token.type for token in parser.parse(f"{before}{escape(name)}")]
        assert kinds.count("list_item_open") <= before.startswith("-")
        assert not {"hr", "blockquote_open", "html_block", "fence"} & set(kinds)


@every
def test_a_name_fills_one_cell(name):
    for write, kind in ((escape, PLAIN), (format_code, {"code_inline"})):
        tokens = parser.parse(f"| a | b |\n| --- | --- |\n| {write(name)} | end |\n")
        cells = [token.children for token in tokens if token.type == "inline"]
        assert len(cells) == 4
        assert "".join(token.content for token in cells[3]) == "end"
        if to_one_line(name):
            assert {token.type for token in cells[2]} <= kind
            assert "".join(token.content for token in cells[2]).strip() == to_one_line(name)


@every
def test_yaml_and_python_read_the_very_name(name):
    assert yaml.safe_load(f"a: {quote_string(name)}") == {"a": name}
    assert eval(quote_string(name)) == name


def test_no_bare_address_becomes_a_link():
    text = escape("http://a.example www.a.example a@a.example")
    assert all(part not in text for part in ("://", "www.", "@"))


def test_markdown_is_not_escaped_twice():
    assert escape(escape("a|b")) == escape("a|b") == "a\\|b"
    assert isinstance(escape(3), Markdown)
