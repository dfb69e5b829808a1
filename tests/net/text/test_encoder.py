import numpy as np
import pytest
import timm
import torch
from torch import nn

from effxfer.deploy.export.onnx import check_operators, convert
from effxfer.errors import SettingsError
from effxfer.net.text.encoder import ACTIVATIONS, Encoder
from effxfer.net.text.modern.rotary import RotaryPositions
from effxfer.runtime.session import open_session, session_options

PAD, SEPARATOR = 0, 2
SIZES = {"vocabulary": 50, "width": 24, "layers": 2, "heads": 3, "mlp": 40, "positions": 64, "separator": SEPARATOR}
VARIANTS = {
    "bert": {"segments": 2},
    "clip": {"pre_norm": True, "embedding_norm": False, "causal": True, "activation": "quick_gelu"},
    "electra": {"segments": 2, "embedding_width": 16, "activation": "gelu_new"},
    "modern": {
        "pre_norm": True, "first_norm": False, "rotary": 1e3, "local_rotary": 1e2, "window": 4, "global_every": 2,
        "gated": True, "biased": False,
    },
    "mpnet": {"positions_from_pad": True, "relative_buckets": 32},
    "pre-norm": {"pre_norm": True, "activation": "relu"},
    "roberta": {"positions_from_pad": True},
}  # fmt: skip


def encoder_of(variant, **more):
    torch.manual_seed(0)
    encoder = Encoder(**{**SIZES, **VARIANTS[variant], **more}).eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3) if parameter.dim() > 1 else parameter
    return encoder


