"""Write the zoo networks in every form that the engines read, all with the same weights.

    python export_models.py [NAME ...] [--out target/peers] [--int8]

For each network, in OUT:

    NAME.onnx                  for ONNX Runtime, OpenVINO and the two converters; the batch dimension is free
    NAME.ncnn.param, .bin      for ncnn, by pnnx
    NAME.mnn                   for MNN, by its converter
    NAME.safetensors           for netc, under the names that the labels of models/NAME.net give
    NAME.x.npy, NAME.y.npy     one input, and PyTorch's output for it computed in float64

With --int8 also, of 8 bits:

    NAME.samples.npy           inputs by which ranges are chosen
    NAME.int8.net, .safetensors    by `netc quantize`
    NAME.int8.onnx             what `netc export` makes of that, with QuantizeLinear and DequantizeLinear
    NAME.int8.mnn              by MNN's own quantizer
    NAME.int8.ncnn.param, .bin by ncnn_int8.py

Needs torch, torchvision, numpy, safetensors, onnx, pnnx and MNN from PyPI, for --int8 ncnn too; README.md has the one line.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "goldens")]
from common import randomize, state_of
from safetensors.torch import save_file
from torchvision_weights import NETWORKS

DEFAULT = [
    "alexnet_torchvision", "vgg16", "nin", "googlenet_torchvision", "resnet34", "resnet50",
    "dcgan_generator", "dcgan_discriminator",
]  # fmt: skip


def build(name, seed=1):
    """The network in eval mode with seeded weights, and the shape of one input."""
    make, shape = NETWORKS[name]
    torch.manual_seed(zlib.crc32(name.encode()) + seed)
    model = make().eval()
    randomize(model)
    return model, shape


def tool(name):
    """A program that its package has put beside Python, or on the path."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def convert(command, made):
    made.unlink(missing_ok=True)
    ran = subprocess.run(command, cwd=made.parent, capture_output=True, text=True)
    if not made.exists():
        raise RuntimeError(f"{Path(command[0]).name} wrote no {made.name}: {(ran.stderr or ran.stdout).strip()[-300:]}")


# The `mnnconvert` command that the package MNN installs does more than convert: it installs a logging client with pip,
# which replaces protobuf by a version that onnx cannot use, and reports each conversion to its makers. The converter
# proper is this module underneath.
MNN_CONVERT = "import sys, MNN, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
# The command `mnnquant` calls this in a way that ends its process.
MNN_QUANTIZE = "import sys, MNN, _tools; _tools.mnnquant(['mnnquant', *sys.argv[1:]])"
SAMPLES = 16


def mnn_command(onnx, mnn):
    arguments = ["-f", "ONNX", "--modelFile", str(onnx), "--MNNModel", str(mnn), "--bizCode", "netc"]
    return [sys.executable, "-c", MNN_CONVERT, *arguments]


def quantize_mnn(onnx, samples, made):
    """MNN's quantizer reads samples as text, and a network whose batch is fixed."""
    import onnx as messages

    model = messages.load(onnx)
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_value = 1
    inputs = [{"name": model.graph.input[0].name, "shape": [1, *samples.shape[1:]]}]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        messages.save(model, folder / "fixed.onnx")
        convert(mnn_command(folder / "fixed.onnx", folder / "fixed.mnn"), folder / "fixed.mnn")
        for i, sample in enumerate(samples):
            own = folder / "samples" / str(i)
            own.mkdir(parents=True)
            np.savetxt(own / f"{inputs[0]['name']}.txt", sample.ravel(), fmt="%.6g")
            (own / "input.json").write_text(json.dumps({"inputs": inputs}))
        settings = {
            "path": f"{folder / 'samples'}/", "used_sample_num": len(samples), "input_type": "sequence", "inputs": inputs,
            "feature_quantize_method": "KL", "weight_quantize_method": "MAX_ABS",
        }  # fmt: skip
        (folder / "settings.json").write_text(json.dumps(settings))
        files = [str(folder / "fixed.mnn"), str(made), str(folder / "settings.json")]
        convert([sys.executable, "-c", MNN_QUANTIZE, *files], made)
    made.with_name(f"{made.name}.json").unlink(missing_ok=True)


