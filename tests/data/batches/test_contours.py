"""Contours: dark lines on white, from photographs."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

import effxfer as ex
from effxfer.data.batches.augment import Augment, augment
from effxfer.data.batches.batches import make_generator
from effxfer.data.batches.contours import draw_contours


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 255), st.integers(0, 2**31))
def test_an_even_image_becomes_white_whatever_its_brightness(level, seed):
    chosen, drawings = draw_contours(torch.full((3, 9, 9), float(level)), 1.0, make_generator(seed))
    assert chosen.all()
    assert (drawings == 255).all()


def test_an_edge_becomes_a_line_on_its_dark_side():
    image = torch.full((20, 16, 16), 200.0)
    image[:, :, 8:] = 60.0
    _, drawings = draw_contours(image, 1.0, make_generator(0))
    dark = drawings < 128
    assert dark[:, :, 8].all(), "beside the edge"
    assert not dark[:, :, :8].any(), "the bright side"
    assert not dark[:, :, 10:].any(), "beyond the widest line"
    widths = dark[:, 8].sum(1)
    assert set(widths.tolist()) == {1, 2}


def test_lines_differ_in_darkness_and_not_in_place():
    image = torch.full((30, 8, 8), 200.0)
    image[:, :, 4:] = 120.0
    _, drawings = draw_contours(image, 1.0, make_generator(0))
    assert len(drawings[:, 0, 4].unique()) > 20
    assert (drawings[:, :, :4] == 255).all()


def test_a_share_of_a_batch_is_drawn_and_the_rest_stays():
    pixels = torch.randint(0, 256, (400, 12, 12, 3), dtype=torch.uint8, generator=make_generator(1))
    how = Augment(crop="none", flip=False, contours=0.25)
    result = augment(pixels, None, 12, how, make_generator(0))
    same = (result == pixels).flatten(1).all(1)
    assert 0.65 < same.float().mean() < 0.85
    drawn = result[~same]
    assert (drawn == drawn[..., :1]).all(), "a drawing has no colour"


def test_a_drawing_of_few_or_no_images_has_its_shape():
    chosen, drawings = draw_contours(torch.zeros(4, 5, 5), 0.0, make_generator(0))
    assert not chosen.any()
    assert drawings.shape == (0, 5, 5)
    _, drawings = draw_contours(torch.zeros(1, 1, 1), 1.0, make_generator(0))
    assert drawings.tolist() == [[[255]]]


def shapes(root, *, filled, count):
    """Write discs, squares and triangles: filled ones of any brightness, or outlines as in a sketch."""
    rng = np.random.default_rng(int(filled))
    corners = {"disc": 24, "square": 4, "triangle": 3}
    for split, number in (("train", count), ("val", 12), ("test", 20)):
        for name, edges in corners.items():
            (root / split / name).mkdir(parents=True)
            for index in range(number):
                ground, figure = rng.permutation([rng.integers(0, 90), rng.integers(150, 255)]) if filled else (255, 0)
                image = Image.new("L", (128, 128), int(ground))
                (x, y), radius = rng.uniform(52, 76, 2), rng.uniform(28, 44)
                angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(edges + 1) / edges
                points = [*zip(x + radius * np.cos(angle), y + radius * np.sin(angle), strict=True)]
                draw = ImageDraw.Draw(image)
                draw.polygon(points, fill=int(figure)) if filled else draw.line(points, fill=0, width=5)
                image.resize((32, 32), Image.Resampling.BILINEAR).save(root / split / name / f"{index}.png")


def test_a_network_of_filled_shapes_knows_their_outlines_by_contours_alone(tmp_path):
    """The claim: on drawings, photographs alone say little. Null: the same training without contours."""
    shapes(tmp_path / "filled", filled=True, count=60)
    shapes(tmp_path / "outlines", filled=False, count=20)
    right = []
    for share in (0.0, 1.0):
        net = ex.finetune(
            ex.load("effxfer.net.conv4:conv4", size=32, pretrained=False, args={"width": 8}), epochs=12, lr=5e-3,
            data={"source": str(tmp_path / "filled"), "target": {"source": str(tmp_path / "outlines")}},
            options={"batch": 20, "augment": {"crop": "padded", "contours": share}}, out=tmp_path / f"net-{share}",
        )  # fmt: skip
        right.append(net["accuracy/target"].value)
    assert right[1] > right[0] + 10, right
