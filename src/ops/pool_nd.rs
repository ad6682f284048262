//! Pooling over one spatial axis or three.

use super::attributes::{attribute_enum, attributes};
use super::conv_nd::{axis_names, same_axes, sides, sides_of, sizes, sizes_of, three, volume};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Args, Arguments, Arity, Layer, Param, ParamType, Preset, param};
use super::max_pool::{CEIL, DILATION, PoolAxis, STRIDE};
use super::planes::fill_planes;
use super::{Op, Operation, ShapeError, positive};
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

    fn gradient(&self, _: &mut Gradient) -> Gradients {
        Err(format!("{} has no gradient in netc yet", self.layer_name()))
    }
}
