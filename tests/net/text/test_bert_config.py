from pathlib import Path

import pytest

from effxfer.errors import ModelFileError
from effxfer.net.text.bert_config import KINDS, REFUSED, encoder_arguments, longest
from tests.net.text.folders import config_of

FILE = Path("model/config.json")


def config(kind="bert", **more):
    return {**config_of(kind).to_dict(), **more}


def refused(code, *words, **changes):
    with pytest.raises(ModelFileError) as error:
        encoder_arguments(config(**changes), FILE)
    assert error.value.code == code, error.value
    assert all(word in str(error.value) for word in words), error.value
    return error.value


@pytest.mark.parametrize("name", [name for names in REFUSED.values() for name in names.split()])
def test_other_kinds_are_refused_with_the_nearest_that_works(name):
    refused("E432", repr(name), "these work: bert, camembert", "the nearest is", model_type=name)


@pytest.mark.parametrize("name", [None, 3, ["bert"], {}, "x" * 1000])
def test_a_kind_that_is_no_name_is_refused(name):
    refused("E432", "cannot be built", "these work", model_type=name)


def test_a_misspelt_kind_is_refused_with_a_suggestion():
    refused("E432", "did you mean 'distilbert'", model_type="distillbert")


def test_every_nearest_kind_works():
    assert {nearest for _, nearest in REFUSED} <= KINDS.keys()
    assert not KINDS.keys() & {name for names in REFUSED.values() for name in names.split()}


def test_a_network_that_is_code_beside_the_weights_is_refused():
    error = refused("E432", "Python code", auto_map={"AutoModel": "modeling_jina.JinaBert"})
    assert "without code" in error.hint
    assert "did you mean" not in error.hint  # the type is right


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"hidden_act": "mish"}, "no activation 'mish'"),
        ({"hidden_act": {"name": "gelu"}}, "no activation"),
        ({"position_embedding_type": "relative_key_query"}, "positions of type 'relative_key_query'"),
        ({"position_embedding_type": "alibi"}, "positions of type 'alibi'"),
        ({"is_decoder": True}, "it is a decoder"),
        ({"add_cross_attention": True}, "it is a decoder"),
        ({"sliding_window": 128}, "sliding windows"),
        ({"attention_window": [512]}, "sliding windows"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"pruned_heads": {"0": [1]}}, "heads were removed"),
        ({"num_attention_heads": 5}, "5 heads do not divide the width 24"),
    ],
)
def test_settings_that_the_encoder_lacks_are_refused(changes, word):
    refused("E433", word, **changes)


def test_other_buckets_than_transformers_uses_are_refused():
    with pytest.raises(ModelFileError, match="16 buckets of relative positions are not 32") as error:
        encoder_arguments(config("mpnet", relative_attention_num_buckets=16), FILE)
    assert error.value.code == "E433"


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings"])
@pytest.mark.parametrize("value", [0, -1, 10**12, 1.5, True, "24", None, [24]])
def test_impossible_sizes_are_refused(key, value):
    refused("E433", f"config.json: {key} is", **{key: value})


@pytest.mark.parametrize(("key", "value"), [("layer_norm_eps", 0), ("hidden_dropout_prob", 1.0), ("pad_token_id", -1)])
def test_numbers_out_of_range_are_refused(key, value):
    refused("E433", key, **{key: value})


def test_a_setting_that_is_absent_has_the_default_of_transformers_or_is_named():
    plain = config()
    for key in ("layer_norm_eps", "hidden_act", "pad_token_id", "position_embedding_type", "hidden_dropout_prob"):
        plain.pop(key, None)
    assert encoder_arguments(plain, FILE) == encoder_arguments(config(), FILE)
    del plain["vocab_size"]
    with pytest.raises(ModelFileError, match="has no vocab_size"):
        encoder_arguments(plain, FILE)


def test_a_position_table_that_ends_at_the_padding_is_refused():
    with pytest.raises(ModelFileError, match="2 positions leave none behind the padding 1") as error:
        encoder_arguments(config("roberta", max_position_embeddings=2), FILE)
    assert error.value.code == "E437"
    assert longest(encoder_arguments(config("roberta", max_position_embeddings=3), FILE)) == 1


@pytest.mark.parametrize(("name", "own"), [("gelu_python", "gelu"), ("gelu_fast", "gelu_new"), ("relu", "relu")])
def test_activations_have_several_names(name, own):
    assert encoder_arguments(config(hidden_act=name), FILE)["activation"] == own
