"""The page's preprocessing is the runtime's, bit for bit."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from effxfer.deploy.bundle.page import WEB
from effxfer.deploy.export.preprocessing import tall_first
from effxfer.runtime.images.crop import resize_crop
from effxfer.runtime.images.preprocess import Preprocess, normalize

NODE = shutil.which("node")
SCRIPT = """
import { readFileSync } from "node:fs";
const { resizeCrop, normalize } = await import(process.argv[1]);
const answers = JSON.parse(readFileSync(0)).map(({ data, width, height, about }) => {
  const cut = resizeCrop({ data: Uint8Array.from(data), width, height }, about);
  return { cut: Array.from(cut.data), normal: Array.from(normalize(cut, about)) };
});
console.log(JSON.stringify(answers));
"""
CASES = [
    (kind, size, share, side, crop)
    for kind in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
    for crop in ("center", "squash", "letterbox")
    for size, share, side in (
        ((61, 43), 0.875, 32),
        ((20, 33), 1.0, 32),
        ((32, 32), 1.0, 32),
        ((7, 90), 0.95, 24),
        ((60, 200), 0.875, 24),
        ((131, 130), 0.9, 17),
    )
]


@pytest.mark.skipif(NODE is None, reason="no node here")
def test_pixels_and_input_are_equal(tmp_path):
    rng, asked, expected = np.random.default_rng(0), [], []
    for kind, (width, height), share, side, crop in CASES:
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        about = Preprocess(size=side, crop_pct=share, crop=crop, interpolation=kind)
        asked.append(
            {
                "data": pixels.reshape(-1).tolist(),
                "width": width,
                "height": height,
                "about": {**about.to_json(), "tall_first": tall_first()},
            }
        )
        cut = resize_crop(Image.fromarray(pixels), about)
        expected.append((cut, normalize(cut[None], about)[0]))
    module = tmp_path / "preprocess.mjs"
    shutil.copyfile(WEB / "preprocess.js", module)
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", SCRIPT, module.as_uri()], input=json.dumps(asked), capture_output=True,
        text=True, check=True, timeout=60,
    )  # fmt: skip
    for case, answer, (cut, normal) in zip(CASES, json.loads(done.stdout), expected, strict=True):
        np.testing.assert_array_equal(np.array(answer["cut"], np.uint8).reshape(cut.shape), cut, err_msg=str(case))
        np.testing.assert_array_equal(np.array(answer["normal"], np.float32).reshape(normal.shape), normal)
