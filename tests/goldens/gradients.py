"""Make the goldens of training: gradients and updates as PyTorch computes them, in the folder `gradients`.

    python gradients.py [NAME ...] [--seed 1] [--check]

Needs the Python packages torch and numpy; `zoo` also torchvision and safetensors. A case is a list of lines of netc's
IR and a function that computes the same in PyTorch; the script writes NAME.ir, with the shapes that PyTorch has, and NAME.npz:

    input.X      values of the inputs
    weight.X     values of the weights
    factor.Y     what output Y is multiplied by; the loss is the sum of all products
    output.Y     the outputs
    gradient.X   gradients of the loss with respect to inputs and learned weights
    update.X     running statistics after the step

`zoo` is the networks of this folder; see `make_zoo`.

All is computed in float64 from float32 values and rounded once.
"""

import argparse
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

FOLDER = Path(__file__).resolve().parent / "gradients"
CASES = {}


class Case:
    """Collects a graph's lines and what PyTorch makes of them."""

    def __init__(self, name):
        self.name, self.lines, self.tensors, self.outputs, self.weights = name, [], {}, {}, {}

    def input(self, name, *shape, like=None):
        """An input; of labels where `like` gives them."""
        values = torch.randn(shape) if like is None else like
        element = "i64" if values.dtype == torch.int64 else "f32"
        self.lines.append(f"  %{name} = input : {element}[{','.join(map(str, values.shape))}]")
        return self.keep(f"input.{name}", values)

    def weight(self, name, *shape, scale=0.5, shift=0.0, learned=True):
        """A weight with values far from what they are initialised with."""
        kept = self.keep(f"weight.{name}", torch.randn(shape) * scale + shift, learned)
        self.weights[name] = kept
        return kept

    def keep(self, key, values, wants_gradient=True):
        values = values.double() if values.dtype != torch.int64 else values
        values.requires_grad_(wants_gradient and values.dtype != torch.int64)
        self.tensors[key] = values
        return values

    def op(self, name, text, value, output=True):
        """A line; `text` is what stands between the name and the shape."""
        self.lines.append(f"  %{name} = {text} : f32[{','.join(map(str, value.shape))}]")
        if output:
            self.outputs[name] = value
        return value

    def finish(self):
        """The graph's text, and arrays by their keys."""
        outputs = [f"  output {y} = %{y}" for y in self.outputs]
        text = "\n".join([f"graph @{self.name} phase=train {{", *self.lines, *outputs, "}"])
        arrays = {key: value.detach() for key, value in self.tensors.items()}
        loss = 0
        for name, value in self.outputs.items():
            arrays[f"output.{name}"] = value.detach()
            # A loss is a term by itself.
            factor = torch.randn(value.shape) if value.dim() else torch.tensor(1.0)
            arrays[f"factor.{name}"] = factor
            loss = loss + (value * factor.double()).sum()
        loss.backward()
        for key, value in self.tensors.items():
            if value.grad is not None:
                arrays[f"gradient.{key.split('.', 1)[1]}"] = value.grad
        return text + "\n", {key: value.numpy().astype(np.float32) for key, value in arrays.items()}


def case(function):
    CASES[function.__name__] = function
    return function


def pads(pad):
    top, left, bottom, right = pad
    return f"pad={top},{left},{bottom},{right}", (left, right, top, bottom)


