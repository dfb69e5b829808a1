import pytest

from effxfer.net.backbones.missing_names import name_missing
from effxfer.net.text.weight_names import names_in_files, sort_names

BERT = [
    f"bert.encoder.layer.{number}.{path}.{leaf}"
    for number in (0, 10)
    for path in ("attention.self.query", "output.dense")
    for leaf in ("weight", "bias")
]


def named(own, names, prefix="bert."):
    body = sort_names(names, prefix).body
    (text,) = name_missing([own], body, lambda name: names_in_files(name, body.values(), prefix))
    return text


@pytest.mark.parametrize("lost", BERT)
def test_a_tensor_that_was_taken_out_has_the_name_that_it_had(lost):
    own = next(iter(sort_names([lost], "bert.").body))
    assert named(own, [name for name in BERT if name != lost]) == f"{lost} for {own}"


def test_what_all_blocks_lack_is_named_by_its_sibling_or_by_what_files_call_it():
    weights = [name for name in BERT if "query.bias" not in name]
    own = "blocks.0.attn.q.bias"
    assert named(own, weights) == f"bert.encoder.layer.0.attention.self.query.bias for {own}"
    norm = ["transformer.layer.3.sa_layer_norm.gamma"]
    assert named("blocks.3.norm1.bias", norm, "") == "transformer.layer.3.sa_layer_norm.beta for blocks.3.norm1.bias"
    text = named("blocks.3.attn.proj.weight", norm, "")
    assert "transformer.layer.3.attention.out_lin.weight or " in text
    own = "embeddings.tokens.weight"
    tables = "bert.embeddings.word_embeddings.weight or bert.embeddings.tok_embeddings.weight"
    assert named(own, BERT) == f"{tables} for {own}"


def test_what_no_file_has_keeps_its_own_name():
    assert named("head.weight", BERT) == "head.weight"
