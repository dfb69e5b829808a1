import pytest

from effxfer.errors import ModelFileError
from effxfer.net.text.folder_tokens import network_tokens, note_unused_rows, separator_of, stated_length
from effxfer.net.text.huggingface import read_folder
from tests.net.text.folders import SPECIAL, write_folder, write_json, write_tokenizer

NETWORK = {"vocabulary": 60, "pad": 0}


def refused(code, words, folder, **network):
    with pytest.raises(ModelFileError) as error:
        network_tokens(folder, {**NETWORK, **network}, 16)
    assert error.value.code == code
    assert words in str(error.value)


def test_the_separator_stands_behind_the_first_text(tmp_path):
    write_tokenizer(tmp_path)
    assert separator_of(network_tokens(tmp_path, NETWORK, 16), tmp_path) == 2
    write_tokenizer(tmp_path, "roberta")
    assert separator_of(network_tokens(tmp_path, {**NETWORK, "pad": 1}, 16), tmp_path) == 2


def test_a_vocabulary_alone_is_a_tokenizer(tmp_path):
    words = [*SPECIAL["bert"], "[UNK]", *(f"w{i}" for i in range(56))]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokens = network_tokens(tmp_path, NETWORK, 16)
    assert (tokens.size, tokens.pad, separator_of(tokens, tmp_path)) == (16, 0, 2)


def test_ids_beyond_the_vocabulary_are_refused(tmp_path):
    write_tokenizer(tmp_path, count=61)
    refused("E443", "ids up to 60, the network's vocabulary has 60 tokens", tmp_path)
    assert network_tokens(tmp_path, {**NETWORK, "vocabulary": 64}, 16).size == 16


def test_many_rows_without_a_token_are_noted(tmp_path):
    write_tokenizer(tmp_path)
    tokens = network_tokens(tmp_path, {**NETWORK, "vocabulary": 80}, 16)
    (note,) = note_unused_rows(tokens, 80, tmp_path)
    assert note.startswith("W443")
    assert "20 of 80 rows of the table of embeddings belong to no token" in note
    assert not note_unused_rows(tokens, 64, tmp_path), "a table that is padded to a round size"


def test_a_folder_says_which_rows_no_token_uses(tmp_path):
    write_folder(tmp_path / "bert", vocab_size=90)
    assert [note for note in read_folder(tmp_path / "bert").notes if note.startswith("W443 bert: 30 of 90 rows")]


def test_another_padding_than_the_networks_is_refused(tmp_path):
    write_tokenizer(tmp_path)
    refused("E436", "the tokenizer pads with 0, the network with 1", tmp_path, pad=1)


def test_a_network_with_segments_needs_a_separator(tmp_path):
    write_tokenizer(tmp_path, post_processor=None)
    with pytest.raises(ModelFileError, match="no separator behind a text") as error:
        separator_of(network_tokens(tmp_path, NETWORK, 16), tmp_path)
    assert error.value.code == "E436"


@pytest.mark.parametrize("older", ["sentencepiece.bpe.model", "spiece.model"])
def test_an_older_tokenizer_is_refused_with_the_command_that_converts_it(tmp_path, older):
    (tmp_path / older).write_bytes(b"x")
    refused("E444", f"holds {older} and no tokenizer.json", tmp_path)
    refused("E444", "from transformers import AutoTokenizer", tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    refused("E441", "holds no tokenizer", tmp_path)


@pytest.mark.parametrize(("length", "longest"), [(512, 512), (10**30, 0), (1e30, 0), (-1, 0), ("512", 0)])
def test_a_length_without_a_limit_is_none(tmp_path, length, longest):
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": length})
    assert stated_length(tmp_path) == longest
