"""`python -m effxfer.runtime model.onnx photo.jpg ...`: one JSON line per example, on standard output.

Vectors are rows of `.npy` or `.npz` files. Texts are given by `--text`, in the lines of `--text-file`, or as files of
one text each. Exit codes: 0, 3 if an example could not be used (its line holds `error`), 4 if the model could not, 5
if memory ran out.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effxfer.runtime.class_tables.class_table_error import ClassTableError
from effxfer.runtime.few_shot.support import enroll, open_classes
from effxfer.runtime.images.preprocess import ImageError
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.predict import describe_classes, iter_predictions, pair_texts, read_sources
from effxfer.runtime.printing import json_line, printable
from effxfer.runtime.session import ONNXRUNTIME, RUNTIMES
from effxfer.runtime.source import Source
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.vectors.vector_error import VectorError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments, predict, print; return the exit code."""
    options = _parse(arguments)
    try:
        model = Model(options.model, threads=options.threads, runtime=options.runtime)
        if options.enroll:
            print(f"wrote {printable(enroll(model, options.support))}", file=sys.stderr)
        model = open_classes(model, options.support) if options.support else model
        model = describe_classes(model, options.classes) if options.classes else model
        texts = pair_texts(options.text, options.pair)
        sources = read_sources(model, options.files, texts, options.text_file, as_json=options.json)
        return print_predictions(model, sources, options.top)
    except (ModelError, ImageError, TextError, VectorError, ClassTableError) as error:
        print(f"{printable(error)}\n  hint: {printable(error.hint)}", file=sys.stderr)
        return 3 if isinstance(error, ImageError) else error.exit_code
    except BrokenPipeError:
        os._exit(0)  # the reader closed the pipe; a normal exit would flush into it and print an error
    except OSError as error:
        print(f"E300 {printable(error.filename or error)}: {error.strerror}", file=sys.stderr)
        return 3
    except MemoryError:
        print("not enough memory\n  hint: give fewer or smaller examples, or a smaller model", file=sys.stderr)
        return 5
    except KeyboardInterrupt:
        # As shells report a process that SIGINT ended: 128 + 2.
        return 130


def print_predictions(model: Model, sources: Sequence[Source], top: int) -> int:
    """Print a line per example; return the exit code."""
    failed = False
    # One at a time: a line is printed as soon as its example is predicted.
    for row in iter_predictions(model, sources, top=top, batch=1):
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


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m effxfer.runtime", description="Predict images, texts or vectors.")
    parser.add_argument("model", type=Path, help="an exported .onnx file")
    parser.add_argument("files", type=Path, nargs="*", help="image files, files of a text each, or .npy and .npz files")
    parser.add_argument("--text", action="append", default=[], help="a text; may be repeated")
    parser.add_argument("--pair", action="append", default=[], help="the second text of a pair, after each --text")
    parser.add_argument("--text-file", type=Path, help="a text in each line, pairs with a tab; - is standard input")
    parser.add_argument("--json", action="store_true", help="lines of --text-file are JSON, as in .jsonl files")
    parser.add_argument("--support", type=Path, help="class folders of a few images each, or enrolled classes")
    parser.add_argument("--enroll", action="store_true", help="save the classes of --support beside the model")
    parser.add_argument("--classes", type=Path, help="a .csv of class embeddings: classify into these classes")
    parser.add_argument("--top", type=int, default=1, help="classes per example")
    parser.add_argument("--threads", type=int, default=0, help="0 for one per core")
    parser.add_argument("--runtime", choices=RUNTIMES, default=ONNXRUNTIME, help="what runs the file")
    options = parser.parse_args(arguments)
    if not (options.files or options.text or options.text_file or options.enroll):
        parser.error("give files, --text or --text-file")
    if options.support and options.classes:
        parser.error("--support and --classes exclude each other")
    if options.enroll and not options.support:
        parser.error("name the classes to enroll: give --support FOLDER")
    if options.pair and len(options.pair) != len(options.text):
        parser.error(f"{len(options.text)} --text and {len(options.pair)} --pair make no pairs")
    return options


if __name__ == "__main__":
    sys.exit(main())
