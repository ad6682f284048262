//! Where along an axis the largest or smallest element is.

use super::attributes::{attribute_enum, attributes};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::indices;
use super::layer::{Args, Arguments, Arity, Build, Inverse, Layer, LayerError, ParamType, Preset, param};
use super::{Op, Operation, ShapeError, check_axis};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// Which element an [`ArgReduce`] looks for.
    pub enum Extreme {
        /// The largest, which NaN is before all numbers.
        Max = "max",
        /// The smallest, which NaN is before all numbers.
        Min = "min",
    }
}

attributes! {
    /// The index along `axis` of the largest or smallest element; of equal ones the first, or the last where `last` is set.
    /// The axis keeps size 1 where `keepdims` is set and vanishes otherwise.
    pub struct ArgReduce {
        kind: Extreme,
        axis: usize,
        keepdims: bool = false,
        last: bool = false,
    }
}

const fn layer(name: &'static str, doc: &'static str, build: Build, arguments: Inverse) -> Layer {
    const PARAMS: &[super::layer::Param] = &[
        param("axis", ParamType::Count, Preset::Int(1), "axis that is counted along"),
        param("keepdims", ParamType::Bool, Preset::Bool(false), "the axis stays, with size 1"),
        param("last", ParamType::Bool, Preset::Bool(false), "of equal elements the last, not the first"),
    ];
    Layer { name, doc, arity: Arity::Unary, params: PARAMS, build, arguments }
}

fn of(kind: Extreme, a: &Args) -> Result<Op, LayerError> {
    Ok(ArgReduce { kind, axis: a.size("axis"), keepdims: a.bool("keepdims"), last: a.bool("last") }.into())
}

fn arguments(op: &Op, kind: Extreme) -> Option<Arguments> {
    match op {
        Op::ArgReduce(op) if op.kind == kind => {
            Some(vec![("axis", op.axis.into()), ("keepdims", op.keepdims.into()), ("last", op.last.into())])
        }
        _ => None,
    }
}

/// Number of elements before an axis, along it, and behind.
pub(crate) fn columns(shape: &Shape, axis: usize) -> [usize; 3] {
    let dims = shape.dims();
    [dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product()]
}

impl Operation for ArgReduce {
    const NAME: &'static str = "arg_reduce";
    const LAYERS: &'static [Layer] = &[
        layer(
            "argmax",
            "index of the largest element along an axis",
            |a| of(Extreme::Max, a),
            |op| arguments(op, Extreme::Max),
        ),
        layer(
            "argmin",
            "index of the smallest element along an axis",
            |a| of(Extreme::Min, a),
            |op| arguments(op, Extreme::Min),
        ),
    ];

    fn layer_name(&self) -> &'static str {
        match self.kind {
            Extreme::Max => "argmax",
            Extreme::Min => "argmin",
        }
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_axis(self.axis, inputs[0])?;
        indices::check_size(inputs[0][self.axis])?;
        let mut dims = inputs[0].dims().to_vec();
        match self.keepdims {
            true => dims[self.axis] = 1,
            false => drop(dims.remove(self.axis)),
        }
        Ok(Shape::new(dims))
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        let gone = |axis: usize| usize::from(!self.keepdims && axis > self.axis);
        Ok(apart(images[0], &[self.axis])?.at(|axis| axis - gone(axis)))
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [outer, size, inner] = columns(inputs[0].shape(), self.axis);
        let of_column = |column: usize| {
            let start = column / inner * size * inner + column % inner;
            let at = |i: usize| inputs[0].get(start + i * inner);
            (1..size).fold(0, |best, i| if self.is_better(at(i), at(best)) { i } else { best }) as f64
        };
        Tensor::from_values(output.clone(), (0..outer * inner).map(of_column))
    }

    fn gradient(&self, _: &mut Gradient) -> Gradients {
        Ok(vec![None])
    }
}

impl ArgReduce {
    /// Whether an element takes the place of one before it.
    fn is_better(&self, new: f64, old: f64) -> bool {
        match (new.is_nan(), old.is_nan()) {
            (true, true) => self.last,
            (is_nan, other) if is_nan != other => is_nan,
            _ if new == old => self.last,
            _ => (new > old) == (self.kind == Extreme::Max),
        }
    }
}
