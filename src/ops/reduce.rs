//! Mean, maximum or sum over axes.

use super::attributes::{attribute_enum, attributes};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Args, Arguments, Arity, Build, Inverse, Layer, LayerError, ParamType, Preset, param};
use super::planes::{element_at, fill_elements};
use super::{Op, Operation, ReduceMaxGradient, ShapeError, check_axis};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// What a [`Reduce`] computes.
    pub enum ReduceKind {
        /// The sum over the axes, divided by the number of elements.
        Mean = "mean",
        /// The largest element.
        Max = "max",
        /// The sum.
        Sum = "sum",
    }
}

attributes! {
    /// Reduces `axes`; they keep size 1 where `keepdims` is set and vanish otherwise.
    pub struct Reduce {
        kind: ReduceKind,
        axes: Vec<usize>,
        keepdims: bool = true,
    }
}

const fn layer(name: &'static str, doc: &'static str, build: Build, arguments: Inverse) -> Layer {
    const PARAMS: &[super::layer::Param] = &[
        param("axes", ParamType::Axes, Preset::Required, "axes to reduce: [2, 3] are height and width"),
        param("keepdims", ParamType::Bool, Preset::Bool(true), "reduced axes stay, with size 1"),
    ];
    Layer { name, doc, arity: Arity::Unary, params: PARAMS, build, arguments }
}

fn of(kind: ReduceKind, a: &Args) -> Result<Op, LayerError> {
    Ok(Reduce { kind, axes: a.axes("axes"), keepdims: a.bool("keepdims") }.into())
}

fn arguments(op: &Op, kind: ReduceKind) -> Option<Arguments> {
    match op {
        Op::Reduce(op) if op.kind == kind => {
            Some(vec![("axes", op.axes.as_slice().into()), ("keepdims", op.keepdims.into())])
        }
        _ => None,
    }
}

impl Operation for Reduce {
    const NAME: &'static str = "reduce";
    const LAYERS: &'static [Layer] = &[
        layer("reduce_mean", "mean over axes", |a| of(ReduceKind::Mean, a), |op| arguments(op, ReduceKind::Mean)),
        layer("reduce_max", "maximum over axes", |a| of(ReduceKind::Max, a), |op| arguments(op, ReduceKind::Max)),
        layer("reduce_sum", "sum over axes", |a| of(ReduceKind::Sum, a), |op| arguments(op, ReduceKind::Sum)),
    ];

    fn layer_name(&self) -> &'static str {
        match self.kind {
            ReduceKind::Mean => "reduce_mean",
            ReduceKind::Max => "reduce_max",
            ReduceKind::Sum => "reduce_sum",
        }
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        for (i, &axis) in self.axes.iter().enumerate() {
            check_axis(axis, inputs[0]).map_err(|e| ShapeError { param: Some("axes"), ..e })?;
            if self.axes[..i].contains(&axis) {
                return Err(ShapeError::new(format!("axis {axis} is named twice")).param("axes"));
            }
        }
        let kept = (0..inputs[0].rank()).filter(|axis| self.keepdims || !self.axes.contains(axis));
        let size = |axis| if self.axes.contains(&axis) { 1 } else { inputs[0][axis] };
        Ok(Shape::new(kept.map(size).collect::<Vec<_>>()))
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        let gone = |axis: usize| self.axes.iter().filter(|&&a| a < axis && !self.keepdims).count();
        Ok(apart(images[0], &self.axes)?.at(|axis| axis - gone(axis)))
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let x = inputs[0];
        let reduced = Shape::new(self.axes.iter().map(|&axis| x.shape()[axis]).collect::<Vec<_>>());
        let kept: Vec<usize> =
            (0..x.shape().rank()).filter(|axis| self.keepdims || !self.axes.contains(axis)).collect();
        fill_elements(output, |index| {
            let mut from = vec![0; x.shape().rank()];
            kept.iter().zip(index).for_each(|(&axis, &i)| from[axis] = i);
            // One pass over the reduced axes; their elements, in order.
            let values = fill_elements(&reduced, |inner| {
                let mut from = from.clone();
                self.axes.iter().zip(inner).for_each(|(&axis, &i)| from[axis] = i);
                element_at(x, &from)
            });
            match self.kind {
                ReduceKind::Sum => values.values().sum(),
                ReduceKind::Mean => values.values().sum::<f64>() / values.len() as f64,
                ReduceKind::Max => {
                    values.values().fold(f64::NEG_INFINITY, |a, v| if v > a || v.is_nan() { v } else { a })
                }
            }
        })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let shape = g.operand_shape(0);
        let mut kept = shape.dims().to_vec();
        self.axes.iter().for_each(|&axis| kept[axis] = 1);
        let dy = g.reshaped(g.of_result, &Shape::new(kept))?;
        Ok(vec![Some(match self.kind {
            ReduceKind::Max => g.add(ReduceMaxGradient { axes: self.axes.clone() }, &[g.operands[0], dy])?,
            ReduceKind::Sum => g.expanded(dy, &shape)?,
            ReduceKind::Mean => {
                let count: usize = self.axes.iter().map(|&axis| shape[axis]).product();
                let share = g.scaled(dy, (1.0 / count as f64) as f32)?;
                g.expanded(share, &shape)?
            }
        })])
    }
}
