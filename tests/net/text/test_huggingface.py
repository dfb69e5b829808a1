import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from effxfer.errors import ModelFileError
from effxfer.net.text.huggingface import read_folder
from effxfer.net.text.token_pooling import TOKEN_POOLS, first_token, mean_of_tokens
from tests.net.text import folders

LONGEST = 40  # fits behind the padding of RoBERTa's positions, too
lengths = st.lists(st.tuples(st.integers(2, LONGEST), st.floats(0, 1)), min_size=1, max_size=5)


@pytest.fixture
def folder(tmp_path):
    """A small BERT with its tokenizer."""
    folders.write_folder(tmp_path / "bert")
    return tmp_path / "bert"


def padded(texts, pad, separator, seed=0):
    """Ids `(B, longest)`, the mask of real tokens and segments, written as transformers' tokenizers give them."""
    draw, longest = torch.Generator().manual_seed(seed), max(length for length, _ in texts)
    ids = torch.full((len(texts), longest), pad)
    segments = torch.zeros_like(ids)
    for row, (length, split) in enumerate(texts):
        ids[row, :length] = torch.randint(3, folders.VOCABULARY, (length,), generator=draw)
        ids[row, length - 1] = separator
        middle = 1 + int(split * (length - 2))
        if split < 0.5 and middle < length - 1:
            ids[row, middle] = separator
            segments[row, middle + 1 : length] = 1
    return ids, ids != pad, segments


@pytest.mark.parametrize("kind", folders.KINDS)
@settings(max_examples=12)
@given(texts=lengths)
def test_every_kind_gives_the_vectors_of_transformers(kind, texts):
    model, encoder = folders.both(kind)
    ids, real, segments = padded(texts, encoder.pad, 2)
    pairs = {"token_type_ids": segments} if encoder.embeddings.segments is not None else {}
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=real.long(), **pairs).last_hidden_state
        tokens = encoder(ids)
        features = [TOKEN_POOLS[pooling](tokens, real) for pooling in ("mean", "first")]
    assert torch.allclose(tokens[real], expected[real], rtol=0, atol=1e-5)
    assert torch.allclose(features[0], mean_of_tokens(expected, real), rtol=0, atol=1e-5)
    assert torch.allclose(features[1], first_token(expected, real), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "head", "names"),
    [
        ("bert", "AutoModelForMaskedLM", {"masked.dense.weight", "masked.norm.bias", "masked.bias"}),
        ("bert", "AutoModelForSequenceClassification", {"pooler.weight", "classifier.bias"}),
        ("distilbert", "AutoModelForMaskedLM", {"masked.dense.bias", "masked.norm.weight", "masked.decoder.bias"}),
        ("electra", "AutoModelForPreTraining", {"discriminator_predictions.dense.weight"}),
        ("electra", "AutoModelForMaskedLM", {"masked.dense.weight", "masked.norm.weight"}),
        ("modernbert", "AutoModelForMaskedLM", {"masked.dense.weight", "masked.dense.bias", "masked.norm.bias"}),
        ("mpnet", "AutoModelForMaskedLM", {"masked.dense.weight", "masked.bias"}),
        ("roberta", "AutoModelForMaskedLM", {"masked.dense.weight", "masked.norm.weight", "masked.bias"}),
        ("roberta", "AutoModelForSequenceClassification", {"classifier.out_proj.weight"}),
    ],
)
def test_heads_are_taken_aside_and_prefixes_off(tmp_path, kind, head, names):
    model = folders.write_folder(tmp_path, kind, head=head)
    read = read_folder(tmp_path)
    ids = torch.tensor([[5, 6, 7, 2]])
    with torch.no_grad():
        assert torch.allclose(read.build()(ids), model.base_model(ids).last_hidden_state, rtol=0, atol=1e-5)
    assert names <= read.head_state.keys()
    assert all(tensor.dtype == torch.float32 for tensor in read.head_state.values())


