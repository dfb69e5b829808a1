"""Makes the images, folders and tables that break data loaders, with what effxfer must say about each."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(seed: int = 0, width: int = 64, height: int = 48) -> np.ndarray:
    """Smooth colours with a little noise: uint8 `(height, width, 3)`; another seed is another picture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = np.stack([x * 255 / max(1, width - 1), y * 255 / max(1, height - 1), (x + y) * 2.0 % 256], -1)
    return np.clip(base * rng.uniform(0.3, 1, 3) + rng.normal(0, 4, base.shape), 0, 255).astype(np.uint8)


def photo(seed: int = 0, width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(pixels(seed, width, height))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def jpeg(seed: int = 0, **options: object) -> bytes:
    return encoded(photo(seed), "JPEG", quality=92, **options)


def png_chunks(width: int, height: int, bits: int, colour: int, data: bytes) -> bytes:
    """Write a PNG by hand: Pillow cannot write 16-bit RGB, nor a header that promises more than there is."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def gray16() -> bytes:
    return encoded(Image.fromarray(pixels()[..., 0].astype(np.uint16) * 257), "PNG")


def rgb16() -> bytes:
    values = (pixels().astype(np.uint16) * 257).astype(">u2")
    return png_chunks(64, 48, 16, 2, b"".join(b"\0" + row.tobytes() for row in values))


def with_chunk(name: bytes, body: bytes) -> bytes:
    """Put a chunk behind the header of a PNG."""
    data = encoded(photo(), "PNG")
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return data[:33] + chunk + data[33:]


def scan_bomb() -> bytes:
    """A progressive JPEG whose last scan comes 200 times."""
    data = jpeg(progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * 200 + b"\xff\xd9"


def many_frames() -> bytes:
    """A GIF of 30,000 equal frames, written by hand: Pillow would make one of them."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 8, 8, 0) + b"\x02\x05\x84\x8f\xa9\xcb\x5d\0"
    screen = struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    return b"GIF89a" + screen + frame * 30_000 + b"\x3b"


def pnm(magic: bytes, largest: int, seed: int = 0) -> bytes:
    """Write a portable map by hand, binary (`P5`, `P6`) or as text (`P2`, `P3`); samples of 16 bits are `257 v`."""
    values = pixels(seed)[..., 0] if magic in (b"P2", b"P5") else pixels(seed)
    scaled = values.astype(np.uint16) * (257 if largest > 255 else 1)
    text = magic in (b"P2", b"P3")
    body = " ".join(map(str, scaled.ravel())).encode() if text else scaled.astype(">u2").tobytes()
    return magic + b"\n# made by hand\n64 48\n%d\n" % largest + body


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return jpeg(exif=tags)


def rgba() -> Image.Image:
    image = photo().convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))))
    return image


def frames(kind: str, **options: object) -> bytes:
    return encoded(photo(0), kind, save_all=True, append_images=[photo(1), photo(2)], **options)


