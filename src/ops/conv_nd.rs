//! Convolution over one spatial axis or three, and the transposed form of both.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients, Value as Number};
use super::images::{Images, apart};
use super::layer::{Args, Arguments, Arity, Layer, Param, ParamType, Preset, Value, param};
use super::planes::fill_planes;
use super::{
    Concat, Conv2dWeightGradient, Init, Op, Operation, ShapeError, Slice, Transpose, WeightDecl, check_groups,
    positive, window_output,
};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, C, L] → [N, channels, L']` or `[N, C, D, H, W] → [N, channels, D', H', W']`, as many spatial axes as the
    /// kernel has sizes. Weight `[channels, C / groups, kernel…]`, of a transposed one `[C, channels / groups, kernel…]`,
    /// and, where `bias` is set, bias `[channels]`: PyTorch's `Conv1d`, `Conv3d` and their transposes.
    pub struct ConvNd {
        channels: usize,
        kernel: Vec<usize>,
        stride: Vec<usize>,
        /// Zeros added before each axis, then those behind each; of a transposed one what is cut off there.
        pad: Vec<usize>,
        dilation: Vec<usize>,
        groups: usize = 1,
        bias: bool = true,
        transposed: bool = false,
        /// Of a transposed one: elements added at each axis' end.
        output_pad: Vec<usize>,
    }
}

/// Three spatial axes of what has one or three: others have size 1, and of a window one tap.
pub(super) fn three(sizes: &[usize], other: usize) -> [usize; 3] {
    match *sizes {
        [d, h, w] => [d, h, w],
        [l] => [other, other, l],
        _ => unreachable!("the shape rule takes one or three"),
    }
}

const AXES: [&str; 3] = ["depth", "height", "width"];

/// Names of as many spatial axes.
pub(super) fn axis_names(count: usize) -> &'static [&'static str] {
    if count == 1 { &["length"] } else { &AXES }
}

/// The sizes of `[N, C, …]` with as many spatial axes as a kernel has: batch, channels, the others.
pub(super) fn volume<'s>(
    inputs: &[&'s Shape],
    axes: usize,
    what: &str,
) -> Result<(usize, usize, &'s [usize]), ShapeError> {
    match inputs[0].dims() {
        [n, c, rest @ ..] if rest.len() == axes => Ok((*n, *c, rest)),
        _ => {
            let wanted = if axes == 1 { "a sequence [N, C, L]" } else { "a volume [N, C, D, H, W]" };
            Err(ShapeError::new(format!("{what} needs {wanted}, not {}", inputs[0])).operand(0))
        }
    }
}

/// Requires one or three sizes of each list, and as many of all.
pub(super) fn same_axes(kernel: &[usize], lists: &[(&'static str, &[usize], usize)]) -> Result<(), ShapeError> {
    if !matches!(kernel.len(), 1 | 3) {
        return Err(ShapeError::new("the kernel has one size or three").param("kernel"));
    }
    match lists.iter().find(|(_, list, times)| list.len() != kernel.len() * times) {
        Some((name, ..)) => Err(ShapeError::new(format!("{name} does not fit the kernel's axes")).param(name)),
        None => Ok(()),
    }
}

/// One number where all are equal.
pub(super) fn sizes(list: &[usize]) -> Value {
    match list {
        [first, rest @ ..] if rest.iter().all(|size| size == first) => (*first).into(),
        _ => Value::Tuple(list.iter().map(|&size| size.into()).collect()),
    }
}

/// Padding as few numbers: one for all sides, one for each axis, or all.
pub(super) fn sides(pad: &[usize]) -> Value {
    let (before, after) = pad.split_at(pad.len() / 2);
    match before == after {
        true => sizes(before),
        false => Value::Tuple(pad.iter().map(|&size| size.into()).collect()),
    }
}

/// Sizes of `axes` axes of a call's argument.
pub(super) fn sizes_of(a: &Args, name: &str, axes: usize) -> Vec<usize> {
    let given = a.counts(name);
    if given.len() == 1 { vec![given[0]; axes] } else { given }
}

/// Padding of a call: before each axis, then behind each.
pub(super) fn sides_of(a: &Args, name: &str, axes: usize) -> Vec<usize> {
    let given = a.counts(name);
    match given.len() {
        1 => vec![given[0]; 2 * axes],
        n if n == axes => [&given[..], &given].concat(),
        _ => given,
    }
}

const CHANNELS: Param = param("channels", ParamType::Size, Preset::Required, "number of output channels");
const GROUPS: Param = param("groups", ParamType::Size, Preset::Int(1), "channel groups that do not mix");
const BIAS: Param = param("bias", ParamType::Bool, Preset::Bool(true), "add a learned value per channel");

fn build(a: &Args, axes: usize, transposed: bool) -> Op {
    ConvNd {
        channels: a.size("channels"),
        kernel: sizes_of(a, "kernel", axes),
        stride: sizes_of(a, "stride", axes),
        pad: sides_of(a, "pad", axes),
        dilation: sizes_of(a, "dilation", axes),
        groups: a.size("groups"),
        bias: a.bool("bias"),
        transposed,
        output_pad: if transposed { sizes_of(a, "output_pad", axes) } else { vec![0; axes] },
    }
    .into()
}

fn arguments(op: &Op, axes: usize, transposed: bool) -> Option<Arguments> {
    let Op::ConvNd(op) = op else { return None };
    if op.kernel.len() != axes || op.transposed != transposed {
        return None;
    }
    let mut arguments: Arguments = vec![
        ("channels", op.channels.into()),
        ("kernel", sizes(&op.kernel)),
        ("stride", sizes(&op.stride)),
        ("pad", sides(&op.pad)),
    ];
    if transposed {
        arguments.push(("output_pad", sizes(&op.output_pad)));
    }
    arguments.extend([("dilation", sizes(&op.dilation)), ("groups", op.groups.into()), ("bias", op.bias.into())]);
    Some(arguments)
}

impl ConvNd {
    /// Elements from a window's first tap to its last, and one, along an axis.
    fn extent(&self, axis: usize) -> Option<usize> {
        (self.kernel[axis] - 1).checked_mul(self.dilation[axis])?.checked_add(1)
    }

    fn output(&self, axis: usize, input: usize) -> Result<usize, ShapeError> {
        let axes = self.kernel.len();
        let (name, before, after) = (axis_names(axes)[axis], self.pad[axis], self.pad[axis + axes]);
        if !self.transposed {
            let (kernel, stride, dilation) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
            return window_output(name, input, kernel, stride, dilation, (before, after));
        }
        let full = (input - 1)
            .checked_mul(self.stride[axis])
            .and_then(|f| f.checked_add(self.extent(axis)?)?.checked_add(self.output_pad[axis]))
            .ok_or_else(|| ShapeError::new(format!("the result's {name} overflows")).param("kernel"))?;
        let left = before.checked_add(after).and_then(|cut| full.checked_sub(cut)).filter(|&left| left > 0);
        left.ok_or_else(|| {
            ShapeError::new(format!("padding {before} + {after} cuts away the whole {name} of {full}")).param("pad")
        })
    }

    /// The input's place that tap `k` of output place `at` reads; `None` outside.
    fn source(&self, axis: usize, at: usize, k: usize, size: usize) -> Option<usize> {
        let offset = k * self.dilation[axis];
        let from = match self.transposed {
            false => (at * self.stride[axis] + offset).checked_sub(self.pad[axis])?,
            true => {
                let from = (at + self.pad[axis]).checked_sub(offset)?;
                from.is_multiple_of(self.stride[axis]).then_some(from / self.stride[axis])?
            }
        };
        (from < size).then_some(from)
    }
}

impl Operation for ConvNd {
    const NAME: &'static str = "conv_nd";
    const LAYERS: &'static [Layer] = &[
        Layer {
            name: "conv1d",
            doc: "1-D convolution: [N, C, L] to [N, channels, L']",
            arity: Arity::Unary,
            params: &[
                CHANNELS,
                param("kernel", ParamType::Size, Preset::Required, "window"),
                param("stride", ParamType::Size, Preset::Int(1), "step of the window"),
                param("pad", ParamType::Count2, Preset::Int(0), "zeros around: n, or (left, right)"),
                param("dilation", ParamType::Size, Preset::Int(1), "distance of the window's taps"),
                GROUPS,
                BIAS,
            ],
            build: |a| Ok(build(a, 1, false)),
            arguments: |op| arguments(op, 1, false),
        },
        Layer {
            name: "conv3d",
            doc: "3-D convolution: [N, C, D, H, W] to [N, channels, D', H', W']",
            arity: Arity::Unary,
            params: &[
                CHANNELS,
                param("kernel", ParamType::Size3, Preset::Required, "window: one size, or (depth, height, width)"),
                param("stride", ParamType::Size3, Preset::Int(1), "step of the window"),
                param("pad", ParamType::Pad3, Preset::Int(0), "zeros around: n, (d, h, w), or all six sides"),
                param("dilation", ParamType::Size3, Preset::Int(1), "distance of the window's taps"),
                GROUPS,
                BIAS,
            ],
            build: |a| Ok(build(a, 3, false)),
            arguments: |op| arguments(op, 3, false),
        },
        Layer {
            name: "conv_transpose1d",
            doc: "transposed convolution: [N, C, L] to [N, channels, (L - 1) * stride + kernel - 2 * pad]",
            arity: Arity::Unary,
            params: &[
                CHANNELS,
                param("kernel", ParamType::Size, Preset::Required, "window"),
                param("stride", ParamType::Size, Preset::Int(1), "distance of the results of neighbouring elements"),
                param("pad", ParamType::Count2, Preset::Int(0), "cut off the result: n, or (left, right)"),
                param("output_pad", ParamType::Count, Preset::Int(0), "added at the end"),
                param("dilation", ParamType::Size, Preset::Int(1), "distance of the window's taps"),
                GROUPS,
                BIAS,
            ],
            build: |a| Ok(build(a, 1, true)),
            arguments: |op| arguments(op, 1, true),
        },
        Layer {
            name: "conv_transpose3d",
            doc: "transposed convolution: [N, C, D, H, W] to [N, channels, (D - 1) * stride + kernel - 2 * pad, ...]",
            arity: Arity::Unary,
            params: &[
                CHANNELS,
                param("kernel", ParamType::Size3, Preset::Required, "window: one size, or (depth, height, width)"),
                param("stride", ParamType::Size3, Preset::Int(1), "distance of the results of neighbouring elements"),
                param("pad", ParamType::Pad3, Preset::Int(0), "cut off the result: n, (d, h, w), or all six sides"),
                param("output_pad", ParamType::Pad3, Preset::Int(0), "added behind: n, or (d, h, w)"),
                param("dilation", ParamType::Size3, Preset::Int(1), "distance of the window's taps"),
                GROUPS,
                BIAS,
            ],
            build: |a| Ok(build(a, 3, true)),
            arguments: |op| arguments(op, 3, true),
        },
    ];

    fn layer_name(&self) -> &'static str {
        match (self.kernel.len(), self.transposed) {
            (1, false) => "conv1d",
            (1, true) => "conv_transpose1d",
            (_, false) => "conv3d",
            (_, true) => "conv_transpose3d",
        }
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let axes = self.kernel.len();
        let lists: [(_, &[usize], _); 4] = [
            ("stride", &self.stride, 1),
            ("pad", &self.pad, 2),
            ("dilation", &self.dilation, 1),
            ("output_pad", &self.output_pad, 1),
        ];
        same_axes(&self.kernel, &lists)?;
        let (n, c, spatial) = volume(inputs, axes, self.layer_name())?;
        positive("kernel", &self.kernel)?;
        positive("stride", &self.stride)?;
        positive("dilation", &self.dilation)?;
        check_groups(self.groups, c, self.channels)?;
        let beyond = |axis: &usize| self.output_pad[*axis] >= self.stride[*axis].max(self.dilation[*axis]);
        if let Some(axis) = (0..axes).find(|axis| self.output_pad[*axis] > 0 && beyond(axis)) {
            let (name, pad) = (axis_names(axes)[axis], self.output_pad[axis]);
            let message = format!("output_pad {pad} of the {name} is not below stride or dilation");
            return Err(ShapeError::new(message).param("output_pad"));
        }
        let mut dims = vec![n, self.channels];
        for (axis, &size) in spatial.iter().enumerate() {
            dims.push(self.output(axis, size)?);
        }
        Ok(Shape::new(dims))
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let lead = match self.transposed {
            false => [self.channels, inputs[0][1] / self.groups],
            true => [inputs[0][1], self.channels / self.groups],
        };
        let fan_in = self.kernel.iter().fold(inputs[0][1] / self.groups, |product, &k| product.saturating_mul(k));
        let shape = Shape::new([&lead[..], &self.kernel].concat());
        let mut weights = vec![WeightDecl { role: "weight", shape, init: Init::He { fan_in }, learnable: true }];
        if self.bias {
            weights.push(WeightDecl::per_channel("bias", self.channels, 0.0, true));
        }
        weights
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &(1..inputs[0].rank()).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let whole = ConvNd {
            kernel: three(&self.kernel, 1).to_vec(),
            stride: three(&self.stride, 1).to_vec(),
            pad: [three(&self.pad[..self.kernel.len()], 0), three(&self.pad[self.kernel.len()..], 0)].concat(),
            dilation: three(&self.dilation, 1).to_vec(),
            ..self.clone()
        };
        let (c, groups) = (inputs[0].shape()[1], self.groups);
        let [d, h, w] = three(&inputs[0].shape().dims()[2..], 1);
        let [_, oh, ow] = three(&output.dims()[2..], 1);
        let [kd, kh, kw] = three(&self.kernel, 1);
        let (per_input, per_output) = (c / groups, self.channels / groups);
        let (x, k) = (inputs[0].data(), weights[0].data());
        fill_planes(output, |n, o, plane| {
            let (group, own) = (o / per_output, o % per_output);
            let bias = if self.bias { f64::from(weights[1].data()[o]) } else { 0.0 };
            for (i, result) in plane.iter_mut().enumerate() {
                let at = [i / (oh * ow), i / ow % oh, i % ow];
                let mut sum = bias;
                for tap in 0..kd * kh * kw {
                    let taps = [tap / (kh * kw), tap / kw % kh, tap % kw];
                    let place = |axis: usize| whole.source(axis, at[axis], taps[axis], [d, h, w][axis]);
                    let (Some(z), Some(y), Some(column)) = (place(0), place(1), place(2)) else { continue };
                    for input in 0..per_input {
                        let channel = group * per_input + input;
                        let weight = match self.transposed {
                            false => o * per_input + input,
                            true => channel * per_output + own,
                        };
                        let value = x[(((n * c + channel) * d + z) * h + y) * w + column];
                        sum += f64::from(value) * f64::from(k[weight * kd * kh * kw + tap]);
                    }
                }
                *result = sum as f32;
            }
        })
    }

    fn macs(&self, inputs: &[&Shape], output: &Shape) -> u64 {
        let (per_place, places) = match self.transposed {
            false => (inputs[0][1] / self.groups, output.elements()),
            true => (self.channels / self.groups, inputs[0].elements()),
        };
        let taps = self.kernel.iter().fold(per_place as u64, |product, &k| product.saturating_mul(k as u64));
        taps.saturating_mul(places as u64)
    }

    /// With respect to what comes in the transposed form, or the plain one, with the same weight.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let axes = self.kernel.len();
        let (x, dy) = (g.operand_shape(0), g.shape(g.of_result));
        let mut adjoint = ConvNd {
            channels: x[1],
            bias: false,
            transposed: !self.transposed,
            output_pad: vec![0; axes],
            ..self.clone()
        };
        if !self.transposed {
            // What no window reaches, since the stride does not divide what is left.
            for axis in 0..axes {
                let reached =
                    (dy[2 + axis] - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1;
                adjoint.output_pad[axis] = x[2 + axis] + self.pad[axis] + self.pad[axis + axes] - reached;
            }
        }
        let mut of_x = g.add_reading(adjoint, &[g.of_result], &g.parameters[..1])?;
        // An `output_pad` beyond the stride has room for windows that nothing of x stands for.
        for axis in 2..2 + axes {
            if g.shape(of_x)[axis] > x[axis] {
                of_x = g.add(Slice { axis, start: 0, end: x[axis], step: 1 }, &[of_x])?;
            }
        }
        let (image, of_image) = match self.transposed {
            false => (g.operands[0], g.of_result),
            true => (g.of_result, g.operands[0]),
        };
        let of_weight =
            if axes == 1 { self.sequence_weight(g, image, of_image)? } else { self.volume_weight(g, image, of_image)? };
        let mut gradients = vec![Some(of_x), Some(of_weight)];
        if self.bias {
            gradients.push(Some(g.channel_sums(g.of_result)?));
        }
        Ok(gradients)
    }
}

/// Gradients of weights, as those of images: `image` is what windows of the plain form lie in, `dy` what they give.
impl ConvNd {
    fn sequence_weight(&self, g: &mut Gradient, image: Number, dy: Number) -> Result<Number, String> {
        let mut row = |value: Number| {
            let shape = g.shape(value);
            g.reshaped(value, &[shape[0], shape[1], 1, shape[2]].into())
        };
        let operands = [row(image)?, row(dy)?];
        let of_weight = Conv2dWeightGradient {
            kernel: [1, self.kernel[0]],
            stride: [1, self.stride[0]],
            pad: [0, self.pad[0], 0, self.pad[1]],
            dilation: [1, self.dilation[0]],
            groups: self.groups,
        };
        let of_weight = g.add(of_weight, &operands)?;
        let shape = g.shape(g.parameters[0]);
        g.reshaped(of_weight, &shape)
    }

    /// That of each tap of the depth, of the frames that it reads.
    fn volume_weight(&self, g: &mut Gradient, image: Number, dy: Number) -> Result<Number, String> {
        let (of, dilation) = (|list: &[usize]| [list[1], list[2]], self.dilation[0]);
        let frames = |g: &mut Gradient, value| g.add(Transpose { perm: vec![0, 2, 1, 3, 4] }, &[value]);
        let images = |g: &mut Gradient, value: Number| {
            let shape = g.shape(value);
            g.reshaped(value, &[shape[0] * shape[1], shape[2], shape[3], shape[4]].into())
        };
        let (mut source, dy) = (frames(g, image)?, frames(g, dy)?);
        let outputs = g.shape(dy)[1];
        let reached = (outputs - 1) * self.stride[0] + (self.kernel[0] - 1) * dilation + 1;
        // Zeros before and behind, as far as windows reach.
        let behind = reached.saturating_sub(self.pad[0] + g.shape(source)[1]);
        let zeros = |g: &mut Gradient, count: usize| {
            let mut dims = g.shape(source).dims().to_vec();
            dims[1] = count;
            if count == 0 { Ok(None) } else { g.fill(&Shape::new(dims), 0.0).map(Some) }
        };
        let around = [zeros(g, self.pad[0])?, Some(source), zeros(g, behind)?];
        let parts: Vec<Number> = around.into_iter().flatten().collect();
        if parts.len() > 1 {
            source = g.add(Concat { axis: 1 }, &parts)?;
        }
        let dy = images(g, dy)?;
        let op = Conv2dWeightGradient {
            kernel: of(&self.kernel),
            stride: of(&self.stride),
            pad: [self.pad[1], self.pad[2], self.pad[4], self.pad[5]],
            dilation: of(&self.dilation),
            groups: self.groups,
        };
        let mut taps = vec![];
        for k in 0..self.kernel[0] {
            let (start, step) = (k * dilation, self.stride[0]);
            let end = start + (outputs - 1) * step + 1;
            let read = g.add(Slice { axis: 1, start, end, step }, &[source])?;
            let read = images(g, read)?;
            let of_tap = g.add(op.clone(), &[read, dy])?;
            let [outer, inner, h, w] = g.shape(of_tap).dims()[..] else { unreachable!("an image's weight") };
            taps.push(g.reshaped(of_tap, &[outer, inner, 1, h, w].into())?);
        }
        if taps.len() == 1 { Ok(taps[0]) } else { g.add(Concat { axis: 2 }, &taps) }
    }
}
