//! Parts of a value by tuples of indices.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::Images;
use super::indices::{self, Reduction, places_of_tuples};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::{Op, Operation, ScatterNd, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[D…]` and indices `[B…, I…, K]` to `[B…, I…, R…]`: a tuple of K indices names places along the K axes behind the
    /// first `batch_dims`, which both have, and takes all that is there. ONNX's GatherND.
    pub struct GatherNd { batch_dims: usize = 0 }
}

/// Requires tuples that name places of axes from `first` on.
pub(super) fn check_tuples(data: &Shape, indices: &Shape, first: usize) -> Result<usize, ShapeError> {
    let misfit = || {
        ShapeError::new(format!("indices {indices} do not fit {data}"))
            .operand(1)
            .between_operands()
            .help("the last size of the indices is the number of axes that they name")
    };
    let Some((&width, rest)) = indices.dims().split_last() else { return Err(misfit()) };
    let fits = width >= 1 && first + width <= data.rank() && rest.len() >= first;
    if !fits || (0..first).any(|axis| data[axis] != indices[axis]) {
        return Err(misfit());
    }
    (first..first + width).try_for_each(|axis| indices::check_size(data[axis]))?;
    Ok(width)
}

impl Operation for GatherNd {
    const NAME: &'static str = "gather_nd";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "gather_nd",
        doc: "the flow's parts that tuples of indices in another value name",
        arity: Arity::Join,
        params: &[param("batch_dims", ParamType::Count, Preset::Int(0), "first axes that both values have")],
        build: |a| Ok(GatherNd { batch_dims: a.size("batch_dims") }.into()),
        arguments: |op| match op {
            Op::GatherNd(op) => Some(vec![("batch_dims", op.batch_dims.into())]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let width = check_tuples(inputs[0], inputs[1], self.batch_dims)?;
        let tuples = &inputs[1].dims()[..inputs[1].rank() - 1];
        Ok(Shape::new([tuples, &inputs[0].dims()[self.batch_dims + width..]].concat()))
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        let last = inputs[1].rank() - 1;
        let named = self.batch_dims + inputs[1][last];
        match (images[0], images[1]) {
            (Images::Along { axis, .. }, b) if images[0] == b && axis < self.batch_dims => Ok(b),
            (Images::Nowhere, along @ Images::Along { axis, .. }) if (self.batch_dims..last).contains(&axis) => {
                Ok(along)
            }
            (along @ Images::Along { axis, .. }, Images::Nowhere) if axis >= named => {
                Ok(along.at(|axis| axis - named + last))
            }
            _ => Err("its indices tell images apart".into()),
        }
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let (data, indices) = (inputs[0], inputs[1]);
        let dims = data.shape().dims();
        let batch: usize = dims[..self.batch_dims].iter().product();
        let whole = data.len() / batch;
        let width = indices.shape()[indices.shape().rank() - 1];
        let slice: usize = dims[self.batch_dims + width..].iter().product();
        let places = places_of_tuples(indices, data.shape(), self.batch_dims);
        let each = places.len() / batch;
        let starts = places.iter().enumerate().map(|(tuple, place)| tuple / each * whole + place);
        Tensor::from_values(output.clone(), starts.flat_map(|start| (start..start + slice).map(|at| data.get(at))))
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        if self.batch_dims > 0 {
            return Err("has no gradient with batch_dims above 0".into());
        }
        let zeros = g.fill(&g.operand_shape(0), 0.0)?;
        Ok(vec![Some(g.add(ScatterNd { reduction: Reduction::Add }, &[zeros, g.operands[1], g.of_result])?), None])
    }
}
