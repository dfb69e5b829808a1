"""Turn photographs into line drawings: what is darker than its neighbourhood becomes a dark line on white.

For networks that shall know drawings, and learn from photographs.

Shape legend: B batch, S side.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

# Looked at on photographs of 128 pixels: a line is one or two pixels wide, as in sketches of that size.
REACHES = (1, 2)
# At 1, lines are pale; at 6, the texture of grass and bark is as dark as an outline.
CONTRASTS = (1.5, 6.0)
# In the dark, the noise of a camera is a large part of the brightness; this much is added.
FLOOR = 8.0


def draw_contours(grey: Tensor, probability: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return which images are drawn, and their drawings.

    A pixel is divided by the brightest one around it, as a scan is freed of its background: flat areas become white,
    whatever their brightness, and the dark side of an edge a line. Its width and darkness are drawn for each image.

    Args:
        grey: Brightness from 0 to 255, float32 `(B, S, S)`.
        probability: Of a drawing, in [0, 1].
        generator: CPU generator.

    Returns:
        bool `(B,)`, and uint8 `(N, S, S)` of the N chosen ones.
    """
    chosen = (torch.rand(len(grey), generator=generator) < probability).to(grey.device)
    wide = (torch.rand(len(grey), generator=generator) < 0.5).to(grey.device)[chosen]
    contrast = torch.empty(len(grey)).uniform_(*CONTRASTS, generator=generator).to(grey.device)[chosen]
    images = grey[chosen][:, None] + FLOOR
    if not len(images):
        return chosen, images[:, 0].to(torch.uint8)
    # Padded by itself: pooling ignores what is outside, so that a border is no edge.
    narrow_top, wide_top = (F.max_pool2d(images, 2 * reach + 1, 1, reach) for reach in REACHES)
    top = torch.where(wide[:, None, None, None], wide_top, narrow_top)
    drawings = (images / top) ** contrast[:, None, None, None] * 255
    return chosen, drawings[:, 0].round_().to(torch.uint8)
