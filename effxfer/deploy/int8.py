"""Static int8: several recipes are tried, and one is kept only if it is both faster and good enough.

Which recipe wins depends on the CPU. Without VNNI, sums of two uint8 x int8 products saturate at 16 bits (the
`vpmaddubsw` instruction), which ruins layers whose inputs are large everywhere, first of all the one that sees the
pixels; int8 activations have no fast kernels on x86; and layers with few products per output gain nothing. So every
recipe is run and timed against the float file on the machine at hand.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.deploy.aim import Aim
from effxfer.deploy.gate import accuracy_of, onnx_logits, open_model
from effxfer.deploy.onnx import load, read_metadata, strip, write_metadata
from effxfer.deploy.qdq import Feeds, prepare, write_candidate
from effxfer.deploy.saturation import Saturation
from effxfer.deploy.settings import DEFAULT, RECIPES
from effxfer.deploy.targets import ANY, Target
from effxfer.errors import ModelFileError
from effxfer.files import PARTIAL, write_atomic
from effxfer.progress import bar
from effxfer.report import Measurement, Report, Table

FP32 = "fp32"
SCREEN = 256
NEAR = 1.03

Compare = Callable[..., Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is known of one recipe so far.

    Attributes:
        name: Key of the recipe, or `fp32`.
        file: The candidate.
        accuracy: In percent of the n images; None before it is measured.
        drop: Points below the float file on the same images.
        agreement: Images with the float file's best class, in percent.
        n: Images.
        timing: As `effxfer.bench.latency.compare` gives it; None if it was not timed.
        saturation: What x86 without VNNI would do to it; None before it is counted.
        verdict: Why it was kept or not.
    """

    name: str
    file: Path
    accuracy: float | None = None
    drop: float | None = None
    agreement: float | None = None
    n: int = 0
    timing: Any = None
    saturation: Saturation | None = None
    verdict: str = ""

    def row(self) -> dict[str, Any]:
        """Give a row of the report's table."""
        timed = {c: getattr(self.timing, c, None) for c in ("p50", "ratio", "ratio_low", "ratio_high")}
        size = self.file.stat().st_size / 1e6 if self.n and self.file.exists() else None
        shares = {"accuracy %": self.accuracy, "drop, points": self.drop, "agreement %": self.agreement}
        return {"recipe": self.name, **shares, "images": self.n, **timed, "MB": size, "verdict": self.verdict}


def quantize(
    fp32: Path,
    out: Path,
    *,
    calibration: NDArray[np.uint8],
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    max_drop: float = 1.0,
    recipes: Sequence[str] = DEFAULT,
    images: int = 128,
    threads: int = 1,
    latency_seconds: float = 20.0,
    seed: int = 0,
    compare: Compare | None = None,
    target: Target = ANY,
) -> tuple[Path | None, Report]:
    """Try int8 recipes on an exported float file and keep the fastest that is good enough.

    Each recipe is screened on part of the validation split, the survivors are timed against the float file in one
    interleaved run, and then measured on the whole split, fastest first. Among recipes within 3 % of the fastest
    accepted one, the most accurate is kept.

    Args:
        fp32: What `export_onnx` wrote.
        out: Where the int8 file goes; nothing is written, and an older file removed, if no recipe is kept.
        calibration: uint8 `(K, S, S, 3)` from the training split; `images` of them are used, one of each even
            stretch.
        pixels: uint8 `(N, S, S, 3)`, the whole validation split.
        labels: int64 `(N,)`.
        max_drop: Points of accuracy that int8 may lose against the float file.
        recipes: Keys of `RECIPES`.
        images: Images to calibrate on.
        threads: Of ONNX Runtime; 0 is one per core.
        latency_seconds: Time for all recipes together.
        seed: Of the choice of calibration images.
        compare: Times runners; None is `effxfer.bench.latency.compare`.
        target: CPUs that the file is for. Recipes without kernels there are left out, candidates that would saturate
            there are refused, and if they are not like this one, accuracy alone decides among the fastest kinds.

    Returns:
        `out`, or None if no recipe was both faster and good enough; and a report with a table of what was tried.

    Raises:
        ModelFileError: If `fp32` is absent or not written by effxfer.
    """
    aim = Aim(target)
    judge = _Judge(fp32, pixels, labels, max_drop, threads, exact=aim.exact)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{PARTIAL}{os.getpid()}-int8-", dir=out.parent) as folder:
        feeds = _feeds(fp32, calibration).some(images, seed)
        trials = _candidates(fp32, Path(folder), aim.recipes(recipes), feeds)
        trials = [aim.vetoed(judge.screen(trial), feeds) for trial in trials]
        if aim.timed:
            trials = _timed(judge.dense, trials, _feeds(fp32, pixels[:1]), threads, latency_seconds, compare)
            kept, trials = _choose(judge, trials)
        else:
            kept, trials = aim.untimed(judge, trials)
            trials = [judge.dense, *trials]
        trials += [Trial(name=name, file=out, verdict=why) for name, why in aim.left_out(recipes).items()]
        report = _report(trials, kept, threads)
        if kept is None:
            out.unlink(missing_ok=True)
            return None, report
        report += aim.report(kept, feeds)
        write_atomic(out, kept.file.read_bytes())
    return out, report


