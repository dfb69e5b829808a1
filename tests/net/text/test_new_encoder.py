import pytest
import torch

pytest.importorskip("tokenizers")

from effxfer.errors import SettingsError
from effxfer.model_source import open_model
from effxfer.net.settings import ENCODER, BackboneSettings
from effxfer.net.text.new_encoder import new_encoder
from tests.data.text_files import texts

TEXTS = [text for text, _ in texts(40)]
SMALL = {"vocabulary": 60, "width": 16, "layers": 1, "heads": 2, "mlp": 32}


def make(**changes):
    return new_encoder(BackboneSettings(source=ENCODER, **{"args": SMALL, **changes}), TEXTS)


def test_its_vocabulary_is_that_of_its_tokenizer():
    net, notes = make()
    table = net.body.embeddings.tokens.num_embeddings
    assert table == net.input.loaded.largest_id + 1 <= 60
    assert notes == (f"new encoder with a WordPiece tokenizer of {table} tokens",)
    assert net.body(torch.from_numpy(net.input.feed(net.input.encode(TEXTS[:3]).rows))).shape[2] == 16


def test_its_positions_are_the_most_tokens_of_a_text():
    assert make(size=20)[0].body.embeddings.longest == 20


def test_equal_texts_give_equal_networks():
    first, second = make()[0], make()[0]
    assert first.input == second.input
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_settings_of_images_are_refused():
    with pytest.raises(SettingsError, match="the backbone takes texts"):
        make(crop_pct=0.9)


def test_without_texts_it_cannot_be_opened():
    with pytest.raises(SettingsError, match="is untrained, and has no tokenizer yet") as caught:
        open_model(BackboneSettings(source=ENCODER))
    assert "effxfer pretrain" in caught.value.hint
