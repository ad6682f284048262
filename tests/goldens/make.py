"""Make the goldens: weights, inputs and PyTorch's outputs for every NAME.net in this folder.

    python make.py [NAME ...] [--seed 1] [--check]

Needs the Python packages torch, torchvision, numpy and safetensors. The .net files are written by hand; for each,
this script writes NAME.safetensors (the weights under the label names) and NAME.io.safetensors (`input`, and `output`
or `output.<name>`). Outputs are computed in float64 from float32 weights and inputs, then rounded once, so that they
are right to the last bit or nearly so. It also compares the `output` and `expect` lines of the .net with PyTorch.
`--check` writes nothing and compares with the files that are there.
"""

import argparse
import re
import zlib
from pathlib import Path

import torch
from common import Measure, randomize, state_of
from layers import LAYERS
from networks import NETWORKS
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent


# --- inputs and outputs ----------------------------------------------------------------------------------------


def make_input(name, shape):
    x = torch.randn(shape)
    if name == "layers_max_pool":
        return -x.abs() - 0.5
    if name == "layers_activation":
        # The knees of the piecewise functions, and values where exp overflows if done carelessly.
        special = torch.tensor([0.0, -0.0, 6.0, -3.0, 3.0, 2.0, -0.5, 100.0, -100.0, 1e-6])
        x = x * 4
        x.view(-1)[: len(special)] = special
    if name == "layers_softmax":
        x = x * 3
        x[1, 2] += 100
    return x


def outputs_of(name, model, x):
    """Output tensors by their key in the .io.safetensors file."""
    with torch.inference_mode():
        result = model(x)
        if isinstance(result, dict):
            return {f"output.{k}": v for k, v in result.items()}
        outputs = {"output": result}
        if hasattr(model, "all_outputs"):
            # What the train phase computes when dropout lets everything through.
            outputs |= {f"train.{k}": v for k, v in model.all_outputs(x).items()}
        return outputs


# --- checks ----------------------------------------------------------------------------------------------------


def check_text(name, outputs, measure):
    """What the .net says about outputs and budgets must be what PyTorch has. Returns the differences."""
    path = HERE / f"{name}.net"
    if not path.exists():
        return [f"{path.name} is missing"]
    text = re.sub(r"//.*", "", path.read_text())
    wrong = []
    stated = set(re.findall(r"\boutput (\w+)", text))
    for key in outputs:
        if "." in key and key.split(".")[1] not in stated:
            wrong.append(f"{path.name} has no `output {key.split('.')[1]}`")
    extra = stated - {key.split(".")[-1] for key in outputs}
    if extra and "output" not in outputs:
        wrong.append(f"{path.name} has outputs that PyTorch does not: {', '.join(sorted(extra))}")
    for budget, number in [("params", measure.params), ("macs", measure.macs)]:
        for found in re.findall(rf"\bexpect {budget}\s*==\s*([\d_]+)", text):
            if int(found) != number:
                wrong.append(f"{path.name} expects {budget} == {found}, PyTorch has {number:_}")
    return wrong


def compare(path, tensors):
    """Differences between what a file holds and what was just made."""
    if not path.exists():
        return [f"{path.name} is missing"]
    old, wrong = load_file(path), []
    if old.keys() != tensors.keys():
        wrong.append(f"{path.name}: names differ: {sorted(old.keys() ^ tensors.keys())}")
    for key in old.keys() & tensors.keys():
        if old[key].shape != tensors[key].shape or not torch.allclose(old[key], tensors[key], rtol=1e-6, atol=1e-6):
            wrong.append(f"{path.name}: {key} differs")
    return wrong


# --- making ----------------------------------------------------------------------------------------------------


def make(name, build, shape, seed):
    """(weights, input and outputs, complaints) of one fixture. The seed depends on the name alone, so that one fixture
    can be added or remade without touching the others."""
    torch.manual_seed(zlib.crc32(name.encode()) + seed)
    model = build().eval()
    randomize(model)
    weights, x = {k: v.clone() for k, v in state_of(model).items()}, make_input(name, shape)
    model.double()
    measure = Measure(model, shape[0])
    with torch.inference_mode():
        model(x.double())
    params, macs, trouble = measure.params, measure.macs, list(measure.trouble)
    outputs = outputs_of(name, model, x.double())
    measure.seen, measure.macs = {"": params}, macs  # the train phase, if any, ran through the hooks as well
    complaints = check_text(name, outputs, measure)
    if name in NETWORKS:
        complaints += trouble
    io = {"input": x} | {k: v.to(torch.float32).contiguous() for k, v in outputs.items()}
    return weights, io, complaints, f"params {params:_}, macs {macs:_}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="fixtures to make (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="write nothing, compare with the files that are there")
    options = parser.parse_args()

    torch.set_num_threads(1)
    fixtures = NETWORKS | LAYERS
    failed, total = False, 0
    for name in options.names or fixtures:
        if name not in fixtures:
            raise SystemExit(f"no fixture {name}; there are {', '.join(fixtures)}")
        weights, io, complaints, summary = make(name, *fixtures[name], options.seed)
        paths = {HERE / f"{name}.io.safetensors": io}
        if weights:
            paths[HERE / f"{name}.safetensors"] = weights
        for path, tensors in paths.items():
            if options.check:
                complaints += compare(path, tensors)
            else:
                save_file(tensors, path)
                total += path.stat().st_size
        print(f"{name}: {summary}")
        for complaint in complaints:
            print(f"    {complaint}")
        failed |= bool(complaints)
    if total:
        print(f"{total / 1e6:.2f} MB written")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