@case
def conv(c):
    x = c.input("x", 2, 4, 7, 6)

    def layer(name, channels, kernel, stride, pad, dilation, groups, bias=True):
        w = c.weight(f"{name}.weight", channels, 4 // groups, *kernel)
        b = c.weight(f"{name}.bias", channels) if bias else None
        text, torch_pad = pads(pad)
        y = F.conv2d(F.pad(x, torch_pad), w, b, stride, 0, dilation, groups)
        reads = f"%x, @{name}.weight" + (f", @{name}.bias" if bias else "")
        sizes = [f"{k}={v[0]}x{v[1]}" for k, v in [("kernel", kernel), ("stride", stride), ("dilation", dilation)]]
        sizes = " ".join([*sizes, text, f"groups={groups} bias={str(bias).lower()}"])
        c.op(name, f"conv2d {reads} {{ channels={channels} {sizes} }}", y)

    layer("plain", 3, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1)
    layer("asymmetric", 2, (3, 2), (2, 3), (0, 2, 1, 0), (1, 2), 1)
    layer("groups", 6, (3, 3), (2, 1), (1, 1, 1, 1), (2, 1), 2)
    layer("depthwise", 4, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 4)
    layer("pointwise", 5, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, bias=False)
    layer("strided", 2, (1, 1), (3, 4), (0, 0, 0, 0), (1, 1), 1)


@case
def conv_transpose(c):
    x = c.input("x", 2, 4, 4, 3)

    def layer(name, channels, kernel, stride, pad, output_pad, dilation, groups):
        w = c.weight(f"{name}.weight", 4, channels // groups, *kernel)
        b = c.weight(f"{name}.bias", channels)
        y = F.conv_transpose2d(x, w, b, stride, pad, output_pad, groups, dilation)
        sizes = {"kernel": kernel, "stride": stride, "output_pad": output_pad, "dilation": dilation}
        sizes = " ".join(f"{k}={v[0]}x{v[1]}" for k, v in sizes.items())
        both = f"pad={pad[0]},{pad[1]},{pad[0]},{pad[1]}"
        reads = f"%x, @{name}.weight, @{name}.bias"
        c.op(name, f"conv_transpose2d {reads} {{ channels={channels} {sizes} {both} groups={groups} }}", y)

    layer("dcgan", 3, (4, 4), (2, 2), (1, 1), (0, 0), (1, 1), 1)
    layer("padded", 2, (3, 2), (2, 3), (1, 0), (1, 2), (1, 2), 1)
    layer("groups", 4, (3, 3), (1, 2), (1, 1), (0, 1), (1, 1), 2)
    layer("beyond", 2, (2, 2), (1, 1), (0, 1), (2, 1), (3, 2), 1)


@case
def volumes(c):
    """Convolutions of rows and volumes, their transposes, and pools."""
    inputs = {1: c.input("row", 2, 4, 9), 3: c.input("volume", 2, 4, 5, 4, 3)}

    def joined(list):
        return f"[{','.join(map(str, list))}]"

    def layer(name, axes, channels, kernel, stride, pad, dilation, groups, output_pad=None):
        x, transposed = inputs[axes], output_pad is not None
        shape = (4, channels // groups) if transposed else (channels, 4 // groups)
        w, b = c.weight(f"{name}.weight", *shape, *kernel), c.weight(f"{name}.bias", channels)
        if transposed:
            function = F.conv_transpose1d if axes == 1 else F.conv_transpose3d
            y = function(x, w, b, stride, pad, output_pad, groups, dilation)
        else:
            y = (F.conv1d if axes == 1 else F.conv3d)(x, w, b, stride, pad, dilation, groups)
        of = "row" if axes == 1 else "volume"
        text = f"channels={channels} kernel={joined(kernel)} stride={joined(stride)} pad={joined([*pad, *pad])} "
        text += f"dilation={joined(dilation)} groups={groups} bias=true transposed={str(transposed).lower()} "
        text += f"output_pad={joined(output_pad or [0] * axes)}"
        c.op(name, f"conv_nd %{of}, @{name}.weight, @{name}.bias {{ {text} }}", y)

    layer("plain1", 1, 3, [3], [1], [1], [1], 1)
    layer("strided1", 1, 6, [2], [3], [1], [2], 2)
    layer("transposed1", 1, 4, [4], [2], [1], [1], 2, [1])
    layer("beyond1", 1, 2, [2], [1], [0], [3], 1, [2])
    layer("plain3", 3, 3, [3, 3, 3], [1, 1, 1], [1, 1, 1], [1, 1, 1], 1)
    layer("strided3", 3, 4, [3, 2, 1], [2, 1, 2], [1, 1, 0], [1, 2, 1], 2)
    layer("frames3", 3, 4, [1, 3, 3], [1, 2, 2], [0, 1, 1], [1, 1, 1], 4)
    layer("transposed3", 3, 4, [3, 2, 2], [2, 2, 1], [1, 0, 1], [1, 1, 1], 2, [1, 0, 0])

    def pool(name, axes, kind, kernel, stride, pad, value):
        text = f"kind={kind} kernel={joined([kernel] * axes)} stride={joined([stride] * axes)} "
        text += f"pad={joined([pad] * 2 * axes)} dilation={joined([1] * axes)}"
        c.op(name, f"pool_nd %{'row' if axes == 1 else 'volume'} {{ {text} }}", value)

    pool("max1", 1, "max", 3, 2, 1, F.max_pool1d(inputs[1], 3, 2, 1))
    pool("mean1", 1, "avg", 3, 2, 1, F.avg_pool1d(inputs[1], 3, 2, 1, count_include_pad=False))
    pool("max3", 3, "max", 3, 2, 1, F.max_pool3d(inputs[3], 3, 2, 1))
    pool("mean3", 3, "avg_with_pad", 2, 1, 1, F.avg_pool3d(inputs[3], 2, 1, 1))


@case
def products(c):
    x = c.input("x", 3, 5)
    w, b = c.weight("linear.weight", 4, 5), c.weight("linear.bias", 4)
    c.op("linear", "linear %x, @linear.weight, @linear.bias { features=4 }", F.linear(x, w, b))
    y, z = c.input("y", 2, 1, 3, 4), c.input("z", 3, 4, 2)
    c.op("matmul", "matmul %y, %z", y @ z)


@case
def activations(c):
    x = c.input("x", 2, 3, 4, 2)
    c.tensors["input.x"].data.mul_(4)
    rows = {
        "relu": F.relu(x),
        "leaky_relu(0.2)": F.leaky_relu(x, 0.2),
        "elu(0.7)": F.elu(x, 0.7),
        "sigmoid": torch.sigmoid(x),
        "tanh": torch.tanh(x),
        "hard_sigmoid(0.16666667,0.5)": F.hardsigmoid(x),
        "hard_swish": F.hardswish(x),
        "silu": F.silu(x),
        "gelu": F.gelu(x),
        "gelu_tanh": F.gelu(x, approximate="tanh"),
        "softplus": F.softplus(x),
        "clip(0.0,6.0)": F.relu6(x),
        "clip(-1.5,2.0)": torch.clamp(x, -1.5, 2.0),
        "scale(-0.75,0.25)": -0.75 * x + 0.25,
        "exp": torch.exp(x),
        "erf": torch.erf(x),
        "abs": torch.abs(x),
    }
    for i, (kind, value) in enumerate(rows.items()):
        c.op(f"y{i}", f"activation %x {{ kind={kind} }}", value)
    positive = c.op("positive", "activation %y16 { kind=scale(1.0,0.5) }", torch.abs(x) + 0.5)
    c.op("log", "activation %positive { kind=log }", torch.log(positive))
    c.op("sqrt", "activation %positive { kind=sqrt }", torch.sqrt(positive))
    w, one = c.weight("prelu.weight", 3), c.weight("shared.weight", 1)
    c.op("prelu", "prelu %x, @prelu.weight", F.prelu(x, w))
    c.op("shared", "prelu %x, @shared.weight { per_channel=false }", F.prelu(x, one))


@case
def binaries(c):
    x, y, z = c.input("x", 2, 3, 2, 2), c.input("y", 2, 3, 2, 2), c.input("z", 3, 1, 1)
    # Equal values, whose gradient both sides share.
    c.tensors["input.y"].data.view(-1)[:5] = c.tensors["input.x"].data.view(-1)[:5]
    kinds = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "max": torch.maximum, "min": torch.minimum}
    for kind, function in kinds.items():
        c.op(f"{kind}_same", f"binary %x, %y {{ kind={kind} }}", function(x, y))
        c.op(f"{kind}_left", f"binary %x, %z {{ kind={kind} }}", function(x, z))
        c.op(f"{kind}_right", f"binary %z, %x {{ kind={kind} }}", function(z, x))
    divisor = c.op("divisor", "activation %z { kind=exp }", torch.exp(z))
    c.op("div", "binary %x, %divisor { kind=div }", x / divisor)
    c.op("twice", "binary %x, %x { kind=mul }", x * x)


@case
def pools(c):
    x = c.input("x", 2, 2, 7, 6)
    # Equal maxima, of which the first counts.
    c.tensors["input.x"].data[0, 0] = c.tensors["input.x"].data[0, 0].mul(2).round()
    text = "kernel=3x3 stride=2x2 pad=1,1,1,1"
    c.op("max", f"max_pool %x {{ {text} }}", F.max_pool2d(x, 3, 2, 1))
    c.op("max_ceil", "max_pool %x { kernel=3x3 stride=2x2 ceil=true }", F.max_pool2d(x, 3, 2, ceil_mode=True))
    c.op("max_dilated", "max_pool %x { kernel=2x2 stride=1x1 dilation=2x2 }", F.max_pool2d(x, 2, 1, dilation=2))
    c.op("avg", f"avg_pool %x {{ {text} count_include_pad=false }}", F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
    c.op("avg_pad", f"avg_pool %x {{ {text} }}", F.avg_pool2d(x, 3, 2, 1))
    ceil = F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)
    c.op("avg_ceil", f"avg_pool %x {{ {text} ceil=true }}", ceil)
    c.op("adaptive", "adaptive_avg_pool %x { output=3x4 }", F.adaptive_avg_pool2d(x, (3, 4)))
    c.op("global_avg", "global_pool %x { kind=avg }", F.adaptive_avg_pool2d(x, 1))
    c.op("global_max", "global_pool %x { kind=max }", F.adaptive_max_pool2d(x, 1))


def batch_norm_layer(c, name, x, reads, affine=True, eps=1e-3, output=True):
    channels = x.shape[1]
    w = c.weight(f"{name}.weight", channels, shift=1.0) if affine else None
    b = c.weight(f"{name}.bias", channels) if affine else None
    mean = c.weight(f"{name}.running_mean", channels, learned=False)
    var = c.weight(f"{name}.running_var", channels, scale=0.1, shift=1.5, learned=False)
    running = [mean.clone(), var.clone()]
    y = F.batch_norm(x, *running, w, b, True, 0.1, eps)
    for statistic, value in zip(["running_mean", "running_var"], running, strict=True):
        c.keep(f"update.{name}.{statistic}", value, False)
    parameters = ["weight", "bias"] * affine + ["running_mean", "running_var"]
    parameters = ", ".join(f"@{name}.{parameter}" for parameter in parameters)
    return c.op(name, f"batch_norm {reads}, {parameters} {{ eps={eps} affine={str(affine).lower()} }}", y, output)


@case
def norms(c):
    x, v = c.input("x", 3, 4, 3, 2), c.input("v", 5, 3)
    batch_norm_layer(c, "batch", x, "%x")
    batch_norm_layer(c, "plain", x, "%x", affine=False, eps=1e-5)
    batch_norm_layer(c, "vector", v, "%v")
    w, b = c.weight("layer.weight", 4), c.weight("layer.bias", 4)
    y = F.layer_norm(x.permute(0, 2, 3, 1), [4], w, b, 1e-3).permute(0, 3, 1, 2)
    c.op("layer", "layer_norm %x, @layer.weight, @layer.bias { eps=0.001 }", y)
    c.op("vectors", "layer_norm %v { eps=0.001 affine=false }", F.layer_norm(v, [3], eps=1e-3))
    w, b = c.weight("instance.weight", 4), c.weight("instance.bias", 4)
    y = F.instance_norm(x, weight=w, bias=b, eps=1e-3)
    c.op("instance", "instance_norm %x, @instance.weight, @instance.bias { eps=0.001 affine=true }", y)
    w, b = c.weight("scale.weight", 4), c.weight("scale.bias", 4)
    c.op("scale", "channel_affine %x, @scale.weight, @scale.bias", x * w.view(-1, 1, 1) + b.view(-1, 1, 1))
    for size in [3, 4]:
        y = F.local_response_norm(x, size, 0.5, 0.75, 1.5)
        c.op(f"lrn{size}", f"lrn %x {{ size={size} alpha=0.5 beta=0.75 k=1.5 }}", y)
    c.op("softmax", "softmax %x", F.softmax(x, 1))
    c.op("log_softmax", "softmax %x { axis=2 log=true }", F.log_softmax(x, 2))


@case
def shapes(c):
    x, y = c.input("x", 2, 4, 4, 2), c.input("y", 2, 3, 4, 2)
    c.op("concat", "concat %x, %y, %x", torch.cat([x, y, x], 1))
    c.op("rows", "concat %x, %x { axis=2 }", torch.cat([x, x], 2))
    c.op("slice", "slice %x { start=1 end=4 step=2 }", x[:, 1:4:2])
    c.op("zeros", "pad %x { pads=1,2,0,1 value=0.5 }", F.pad(x, (2, 1, 1, 0), value=0.5))
    c.op("reflect", "pad %x { pads=2,1,1,1 mode=reflect }", F.pad(x, (1, 1, 2, 1), mode="reflect"))
    c.op("edge", "pad %x { pads=2,1,0,3 mode=edge }", F.pad(x, (1, 3, 2, 0), mode="replicate"))
    c.op("flatten", "flatten %x", x.flatten(1))
    c.op("reshape", "reshape %x { shape=[0,-1,2] }", x.reshape(2, -1, 2))
    c.op("transpose", "transpose %x { perm=[0,2,3,1] }", x.permute(0, 2, 3, 1))
    c.op("to_pixels", "pixel_shuffle %x { factor=2 }", F.pixel_shuffle(x, 2))
    c.op("to_channels", "pixel_unshuffle %x { factor=2 }", F.pixel_unshuffle(x, 2))
    c.op("shuffle", "channel_shuffle %x { groups=2 }", F.channel_shuffle(x, 2))
    c.op("mean", "reduce %x { kind=mean axes=[2,3] }", x.mean((2, 3), keepdim=True))
    c.op("sum", "reduce %x { kind=sum axes=[0,2] keepdims=false }", x.sum((0, 2)))
    c.op("max", "reduce %x { kind=max axes=[1] keepdims=false }", x.amax(1))
    c.op("nearest", "upsample %x { to=scale(2.0,3.0) }", F.interpolate(x, scale_factor=(2, 3)))
    bilinear = F.interpolate(x, (7, 5), mode="bilinear")
    c.op("bilinear", "upsample %x { to=size(7,5) mode=bilinear }", bilinear)
    corners = F.interpolate(x, (3, 5), mode="bilinear", align_corners=True)
    c.op("corners", "upsample %x { to=size(3,5) mode=bilinear coordinates=align_corners }", corners)
    bicubic = F.interpolate(x, (6, 5), mode="bicubic")
    c.op("bicubic", "upsample %x { to=size(6,5) mode=bicubic }", bicubic)


@case
def regions(c):
    from torchvision.ops import roi_align

    x = c.input("x", 2, 3, 7, 9)
    boxes = torch.tensor(
        [[0, 1.3, 0.4, 6.2, 5.9], [1, -4, -3, 20, 12.4], [1, 2, 2, 2.5, 2.25], [0, 3, 3, 7, 5], [1, 6, 5, 3, 4]]
    )
    boxes = c.keep("weight.boxes", boxes, False)
    c.op("boxes", "constant @boxes { shape=[5,5] }", boxes, output=False)
    for samples in (0, 1, 3):
        for aligned in (False, True):
            value = roi_align(x, boxes, (3, 2), 0.8, samples or -1, aligned)
            text = f"roi_align %x, %boxes {{ size=3x2 scale=0.8 samples={samples} aligned={str(aligned).lower()} }}"
            c.op(f"of_{samples}_{'aligned' if aligned else 'plain'}", text, value)


@case
def losses(c):
    logits, pixels = c.input("logits", 5, 4), c.input("pixels", 2, 3, 3, 2)
    labels = c.input("labels", like=torch.tensor([0, 3, 2, 1, 3]))
    marks = c.input("marks", like=torch.tensor([[0, 1], [2, 7], [1, 1], [7, 2], [0, 0], [2, 1]]).reshape(2, 3, 2))
    c.op("plain", "cross_entropy %logits, %labels", F.cross_entropy(logits, labels))
    smooth = F.cross_entropy(logits, labels, label_smoothing=0.1)
    c.op("smooth", "cross_entropy %logits, %labels { smoothing=0.1 }", smooth)
    marked = F.cross_entropy(pixels, marks, ignore_index=7, label_smoothing=0.2)
    c.op("marked", "cross_entropy %pixels, %marks { smoothing=0.2 ignored=7 }", marked)
    # The weights of classes are a weight that nobody learns, as an operand.
    shares = c.weight("classes", 4, scale=0.3, shift=1.0, learned=False)
    c.op("shares", "constant @classes { shape=[4] }", shares.view(4), output=False)
    weighted = F.cross_entropy(logits, labels, shares, label_smoothing=0.3)
    c.op("weighted", "cross_entropy %logits, %labels, %shares { smoothing=0.3 }", weighted)
    x, t = c.input("x", 3, 4), c.input("t", 3, 4)
    targets = c.op("targets", "activation %t { kind=sigmoid }", torch.sigmoid(t), output=False)
    c.op("bce", "pointwise_loss %x, %targets { kind=bce }", F.binary_cross_entropy_with_logits(x, targets))
    c.op("mse", "pointwise_loss %x, %t { kind=mse }", F.mse_loss(x, t))
    c.op("l1", "pointwise_loss %x, %t { kind=l1 }", F.l1_loss(x, t))
    c.op("smooth_l1", "pointwise_loss %x, %t { kind=smooth_l1 beta=0.5 }", F.smooth_l1_loss(x, t, beta=0.5))
    c.op("hinge", "pointwise_loss %x, %t { kind=hinge }", F.relu(1 - x * t).mean())


@case
def network(c):
    """Convolutions, batch norms in training, pools, a residual, a concat, a linear layer, cross entropy."""
    x, labels = c.input("x", 4, 3, 10, 10), c.input("labels", like=torch.tensor([0, 4, 2, 1]))

    def conv(name, x, reads, channels, kernel, stride=1, bias=False):
        scale = (2 / (x.shape[1] * kernel**2)) ** 0.5
        w = c.weight(f"{name}.weight", channels, x.shape[1], kernel, kernel, scale=scale)
        b = c.weight(f"{name}.bias", channels) if bias else None
        p = kernel // 2
        y = F.conv2d(x, w, b, stride, p)
        weights = f"@{name}.weight" + (f", @{name}.bias" if bias else "")
        size = f"kernel={kernel}x{kernel} stride={stride}x{stride} pad={p},{p},{p},{p} bias={str(bias).lower()}"
        return c.op(name, f"conv2d {reads}, {weights} {{ channels={channels} {size} }}", y, False)

    def relu(name, x, reads):
        return c.op(name, f"activation {reads} {{ kind=relu }}", F.relu(x), False)

    y = conv("stem", x, "%x", 6, 3)
    y = batch_norm_layer(c, "bn1", y, "%stem", eps=1e-5, output=False)
    y = relu("relu1", y, "%bn1")
    y = c.op("pool", "max_pool %relu1 { kernel=3x3 stride=2x2 pad=1,1,1,1 }", F.max_pool2d(y, 3, 2, 1), False)
    short = conv("short", y, "%pool", 8, 1, 2)
    y = conv("conv1", y, "%pool", 8, 3, 2)
    y = batch_norm_layer(c, "bn2", y, "%conv1", eps=1e-5, output=False)
    y = relu("relu2", y, "%bn2")
    y = conv("conv2", y, "%relu2", 8, 3)
    y = batch_norm_layer(c, "bn3", y, "%conv2", eps=1e-5, output=False)
    y = c.op("sum", "binary %bn3, %short { kind=add }", y + short, False)
    y = relu("relu3", y, "%sum")
    side = conv("side", y, "%relu3", 4, 1, bias=True)
    side = relu("relu4", side, "%side")
    y = c.op("joined", "concat %relu3, %relu4", torch.cat([y, side], 1), False)
    y = c.op("mean", "global_pool %joined { kind=avg }", F.adaptive_avg_pool2d(y, 1), False)
    y = c.op("flat", "flatten %mean", y.flatten(1), False)
    w, b = c.weight("fc.weight", 5, 12), c.weight("fc.bias", 5)
    y = c.op("fc", "linear %flat, @fc.weight, @fc.bias { features=5 }", F.linear(y, w, b), False)
    c.op("classes", "cross_entropy %fc, %labels { smoothing=0.1 }", F.cross_entropy(y, labels, label_smoothing=0.1))


def rounded(case):
    """PyTorch computes with the very numbers that are stored."""
    keep = case.keep

    def keep_rounded(key, values, wants_gradient=True):
        return keep(key, values if values.dtype == torch.int64 else values.detach().float(), wants_gradient)

    case.keep = keep_rounded
    return case


def make(name, seed):
    torch.manual_seed(seed + zlib.crc32(name.encode()))
    made = rounded(Case(name))
    CASES[name](made)
    return made.finish()


def make_zoo():
    """For each network of `networks.py`, with its weights and input and as at inference: of each learned weight's
    gradient, in the order of their names, and last of the input's, the product with a fixed direction, and its length.
    The loss is the sum over the outputs of their mean squares, of auxiliary ones times 0.3."""
    from networks import NETWORKS
    from safetensors.torch import load_file

    def figures(gradient):
        gradient = gradient.flatten()
        direction = (torch.arange(len(gradient)) * 7919 % 17 - 8).double()
        return [(gradient * direction).sum().item(), gradient.norm().item()]

    arrays = {}
    for name, (build, _) in NETWORKS.items():
        model = build().eval()
        model.load_state_dict(load_file(FOLDER.parent / f"{name}.safetensors"), strict=False)
        model.double()
        x = load_file(FOLDER.parent / f"{name}.io.safetensors")["input"].double().requires_grad_()
        outputs = model.all_outputs(x) if hasattr(model, "all_outputs") else {"logits": model(x)}
        weights = {key: 1.0 if key == "logits" else 0.3 for key in outputs}
        sum(weights[key] * (value**2).mean() for key, value in outputs.items()).backward()
        gradients = [p.grad for _, p in sorted(model.named_parameters()) if p.grad is not None]
        arrays[name] = np.array([figures(gradient) for gradient in [*gradients, x.grad]], np.float32)
    return arrays


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name in arguments.names or [*CASES, "zoo"]:
        text, arrays = (None, make_zoo()) if name == "zoo" else make(name, arguments.seed)
        paths = FOLDER / f"{name}.ir", FOLDER / f"{name}.npz"
        if arguments.check:
            assert text is None or paths[0].read_text() == text, f"{name}: another graph"
            known = np.load(paths[1])
            assert set(known) == set(arrays), f"{name}: other arrays"
            assert all(np.array_equal(known[key], arrays[key]) for key in arrays), f"{name}: other values"
        else:
            if text is not None:
                paths[0].write_text(text)
            np.savez_compressed(paths[1], **arrays)
        print(f"{name}: {len(arrays)} arrays, {paths[1].stat().st_size} bytes")


if __name__ == "__main__":
    main()
