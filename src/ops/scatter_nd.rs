//! Parts placed by tuples of indices.

use super::attributes::attributes;
use super::gather_nd::check_tuples;
use super::gradient::{Gradient, Gradients};
use super::images::Images;
use super::indices::{Reduction, places_of_tuples};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::scatter_elements::{check_differentiable, reduction};
use super::{GatherNd, Op, Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// The first value, in which the parts of the third, `[I…, R…]`, stand where the tuples of the second, `[I…, K]`, say:
    /// K indices along the first K axes. What several are placed on becomes as `reduction` says; without one, the last
    /// stays. ONNX's ScatterND.
    pub struct ScatterNd { reduction: Reduction = Reduction::None }
}

impl Operation for ScatterNd {
    const NAME: &'static str = "scatter_nd";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "scatter_nd",
        doc: "scatter_nd(indices, updates): the flow with parts placed where tuples of indices say",
        arity: Arity::Join,
        params: &[param("reduction", ParamType::Str, Preset::Str("none"), "none, add, mul, max or min")],
        build: |a| Ok(ScatterNd { reduction: reduction(a.str("reduction"))? }.into()),
        arguments: |op| match op {
            Op::ScatterNd(op) => Some(vec![("reduction", op.reduction.name().into())]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (3, 3)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let width = check_tuples(inputs[0], inputs[1], 0)?;
        let expected = [&inputs[1].dims()[..inputs[1].rank() - 1], &inputs[0].dims()[width..]].concat();
        if inputs[2].dims() != expected {
            let message = format!("updates {} for indices {} into {}", inputs[2], inputs[1], inputs[0]);
            return Err(ShapeError::new(message)
                .operand(2)
                .between_operands()
                .help(format!("their sizes must be {expected:?}")));
        }
        Ok(inputs[0].clone())
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        let last = inputs[1].rank() - 1;
        let width = inputs[1][last];
        match images {
            &[along @ Images::Along { axis, .. }, Images::Nowhere, updates]
                if axis >= width && updates == along.at(|axis| axis - width + last) =>
            {
                Ok(along)
            }
            _ => Err("its indices tell images apart".into()),
        }
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let mut values: Vec<f64> = inputs[0].values().collect();
        let places = places_of_tuples(inputs[1], output, 0);
        let slice = inputs[2].len() / places.len();
        for (tuple, place) in places.into_iter().enumerate() {
            for i in 0..slice {
                let value = &mut values[place + i];
                *value = self.reduction.combine(*value, inputs[2].get(tuple * slice + i));
            }
        }
        Tensor::from_values(output.clone(), values)
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        check_differentiable(self.reduction)?;
        let of_updates = g.add(GatherNd { batch_dims: 0 }, &[g.of_result, g.operands[1]])?;
        Ok(vec![Some(g.of_result), None, Some(of_updates)])
    }
}
