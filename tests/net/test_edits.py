import json

from torch import nn

from effxfer.net.compression.resize import measure_shapes, record_resize
from effxfer.net.edits import EDITS, apply_edit, body_edits, rebuild
from tests.net.nets import halved, made


def test_edits_are_listed_in_order():
    assert list(EDITS) == sorted(EDITS)


def test_edits_of_the_body_rebuild_it_without_the_head():
    net = made()
    before = measure_shapes(net)
    halved(net)
    net.head.out.weight = nn.Parameter(net.head.out.weight[:, :-1].detach().clone())
    net.head.out.in_features -= 1
    record_resize(net, before)
    apply_edit(net, "sparsify", weights=["body.stage2.0.conv1.weight", "head.out.weight"])
    apply_edit(net, "densify", weights=["head.out.weight"])
    again = rebuild(net.backbone, json.loads(json.dumps(body_edits(net.edits))), net.input)
    assert isinstance(again.head, nn.Identity)
    assert list(again.masks()) == ["body.stage2.0.conv1.weight"]
    ours, theirs = ({n: t.shape for n, t in one.body.state_dict().items()} for one in (again, net))
    assert ours == theirs
    assert "head" not in json.dumps(body_edits(net.edits))
    assert net.edits[0]["kind"] == "set_head", "what it was given stays as it is"
