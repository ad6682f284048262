//! Pooling over one spatial axis or three.

use super::attributes::{attribute_enum, attributes};
use super::conv_nd::{axis_names, same_axes, sides, sides_of, sizes, sizes_of, three, volume};
use super::gradient::{Gradient, Gradients, Value as Number};
use super::images::{Images, apart};
use super::layer::{Args, Arguments, Arity, Layer, Param, ParamType, Preset, param};
use super::max_pool::{CEIL, DILATION, PoolAxis, STRIDE};
use super::planes::fill_planes;
use super::{AvgPool, MaxPool, Op, Operation, ShapeError, positive};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// What is taken of a window.
    pub enum WindowPool {
        /// Its largest element; padding never wins.
        Max = "max",
        /// The mean of its elements, padding left out.
        Avg = "avg",
        /// The mean of its elements and of the zeros that pad.
        AvgWithPad = "avg_with_pad",
    }
}

attributes! {
    /// `[N, C, L] → [N, C, L']` or `[N, C, D, H, W] → [N, C, D', H', W']`, as many spatial axes as the kernel has sizes.
    pub struct PoolNd {
        kind: WindowPool,
        kernel: Vec<usize>,
        stride: Vec<usize>,
        /// Before each axis, then behind each.
        pad: Vec<usize>,
        dilation: Vec<usize>,
        /// Round the output's sizes up rather than down.
        ceil: bool = false,
    }
}

const COUNT: Param = param("count_include_pad", ParamType::Bool, Preset::Bool(true), "padding counts as zeros");

/// What layers of sequences take, and those of volumes, whose means take one thing more.
const OF_SEQUENCES: [Param; 4] = windows(ParamType::Size, ParamType::Count2, "window", "border: n, or (left, right)");
const OF_VOLUMES: [Param; 4] = windows(
    ParamType::Size3,
    ParamType::Pad3,
    "window: one size, or (depth, height, width)",
    "border: n, (d, h, w), or all six sides",
);

const fn windows(size: ParamType, sides: ParamType, kernel: &'static str, pad: &'static str) -> [Param; 4] {
    [
        param("kernel", size, Preset::Required, kernel),
        param("stride", size, Preset::Absent, STRIDE),
        param("pad", sides, Preset::Int(0), pad),
        param("dilation", size, Preset::Int(1), DILATION),
    ]
}

const fn of_maxima([kernel, stride, pad, dilation]: [Param; 4]) -> [Param; 5] {
    [kernel, stride, pad, dilation, CEIL]
}

const fn of_means([kernel, stride, pad, dilation]: [Param; 4]) -> [Param; 6] {
    [kernel, stride, pad, dilation, COUNT, CEIL]
}

fn build(a: &Args, axes: usize, max: bool) -> Op {
    let kind = match max {
        true => WindowPool::Max,
        false if a.bool("count_include_pad") => WindowPool::AvgWithPad,
        false => WindowPool::Avg,
    };
    PoolNd {
        kind,
        kernel: sizes_of(a, "kernel", axes),
        stride: sizes_of(a, if a.has("stride") { "stride" } else { "kernel" }, axes),
        pad: sides_of(a, "pad", axes),
        dilation: sizes_of(a, "dilation", axes),
        ceil: a.bool("ceil"),
    }
    .into()
}

fn arguments(op: &Op, axes: usize, max: bool) -> Option<Arguments> {
    let Op::PoolNd(op) = op else { return None };
    if op.kernel.len() != axes || (op.kind == WindowPool::Max) != max {
        return None;
    }
    let mut arguments = vec![
        ("kernel", sizes(&op.kernel)),
        ("stride", sizes(&op.stride)),
        ("pad", sides(&op.pad)),
        ("dilation", sizes(&op.dilation)),
    ];
    if !max {
        arguments.push(("count_include_pad", (op.kind == WindowPool::AvgWithPad).into()));
    }
    arguments.push(("ceil", op.ceil.into()));
    Some(arguments)
}

