"""Check tags of words and answers across splits: equal texts, contradictions, labels that a split lacks."""

from collections.abc import Mapping, Sequence

from effxfer.data.checks.label_counts import EMPTY
from effxfer.data.checks.leaks import find_contradictions, find_leaks
from effxfer.data.checks.tag_coverage import find_tag_gaps
from effxfer.data.history import History, find_trained_before
from effxfer.data.listing import SPLITS, Finding, Item, Severity
from effxfer.data.settings import DataSettings
from effxfer.data.texts.examples import Example, content_key, describe_label


def check_positions(
    items: Sequence[Item], examples: Mapping[str, Example], settings: DataSettings, history: History
) -> list[Finding]:
    """Check the texts in use.

    Texts are compared one by one, whatever document they are of, so that a sentence that two documents share is named.

    Args:
        items: With their final split.
        examples: Text and document of each item, by its path.
        settings: `labels` and `allow_leakage` are used.
        history: Splits of the network's earlier stages.
    """
    contents = [item._replace(sha256=content_key(examples[item.path])) for item in items]
    severity: Severity = "warning" if settings.allow_leakage else "error"
    # Documents share headlines and scores; whoever splits by document cannot avoid it.
    shared: Severity = "warning" if any(example.document for example in examples.values()) else severity
    gaps = find_tag_gaps(items) if settings.labels == "tags" else _find_answer_gaps(items)
    return [
        *find_contradictions(contents, describe_label),
        *gaps,
        *find_leaks(contents, {item.path: item.sha256 for item in contents}, "same text", shared),
        *find_trained_before(items, history, severity),
    ]


def _find_answer_gaps(items: Sequence[Item]) -> list[Finding]:
    """Refuse training questions without any answer (E312); warn (W313) if only train has questions without one."""
    labels = {split: [item.label for item in items if item.split == split] for split in SPLITS}
    without = {split: sum(label == EMPTY for label in each) for split, each in labels.items()}
    if labels["train"] and without["train"] == len(labels["train"]):
        text, hint = "no training question has an answer", "add questions with answers"
        return [Finding(code="E312", severity="error", path="", text=text, hint=hint)]
    if without["train"] and labels["val"] and not without["val"]:
        text = "no question of val is without an answer: from which margin questions are answered cannot be chosen"
        return [Finding(code="W313", severity="warning", path="", text=text)]
    return []
