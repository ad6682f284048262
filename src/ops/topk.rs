//! Where along an axis the largest or smallest elements are.

use super::arg_reduce::columns;
use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::indices;
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::{Op, Operation, ShapeError, check_axis};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// The indices along `axis` of the `k` largest elements, or smallest ones, best first; of equal elements the earlier one
    /// first. NaN is larger than all numbers. `gather_elements` takes the elements themselves; all of them are a sort.
    pub struct TopK {
        k: usize,
        axis: usize,
        largest: bool = true,
    }
}

impl Operation for TopK {
    const NAME: &'static str = "topk";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "topk",
        doc: "indices of the k largest or smallest elements along an axis, best first",
        arity: Arity::Unary,
        params: &[
            param("k", ParamType::Size, Preset::Required, "number of elements"),
            param("axis", ParamType::Count, Preset::Int(1), "axis that is counted along"),
            param("largest", ParamType::Bool, Preset::Bool(true), "the largest, not the smallest"),
        ],
        build: |a| Ok(TopK { k: a.size("k"), axis: a.size("axis"), largest: a.bool("largest") }.into()),
        arguments: |op| match op {
            Op::TopK(op) => Some(vec![("k", op.k.into()), ("axis", op.axis.into()), ("largest", op.largest.into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_axis(self.axis, inputs[0])?;
        let size = inputs[0][self.axis];
        indices::check_size(size)?;
        if self.k == 0 || self.k > size {
            let message = format!("{} of the {size} elements along axis {}", self.k, self.axis);
            return Err(ShapeError::new(message).param("k").operand(0));
        }
        let mut dims = inputs[0].dims().to_vec();
        dims[self.axis] = self.k;
        Ok(Shape::new(dims))
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[self.axis])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [outer, size, inner] = columns(inputs[0].shape(), self.axis);
        let mut values = vec![0.0; output.elements()];
        for column in 0..outer * inner {
            let (row, rest) = (column / inner, column % inner);
            // As sorting has it: NaN above all numbers, both zeros equal.
            let key = |i: usize| inputs[0].get((row * size + i) * inner + rest);
            let compare = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or(a.is_nan().cmp(&b.is_nan()));
            let mut order: Vec<usize> = (0..size).collect();
            order.sort_by(|&a, &b| match self.largest {
                true => compare(key(b), key(a)),
                false => compare(key(a), key(b)),
            });
            for (place, index) in order.into_iter().take(self.k).enumerate() {
                values[(row * self.k + place) * inner + rest] = index as f64;
            }
        }
        Tensor::from_values(output.clone(), values)
    }

    fn gradient(&self, _: &mut Gradient) -> Gradients {
        Ok(vec![None])
    }
}
