"""Text encoders are pruned like vision transformers: heads, hidden units and whole blocks, on ids as the example."""

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

import effxfer as ex
from effxfer.net.compression.removed_block import remove_blocks
from effxfer.prune.channels.residual_blocks import residual_blocks
from effxfer.prune.compact.noise_probe import probe
from tests.net.text.nets import VARIANTS, classifier, texts

BLOCKS = [f"encoder.blocks.{i}" for i in range(3)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_heads_and_hidden_units_leave(variant):
    net = classifier(variant)
    ex.prune_channels(net, example=texts(), ratio=0.5)
    block = net.encoder.blocks[1]
    # MPNet's blocks share one bias for all heads: every head loses half of its width instead.
    heads, width = (4, 4) if variant == "mpnet" else (2, 8)
    assert (block.attn.num_heads, block.attn.head_dim, block.attn.attn_dim) == (heads, width, 16)
    assert block.mlp.fc1.out_features == 24
    with torch.no_grad():
        batch, text = net(texts()), texts()[3]
        assert torch.allclose(net(text[text != 0][None]), batch[3:4], rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_block_can_be_left_out(variant):
    net, ids = classifier(variant), texts()
    before = deepcopy(net.state_dict())
    assert residual_blocks(net, ids[:1]) == BLOCKS
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    with torch.no_grad():
        block = net.encoder.blocks[1]
        block.forward = lambda x, _bias: x
        expected = net(ids)
        remove_blocks(net, names=BLOCKS[1:2])
        assert torch.equal(net(ids), expected)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_units_that_carry_nothing_leave_without_a_change(variant):
    net, ids = classifier(variant), texts()
    blocks = net.encoder.blocks
    blocks[0].mlp.fc1.weight[:10] = 0
    if blocks[0].mlp.fc1.bias is not None:
        blocks[0].mlp.fc1.bias[:10] = 0
    blocks[1].mlp.fc2.weight[:, :7] = 0
    blocks[2].attn.proj.weight[:, 8:16] = 0
    expected = net(ids)
    ex.compact(net, example=ids)
    assert (blocks[0].mlp.fc1.out_features, blocks[1].mlp.fc1.out_features) == (38, 41)
    assert blocks[2].attn.num_heads == (4 if variant == "mpnet" else 3)
    assert torch.allclose(net(ids), expected, rtol=0, atol=1e-6)


def test_embeddings_are_noise_to_the_probe_except_columns_that_are_the_same_for_all_ids():
    net = classifier("electra")
    ids = torch.full_like(texts()[:1], 5)  # one id everywhere: only noise makes the columns vary
    assert not probe(net, ids)["encoder.embeddings.proj"].constant.any()
    with torch.no_grad():
        for table in (net.encoder.embeddings.tokens, net.encoder.embeddings.positions, net.encoder.embeddings.segments):
            table.weight[:, 3] = 0
        net.encoder.embeddings.norm.weight[3] = 0
    assert probe(net, ids)["encoder.embeddings.proj"].constant.tolist() == [i == 3 for i in range(16)]


def test_a_ticket_of_a_text_encoder_leaves_its_embeddings_dense():
    net, ids, labels = classifier(), texts(), torch.arange(8) % 3

    def train(module, mask, _number):
        optimizer = torch.optim.SGD(module.parameters(), 0.05)
        for _ in range(3):
            loss = F.cross_entropy(module(ids), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            mask.apply_(module)
        return float(loss.detach())

    result = ex.find_ticket(net, train=train, sparsity=0.6, rounds=2, exclude=["head"])
    assert result.mask.sparsity == pytest.approx(0.6, abs=0.01)
    assert {name.split(".")[3] for name in result.mask.keep} == {"attn", "mlp"}
    assert net.encoder.embeddings.tokens.weight.count_nonzero() == net.encoder.embeddings.tokens.weight.numel()


def test_weights_of_a_pruned_text_encoder_are_solved_anew():
    dense, ids = classifier(), texts(32)
    net = deepcopy(dense)
    pruned = ex.prune_channels(net, example=ids, ratio=0.3)
    before = (net(ids) - dense(ids)).square().mean()
    ex.reconstruct(pruned, dense=dense, batches=[ids])
    assert (net(ids) - dense(ids)).square().mean() < before
