"""Read lines of a label and a text: `1 a gripping film`, with a blank or a tab between; or lines of texts alone."""

import sys
from pathlib import Path

from effxfer.data.listing import Finding
from effxfer.data.settings import DataSettings
from effxfer.data.texts.examples import Example, TextListing, limit_examples, limit_findings, line_finding
from effxfer.data.texts.numbered_lines import numbered_lines

HINT = "write the label, a blank or a tab, and the text; `format` names other formats"


def read_label_lines(file: Path, settings: DataSettings) -> TextListing:
    """Read a file of lines. The first line decides: if it has a tab, a tab is the separator of all lines.

    Args:
        file: The file.
        settings: `encoding`, `labels` and `skip_bad` are used.

    Returns:
        Examples, some perhaps with an empty text, and findings: `E351` for a line without a separator. Empty lines are
        left out.

    Raises:
        DataError: `E310`, `E350` or `E352` if the file is absent, not text or too large.
    """
    examples, findings, separator = list[Example](), list[Finding](), ""
    for number, line in numbered_lines(file, settings.encoding):
        if not line.strip():
            continue
        if settings.labels == "none":
            examples.append(Example(line.strip(), "", f"{file.name}:{number}"))
            limit_examples(len(examples), file)
            continue
        separator = separator or ("\t" if "\t" in line else " ")
        label, blank, text = line.lstrip().partition(separator)
        if blank:
            examples.append(Example(text.strip(), sys.intern(label.strip()), f"{file.name}:{number}"))
            limit_examples(len(examples), file)
        else:
            problem = f"no {'tab' if separator != ' ' else 'blank'} between a label and a text"
            findings.append(line_finding("E351", file.name, number, problem, HINT, skip_bad=settings.skip_bad))
            limit_findings(findings, file)
    return TextListing(examples, findings)