def flipped() -> bytes:
    data = bytearray(jpeg())
    data[len(data) * 2 // 3] ^= 0x10
    return bytes(data)


@dataclass(frozen=True)
class Kind:
    """One kind of image file: its name, its bytes, the error or the warning it must bring (empty: none)."""

    name: str
    make: Callable[[], bytes]
    error: str = ""
    warning: str = ""


IMAGES = (
    Kind("zero_byte.jpg", lambda: b"", "E301"),
    Kind("text.jpg", lambda: b"these are not the pixels you are looking for", "E301"),
    Kind("not_found.jpg", lambda: b"<html><body>404 Not Found</body></html>", "E301"),
    Kind("truncated_half.jpg", lambda: jpeg()[: len(jpeg()) // 2], "E302"),
    Kind("truncated_end.jpg", lambda: jpeg()[:-2], "E302"),
    Kind("truncated_header.jpg", lambda: jpeg()[:30], "E302"),
    Kind("truncated.png", lambda: encoded(photo(), "PNG")[:-600], "E302"),
    Kind("truncated.webp", lambda: encoded(photo(), "WEBP")[:-200], "E302"),
    Kind("flipped_crc.png", lambda: encoded(photo(), "PNG").replace(b"IDAT", b"IDAT\x01", 1), "E302"),
    Kind("flipped_scan.jpg", flipped),
    Kind("gray16.png", gray16, warning="W304"),
    Kind("rgb16.png", rgb16, warning="W304"),
    Kind("float.tif", lambda: encoded(Image.fromarray(pixels()[..., 0].astype(np.float32)), "TIFF"), "E304"),
    Kind("int32.tif", lambda: encoded(Image.fromarray(pixels()[..., 0].astype(np.int32) * 999), "TIFF"), "E304"),
    Kind("cmyk.jpg", lambda: encoded(photo().convert("CMYK"), "JPEG"), warning="W381"),
    Kind("palette.png", lambda: encoded(photo().quantize(32), "PNG"), warning="W381"),
    Kind("palette_alpha.png", lambda: encoded(photo().quantize(32), "PNG", transparency=3), warning="W382"),
    Kind("rgba.png", lambda: encoded(rgba(), "PNG"), warning="W382"),
    Kind("gray_alpha.png", lambda: encoded(rgba().convert("LA"), "PNG"), warning="W382"),
    Kind("one_bit.png", lambda: encoded(photo().convert("1"), "PNG"), warning="W381"),
    Kind("gray.jpg", lambda: encoded(photo().convert("L"), "JPEG")),
    Kind("animated.gif", lambda: frames("GIF"), warning="W305"),
    Kind("animated.webp", lambda: frames("WEBP", lossless=True), warning="W305"),
    Kind("pages.tif", lambda: frames("TIFF"), warning="W305"),
    Kind("stereo.mpo", lambda: frames("MPO"), warning="W305"),
    Kind(
        "phone.heic",
        lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        "E302" if find_spec("pillow_heif") else "E306",
    ),
    Kind("fine.avif", lambda: encoded(photo(), "AVIF")),
    Kind("gray.pgm", lambda: encoded(photo(7).convert("L"), "PPM")),
    Kind("colour.ppm", lambda: encoded(photo(8), "PPM")),
    Kind("colour.pnm", lambda: pnm(b"P3", 255, 10)),
    Kind("bits.pbm", lambda: encoded(photo(9).convert("1"), "PPM"), warning="W381"),
    Kind("gray16.pgm", lambda: pnm(b"P5", 65535, 11), warning="W304"),
    Kind("gray16_plain.pgm", lambda: pnm(b"P2", 65535, 12), warning="W304"),
    Kind("rgb16.ppm", lambda: pnm(b"P6", 65535, 13), warning="W304"),
    Kind("truncated.ppm", lambda: encoded(photo(), "PPM")[:-600], "E302"),
    Kind("float.pfm.ppm", lambda: b"Pf\n4 4\n-1.0\n" + bytes(64), "E301"),
    Kind("bomb_196mp.ppm", lambda: b"P6\n14000 14000\n255\n", "E307"),
    Kind("comment_without_end.ppm", lambda: b"P6 #" + b"x" * 5000 + b"\n64 48 255\n" + bytes(64 * 48 * 3), "E301"),
    Kind("text_2mp.pgm", lambda: b"P2 2000 1000 255\n" + b"1 " * 2_000_000, "E307"),
    Kind("scans.jpg", scan_bomb, "E307"),
    Kind("text_too_large.png", lambda: with_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000))), "E307"),
    Kind("profile_too_large.png", lambda: with_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2_000_000))), "E307"),
    Kind("many_frames.gif", many_frames, warning="W305"),
    Kind("turned.jpg", lambda: exif(6), warning="W383"),
    Kind("really_png.jpg", lambda: encoded(photo(), "PNG"), warning="W384"),
    Kind("bomb_100mp.png", lambda: png_chunks(10_000, 10_000, 1, 0, b""), "E307"),
    Kind("bomb_196mp.png", lambda: png_chunks(14_000, 14_000, 1, 0, b""), "E307"),
    Kind("one_pixel.png", lambda: encoded(photo(width=1, height=1), "PNG"), warning="W308"),
    Kind("very_long.png", lambda: encoded(photo(width=1, height=20_000), "PNG"), warning="W308"),
)


def class_folders(root: Path, counts: dict[str, int], *, seed: int = 0) -> Path:
    """Write `counts[folder]` different small JPEGs into each folder below `root`."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            seed += 1
            (root / folder / f"{number:03d}.jpg").write_bytes(encoded(photo(seed, 40, 30), "JPEG"))
    return root


def images_table(root: Path, count: int = 12) -> list[tuple[str, str]]:
    """Write `count` images into `root/images` and give `(path, label)` rows of the classes `cat` and `dog`."""
    class_folders(root, {"images": count})
    return [(f"images/{number:03d}.jpg", "cat" if number % 2 else "dog") for number in range(count)]
