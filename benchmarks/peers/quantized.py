"""int8 files of a float32 file, by the quantizers that people reach for, with their defaults."""

import logging
from pathlib import Path

from benchmarks.peers.case import Case

CALIBRATION = 128  # training images; as many as effxfer takes


def quiet() -> None:
    """Keep the quantizers' advice out of the table; `static` follows it, `dynamic` is what a short script does."""
    logging.getLogger().setLevel(logging.ERROR)


def static(file: Path, case: Case) -> Path:
    """Quantize by ONNX Runtime's static quantizer: QDQ, a scale for each channel, ranges by their extremes."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = case.readers(CALIBRATION)

        def get_next(self) -> object:
            return next(self.rows, None)

    prepared, result = file.with_suffix(".prepared.onnx"), file.with_suffix(".static.onnx")
    quant_pre_process(str(file), str(prepared))
    quantize_static(str(prepared), str(result), Images(), per_channel=True)
    return result


def dynamic(file: Path, _case: Case) -> Path:
    """Quantize weights alone, and activations while the file runs."""
    from onnxruntime.quantization import quantize_dynamic

    result = file.with_suffix(".dynamic.onnx")
    quantize_dynamic(str(file), str(result))
    return result


def nncf(file: Path, case: Case) -> Path:
    """Quantize by NNCF's post-training quantization.

    Raises:
        ImportError: If NNCF is not installed.
    """
    import nncf as library
    import onnx

    result = file.with_suffix(".nncf.onnx")
    calibration = library.Dataset(list(case.readers(CALIBRATION)))
    onnx.save(library.quantize(onnx.load(file), calibration, subset_size=CALIBRATION), result)
    return result
