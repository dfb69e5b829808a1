from math import prod

import pytest

from effxfer.deploy.export.onnx import load
from effxfer.deploy.int8.partitions import blocks, bottlenecks, work
from effxfer.deploy.int8.static import prepare


@pytest.fixture(scope="module")
def graph(exported, tmp_path_factory):
    return load(prepare(exported, tmp_path_factory.mktemp("blocks") / "prepared.onnx")).graph


def test_a_residual_block_is_not_torn_apart(graph):
    kinds = [node.op_type for node in graph.node]
    cuts = bottlenecks(graph)
    add = kinds.index("Add")
    stem = kinds.index("Clip")
    assert stem in cuts
    assert add in cuts
    assert not [cut for cut in cuts if stem < cut < add]


def test_every_node_is_in_one_block_with_work_in_each(graph):
    cost = dict(zip((n.name for n in graph.node), work(graph), strict=True))
    for most in (1, 2, 3, 99):
        found = blocks(graph, most)
        assert 1 <= len(found) <= most
        assert [name for block in found for name in block] == [n.name for n in graph.node]
        assert all(sum(cost[name] for name in block) > 0 for block in found)
    assert len(blocks(graph, 99)) == 3, "the stem, the residual block, the head"


def test_work_is_that_of_convolutions_and_products(graph):
    cost = {node.op_type: 0.0 for node in graph.node}
    for node, macs in zip(graph.node, work(graph), strict=True):
        cost[node.op_type] += macs
    assert cost["Gemm"] == prod((8, 5))
    assert cost["Conv"] == 64 * (8 * 3 * 9 + 8 * 9 + 8 * 8)
    assert sum(cost.values()) == cost["Gemm"] + cost["Conv"]
