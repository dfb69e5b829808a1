"""Runtimes that need not be installed."""

import pytest

from effxfer.runtime.openvino.openvino_session import is_installed


def require_openvino() -> None:
    """Skip a test without OpenVINO; `pytest.importorskip` would import it with what reports home."""
    if not is_installed():
        pytest.skip("files in OpenVINO need the package openvino")
