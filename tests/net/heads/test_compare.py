import pytest
import torch
from torch.nn import functional as F

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.heads.build import build_head
from effxfer.net.heads.compare import Compare
from effxfer.net.heads.spec import HeadSpec, describe
from effxfer.settings import build
from tests.transfer.domains import vector_body

FORMS = ["product", "cosine", "reconstruction", "direct", "indirect"]
RNG = torch.Generator().manual_seed(0)


def head_of(form: str) -> Compare:
    torch.manual_seed(0)
    head = build_head(HeadSpec(kind="compare", form=form), 6, 4, 3)
    head.table.copy_(torch.rand(4, 3, generator=RNG))
    head.centre.copy_(head.table.mean(0))
    return head.eval()


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_class_is_answered_alike_whatever_stands_beside_it(form):
    head, x = head_of(form), torch.randn(5, 6, generator=RNG)
    more = torch.cat([torch.rand(2, 3, generator=RNG), head.table.flip(0)])
    torch.testing.assert_close(head.compare(x, more)[:, 2:].flip(1), head(x))


@torch.no_grad()
def test_rows_are_centred_and_of_length_one_or_present_and_absent():
    rows = torch.rand(2, 3, generator=RNG)
    head = head_of("product")
    torch.testing.assert_close(head.prepare(rows), F.normalize(rows - head.centre, dim=1))
    assert head.prepare(head.centre[None]).tolist() == [[0, 0, 0]]
    present = head_of("direct").prepare(torch.tensor([[0.0, 9.0, 0.0]]))
    assert present.tolist() == [[0, 1, 0]]


def test_the_scale_changes_no_decision():
    head, x = head_of("cosine"), torch.randn(5, 6, generator=RNG)
    before = head(x)
    head.scale.fill_(7)
    torch.testing.assert_close(head(x), 7 * before)


def test_a_head_is_rebuilt_with_as_many_numbers_of_each_class():
    net = vector_body()
    apply_edit(net, "set_head", spec={"kind": "compare"}, features=16, classes=["a", "b"], embeddings=5)
    again = rebuild(net.backbone, net.edits, net.input, ("a", "b"))
    assert again.head.table.shape == (2, 5)
    again.load_state_dict(net.state_dict())
    for spec, count in (({"kind": "compare"}, 0), ({"kind": "linear"}, 5)):
        with pytest.raises(ModelFileError, match="an edit sets a"):
            apply_edit(net, "set_head", spec=spec, features=16, classes=["a", "b"], embeddings=count)


def test_settings_that_it_does_not_read_are_refused():
    for wrong in ({"kind": "linear", "form": "cosine"}, {"kind": "compare", "dropout": 0.1}):
        with pytest.raises(SettingsError):
            build(HeadSpec, wrong, "head")
    assert describe(HeadSpec(kind="compare", form="direct")) == "compare, direct"
