import torch

from effxfer.prune.compact.noise_probe import probe
from effxfer.prune.network import example_of
from tests.prune.dead import outspoken
from tests.prune.nets import make

JOINED = "tests.prune.nets_compact:Joined"


def flows(net):
    return probe(net, example_of(net))


def test_nothing_is_idle_in_a_fresh_network():
    for source, size in (("timm:mobilenetv3_small_050", 32), (JOINED, 8)):
        for name, flow in flows(make(source, size)).items():
            assert not flow.constant.any(), name
            assert not flow.still.any(), name
            assert flow.read.all(), name


def test_a_large_bias_hides_nothing():
    net = make()
    with torch.no_grad():
        net.body.bn1.bias.fill_(-50.0)
    assert not net.body.bn1(net.body.conv1(torch.randn(4, 3, 8, 8))).gt(0).any(), "all of it is cut off by the ReLU"
    assert not flows(net)["body.depth"].constant.any()


def test_constants_are_followed_through_norm_activation_and_concatenation():
    net = outspoken(make(JOINED, 8))
    with torch.no_grad():
        net.body.other.weight[2] = 0
        expected = net.body.norm(torch.zeros(1, 8, 1, 1)).relu()[0, 2, 0, 0]
        net.body.one.weight[:] = 0
    found = flows(net)
    assert found["body.mix"].constant.tolist() == [True] * 8 + [False, False, True] + [False] * 5
    torch.testing.assert_close(found["body.mix"].value[10].float(), expected)
    torch.testing.assert_close(found["body.mix"].value[:8].float(), net.body.one.bias.detach().relu())
    assert found["body.other"].still.tolist() == [i == 2 for i in range(8)]
    assert (found["body.other"].norm, found["body.one"].norm) == ("body.norm", "")


def test_what_a_gate_rescales_is_no_constant_unless_it_is_zero():
    net = outspoken(make(JOINED, 8))
    with torch.no_grad():
        net.body.mix.weight[:2] = 0
        net.body.mix.bias[0] = 0
    found = flows(net)
    assert found["body.squeeze"].constant.tolist() == [True, True] + [False] * 6
    assert found["body.out"].zero.tolist() == [True] + [False] * 7


def test_what_nobody_reads_is_found_through_all_that_lies_above():
    net = make()
    with torch.no_grad():
        net.head.out.weight[:, 3] = 0
        net.body.conv2.weight[:, 1] = 0
    found = flows(net)
    assert found["head.out"].read.tolist() == [i != 3 for i in range(16)]
    assert found["body.conv2"].read.tolist() == [i != 1 for i in range(8)]
    assert found["body.depth"].read.shape == (8,)


def test_padding_makes_a_constant_vary_at_the_border():
    net = outspoken(make("tests.prune.nets_compact:Plain", 12, args={"padding": 1}))
    with torch.no_grad():
        net.body.conv1.weight.zero_()
        net.body.bn1.bias.fill_(5.0)
    found = flows(net)
    assert found["body.conv2"].constant.all()
    assert not found["body.conv2"].still.any()


def test_leaves_the_network_alone():
    net = make().train()
    before = {n: t.clone() for n, t in net.state_dict().items()}
    flows(net)
    assert net.training
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert net(torch.rand(2, 3, 8, 8)).dtype == torch.float32
