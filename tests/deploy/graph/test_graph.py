import numpy as np
import pytest
from onnx import TensorProto, helper

from effxfer.deploy.graph.graph import Graph, copy_model, name_nodes, open_graph, replace_nodes, set_constant
from effxfer.errors import ModelFileError
from tests.benchmark.models import linear
from tests.deploy.graphs import Maker, plain


def test_every_node_gets_a_name_of_its_own():
    model = plain().model()
    for node in model.graph.node:
        node.name = "twice" if node.op_type == "Conv" else ""
    names = [node.name for node in name_nodes(model).graph.node]
    assert len(set(names)) == len(names)
    assert all(names)


def test_constants_are_initializers_and_constant_nodes_but_no_inputs():
    made = plain()
    made.nodes.insert(
        0, helper.make_node("Constant", [], ["k"], value=helper.make_tensor("", TensorProto.FLOAT, [1], [2]))
    )
    model = made.model()
    first = model.graph.initializer[0].name
    model.graph.input.append(helper.make_tensor_value_info(first, TensorProto.FLOAT, None))
    graph = Graph(name_nodes(model))
    assert graph.constants["k"] == 2
    assert first not in graph.constants


def test_the_only_reader():
    made = Maker()
    a = made.conv(8)
    b = made.add("Relu")
    made.add("Add", b, b)
    made.head()
    graph = made.graph()
    assert graph.only_reader(a).op_type == "Relu"
    assert graph.only_reader(b) is None
    assert graph.only_reader(made.at) is None


def test_what_a_branch_reads_counts():
    made = Maker()
    a = made.conv(8)
    then = helper.make_graph([helper.make_node("Relu", [a], ["r"])], "then", [], [])
    made.add("If", made.const(True, bool), then_branch=then, else_branch=then)
    assert len(made.graph().consumers[a]) == 2


def test_unread_constants_go_with_their_nodes():
    model = plain().model()
    other = copy_model(model)
    set_constant(other, "new", np.ones(3, np.float32))
    replace_nodes(other, [node for node in other.graph.node if node.op_type == "Relu"])
    assert not other.graph.initializer
    assert len(model.graph.initializer) == 10


def test_weights_beside_the_file_are_read(tmp_path):
    graph = open_graph(linear(tmp_path / "m.onnx", sidecar="m.data"))
    assert graph.constants["W"].shape == (4, 3)


@pytest.mark.parametrize("broken", ["absent", "empty", "text", "cut", "refused", "elsewhere", "short"])
def test_a_broken_file_is_refused(tmp_path, broken):
    file = tmp_path / "m.onnx"
    if broken == "elsewhere":
        (tmp_path / "deep").mkdir()
        linear(tmp_path / "deep" / "m.onnx", sidecar="m.data")
        file.write_bytes((tmp_path / "deep" / "m.onnx").read_bytes().replace(b"m.data", b"/x/abc"))
    elif broken == "short":
        linear(file, sidecar="m.data")
        (tmp_path / "m.data").write_bytes(b"12")
    elif broken == "refused":
        made = plain()
        made.add("NoSuchOperator")
        made.save(file)
    elif broken != "absent":
        whole = linear(tmp_path / "whole.onnx", 40, 30).read_bytes()
        file.write_bytes({"empty": b"", "text": b"hello", "cut": whole[:-99]}[broken])
    with pytest.raises(ModelFileError) as caught:
        open_graph(file)
    assert caught.value.exit_code == 4