def attempt(makers):
    """Makes files. Returns what could not be made: an engine without its file is listed, not hidden."""
    failed = []
    for make in makers:
        try:
            make()
        except (OSError, RuntimeError) as error:
            failed.append(str(error))
    return failed


def export(name, out):
    """All forms of one network in float32. Returns what could not be made."""
    model, shape = build(name)
    save_file(state_of(model), out / f"{name}.safetensors")
    x = torch.randn(1, *shape)
    onnx = out / f"{name}.onnx"
    torch.onnx.export(
        model, x, str(onnx), opset_version=17, dynamo=False, input_names=["image"], output_names=["answer"],
        dynamic_axes={"image": {0: "N"}, "answer": {0: "N"}},
    )  # fmt: skip
    with torch.inference_mode():
        y = model.double()(x.double()).to(torch.float32)
    np.save(out / f"{name}.x.npy", x.numpy())
    np.save(out / f"{name}.y.npy", y.numpy())
    np.save(out / f"{name}.samples.npy", torch.randn(SAMPLES, *shape).numpy())

    dims = ",".join(map(str, x.shape))
    ncnn, mnn = out / f"{name}.ncnn.param", out / f"{name}.mnn"
    pnnx = [f"inputshape=[{dims}]", f"ncnnparam={ncnn}", f"ncnnbin={ncnn.with_suffix('.bin')}", "fp16=0"]
    failed = attempt([
        lambda: convert([tool("pnnx"), str(onnx), *pnnx], ncnn),
        lambda: convert(mnn_command(onnx, mnn), mnn),
    ])  # fmt: skip
    for rest in [*out.glob(f"{name}.pnnx*"), *out.glob(f"{name}_pnnx.py"), *out.glob(f"{name}_ncnn.py")]:
        rest.unlink()
    return failed


def netc(program, *arguments):
    ran = subprocess.run([str(a) for a in (program, *arguments)], capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"netc {arguments[0]}: {ran.stderr.strip()[-300:]}")


def export_int8(name, out, program):
    """All forms of one network in 8 bits, of those in float32. Returns what could not be made."""
    from bench_peers import spec_of
    from ncnn_int8 import quantize

    samples, spec, onnx = out / f"{name}.samples.npy", out / f"{name}.int8.net", out / f"{name}.int8.onnx"
    mnn, ncnn = out / f"{name}.int8.mnn", out / f"{name}.int8.ncnn.param"

    def own():
        netc(program, "quantize", *spec_of(name, out), "--calibrate", samples, "-o", spec, "--force")
        netc(program, "export", spec, "--onnx", onnx)

    return attempt([
        own,
        lambda: quantize_mnn(out / f"{name}.onnx", np.load(samples), mnn),
        lambda: quantize(out / f"{name}.ncnn.param", ncnn, np.load(samples)),
    ])  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"networks (default: {' '.join(DEFAULT)})")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "peers")
    parser.add_argument("--int8", action="store_true", help="the forms of 8 bits too")
    parser.add_argument("--netc", type=Path, default=ROOT / "target" / "release" / "netc")
    options = parser.parse_args()
    unknown = set(options.names) - NETWORKS.keys()
    if unknown:
        raise SystemExit(f"no network {', '.join(sorted(unknown))}; there are {', '.join(NETWORKS)}")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name in options.names or DEFAULT:
        failed = export(name, out)
        if options.int8:
            failed += export_int8(name, out, options.netc)
        print(f"{name}: {(out / f'{name}.onnx').stat().st_size / 1e6:.1f} MB of ONNX", *failed, sep="\n    ", flush=True)


if __name__ == "__main__":
    main()