class _Judge:
    """Measures candidates against the float file on the validation split."""

    def __init__(
        self, fp32: Path, pixels: NDArray[np.uint8], labels: NDArray[np.int64], max_drop: float, threads: int,
        exact: bool = False,
    ) -> None:  # fmt: skip
        self.exact = exact
        self.pixels, self.labels, self.max_drop, self.threads = pixels, labels, max_drop, threads
        self.logits = onnx_logits(fp32, pixels, threads=threads)
        accuracy = accuracy_of(self.logits, labels).value
        self.dense = Trial(name=FP32, file=fp32, accuracy=accuracy, drop=0.0, agreement=100.0, n=len(labels))

    def screen(self, trial: Trial) -> Trial:
        """Measure on part of the split; a drop that chance cannot explain is the end of it."""
        if trial.verdict:
            return trial
        some = np.unique(np.linspace(0, len(self.labels) - 1, SCREEN).astype(int))
        trial, discordant = self._measured(trial, some)
        slack = 200 * float(np.sqrt(discordant)) / len(some)
        if trial.drop is not None and trial.drop - slack > self.max_drop:
            return replace(trial, verdict=self._too_low(trial))
        return trial

    def whole(self, trial: Trial) -> Trial:
        """Measure on the whole split."""
        trial, _ = self._measured(trial, np.arange(len(self.labels)))
        return replace(trial, verdict="" if self._fits(trial) else self._too_low(trial))

    def _fits(self, trial: Trial) -> bool:
        return trial.drop is not None and trial.drop <= self.max_drop + 1e-9

    def _too_low(self, trial: Trial) -> str:
        return f"rejected: {trial.drop:.2f} points below fp32 on {trial.n} images, allowed are {self.max_drop:g}"

    def _measured(self, trial: Trial, which: NDArray[np.int_]) -> tuple[Trial, int]:
        """Give the trial with its figures, and on how many images exactly one of the two files is right."""
        labels, dense = self.labels[which], self.logits[which]
        got = onnx_logits(trial.file, self.pixels[which], threads=self.threads, exact=self.exact)
        accuracy, before = accuracy_of(got, labels).value, accuracy_of(dense, labels).value
        discordant = int(((got.argmax(1) == labels) != (dense.argmax(1) == labels)).sum())
        same = 100 * float((got.argmax(1) == dense.argmax(1)).mean())
        found = replace(trial, accuracy=accuracy, drop=before - accuracy, agreement=same, n=len(which))
        return found, discordant


def _feeds(fp32: Path, pixels: NDArray[np.uint8]) -> Feeds:
    model = open_model(fp32, 1)
    return Feeds(name=model.input_name, pixels=pixels, preprocess=model.preprocess)


