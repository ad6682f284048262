"""Single layers whose conventions are easy to get wrong, a family a fixture. Each layer is an output of its own.

A family is the input's shape and a list of (output name, label or None, PyTorch module). A layer with weights has a
label, which is its name in the state dict; every layer takes the input itself, unless it is a chain of labelled ones.
"""

import torch
from common import Scale
from torch import nn
from torch.nn import functional as F


class Apply(nn.Module):
    """A layer without weights, from a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class PaddedConv(nn.Conv2d):
    """A convolution with another padding on each side; `sides` is top, left, bottom, right, as in the language."""

    def __init__(self, *args, sides, **kwargs):
        super().__init__(*args, **kwargs)
        self.sides = sides

    def forward(self, x):
        return super().forward(pad(self.sides)(x))


class Chain(nn.Module):
    """Layers one after the other, each (label or None, module); the labels stay top-level names."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = layers


class Family(nn.Module):
    def __init__(self, *cases):
        super().__init__()
        self.cases = []
        for output, label, module in cases:
            chain = module.layers if isinstance(module, Chain) else [(label, module)]
            self.cases.append((output, [layer for _, layer in chain]))
            for label, layer in chain:
                if label and not hasattr(self, label):
                    self.add_module(label, layer)

    def forward(self, x):
        outputs = {}
        for output, layers in self.cases:
            value = x
            for layer in layers:
                value = layer(value)
            outputs[output] = value
        return outputs


def pad(sides, value=0.0):
    top, left, bottom, right = sides
    return lambda x: F.pad(x, (left, right, top, bottom), value=value)


def conv():
    return Family(
        ("valid", "c1", nn.Conv2d(8, 6, 3)),
        ("strided", "c2", nn.Conv2d(8, 6, 3, 2, 1, bias=False)),
        ("dilated", "c3", nn.Conv2d(8, 8, 3, 1, 2, dilation=2)),
        ("grouped", "c4", nn.Conv2d(8, 12, 3, 1, 1, groups=4)),
        ("depthwise", "c5", nn.Conv2d(8, 8, 3, 1, 1, groups=8)),
        ("depthwise_multiplied", "c6", nn.Conv2d(8, 16, 3, 2, 1, groups=8)),
        ("pointwise", "c7", nn.Conv2d(8, 5, 1)),
        ("asymmetric", "c8", PaddedConv(8, 6, 3, sides=(0, 1, 2, 1))),
        ("asymmetric_strided", "c9", PaddedConv(8, 6, 3, 2, sides=(0, 0, 1, 1))),
        ("row_kernel", "c10", nn.Conv2d(8, 6, (1, 5), 1, (0, 2))),
        ("oblong", "c11", nn.Conv2d(8, 6, (3, 2), (2, 1))),
        ("stride_beyond_kernel", "c12", nn.Conv2d(8, 4, 1, 2)),
        ("everything", "c13", nn.Conv2d(8, 4, 5, 3, (4, 2), dilation=(2, 1), groups=2)),
        ("whole_image", "c14", nn.Conv2d(8, 3, (11, 13))),
        ("odd_channels", "c15", nn.Conv2d(8, 17, 3, 1, 1)),
        ("pad_beyond_kernel", "c16", nn.Conv2d(8, 2, 2, 1, 3)),
    )


def conv_transpose():
    return Family(
        ("doubling", "t1", nn.ConvTranspose2d(6, 4, 4, 2, 1, bias=False)),
        ("plain", "t2", nn.ConvTranspose2d(6, 5, 3)),
        ("output_pad", "t3", nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1)),
        ("grouped", "t4", nn.ConvTranspose2d(6, 4, 3, 2, 1, groups=2)),
        ("dilated", "t5", nn.ConvTranspose2d(6, 4, 3, 1, 1, dilation=2)),
        ("gaps", "t6", nn.ConvTranspose2d(6, 4, 2, 3)),
        ("oblong", "t7", nn.ConvTranspose2d(6, 4, (3, 2), (2, 3), (1, 0), output_padding=(0, 1))),
        ("depthwise", "t8", nn.ConvTranspose2d(6, 6, 4, 2, 1, groups=6)),
        ("pad_crops", "t9", nn.ConvTranspose2d(6, 4, 3, 1, 2)),
    )


