"""An ncnn model in 8 bits, from one in float32 and samples of its input.

ncnn quantizes by two programs, ncnn2table and ncnn2int8, which its Python package does not have. What they do is done here:
weights are whole numbers from -127 to 127 with a scale for each output channel, as netc has them; activations are too,
with one scale for each layer, by the largest value that the layer reads on the samples. Where a convolution's result goes
to convolutions only, it is written in 8 bits (`fuse_requantize`).
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# What a .bin has before weights: nothing that matters for float32, this for 8 bits.
TAG_FLOAT, TAG_INT8 = (0).to_bytes(4, "little"), (0x000D4B38).to_bytes(4, "little")
# Where the parameters of a layer say how many weights it has and whether there is a bias.
COUNTS = {
    "Convolution": (6, 5), "ConvolutionDepthWise": (6, 5), "Deconvolution": (6, 5), "DeconvolutionDepthWise": (6, 5),
    "InnerProduct": (2, 1),
}  # fmt: skip
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
QUANTIZED = (*CONVOLUTIONS, "InnerProduct")


@dataclass
class Layer:
    kind: str
    name: str
    inputs: list
    outputs: list
    parameters: dict
    data: bytes = b""
    weight: np.ndarray | None = None
    bias: bytes = b""
    # Factors from numbers to levels.
    weight_scales: np.ndarray | None = None
    input_scale: float = 0.0
    output_scale: float | None = None

    def line(self):
        settings = [f"{key}={value}" for key, value in self.parameters.items()]
        counts = [str(len(self.inputs)), str(len(self.outputs))]
        return " ".join([self.kind, self.name, *counts, *self.inputs, *self.outputs, *settings])

    def bytes(self):
        if self.weight_scales is None:
            return self.data
        shaped = self.weight.reshape(len(self.weight_scales), -1)
        levels = np.clip(np.rint(shaped * self.weight_scales[:, None]), -127, 127).astype(np.int8).tobytes()
        numbers = [self.weight_scales, [self.input_scale], [] if self.output_scale is None else [self.output_scale]]
        scales = b"".join(np.asarray(n, np.float32).tobytes() for n in numbers)
        return TAG_INT8 + levels + bytes(-len(levels) % 4) + self.bias + scales


@dataclass
class Model:
    head: list
    layers: list = field(default_factory=list)

    @classmethod
    def read(cls, param):
        lines = param.read_text().splitlines()
        model, binary = cls(lines[:2]), memoryview(param.with_suffix(".bin").read_bytes())
        at = 0
        for line in filter(str.strip, lines[2:]):
            kind, name, inputs, outputs, *rest = line.split()
            cut = int(inputs), int(inputs) + int(outputs)
            settings = dict(pair.split("=", 1) for pair in rest[cut[1] :])
            layer = Layer(kind, name, rest[: cut[0]], rest[cut[0] : cut[1]], settings)
            at = layer_data(layer, binary, at)
            model.layers.append(layer)
        if at != len(binary):
            raise RuntimeError(f"{len(binary) - at} bytes of {param.stem}.bin belong to no layer that is known here")
        return model

    def write(self, param):
        param.write_text("\n".join([*self.head, *(layer.line() for layer in self.layers)]) + "\n")
        param.with_suffix(".bin").write_bytes(b"".join(layer.bytes() for layer in self.layers))


def layer_data(layer, binary, at):
    """Takes a layer's numbers from the file. Returns where the next begin."""
    begin, number = at, lambda key: int(layer.parameters.get(str(key), 0))
    if layer.kind in COUNTS:
        count, bias = (number(key) for key in COUNTS[layer.kind])
        if bytes(binary[at : at + 4]) != TAG_FLOAT:
            raise RuntimeError(f"{layer.name} is not in float32")
        layer.weight = np.frombuffer(binary[at + 4 : at + 4 + 4 * count], np.float32)
        at += 4 + 4 * count
        layer.bias = bytes(binary[at : at + 4 * number(0) * bias])
        at += len(layer.bias)
    elif layer.kind == "BatchNorm":
        at += 4 * 4 * number(0)
    elif layer.kind == "PReLU":
        at += 4 * number(0)
    elif layer.kind == "MemoryData":
        at += 4 * math.prod(max(1, number(key)) for key in (0, 1, 11, 2))
    layer.data = bytes(binary[begin:at])
    return at


def largest_inputs(param, layers, samples):
    """The largest absolute value that each layer reads, by ncnn's own arithmetic in float32."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    if net.load_param(str(param)) or net.load_model(str(param.with_suffix(".bin"))):
        raise RuntimeError("ncnn cannot read the model")
    largest = {layer.name: 0.0 for layer in layers}
    for sample in samples:
        extractor = net.create_extractor()
        extractor.set_light_mode(False)
        extractor.input("in0", ncnn.Mat(sample))
        for layer in layers:
            status, value = extractor.extract(layer.inputs[0])
            if status:
                raise RuntimeError(f"ncnn: status {status}")
            largest[layer.name] = max(largest[layer.name], float(np.abs(np.array(value)).max()))
    return largest


def scale_layer(layer, largest):
    kind = layer.kind
    # A depthwise layer has a scale for each group.
    channels = int(layer.parameters["7"]) if kind == "ConvolutionDepthWise" else int(layer.parameters["0"])
    most = np.abs(layer.weight.reshape(channels, -1)).max(axis=1)
    layer.weight_scales = 127 / np.where(most > 0, most, 1)
    layer.input_scale = 127 / largest
    layer.parameters["8"] = 1 if kind == "ConvolutionDepthWise" else 2


def keep_levels(model):
    """Results that convolutions read and nobody else are written as levels."""
    readers = {}
    for layer in model.layers:
        for value in layer.inputs:
            readers.setdefault(value, []).append(layer)
    for layer in model.layers:
        if layer.kind not in CONVOLUTIONS or layer.weight_scales is None:
            continue
        next_ones = readers.get(layer.outputs[0], [])
        if [n.kind for n in next_ones] == ["Split"]:
            next_ones = [reader for value in next_ones[0].outputs for reader in readers.get(value, [])]
        if next_ones and all(n.kind in CONVOLUTIONS and n.weight_scales is not None for n in next_ones):
            layer.output_scale = next_ones[0].input_scale
            layer.parameters["8"] += 100


def quantize(param: Path, out: Path, samples):
    """Writes the model `param` (and the .bin beside it) in 8 bits to `out`."""
    model = Model.read(param)
    layers = [layer for layer in model.layers if layer.kind in QUANTIZED]
    for name, largest in largest_inputs(param, layers, samples).items():
        if largest > 0:
            scale_layer(next(layer for layer in layers if layer.name == name), largest)
    keep_levels(model)
    model.write(out)