impl PoolNd {
    /// The output's size along an axis; every window holds an element.
    fn output(&self, axis: usize, input: usize) -> Result<usize, ShapeError> {
        let axes = self.kernel.len();
        let windows = PoolAxis {
            name: axis_names(axes)[axis],
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            dilation: self.dilation[axis],
            pad: [self.pad[axis], self.pad[axis + axes]],
            ceil: self.ceil,
        };
        windows.output(input)
    }

    /// The pool of images along these axes; an axis that is none has windows of one element.
    pub fn planar(&self, axes: [Option<usize>; 2]) -> Op {
        let all = self.kernel.len();
        let of = |list: &[usize], other: usize| axes.map(|axis| axis.map_or(other, |axis| list[axis]));
        let (before, after) = (of(&self.pad[..all], 0), of(&self.pad[all..], 0));
        let (kernel, stride, dilation) = (of(&self.kernel, 1), of(&self.stride, 1), of(&self.dilation, 1));
        let (pad, ceil) = ([before[0], before[1], after[0], after[1]], self.ceil);
        match self.kind {
            WindowPool::Max => MaxPool { kernel, stride, pad, dilation, ceil }.into(),
            kind => {
                let count_include_pad = kind == WindowPool::AvgWithPad;
                AvgPool { kernel, stride, pad, dilation, ceil, count_include_pad }.into()
            }
        }
    }

    /// The input's places of a window, and how many elements count that are there or pad.
    pub fn window_at(&self, axis: usize, at: usize, input: usize) -> (Vec<usize>, usize) {
        let axes = self.kernel.len();
        let start = at * self.stride[axis];
        let places = (0..self.kernel[axis]).map(|k| start + k * self.dilation[axis]);
        let end = self.pad[axis] + input;
        let inside = places.clone().filter(|p| (self.pad[axis]..end).contains(p)).map(|p| p - self.pad[axis]).collect();
        // What a last window reaches beyond the padding does not count.
        (inside, places.filter(|&p| p < end + self.pad[axis + axes]).count())
    }
}

