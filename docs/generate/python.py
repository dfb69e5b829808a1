"""The Python reference: a directive of mkdocstrings for every public name."""

import inspect

import effxfer
from effxfer import api

INTRODUCTION = f"""# Python

`import effxfer as ex` offers the functions below; the command line calls the same functions. The import loads no torch.

{inspect.getdoc(api)}
"""
CLASSES = (
    "effxfer.api.Result",
    "effxfer.runtime.model.Model",
    "effxfer.runtime.model.Prediction",
    "effxfer.report.Report",
    "effxfer.report.Measurement",
    "effxfer.report.Table",
    "effxfer.transfer.base.Strategy",
)
ERRORS = """## Errors

::: effxfer.errors
    options:
      show_root_heading: false
      members:
        - EffxferError
        - SettingsError
        - DataError
        - ModelFileError
        - ResourceError
        - GateError
        - LockedError
"""


def page() -> str:
    """Write the page in Markdown."""
    functions = [f"effxfer.api.{name}" for name in effxfer.__all__ if name != "Model"]
    return "\n".join([INTRODUCTION, *(f"::: {name}\n" for name in (*functions, *CLASSES)), ERRORS])