def max_pool():
    # Values are all negative (see make.py), so that padding taken for zero shows at once.
    return Family(
        ("floor", None, nn.MaxPool2d(3, 2)),
        ("ceil", None, nn.MaxPool2d(3, 2, ceil_mode=True)),
        ("padded", None, nn.MaxPool2d(3, 2, 1)),
        ("padded_ceil", None, nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
        ("ceil_drops_last_window", None, nn.MaxPool2d(2, 3, 1, ceil_mode=True)),
        ("same_size", None, nn.MaxPool2d(3, 1, 1)),
        ("oblong", None, nn.MaxPool2d((2, 3), (1, 2), (1, 0))),
        ("stride_beyond_kernel", None, nn.MaxPool2d(1, 2)),
        ("whole_image", None, Apply(lambda x: x.amax((2, 3), keepdim=True))),
    )


def avg_pool():
    cases = []
    for padding in (0, 1):
        for ceil in (False, True):
            for include in (False, True):
                name = f"pad{padding}{'_ceil' if ceil else ''}{'_counted' if include else ''}"
                cases.append((name, None, nn.AvgPool2d(3, 2, padding, ceil_mode=ceil, count_include_pad=include)))
    return Family(
        *cases,
        ("ceil_drops_last_window", None, nn.AvgPool2d(2, 3, 1, ceil_mode=True, count_include_pad=True)),
        ("oblong", None, nn.AvgPool2d((2, 3), (1, 2), (1, 1), count_include_pad=False)),
        ("whole_image", None, Apply(lambda x: x.mean((2, 3), keepdim=True))),
        ("adaptive_1", None, nn.AdaptiveAvgPool2d(1)),
        ("adaptive_3", None, nn.AdaptiveAvgPool2d(3)),
        ("adaptive_5x4", None, nn.AdaptiveAvgPool2d((5, 4))),
        ("adaptive_larger", None, nn.AdaptiveAvgPool2d((10, 13))),
    )


def lrn():
    """PyTorch's layer divides alpha by the window; `size * alpha` undoes it, which is the paper's convention.
    An even window of PyTorch reaches one channel further back than forward."""

    def case(name, size, alpha, beta, k, over_size):
        return name, None, nn.LocalResponseNorm(size, alpha if over_size else alpha * size, beta, k)

    return Family(
        case("caffe", 5, 0.5, 0.75, 1.0, True),
        case("paper", 5, 0.1, 0.75, 2.0, False),
        case("size3_over", 3, 0.5, 0.5, 1.0, True),
        case("size3_not_over", 3, 0.5, 0.5, 1.0, False),
        case("beta1", 5, 0.5, 1.0, 1.0, True),
        case("even4", 4, 0.5, 0.75, 1.0, True),
        case("even2", 2, 0.5, 0.75, 2.0, False),
        case("single", 1, 0.5, 0.75, 1.0, True),
        case("wider_than_channels", 21, 0.5, 0.75, 1.0, True),
    )


def resize():
    def up(scale, mode, align_corners=None):
        return nn.Upsample(scale_factor=scale, mode=mode, align_corners=align_corners)

    return Family(
        ("nearest_2", None, up(2, "nearest")),
        ("nearest_3x2", None, up((3.0, 2.0), "nearest")),
        ("bilinear_2", None, up(2, "bilinear", False)),
        ("bilinear_2_corners", None, up(2, "bilinear", True)),
        ("bilinear_2x3", None, up((2.0, 3.0), "bilinear", False)),
        ("bilinear_3_corners", None, up(3, "bilinear", True)),
        ("pixels_2", None, nn.PixelShuffle(2)),
        ("channels_4", None, nn.ChannelShuffle(4)),
        ("channels_2", None, nn.ChannelShuffle(2)),
    )


def activation():
    return Family(
        ("relu", None, nn.ReLU()),
        ("relu6", None, nn.ReLU6()),
        ("leaky_relu", None, nn.LeakyReLU(0.2)),
        ("prelu", "slopes", nn.PReLU(5)),
        ("elu", None, nn.ELU(1.0)),
        ("elu_half", None, nn.ELU(0.5)),
        ("sigmoid", None, nn.Sigmoid()),
        ("tanh", None, nn.Tanh()),
        ("hard_sigmoid", None, nn.Hardsigmoid()),
        ("hard_swish", None, nn.Hardswish()),
        ("silu", None, nn.SiLU()),
        ("gelu", None, nn.GELU()),
        ("clip", None, nn.Hardtanh(-0.5, 2.0)),
        ("identity", None, nn.Identity()),
    )


def softmax():
    return Family(
        ("channels", None, nn.Softmax(1)),
        ("channels_log", None, nn.LogSoftmax(1)),
        ("flat", None, Apply(lambda x: x.flatten(1).softmax(1))),
        ("flat_log", None, Apply(lambda x: x.flatten(1).log_softmax(1))),
    )


def group_norm():
    """Norms of groups and of several axes, and what else works along the last axis of images."""
    factors = torch.tensor([0.5, 1.0, -2.0, 0.25, 3.0, 1.5]).view(6, 1, 1)
    terms = torch.tensor([0.0, 1.0, -1.0, 0.5, 0.0, 2.0]).view(6, 1, 1)
    return Family(
        ("of_all", "n1", nn.GroupNorm(1, 6)),
        ("of_two", "n2", nn.GroupNorm(2, 6, eps=0.1)),
        ("of_each", None, nn.GroupNorm(6, 6, affine=False)),
        ("of_blocks", None, Chain(("c3", nn.Conv2d(6, 40, 3, padding=1)), ("n3", nn.GroupNorm(5, 40)), (None, nn.ReLU()))),
        ("of_wide_groups", None, Chain(("c4", nn.Conv2d(6, 72, 1)), ("n4", nn.GroupNorm(2, 72)))),
        ("of_images", "n5", nn.LayerNorm([6, 5, 7])),
        ("of_planes", "n6", nn.LayerNorm([5, 7], eps=0.01)),
        ("of_rows", None, nn.LayerNorm([7], elementwise_affine=False)),
        ("linear_of_rows", "f7", nn.Linear(7, 9)),
        ("softmax_of_rows", None, nn.Softmax(dim=-1)),
        ("constants", None, Apply(lambda x: x * factors.to(x) + terms.to(x))),
        ("terms", None, Chain(("c8", nn.Conv2d(6, 6, 1)), (None, Apply(lambda x: 2 * x + terms.to(x))))),
    )


def sequence():
    """Rows [N, C, L] and sequences of vectors [N, T, F]."""
    return Family(
        ("linear", "f1", nn.Linear(10, 7)),
        ("norm", "n2", nn.LayerNorm(10)),
        ("softmax", None, nn.Softmax(dim=-1)),
        ("log_softmax", None, nn.LogSoftmax(dim=-2)),
        ("conv", "c3", nn.Conv1d(6, 8, 3, stride=2, padding=1)),
        ("groups", "c4", nn.Conv1d(6, 9, 2, dilation=3, groups=3, bias=False)),
        ("max_pool", None, nn.MaxPool1d(3, stride=2, padding=1)),
        ("avg_pool", None, nn.AvgPool1d(2)),
        ("group_norm", "n5", nn.GroupNorm(3, 6)),
        (
            "chain",
            None,
            Chain(
                ("c6", nn.Conv1d(6, 16, 3, padding=1)),
                ("n6", nn.BatchNorm1d(16)),
                (None, nn.ReLU()),
                ("c7", nn.Conv1d(16, 5, 1)),
                ("f7", nn.Linear(10, 3)),
                (None, nn.GELU()),
                ("n7", nn.LayerNorm(3)),
            ),
        ),
    )


def row():
    """Layers of images on rows [N, C, L]."""
    return Family(
        ("instance_norm", None, nn.InstanceNorm1d(4)),
        ("group_norm", "n1", nn.GroupNorm(2, 4)),
        ("mean", None, nn.AdaptiveAvgPool1d(1)),
        ("most", None, nn.AdaptiveMaxPool1d(1)),
        ("adaptive", None, nn.AdaptiveAvgPool1d(5)),
        ("nearest", None, nn.Upsample(scale_factor=3)),
        ("linear", None, nn.Upsample(scale_factor=2, mode="linear")),
        ("to_a_size", None, nn.Upsample(size=17, mode="linear", align_corners=True)),
    )


def volume():
    """Layers of images on volumes [N, C, D, H, W]."""
    return Family(
        ("instance_norm", "n1", nn.InstanceNorm3d(4, affine=True)),
        ("group_norm", "n2", nn.GroupNorm(2, 4)),
        ("mean", None, nn.AdaptiveAvgPool3d(1)),
        ("most", None, nn.AdaptiveMaxPool3d(1)),
        ("adaptive", None, nn.AdaptiveAvgPool3d((2, 4, 3))),
        ("nearest", None, nn.Upsample(scale_factor=(1, 2, 3))),
        ("trilinear", None, nn.Upsample(scale_factor=2, mode="trilinear")),
        ("to_a_size", None, nn.Upsample(size=(5, 9, 4), mode="trilinear", align_corners=True)),
    )


def norm():
    shared = ("shared", nn.Conv2d(6, 8, 3, 1, 1))
    return Family(
        ("plain", "n1", nn.BatchNorm2d(6)),
        ("large_eps", "n2", nn.BatchNorm2d(6, eps=0.1)),
        ("after_conv", None, Chain(("c3", nn.Conv2d(6, 8, 3, 1, 1)), ("n3", nn.BatchNorm2d(8)))),
        ("after_conv_without_bias", None, Chain(("c4", nn.Conv2d(6, 8, 3, bias=False)), ("n4", nn.BatchNorm2d(8)))),
        # Folding the norm into the convolution behind it would be wrong at the border, where zeros are padded.
        ("before_padded_conv", None, Chain(("n5", nn.BatchNorm2d(6)), ("c5", nn.Conv2d(6, 8, 3, 1, 1)))),
        ("after_grouped_conv", None, Chain(("c6", nn.Conv2d(6, 12, 3, groups=3)), ("n6", nn.BatchNorm2d(12)))),
        ("after_conv_transpose", None,
         Chain(("t7", nn.ConvTranspose2d(6, 4, 3, 2, 1, groups=2, bias=False)), ("n7", nn.BatchNorm2d(4)))),
        ("after_linear", None,
         Chain((None, nn.Flatten()), ("f8", nn.Linear(6 * 5 * 7, 9)), ("n8", nn.BatchNorm1d(9)))),
        ("caffe_pair", None,
         Chain(("c9", nn.Conv2d(6, 8, 1, bias=False)), ("n9", nn.BatchNorm2d(8, affine=False)), ("s9", Scale(8)))),
        # The convolution's own value is an output too, so its weights must stay as they are.
        ("before_norm", None, Chain(shared)),
        ("after_norm", None, Chain(shared, ("n10", nn.BatchNorm2d(8)))),
        ("twice", None, Chain(("n11", nn.BatchNorm2d(6)), ("n12", nn.BatchNorm2d(6)), (None, nn.ReLU()))),
    )  # fmt: skip


class Shape(nn.Module):
    def __init__(self):
        super().__init__()
        self.f1, self.f2 = nn.Linear(6 * 4 * 5, 7), nn.Linear(7, 11, bias=False)

    def forward(self, x):
        linear = self.f1(x.flatten(1))
        return {
            "flat": x.flatten(1),
            "reshaped": x.reshape(len(x), 3, 8, 5),
            "unflattened": x.flatten(1).reshape(len(x), 24, 5, 1),
            "linear": linear,
            "linear_again": self.f2(linear),
            "padded": pad((1, 1, 1, 1))(x),
            "padded_sides": pad((0, 1, 2, 3))(x),
            "padded_value": pad((1, 0, 0, 2), -1.5)(x),
        }


class Join(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(6, 8, 3, 1, 1), nn.Conv2d(6, 8, 1), nn.Conv2d(6, 5, 1)

    def forward(self, x):
        a, b, c = self.a(x), self.b(x), self.c(x)
        pooled = F.max_pool2d(x, 3, 1, 1)
        return {
            "sum": a + b,
            "product": a * b,
            "largest": torch.maximum(a, b),
            "joined": torch.cat([b, a], 1),  # the flow's value first, then the one that is named
            "joined_in_text_order": torch.cat([c, x, pooled], 1),
            "sum_of_three": x + pooled + F.relu(x),
            "residual_identity": x + F.relu(x),
            "twice_itself": a + a,
        }


# name: (how to build it, shape of the input)
LAYERS = {
    "layers_conv": (conv, (2, 8, 11, 13)),
    "layers_conv_transpose": (conv_transpose, (2, 6, 5, 7)),
    "layers_max_pool": (max_pool, (2, 5, 8, 11)),
    "layers_avg_pool": (avg_pool, (2, 5, 8, 11)),
    "layers_lrn": (lrn, (2, 9, 4, 5)),
    "layers_resize": (resize, (2, 8, 5, 7)),
    "layers_activation": (activation, (2, 5, 7, 9)),
    "layers_softmax": (softmax, (2, 7, 3, 5)),
    "layers_group_norm": (group_norm, (2, 6, 5, 7)),
    "layers_sequence": (sequence, (2, 6, 10)),
    "layers_row": (row, (2, 4, 9)),
    "layers_volume": (volume, (2, 4, 3, 5, 6)),
    "layers_norm": (norm, (2, 6, 5, 7)),
    "layers_shape": (Shape, (2, 6, 4, 5)),
    "layers_join": (Join, (2, 6, 5, 7)),
}
