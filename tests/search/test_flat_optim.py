import numpy as np
import pytest
import torch
from torch import nn

from effxfer.search.flat_optim import ByteDropout, FlatAdamW, replace_dropout


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_flat_adamw_equals_torch(weight_decay):
    torch.manual_seed(0)
    mine = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).double().float()
    theirs = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    theirs.load_state_dict(mine.state_dict())
    own = FlatAdamW(mine.parameters(), weight_decay=weight_decay)
    other = torch.optim.AdamW(theirs.parameters(), weight_decay=weight_decay, eps=1e-8)
    for step in range(30):
        x, y = torch.randn(16, 5), torch.randint(0, 3, (16,))
        rate = 0.01 / (1 + step)
        other.param_groups[0]["lr"] = rate
        for net in (mine, theirs):
            nn.functional.cross_entropy(net(x), y).backward()
        own.step(rate)
        other.step()
        other.zero_grad()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_byte_dropout_drops_the_share_keeps_the_mean_and_repeats():
    x = torch.ones(400, 500)
    drawn = [ByteDropout(0.3, np.random.default_rng(1))(x) for _ in range(2)]
    assert torch.equal(*drawn)
    assert float((drawn[0] == 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert float(drawn[0].mean()) == pytest.approx(1.0, abs=0.01)
    assert torch.equal(ByteDropout(0.3, np.random.default_rng(1)).eval()(x), x)
    assert torch.equal(ByteDropout(0.0, np.random.default_rng(1))(x), x)


def test_dropout_is_replaced_wherever_it_is_and_weights_keep_their_names():
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)), nn.Dropout(0.1))
    names = list(net.state_dict())
    replace_dropout(net, np.random.default_rng(0))
    assert [type(m) for m in net.modules() if "Dropout" in type(m).__name__] == [ByteDropout, ByteDropout]
    assert list(net.state_dict()) == names
