"""Makes the references for netc's resizing: python make.py (needs Pillow and NumPy)."""

import pathlib

import numpy
from PIL import Image

HERE = pathlib.Path(__file__).parent
y, x, c = numpy.mgrid[0:47, 0:61, 0:3]
source = Image.fromarray(((x * x * 3 + y * 11 * (c + 1) + x * y * (c + 2)) % 256).astype(numpy.uint8))
for width, height in [(20, 15), (61, 16), (97, 90), (7, 90), (97, 30)]:
    resized = source.resize((width, height), Image.Resampling.BILINEAR)
    (HERE / f"{width}x{height}.raw").write_bytes(resized.tobytes())
(HERE / "gray.raw").write_bytes(source.convert("L").tobytes())