def test_older_files_are_pickles_with_position_ids_and_the_names_of_tensorflow(folder):
    expected = read_folder(folder)
    state = load_file(folder / "model.safetensors")
    older = {f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma"): t for name, t in state.items()}
    older = {name.replace("LayerNorm.bias", "LayerNorm.beta"): tensor for name, tensor in older.items()}
    torch.save({**older, "bert.embeddings.position_ids": torch.arange(44)[None]}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    read = read_folder(folder)
    assert all(torch.equal(read.state[name], tensor) for name, tensor in expected.state.items())
    assert read.head_state.keys() == expected.head_state.keys()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"mlp_bias": True}, "mlp_bias is set"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}}, "of type 'yarn'"),
        ({"layer_types": ["full_attention"] * 3 + ["sliding_attention"]}, "do not alternate evenly"),
        ({"local_attention": 0}, "local_attention is 0"),
        ({"hidden_activation": "mish"}, "no activation 'mish'"),
    ],
)
def test_a_modernbert_that_is_not_built_is_refused_by_name(tmp_path, changes, text):
    folders.write_folder(tmp_path, "modernbert")
    folders.change_json(tmp_path / "config.json", **changes)
    with pytest.raises(ModelFileError, match=text) as error:
        read_folder(tmp_path)
    assert error.value.code == "E433"


def test_an_older_modernbert_names_its_positions_otherwise(tmp_path):
    folders.write_folder(tmp_path, "modernbert")
    expected = read_folder(tmp_path).arguments
    older = {"rope_parameters": None, "layer_types": None, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0}
    folders.change_json(tmp_path / "config.json", **older, global_attn_every_n_layers=3)
    assert read_folder(tmp_path).arguments == expected


def test_half_precision_is_converted_and_noted(folder):
    state = load_file(folder / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in state.items()}, folder / "model.safetensors")
    read = read_folder(folder)
    assert {tensor.dtype for tensor in read.state.values()} == {torch.float32}
    assert read.notes[0].startswith("W409 model.safetensors: 37 tensors are float16")


def test_a_file_with_code_is_refused_and_does_not_run(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (folder / "model.safetensors").unlink()
    torch.save({"bert.pooler.dense.weight": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelFileError) as error:
        read_folder(folder)
    assert error.value.code == "E401"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"hidden_size": 8190}, "embeddings.word_embeddings.weight is (60, 24), not (60, 8190)"),
        ({"intermediate_size": 65000}, "is (40, 24), not (65000, 24)"),
        ({"max_position_embeddings": 60000}, "embeddings.position_embeddings.weight is (44, 24), not (60000, 24)"),
        (
            {"num_hidden_layers": 200},
            "3168 missing (encoder.layer.2.attention.self.query.weight for blocks.2.attn",
        ),
        ({"num_hidden_layers": 1}, "does not fit"),
        ({"type_vocab_size": 3}, "embeddings.token_type_embeddings.weight is (2, 24), not (3, 24)"),
    ],
)
def test_sizes_that_the_weights_do_not_have_take_no_memory(folder, monkeypatch, changes, text):
    folders.change_json(folder / "config.json", **changes)
    monkeypatch.setattr("effxfer.net.text.huggingface.read_tables", lambda _file: pytest.fail("weights were read"))
    with pytest.raises(ModelFileError) as error:
        read_folder(folder)
    if text == "does not fit":
        assert error.value.code == "E406"
    else:
        assert error.value.code == "E405"
        assert text in str(error.value)