def texts(batch, length, seed=0):
    """Texts of different lengths with separators, padded."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, SIZES["vocabulary"], (batch, length), generator=draw)
    for row in range(batch):
        end = max(2, length - 5 * row % length)
        ids[row, end // 2], ids[row, end - 1], ids[row, end:] = SEPARATOR, SEPARATOR, PAD
    return ids


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_the_vector_of_a_text_does_not_depend_on_its_neighbours(variant, pooling):
    encoder, ids = encoder_of(variant, pooling=pooling), texts(7, 33)
    together = encoder.features(ids)
    for row, text in enumerate(ids):
        alone = encoder.features(text[text != PAD][None])
        assert torch.allclose(together[row], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_what_padding_looks_like_changes_no_token(variant):
    encoder, ids = encoder_of(variant), texts(4, 20)
    before = encoder(ids)[ids != PAD]
    encoder.embeddings.tokens.weight[PAD] += 5
    assert torch.equal(encoder(ids)[ids != PAD], before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_text_of_padding_alone_gives_numbers_also_in_half_precision(variant):
    encoder = encoder_of(variant)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert encoder(torch.zeros(2, 8, dtype=torch.long)).isfinite().all()
        assert encoder.features(torch.zeros(2, 8, dtype=torch.long)).isfinite().all()


@torch.no_grad()
def test_a_causal_encoder_reads_no_later_token():
    encoder, ids = encoder_of("clip", pooling="last"), texts(1, 20)
    before, changed = encoder(ids), ids.clone()
    changed[0, 12:] = 7
    assert torch.equal(encoder(changed)[:, :12], before[:, :12])
    assert not torch.allclose(encoder(changed)[:, 12], before[:, 12])
    torch.testing.assert_close(encoder.features(ids)[0], before[0, int((ids != PAD).sum()) - 1])


def test_segments_count_the_separators_before_a_token():
    encoder = encoder_of("bert")
    ids = torch.tensor([[1, 7, SEPARATOR, 8, SEPARATOR, PAD], [1, 7, 8, 9, 9, SEPARATOR], [2, 2, 2, 2, 5, 6]])
    expected = [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1]]
    assert encoder.segments_of(ids).tolist() == expected
    assert encoder_of("roberta").segments_of(ids) is None


@torch.no_grad()
def test_the_second_text_of_a_pair_has_another_segment():
    encoder, ids = encoder_of("bert"), torch.tensor([[1, 7, SEPARATOR, 8, SEPARATOR]])
    before = encoder(ids)
    encoder.embeddings.segments.weight[1] += 1
    assert not torch.allclose(encoder(ids), before)
    single = torch.tensor([[1, 7, 8, SEPARATOR]])
    before = encoder(single)
    encoder.embeddings.segments.weight[1] += 1
    assert torch.equal(encoder(single), before)


def test_layers_have_the_names_of_timms_vision_transformer():
    names = {name for name, _ in encoder_of("bert").named_parameters() if name.startswith("blocks.")}
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2)
    assert names == {name for name, _ in vit.named_parameters() if name.startswith("blocks.")}
    attention = encoder_of("bert").blocks[0].attn
    assert (attention.num_heads, attention.head_dim, attention.attn_dim) == (3, 8, 24)


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(SettingsError, match="a text of 65 tokens, where the position table ends at 64"):
        encoder_of("bert")(torch.ones(1, 65, dtype=torch.long))
    with pytest.raises(SettingsError, match="ends at 63"):
        encoder_of("roberta")(torch.ones(1, 64, dtype=torch.long))


@torch.no_grad()
def test_rotary_positions_let_scores_depend_on_distances_alone():
    turn, query = RotaryPositions(8, 1e4), torch.randn(1, 2, 1, 8).expand(-1, -1, 12, -1)
    first, second = turn(query, query.flip(1))
    scores = first @ second.mT
    torch.testing.assert_close(scores[..., 0, 3], scores[..., 5, 8], rtol=0, atol=1e-5)
    assert not torch.allclose(scores[..., 0, 3], scores[..., 0, 4])


@torch.no_grad()
def test_a_local_block_sees_no_token_beyond_its_window():
    encoder = encoder_of("modern", global_every=9, layers=2)  # the first block is global
    encoder.blocks[0].local = True
    ids = texts(1, 20)
    changed = ids.clone()
    changed[0, 0] = 7
    before, after = encoder(ids)[0], encoder(changed)[0]
    assert torch.equal(before[9:], after[9:]), "two blocks of four tokens each"
    assert not torch.allclose(before[8], after[8])


def test_heads_of_an_odd_width_cannot_be_turned():
    with pytest.raises(SettingsError, match="heads of 3 numbers"):
        encoder_of("modern", heads=8)


def test_an_unknown_activation_is_refused_with_those_that_work():
    with pytest.raises(SettingsError, match=r"no activation 'gelo' \(did you mean 'gelu'.*") as error:
        encoder_of("bert", activation="gelo")
    assert all(name in error.value.hint for name in ACTIVATIONS)


@pytest.mark.parametrize("heads", [0, 5])
def test_heads_must_divide_the_width(heads):
    with pytest.raises(SettingsError, match=f"{heads} heads do not divide the width 24"):
        encoder_of("bert", heads=heads)


def test_dropout_works_in_training_alone():
    encoder, ids = encoder_of("bert", dropout=0.2, attention_dropout=0.2), texts(2, 9)
    assert torch.equal(encoder(ids), encoder(ids))
    encoder.train()
    assert not torch.allclose(encoder(ids), encoder(ids))


class Features(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, ids):
        return self.encoder.features(ids)


# Operator set 23 has an operator Attention, which ONNX Runtime runs without broadcasting the bias over queries.
@pytest.mark.parametrize(
    ("variant", "opset"), [("bert", 18), ("clip", 20), ("electra", 20), ("modern", 23), ("mpnet", 23), ("roberta", 23)]
)
def test_exported_files_take_any_batch_and_length(variant, opset):
    pooling = "last" if variant == "clip" else "mean"
    module, free = Features(encoder_of(variant, pooling=pooling)).eval(), {"ids": {0: "batch", 1: "length"}}
    model = convert(module, (texts(2, 9),), opset, free, outputs=["features"])
    check_operators(model, opset, free)
    session = open_session(model.SerializeToString(), session_options(threads=1))
    for length in (8, 33, 63):
        for batch in (1, 7):
            ids = texts(batch, length, seed=batch)
            with torch.no_grad():
                expected = module(ids).numpy()
            (features,) = session.run(None, {"ids": ids.numpy()})
            assert np.abs(features - expected).max() < 1e-5
