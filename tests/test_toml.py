import os
from pathlib import Path

import pytest

from effxfer.errors import SettingsError
from effxfer.toml import MAX_BYTES, parse_value, read_toml, split_key


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("true", True),
        ('["a", "b"]', ["a", "b"]),
        ("bicubic", "bicubic"),
        ("'3'", "3"),
        ("no", "no"),
        ("", ""),
        ("a/b=c", "a/b=c"),
    ],
)
def test_a_value_on_the_command_line_reads_as_in_toml_or_is_a_word(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        (b"", "E206", "is empty"),
        (b"# nothing\n", "E206", "is empty"),
        (b"a = 1\na = 2\n", "E205", "line 2"),
        (b"a = \n", "E205", "line 1, column 5"),
        (b"a: 1\n", "E205", "line 1"),
        (b"a = '\xff'\n", "E205", "utf-8"),
        (b"a = '\0'\n", "E205", "line 1"),
        (b"a = " + b"[" * 100_000, "E205", "is not TOML"),
        (b"a = 1 #" + b"x" * MAX_BYTES, "E212", "more than 1000000"),
    ],
)
def test_a_file_that_is_none_is_named_with_its_place(tmp_path, content, code, text):
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"mine\.toml") as caught:
        read_toml(file)
    assert caught.value.code == code
    assert text in str(caught.value)


def test_a_file_that_is_absent_is_named(tmp_path):
    with pytest.raises(SettingsError, match="no settings file"):
        read_toml(tmp_path / "none.toml")


def test_a_mark_before_the_text_is_none_of_it(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_bytes(b"\xef\xbb\xbf[data]\nname = 'a'\n")
    assert read_toml(file) == {"data": {"name": "a"}}


def test_another_encoding_is_said_how_to_mend(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_bytes("a = 1".encode("utf-16"))
    with pytest.raises(SettingsError, match="save it as UTF-8 text") as caught:
        read_toml(file)
    assert caught.value.code == "E205"


def test_a_file_is_read_as_it_stands(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('lr = 1e-3\nname = "no"\nsecret = "${HOME}"\nfit.epochs = 3\n')
    assert read_toml(file) == {"lr": 0.001, "name": "no", "secret": "${HOME}", "fit": {"epochs": 3}}


BEYOND = {
    "a dotted key": ".".join(["a"] * 50_000) + " = 1",
    "a dotted key of strings": " . ".join(['"a"'] * 50_000) + " = 1",
    "a dotted header": "[" + ".".join(["a"] * 50_000) + "]",
    "a dotted key within a table": "a = {" + ".".join(["a"] * 50_000) + " = 1}",
    "tables within tables": "a = " + "{a=" * 20_000,
    "lists within lists": "a = " + "[" * 300 + "]" * 300,
    "an integer": "a = " + "9" * 900_000,
    "a hexadecimal integer": "a = 0x" + "f" * 900_000,
    "an integer of 65 bits": f"a = {2**64}",
    "values": "a = [" + "1," * 400_000 + "]",
    "a string that has no end": 'a = """' + '\\"""' * 200_000,
}


@pytest.mark.parametrize("kind", BEYOND)
def test_what_is_beyond_all_use_is_refused_at_once(tmp_path, kind):
    file = tmp_path / "mine.toml"
    file.write_text(BEYOND[kind])
    with pytest.raises(SettingsError, match=r"mine\.toml is not TOML") as caught:
        read_toml(file)
    assert caught.value.code == "E205"
    assert len(str(caught.value)) < 500


def test_dots_that_are_no_keys_are_counted_for_nothing(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        f"""a = "{"." * 50}" # {"." * 50}
b = [{"1.5, " * 50}]
c = {"{x = 1.5, y = 2.5}"}
d = '''
{"x." * 50} = "'''
e."a.b.c".f = 1
"""
    )
    assert read_toml(file)["e"] == {"a.b.c": {"f": 1}}


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_regular_file_is_not_read(tmp_path, kind):
    file = tmp_path / "mine.toml"
    {"pipe": os.mkfifo, "folder": Path.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}[kind](file)
    with pytest.raises(SettingsError, match=f"it is a (named )?{kind}, no regular file"):
        read_toml(file)


def test_a_value_beyond_all_use_is_a_word():
    assert parse_value("9" * 100_000) == "9" * 100_000
    assert parse_value("1\ny = 2") == "1\ny = 2"


def test_a_key_of_the_command_line_has_as_many_parts_as_tables():
    assert split_key(" dense.fit . epochs ") == ["dense", "fit", "epochs"]
    with pytest.raises(SettingsError, match="has 50000 parts"):
        split_key(".".join(["a"] * 50_000))