def test_missing_and_unknown_weights_are_listed(folder):
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.attention.self.key.bias"]
    save_file({**state, "encoder.layer.0.rotary": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"lacks|missing") as error:
        read_folder(folder)
    missing = "1 missing (encoder.layer.1.attention.self.key.bias for blocks.1.attn.k.bias)"
    assert f"{missing}; 1 unknown (encoder.layer.0.rotary)" in str(error.value)
    save_file(state | {"encoder.layer.1.attention.self.key.bias": torch.zeros(24), "x": torch.zeros(1)},
              folder / "model.safetensors")  # fmt: skip
    with pytest.raises(ModelFileError, match=r"lacks: 1 unknown \(x\)") as error:
        read_folder(folder)
    assert error.value.code == "E406"


@pytest.mark.parametrize(
    ("value", "code"), [(torch.full((24,), float("nan")), "E407"), (torch.zeros(24, dtype=torch.int8), "E409")]
)
def test_weights_without_finite_numbers_are_refused(folder, value, code):
    state = load_file(folder / "model.safetensors")
    save_file({**state, "embeddings.LayerNorm.weight": value}, folder / "model.safetensors")
    with pytest.raises(ModelFileError) as error:
        read_folder(folder)
    assert error.value.code == code
    assert "embeddings.LayerNorm.weight" in str(error.value)  # the name in the file


def test_a_torn_file_is_refused(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelFileError) as error:
        read_folder(folder)
    assert error.value.code == "E403"


def test_weights_in_several_files_are_refused_with_the_call_that_joins_them(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    folders.write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": "../../etc/passwd"}})
    with pytest.raises(ModelFileError, match="max_shard_size") as error:
        read_folder(folder)
    assert error.value.code == "E434"


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"no model.safetensors or pytorch_model.bin"):
        read_folder(folder)


@pytest.mark.parametrize("problem", ["a dangling link", "no regular file"])
def test_weights_that_are_there_and_no_file_are_named(folder, problem):
    file = folder / "model.safetensors"
    file.unlink()
    file.symlink_to(folder / "blob" if problem == "a dangling link" else "/dev/null")
    with pytest.raises(ModelFileError, match=f"model.safetensors is {problem}") as error:
        read_folder(folder)
    assert error.value.code == "E434"


def test_texts_longer_than_the_position_table_are_refused(tmp_path):
    folders.write_folder(tmp_path, "roberta")
    assert read_folder(tmp_path).tokens.size == 42
    assert read_folder(tmp_path, size=42).tokens.size == 42
    with pytest.raises(
        ModelFileError, match=r"texts of 43 tokens, where the position table of .* has room for 42"
    ) as error:
        read_folder(tmp_path, size=43)
    assert error.value.code == "E437"


def test_texts_are_as_long_as_the_folder_says_and_the_table_allows(folder):
    folders.write_json(folder / "tokenizer_config.json", {"model_max_length": 512})
    assert read_folder(folder).tokens.size == 44
    folders.write_json(folder / "sentence_bert_config.json", {"max_seq_length": 30})
    assert read_folder(folder).tokens.size == 30
    assert read_folder(folder, size=8).tokens.size == 8


def test_the_input_belongs_to_the_network(folder):
    read = read_folder(folder)
    assert (read.tokens.pad, read.arguments["pad"], read.arguments["separator"]) == (0, 0, 2)
    pair = replace(read.tokens, pattern="{text}{sep}{other}").decode(("w1 w2", "w3"))
    segments = read.build().segments_of(torch.from_numpy(pair)[None].long())
    assert segments.tolist() == [[0, 0, 0, 0, 1, 1]]


def test_a_sentence_transformer_may_hold_its_network_in_a_folder_of_its_own(folder, tmp_path):
    expected = read_folder(folder)
    outer = tmp_path / "outer"
    shutil.move(folder, outer / "0_Transformer")
    kinds = {"0_Transformer": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    folders.write_json(outer / "modules.json", modules)
    folders.write_json(outer / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    read = read_folder(outer)
    assert (read.pooling, read.normalized) == ("first", True)
    assert read.notes == ("outer: the module Dense behind the pooling is left out",)
    assert read.tokens.digest == expected.tokens.digest
    assert torch.equal(read.state["blocks.1.attn.qkv.weight"], expected.state["blocks.1.attn.qkv.weight"])


def test_a_folder_of_links_as_in_the_cache_of_the_hub_is_read(folder, tmp_path):
    links = tmp_path / "snapshot"
    links.mkdir()
    for file in folder.iterdir():
        (links / file.name).symlink_to(file)
    assert read_folder(links).arguments == read_folder(folder).arguments
