import pytest

from effxfer.runtime.text.template import Template, read_template

BERT = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
ROBERTA = {"type": "RobertaProcessing", "sep": ["</s>", 3], "cls": ["<s>", 2]}


def special(name: str) -> dict:
    return {"SpecialToken": {"id": name, "type_id": 0}}


def sequence(name: str) -> dict:
    return {"Sequence": {"id": name, "type_id": 0}}


def processing(**parts) -> dict:
    tokens = {"[X]": {"id": "[X]", "ids": [7, 8], "tokens": ["[X]", "[Y]"]}}
    return {"type": "TemplateProcessing", "single": [special("[X]"), sequence("A")], "pair": None} | {
        "special_tokens": tokens, **parts
    }  # fmt: skip


def test_known_processors_give_their_special_tokens():
    assert read_template(None) == read_template({"type": "ByteLevel"}) == Template()
    assert read_template(BERT) == Template(((2,), (3,)), ((2,), (3,), (3,)))
    assert read_template(ROBERTA) == Template(((2,), (3,)), ((2,), (3, 3), (3,)))
    assert read_template({"type": "Sequence", "processors": [{"type": "ByteLevel"}, BERT]}) == read_template(BERT)


def test_a_template_is_read_around_its_sequences():
    assert read_template(processing()) == Template(((7, 8), ()), ((7, 8), (), ()))
    pair = [sequence("A"), special("[X]"), sequence("B"), special("[X]")]
    assert read_template(processing(pair=pair)) == Template(((7, 8), ()), ((), (7, 8), (7, 8)))
    assert read_template(processing(pair=pair)).ids == {7, 8}


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        (processing(special_tokens={}), "with the step"),
        (processing(special_tokens=None), "without special_tokens"),
        (processing(special_tokens={"[X]": {"ids": [-1]}}), "with the ids"),
        (processing(single=[]), "of the sequences none"),
        (processing(single=None), "no list"),
        (processing(single=[special("[X]")] * 17), "no list of at most 16"),
        (processing(single=["A"]), "with the step"),
        (processing(pair=[sequence("B"), sequence("A")]), "of the sequences BA, not AB"),
        (processing(pair=[sequence("A"), sequence("A")]), "of the sequences AA, not AB"),
        ({"type": "BertProcessing", "sep": ["[SEP]"], "cls": ["[CLS]", 2]}, "sep is"),
        ({"type": "BertProcessing", "sep": ["[SEP]", 2**31], "cls": ["[CLS]", 2]}, "sep is"),
        (processing(special_tokens={"[X]": {"ids": [2**31]}}), "with the ids"),
        ({"type": "BertProcessing", "sep": ["[SEP]", -3], "cls": ["[CLS]", 2]}, "sep is"),
        ({"type": "Sequence", "processors": [BERT, BERT]}, "twice"),
    ],
)
def test_another_form_is_refused(processor, reason):
    with pytest.raises(ValueError, match=reason):
        read_template(processor)
