from effxfer.net.compression.masks import remove_masks_inside
from effxfer.net.edits import apply_edit
from tests.net.nets import made


def test_the_masks_of_a_module_end_with_it_and_those_beside_it_stay():
    net = made()
    apply_edit(net, "sparsify", weights=["body.stage1.0.conv1.weight", "body.stage1.1.conv1.weight", "head.out.weight"])
    remove_masks_inside(net, "body.stage1.0")
    assert set(net.masks()) == {"body.stage1.1.conv1.weight", "head.out.weight"}
    remove_masks_inside(net, "head")
    assert set(net.masks()) == {"body.stage1.1.conv1.weight"}
