//! Entries of an axis by indices that are known.

use super::arg_reduce::columns;
use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::indices::Reduction;
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::{Op, Operation, ScatterNd, ShapeError, Transpose, check_axis};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// The entries of `axis` that `indices` name, in that order; an entry may stand there several times, or not at all.
    pub struct IndexSelect {
        axis: usize = 1,
        indices: Vec<usize>,
    }
}

/// Each index takes ops of its own in the gradient.
const MOST_DIFFERENTIATED: usize = 256;

impl Operation for IndexSelect {
    const NAME: &'static str = "index_select";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "index_select",
        doc: "the entries of an axis that a list names, in that order",
        arity: Arity::Unary,
        params: &[
            param("indices", ParamType::Ints, Preset::Required, "which entries, from 0: [2, 1, 0]"),
            param("axis", ParamType::Count, Preset::Int(1), "axis that they are of"),
        ],
        build: |a| {
            let indices: Option<Vec<usize>> = a.ints("indices").into_iter().map(|i| i.try_into().ok()).collect();
            let indices =
                indices.ok_or(LayerError { param: "indices", message: "an index cannot be negative".into() })?;
            Ok(IndexSelect { axis: a.size("axis"), indices }.into())
        },
        arguments: |op| match op {
            Op::IndexSelect(op) => Some(vec![("indices", op.indices.as_slice().into()), ("axis", op.axis.into())]),
            _ => None,
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_axis(self.axis, inputs[0])?;
        let size = inputs[0][self.axis];
        if let Some(index) = self.indices.iter().find(|&&index| index >= size) {
            let message = format!("index {index} of {size} entries along axis {}", self.axis);
            return Err(ShapeError::new(message).param("indices").operand(0));
        }
        let mut dims = inputs[0].dims().to_vec();
        dims[self.axis] = self.indices.len();
        Ok(Shape::new(dims))
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::same(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[self.axis])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [outer, size, inner] = columns(inputs[0].shape(), self.axis);
        let starts = (0..outer).flat_map(|o| self.indices.iter().map(move |index| (o * size + index) * inner));
        let values = starts.flat_map(|start| (start..start + inner).map(|at| inputs[0].get(at)));
        Tensor::from_values(output.clone(), values)
    }

    /// What was taken is added up where it came from, the axis first.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        if self.indices.len() > MOST_DIFFERENTIATED {
            return Err(format!("has no gradient with more than {MOST_DIFFERENTIATED} indices"));
        }
        let data = g.operand_shape(0);
        let mut perm: Vec<usize> = (0..data.rank()).collect();
        perm.swap(0, self.axis);
        let swapped = Shape::new(perm.iter().map(|&axis| data[axis]).collect::<Vec<_>>());
        let dy = g.add(Transpose { perm: perm.clone() }, &[g.of_result])?;
        let mut sum: Option<super::gradient::Value> = None;
        for (at, &index) in self.indices.iter().enumerate() {
            let part = g.add(super::Slice { axis: 0, start: at, end: at + 1, step: 1 }, &[dy])?;
            let place = g.fill(&Shape::new([1, 1]), index as f32)?;
            let before = match sum {
                Some(sum) => sum,
                None => g.fill(&swapped, 0.0)?,
            };
            sum = Some(g.add(ScatterNd { reduction: Reduction::Add }, &[before, place, part])?);
        }
        let sum = sum.ok_or("takes nothing")?;
        Ok(vec![Some(g.add(Transpose { perm }, &[sum])?)])
    }
}
