import pytest

from effxfer.net.layers import Site
from effxfer.prune.channels.layer_prices import MultiplyAdds

CONV = Site(kind="conv", kernel=(3, 3), size=(8, 8), out=(8, 8))


def test_prices_grow_with_multiply_adds_and_layers_without_channels_are_free():
    prices = MultiplyAdds()
    assert prices.ms(CONV, 0, 4) == prices.ms(CONV, 4, 0) == 0
    small, wide = prices.ms(CONV, 64, 64), prices.ms(CONV, 64, 128)
    assert 1.5 * small < wide < 2 * small


def test_a_depthwise_layer_reads_one_channel_for_each_output():
    alone = Site(kind="depthwise", kernel=(3, 3), size=(8, 8), out=(8, 8))
    assert MultiplyAdds().ms(alone, 32, 32) == pytest.approx(MultiplyAdds().ms(CONV, 1, 32))
