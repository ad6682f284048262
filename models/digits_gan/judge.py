"""Let the digits network read what the generator paints.

    cargo build --release
    python judge.py ../../target/release/netc

Needs the Python package numpy. Feeds 1,000 inputs of random numbers to the generator, its pictures to `digits.net`, and says
how many are read with at least 0.9, and how often each digit comes.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def run(netc, *arguments):
    subprocess.run([netc, "--quiet", "run", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("netc", help="the program")
    parser.add_argument("--weights", type=Path, default=HERE / "digits_gan.generator.safetensors")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        painted, pixels, read = (Path(folder) / name for name in ("painted.npy", "pixels.npy", "read.npy"))
        text = HERE / "digits_gan.net"
        run(options.netc, text, "--model", "generator", "--weights", options.weights, "--noise", 1000, "--batch", 100,
            "--noise-seed", options.seed, "--output", f"image={painted}")
        # From -1..1 to levels of a picture, and from these to what digits.net takes.
        levels = np.rint((np.load(painted).clip(-1, 1) + 1) / 2 * 255)
        np.save(pixels, ((levels / 255 - 0.1307) / 0.3081).astype(np.float32))
        run(options.netc, HERE.parent / "digits/digits.net", "--input", pixels, "--batch", 100, "--output", read)
        logits = np.load(read)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    print(f"{(shares.max(1) >= 0.9).mean():.1%} of 1,000 are read with at least 0.9")
    counts = np.bincount(shares.argmax(1), minlength=10)
    print("digits 0 to 9: " + ", ".join(f"{count / 10:.1f} %" for count in counts))


if __name__ == "__main__":
    main()
