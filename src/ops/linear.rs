//! Fully connected layer: a matrix product with a learned matrix.

use super::attributes::attributes;
use super::conv2d::WEIGHT_BITS;
use super::epilogue::{self, PostOp};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart, joined_with};
use super::layer::{Arguments, Arity, Layer, ParamType, Preset, param};
use super::planes::fill_rows;
use super::{Init, LinearW8, MatMul, Op, Operation, ShapeError, WeightDecl};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, F] → [N, features]` with weight `[features, F]` and, where `bias` is set, bias
    /// `[features]`. Operands: the vectors, then the epilogue's.
    pub struct Linear {
        features: usize,
        bias: bool = true,
        epilogue: Vec<PostOp> = vec![],
    }
}

impl Operation for Linear {
    const NAME: &'static str = "linear";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "linear",
        doc: "fully connected layer: [N, F] to [N, features], of [N, T, F] along the last axis",
        arity: Arity::Unary,
        params: &[
            param("features", ParamType::Size, Preset::Required, "number of outputs"),
            param("bias", ParamType::Bool, Preset::Bool(true), "add a learned value per output"),
            WEIGHT_BITS,
            param("axis", ParamType::Axis, Preset::Absent, "-1: along the last axis of images, too"),
        ],
        build: |a| {
            let op = Linear { features: a.size("features"), bias: a.bool("bias"), epilogue: vec![] };
            Ok(match a.has("weight_bits") {
                true => LinearW8::of(op, a.size("weight_bits"))?.into(),
                false => op.into(),
            })
        },
        arguments: |op| {
            let (op, bits) = match op {
                Op::Linear(op) if op.epilogue.is_empty() => (op, None),
                Op::LinearW8(op) if op.of_reals.epilogue.is_empty() => (&op.of_reals, Some(op.bits)),
                _ => return None,
            };
            let mut arguments: Arguments = vec![("features", op.features.into()), ("bias", op.bias.into())];
            arguments.extend(bits.map(|bits| ("weight_bits", bits.into())));
            Some(arguments)
        },
    }];

    fn operands(&self) -> (usize, usize) {
        epilogue::operands(1, &self.epilogue)
    }

    fn epilogue(&self) -> Option<&Vec<PostOp>> {
        Some(&self.epilogue)
    }

    fn epilogue_mut(&mut self) -> Option<&mut Vec<PostOp>> {
        Some(&mut self.epilogue)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let &[n, _] = inputs[0].dims() else {
            let error = ShapeError::new(format!("linear needs vectors [N, F], not {}", inputs[0])).operand(0);
            return Err(match inputs[0].rank() > 2 {
                true => error.help("add `flatten` before it, or say `axis = -1` for the last axis"),
                false => error,
            });
        };
        let output = Shape::from([n, self.features]);
        epilogue::check(&self.epilogue, inputs, 1, &output)?;
        Ok(output)
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let fan_in = inputs[0][1];
        let mut weights = vec![WeightDecl {
            role: "weight",
            shape: [self.features, fan_in].into(),
            init: Init::Xavier { fan_in, fan_out: self.features },
            learnable: true,
        }];
        if self.bias {
            weights.push(WeightDecl::per_channel("bias", self.features, 0.0, true));
        }
        weights
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        let own = apart(images[0], &[1])?;
        joined_with(own, &images[1..])
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let fan_in = inputs[0].shape()[1];
        let mut out = fill_rows(output, |n, row| {
            let x = &inputs[0].data()[n * fan_in..][..fan_in];
            for (f, result) in row.iter_mut().enumerate() {
                let mut sum = if self.bias { f64::from(weights[1].data()[f]) } else { 0.0 };
                let w = &weights[0].data()[f * fan_in..][..fan_in];
                for i in 0..fan_in {
                    sum += f64::from(x[i]) * f64::from(w[i]);
                }
                *result = sum as f32;
            }
        });
        epilogue::apply(&self.epilogue, &mut out, &inputs[1..]);
        out
    }

    fn macs(&self, inputs: &[&Shape], _: &Shape) -> u64 {
        (inputs[0].elements() as u64).saturating_mul(self.features as u64)
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let weight = g.read(g.parameters[0])?;
        let of_x = g.add(MatMul {}, &[g.of_result, weight])?;
        let columns = g.transposed(g.of_result)?;
        let mut gradients = vec![Some(of_x), Some(g.add(MatMul {}, &[columns, g.operands[0]])?)];
        if self.bias {
            gradients.push(Some(g.channel_sums(g.of_result)?));
        }
        Ok(gradients)
    }
}
