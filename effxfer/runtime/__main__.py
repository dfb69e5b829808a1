"""`python -m effxfer.runtime model.onnx photo.jpg ...`: one JSON line per image, on standard output.

Exit codes: 0, 3 if an image could not be used (its line holds `error`), 4 if the model could not, 5 if memory ran out.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effxfer.runtime.images.preprocess import ImageError
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.predict import iter_predictions
from effxfer.runtime.printing import json_line, printable
from effxfer.runtime.support import learn, read_support


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, classify, print; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        model = Model(options.model, threads=options.threads)
        model = learn(model, read_support(options.support)) if options.support else model
        return classify(model, options.images, options.top)
    except (ModelError, ImageError) as error:
        print(f"{printable(error)}\n  hint: {printable(error.hint)}", file=sys.stderr)
        return error.exit_code if isinstance(error, ModelError) else 3
    except BrokenPipeError:
        os._exit(0)  # the reader closed the pipe; a normal exit would flush into it and print an error
    except OSError as error:
        print(f"E300 {printable(error.filename or error)}: {error.strerror}", file=sys.stderr)
        return 3
    except MemoryError:
        print("not enough memory\n  hint: give fewer or smaller images, or a smaller model", file=sys.stderr)
        return 5
    except KeyboardInterrupt:
        # As shells report a process that SIGINT ended: 128 + 2.
        return 130


def classify(model: Model, images: Sequence[Path], top: int) -> int:
    """Print a line per image; return the exit code."""
    failed = False
    # One at a time: a line is printed as soon as its image is classified.
    for row in iter_predictions(model, images, top=top, batch=1):
        failed |= "error" in row
        print(line_of(row), flush=True)
    if not model.sealed:
        note = f"note: {model.path} has no seal: nothing detects damage to it"
        print(printable(note), file=sys.stderr)
    return 3 if failed else 0


def line_of(row: Mapping[str, Any]) -> str:
    """Format a row as a line of JSON that prints on any terminal, whatever its encoding and the file's name."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    line = json_line(json.dumps(row, ensure_ascii=plain, allow_nan=False))
    return line.encode(errors="backslashreplace").decode()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m effxfer.runtime", description="Classify images.")
    parser.add_argument("model", type=Path, help="an exported .onnx file")
    parser.add_argument("images", type=Path, nargs="+", help="image files")
    parser.add_argument("--support", type=Path, help="class folders of a few images each: classify into these classes")
    parser.add_argument("--top", type=int, default=1, help="classes per image")
    parser.add_argument("--threads", type=int, default=0, help="0 for one per core")
    return parser


if __name__ == "__main__":
    sys.exit(main())
