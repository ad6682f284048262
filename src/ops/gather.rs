//! Parts of a value by their indices along one axis.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::indices::{self, place};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::{Op, Operation, ScatterNd, ShapeError, Transpose, check_axis};
use crate::ops::indices::Reduction;
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[A…, S, B…]` and indices `[I…]` to `[A…, I…, B…]`: along `axis`, the entries that the indices name. Negative ones
    /// count from the end; beyond either end the nearest entry is taken. ONNX's Gather, NumPy's `take`.
    pub struct Gather { axis: usize = 0 }
}

impl Operation for Gather {
    const NAME: &'static str = "gather";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "gather",
        doc: "the flow's entries along an axis that another value's indices name",
        arity: Arity::Join,
        params: &[param("axis", ParamType::Count, Preset::Int(0), "axis that the indices count along")],
        build: |a| Ok(Gather { axis: a.size("axis") }.into()),
        arguments: |op| match op {
            Op::Gather(op) => Some(vec![("axis", op.axis.into())]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let (data, indices) = (inputs[0], inputs[1]);
        check_axis(self.axis, data)?;
        indices::check_size(data[self.axis])?;
        Ok(Shape::new([&data.dims()[..self.axis], indices.dims(), &data.dims()[self.axis + 1..]].concat()))
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        match (images[0], images[1]) {
            (data, Images::Nowhere) => {
                let added = inputs[1].rank();
                let moved = |axis| if axis > self.axis { axis + added - 1 } else { axis };
                Ok(apart(data, &[self.axis])?.at(moved))
            }
            (Images::Nowhere, of_indices) => Ok(of_indices.at(|axis| self.axis + axis)),
            _ => Err("its operands have the images in different places".into()),
        }
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let (data, indices) = (inputs[0], inputs[1]);
        let dims = data.shape().dims();
        let (size, inner) = (dims[self.axis], dims[self.axis + 1..].iter().product::<usize>());
        let outer: usize = dims[..self.axis].iter().product();
        let places: Vec<usize> = indices.values().map(|index| place(index, size)).collect();
        let of_outer = |o: usize| places.iter().map(move |place| (o * size + place) * inner);
        let starts = (0..outer).flat_map(of_outer);
        Tensor::from_values(output.clone(), starts.flat_map(|start| (start..start + inner).map(|at| data.get(at))))
    }

    /// What was taken is added up where it came from, the axis first.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let (data, indices) = (g.operand_shape(0), g.operand_shape(1));
        let (axis, added) = (self.axis, indices.rank());
        let rank = data.rank();
        let first: Vec<usize> = (axis..axis + added).chain(0..axis).chain(axis + added..rank + added - 1).collect();
        let dy = g.add(Transpose { perm: first }, &[g.of_result])?;
        let tuples = Shape::new([indices.dims(), &[1]].concat());
        let tuples = g.reshaped(g.operands[1], &tuples)?;
        let mut dims = vec![data[axis]];
        dims.extend((0..rank).filter(|&own| own != axis).map(|own| data[own]));
        let zeros = g.fill(&Shape::new(dims), 0.0)?;
        let sums = g.add(ScatterNd { reduction: Reduction::Add }, &[zeros, tuples, dy])?;
        let mut back: Vec<usize> = (1..=axis).collect();
        back.push(0);
        back.extend(axis + 1..rank);
        Ok(vec![Some(g.add(Transpose { perm: back }, &[sums])?), None])
    }
}