def _candidates(fp32: Path, folder: Path, recipes: Sequence[str], feeds: Feeds) -> list[Trial]:
    prepared = prepare(fp32, folder / "prepared.onnx")
    trials = []
    with bar("int8 recipes", len(recipes)) as advance:
        for name in recipes:
            trials.append(_candidate(fp32, prepared, folder / f"{name}.onnx", name, feeds))
            advance(1, name)
    return trials


def _candidate(fp32: Path, prepared: Path, file: Path, name: str, feeds: Feeds) -> Trial:
    try:
        write_candidate(prepared, file, RECIPES[name], feeds, file.parent)
    except ModelFileError as error:
        return Trial(name=name, file=file, verdict=f"failed: {error.problem}")
    model = load(file)
    strip(model)
    write_metadata(model, replace(read_metadata(fp32), precision=f"int8 {name}"))
    file.write_bytes(model.SerializeToString())
    return Trial(name=name, file=file)


def _timed(
    dense: Trial, trials: list[Trial], one: Feeds, threads: int, seconds: float, compare: Compare | None
) -> list[Trial]:
    """Time what is still in the race against the float file; give the float file first."""
    from effxfer.bench import latency

    racing = [dense, *(trial for trial in trials if not trial.verdict)]
    if len(racing) == 1:
        return [dense, *trials]
    feed = one.feed(0, 1)
    runners = {trial.name: latency.onnx_runner(trial.file, feed, threads) for trial in racing}
    found = (compare or latency.compare)(runners, baseline=FP32, threads=threads, max_seconds=seconds)
    timings = {timing.name: timing for timing in found}
    return [replace(trial, timing=timings.get(trial.name)) for trial in (dense, *trials)]


def _choose(judge: _Judge, trials: list[Trial]) -> tuple[Trial | None, list[Trial]]:
    """Measure what is faster on the whole split, fastest first, and stop once nothing can win any more."""
    done = {trial.name: trial for trial in trials}
    accepted: list[Trial] = []
    for trial in sorted((t for t in trials if t.timing and t.name != FP32), key=lambda t: t.timing.ratio):
        if trial.timing.ratio_high >= 1:
            verdict = (
                f"rejected: not faster than fp32 (ratio {trial.timing.ratio:.2f}, up to {trial.timing.ratio_high:.2f})"
            )
            done[trial.name] = replace(trial, verdict=verdict)
        elif accepted and trial.timing.ratio > NEAR * accepted[0].timing.ratio:
            done[trial.name] = replace(trial, verdict=f"slower than {accepted[0].name}")
        else:
            done[trial.name] = judge.whole(trial)
            accepted += [] if done[trial.name].verdict else [done[trial.name]]
    kept = max(accepted, key=lambda t: (t.accuracy, -t.timing.ratio), default=None)
    for trial in accepted:
        verdict = "kept" if trial is kept else f"as fast as {kept.name}, not more accurate" if kept else ""
        done[trial.name] = replace(trial, verdict=verdict)
    return kept and done[kept.name], list(done.values())


def _report(trials: list[Trial], kept: Trial | None, threads: int) -> Report:
    note = f"latency at batch 1, {threads or 'all'} threads; ratios are p50 against the float file, 95 % interval"
    table = Table(title="int8 recipes", rows=tuple(trial.row() for trial in trials))
    if kept is None:
        text = "no int8 file: no recipe was both faster than fp32 and within the allowed drop"
        return Report(notes=(text, note), tables=(table,))
    return Report(rows=_rows(kept), notes=(f"int8 recipe {kept.name}", note), tables=(table,))


def _rows(kept: Trial) -> tuple[Measurement, ...]:
    shares = {"accuracy/int8": kept.accuracy, "agreement/int8": kept.agreement}
    rows = [Measurement(name=k, value=v or 0.0, unit="%", n=kept.n, of="images") for k, v in shares.items()]
    if t := kept.timing:
        ratio = {"value": t.ratio, "low": t.ratio_low, "high": t.ratio_high}
        rows.append(Measurement(name="p50-ratio/int8", unit="x", n=t.n, **ratio))
    return (*rows, Measurement(name="size/int8", value=kept.file.stat().st_size / 1e6, unit="MB"))