impl Operation for PoolNd {
    const NAME: &'static str = "pool_nd";
    const LAYERS: &'static [Layer] = &[
        Layer {
            name: "max_pool1d",
            doc: "maximum of each window of a sequence [N, C, L]",
            arity: Arity::Unary,
            params: &of_maxima(OF_SEQUENCES),
            build: |a| Ok(build(a, 1, true)),
            arguments: |op| arguments(op, 1, true),
        },
        Layer {
            name: "avg_pool1d",
            doc: "mean of each window of a sequence [N, C, L]",
            arity: Arity::Unary,
            params: &of_means(OF_SEQUENCES),
            build: |a| Ok(build(a, 1, false)),
            arguments: |op| arguments(op, 1, false),
        },
        Layer {
            name: "max_pool3d",
            doc: "maximum of each window of a volume [N, C, D, H, W]",
            arity: Arity::Unary,
            params: &of_maxima(OF_VOLUMES),
            build: |a| Ok(build(a, 3, true)),
            arguments: |op| arguments(op, 3, true),
        },
        Layer {
            name: "avg_pool3d",
            doc: "mean of each window of a volume [N, C, D, H, W]",
            arity: Arity::Unary,
            params: &of_means(OF_VOLUMES),
            build: |a| Ok(build(a, 3, false)),
            arguments: |op| arguments(op, 3, false),
        },
    ];

    fn layer_name(&self) -> &'static str {
        match (self.kernel.len(), self.kind) {
            (1, WindowPool::Max) => "max_pool1d",
            (1, _) => "avg_pool1d",
            (_, WindowPool::Max) => "max_pool3d",
            _ => "avg_pool3d",
        }
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let lists: [(_, &[usize], _); 3] =
            [("stride", &self.stride, 1), ("pad", &self.pad, 2), ("dilation", &self.dilation, 1)];
        same_axes(&self.kernel, &lists)?;
        let (n, c, spatial) = volume(inputs, self.kernel.len(), self.layer_name())?;
        positive("kernel", &self.kernel)?;
        positive("stride", &self.stride)?;
        positive("dilation", &self.dilation)?;
        let mut dims = vec![n, c];
        for (axis, &size) in spatial.iter().enumerate() {
            dims.push(self.output(axis, size)?);
        }
        Ok(Shape::new(dims))
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &(2..inputs[0].rank()).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let axes = self.kernel.len();
        let sizes = &inputs[0].shape().dims()[2..];
        let windows: Vec<Vec<(Vec<usize>, usize)>> = (0..axes)
            .map(|axis| (0..output[2 + axis]).map(|at| self.window_at(axis, at, sizes[axis])).collect())
            .collect();
        let one = vec![(vec![0], 1)];
        let of = |axis: usize| (axis + axes).checked_sub(3).map_or(&one, |own| &windows[own]);
        let ([_, h, w], [_, oh, ow]) = (three(sizes, 1), three(&output.dims()[2..], 1));
        let (channels, plane_size) = (output[1], sizes.iter().product::<usize>());
        fill_planes(output, |n, c, plane| {
            let x = &inputs[0].data()[(n * channels + c) * plane_size..][..plane_size];
            for (i, result) in plane.iter_mut().enumerate() {
                let [z, y, column] = [&of(0)[i / (oh * ow)], &of(1)[i / ow % oh], &of(2)[i % ow]];
                let (mut sum, mut most, mut count) = (0.0f64, f32::NEG_INFINITY, 0);
                for &z in &z.0 {
                    for &y in &y.0 {
                        for &column in &column.0 {
                            let value = x[(z * h + y) * w + column];
                            sum += f64::from(value);
                            // A NaN stays, as in PyTorch.
                            most = if value.is_nan() || most.is_nan() { f32::NAN } else { most.max(value) };
                            count += 1;
                        }
                    }
                }
                *result = match self.kind {
                    WindowPool::Max => most,
                    WindowPool::Avg => (sum / f64::from(count)) as f32,
                    WindowPool::AvgWithPad => (sum / (z.1 * y.1 * column.1) as f64) as f32,
                };
            }
        })
    }

    /// Windows are products of those of single axes: a pool of planes, then one along the depth, both of images.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let (x, y) = (g.operand_shape(0), g.shape(g.of_result));
        if let &[n, c, l] = x.dims() {
            let op = self.planar([None, Some(0)]);
            let image = g.reshaped(g.operands[0], &[n, c, 1, l].into())?;
            let row = Shape::from([n, c, 1, y[2]]);
            let (result, of_result) = (g.reshaped(g.result, &row)?, g.reshaped(g.of_result, &row)?);
            let of_image = through(g, &op, image, result, of_result)?;
            return Ok(vec![Some(g.reshaped(of_image, &x)?)]);
        }
        let &[n, c, d, h, w] = x.dims() else { return Err("pools sequences or volumes".into()) };
        let [outputs, height, width] = [y[2], y[3], y[4]];
        let (flat, deep) = (self.planar([Some(1), Some(2)]), self.planar([Some(0), None]));
        let image = g.reshaped(g.operands[0], &[n, c * d, h, w].into())?;
        let planes = g.add(flat.clone(), &[image])?;
        let stacked = g.reshaped(planes, &[n, c, d, height * width].into())?;
        let column = Shape::from([n, c, outputs, height * width]);
        let (result, of_result) = (g.reshaped(g.result, &column)?, g.reshaped(g.of_result, &column)?);
        let of_stacked = through(g, &deep, stacked, result, of_result)?;
        let of_planes = g.reshaped(of_stacked, &[n, c * d, height, width].into())?;
        let of_image = through(g, &flat, image, planes, of_planes)?;
        Ok(vec![Some(g.reshaped(of_image, &x)?)])
    }
}

/// The gradient of a pool of images with respect to them.
fn through(g: &mut Gradient, op: &Op, image: Number, result: Number, of_result: Number) -> Result<Number, String> {
    let operands = &[image];
    let gradients =
        op.gradient(&mut Gradient { building: &mut *g.building, operands, parameters: &[], result, of_result });
    Ok(gradients?[0].expect("pools have a gradient"))
}
