"""Pictures of all kinds, and what Pillow and torchvision's steps make of them, for `cargo test images`.

    python tests/pillow/pictures.py     # needs Pillow and NumPy; writes pictures.npz beside itself

In the archive: `NAME/file` (the bytes of a file), and for some steps `NAME/STEPS` (levels, channels innermost). STEPS is
`MODE SIZE` or `MODE SIZE CROP`: MODE is L or RGB; SIZE is `s24` (the shorter side) or `30x17` (width, height).
"""

import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent


def scene(width, height, channels):
    """Gradients and hard edges."""
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for c in range(channels):
        plane = 110 + 90 * np.sin(x / (7 + 3 * c) + c) * np.cos(y / (9 - 2 * c))
        plane[(x // 11 + y // 13 + c) % 4 == 0] = 30 + 90 * c
        planes.append(plane)
    return np.clip(np.stack(planes, axis=-1), 0, 255)


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png16(levels):
    """A PNG of 16-bit levels, [height, width, channels]; Pillow writes none in colour."""
    height, width, channels = levels.shape
    rows = levels.astype(">u2").reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def as_rgb(file):
    image = Image.open(io.BytesIO(file))
    if image.mode.startswith("I"):  # Pillow would cut 16-bit levels off at 255.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    return image


def made(image, steps):
    mode, size, *crop = steps.split()
    image = image.convert(mode)
    width, height = image.size
    if size[0] == "s":
        side = int(size[1:])
        to = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    else:
        to = tuple(map(int, size.split("x")))
    image = image.resize(to, Image.Resampling.BILINEAR)
    if crop:
        side = int(crop[0])
        left, top = round((image.width - side) / 2), round((image.height - side) / 2)
        image = image.crop((left, top, left + side, top + side))
    levels = np.asarray(image)
    return levels if levels.ndim == 3 else levels[..., None]


def pictures():
    colour = Image.fromarray(scene(93, 62, 3).astype(np.uint8))
    gray = Image.fromarray(scene(62, 93, 1)[..., 0].astype(np.uint8))
    alpha = Image.fromarray(scene(93, 62, 4).astype(np.uint8), "RGBA")
    sizes = ["s24", "s24 20", "30x17", "93x62", "160x110", "5x3", "1x1", "93x200"]
    several = [*(f"RGB {size}" for size in sizes), "L s31 31"]
    few = ["RGB s24 20", "RGB 100x50", "L 40x30"]
    yield "colour.png", saved(colour, "PNG"), several
    yield "gray.png", saved(gray, "PNG"), several
    yield "alpha.png", saved(alpha, "PNG"), few
    yield "gray_alpha.png", saved(alpha.convert("LA"), "PNG"), few
    yield "palette.png", saved(colour.quantize(200), "PNG"), few
    yield "bits.png", saved(gray.convert("1"), "PNG"), few
    yield "interlaced.png", saved(colour, "PNG", interlace=True), few
    yield "colour16.png", png16(scene(93, 62, 3) * 257), few
    yield "gray16.png", png16(scene(62, 93, 1) * 257), few
    yield "full.jpg", saved(colour, "JPEG", quality=95, subsampling=0), few
    yield "halved.jpg", saved(colour, "JPEG", quality=90, subsampling=2), few
    yield "progressive.jpg", saved(colour, "JPEG", quality=90, progressive=True), few
    yield "gray.jpg", saved(gray, "JPEG", quality=90), few
    yield "cmyk.jpg", saved(colour.convert("CMYK"), "JPEG", quality=95, subsampling=0), few
    yield "lossless.webp", saved(colour, "WEBP", lossless=True), few
    yield "lossy.webp", saved(colour, "WEBP", quality=90), few
    yield "alpha.webp", saved(alpha, "WEBP", lossless=True, exact=True), few
    yield "colour.bmp", saved(colour, "BMP"), few
    yield "palette.bmp", saved(colour.quantize(200), "BMP"), few
    yield "gray.bmp", saved(gray, "BMP"), few
    yield "colour.ppm", saved(colour, "PPM"), few
    yield "gray.pgm", saved(gray, "PPM"), few
    yield "palette.gif", saved(colour.quantize(200), "GIF"), few
    yield "moving.gif", saved(colour, "GIF", save_all=True, append_images=[colour.rotate(90)]), few
    yield "plain.tif", saved(colour, "TIFF"), few
    yield "lzw.tif", saved(colour, "TIFF", compression="tiff_lzw"), few
    yield "alpha.tif", saved(alpha, "TIFF", compression="tiff_deflate"), few
    yield "gray.tif", saved(gray, "TIFF"), few
    yield "bits.tif", saved(gray.convert("1"), "TIFF", compression="group4"), few
    yield "cmyk.tif", saved(colour.convert("CMYK"), "TIFF"), few
    yield "jpeg.tif", saved(colour, "TIFF", compression="jpeg", quality=95), few
    yield "strip.png", saved(Image.fromarray(scene(700, 3, 3).astype(np.uint8)), "PNG"), ["RGB s5", "RGB 33x90"]


def main():
    archive = {}
    for name, file, steps in pictures():
        image = as_rgb(file)
        archive[f"{name}/file"] = np.frombuffer(file, np.uint8)
        archive.update({f"{name}/{s}": made(image, s) for s in steps})
    np.savez_compressed(HERE / "pictures.npz", **archive)


if __name__ == "__main__":
    main()
