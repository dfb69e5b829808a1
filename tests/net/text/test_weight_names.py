import torch

from effxfer.net.text.weight_names import fuse_queries, sort_names, split_queries


def test_prefixes_are_taken_off_where_they_are():
    names = [
        "bert.embeddings.LayerNorm.gamma",
        "embeddings.word_embeddings.weight",
        "bert.encoder.layer.11.output.dense.bias",
    ]
    assert sort_names(names, "bert.").body == {
        "embeddings.norm.weight": names[0],
        "embeddings.tokens.weight": names[1],
        "blocks.11.mlp.fc2.bias": names[2],
    }


def test_position_ids_are_dropped_and_strangers_are_named():
    names = [
        "embeddings.position_ids",
        "encoder.layer.0.attention.self.distance_embedding.weight",
        "encoder.layer.x.output.dense.bias",
    ]
    sorted_names = sort_names(names, "bert.")
    assert sorted_names.unknown == names[1:]
    assert not sorted_names.body
    assert not sorted_names.heads


def test_a_second_tensor_of_the_same_name_is_unknown():
    names = ["encoder.layer.0.output.dense.bias", "bert.encoder.layer.0.output.dense.bias"]
    assert sort_names(names, "bert.").unknown == [names[1]]


def test_queries_keys_and_values_are_split_and_fused_in_this_order():
    assert split_queries({"b.attn.qkv.weight": torch.Size((6, 4)), "b.norm.bias": torch.Size((4,))}) == {
        "b.attn.q.weight": (2, 4), "b.attn.k.weight": (2, 4), "b.attn.v.weight": (2, 4), "b.norm.bias": (4,)
    }  # fmt: skip
    state = {f"b.attn.{part}.bias": torch.full((2,), float(i)) for part, i in (("v", 3), ("q", 1), ("k", 2))}
    assert fuse_queries(state)["b.attn.qkv.bias"].tolist() == [1, 1, 2, 2, 3, 3]
