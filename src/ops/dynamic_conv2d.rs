//! A convolution whose weight is a value that the network computes.

use super::attributes::attributes;
use super::conv2d::WINDOWS;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, joined};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::{Conv2d, ConvTranspose2d, Op, Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// As [`Conv2d`] or, where `transposed` is set, [`ConvTranspose2d`], whose channels and kernel are the sizes of the
    /// second operand. Operands: the image, the weight and, as it may be, a bias.
    pub struct DynamicConv2d {
        stride: [usize; 2] = [1, 1],
        pad: [usize; 4] = [0; 4],
        dilation: [usize; 2] = [1, 1],
        groups: usize = 1,
        transposed: bool = false,
        /// Of a transposed one.
        output_pad: [usize; 2] = [0, 0],
    }
}

impl DynamicConv2d {
    /// The convolution that reads a weight of that shape, and a bias or none, as its parameters.
    ///
    /// # Errors
    /// Where these are no sizes of a weight.
    pub fn of_parameters(&self, weight: &Shape, bias: bool) -> Result<Op, ShapeError> {
        let &Self { stride, pad, dilation, groups, transposed, output_pad } = self;
        let Some([outer, inner, h, w]) = weight.nchw() else {
            let message = format!("a weight has four axes, not {weight}");
            return Err(ShapeError::new(message).operand(1).help("[channels, input channels / groups, height, width]"));
        };
        let (kernel, epilogue) = ([h, w], vec![]);
        Ok(match transposed {
            false => Conv2d { channels: outer, kernel, stride, pad, dilation, groups, bias, epilogue }.into(),
            true => {
                let channels = inner.saturating_mul(groups);
                ConvTranspose2d { channels, kernel, stride, pad, output_pad, dilation, groups, bias, epilogue }.into()
            }
        })
    }
}

impl Operation for DynamicConv2d {
    const NAME: &'static str = "dynamic_conv2d";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "dynamic_conv",
        doc: "2-D convolution with a weight that is another value, and a bias: dynamic_conv(weight, bias)",
        arity: Arity::Operands,
        params: &{
            let [_, _, stride, pad, dilation, groups] = WINDOWS;
            let transposed = param("transposed", ParamType::Bool, Preset::Bool(false), "a transposed convolution");
            let added = "of a transposed one: added below and right";
            [stride, pad, dilation, groups, transposed, param("output_pad", ParamType::Count2, Preset::Int(0), added)]
        },
        build: |a| {
            Ok(DynamicConv2d {
                stride: a.size2("stride"),
                pad: a.pad("pad"),
                dilation: a.size2("dilation"),
                groups: a.size("groups"),
                transposed: a.bool("transposed"),
                output_pad: a.size2("output_pad"),
            }
            .into())
        },
        arguments: |op| match op {
            Op::DynamicConv2d(op) => Some(vec![
                ("stride", op.stride.into()),
                ("pad", op.pad.into()),
                ("dilation", op.dilation.into()),
                ("groups", op.groups.into()),
                ("transposed", op.transposed.into()),
                ("output_pad", op.output_pad.into()),
            ]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 3)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        if !self.transposed && self.output_pad != [0, 0] {
            return Err(ShapeError::new("output_pad is for a transposed convolution").param("output_pad"));
        }
        let op = self.of_parameters(inputs[1], inputs.len() == 3)?;
        let shape = op.infer_unlimited(&inputs[..1])?;
        let declared = op.weights(&inputs[..1]);
        match declared.iter().zip(&inputs[1..]).position(|(declared, found)| declared.shape != **found) {
            None => Ok(shape),
            Some(i) => {
                let (role, due, found) = (declared[i].role, &declared[i].shape, inputs[i + 1]);
                Err(ShapeError::new(format!("its {role} is {found}, where {due} is due")).operand(i + 1))
            }
        }
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
        if joined(images[1..].iter().copied())? != Images::Nowhere {
            return Err("it reads weights that are computed of images".into());
        }
        let op = self.of_parameters(inputs[1], inputs.len() == 3).map_err(|e| e.to_string())?;
        op.images(&images[..1], &inputs[..1], output)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let op = self.of_parameters(inputs[1].shape(), inputs.len() == 3).expect("checked by the shape rule");
        op.evaluate(&inputs[..1], &inputs[1..], output)
    }

    fn macs(&self, inputs: &[&Shape], output: &Shape) -> u64 {
        self.of_parameters(inputs[1], false).map_or(0, |op| op.macs(&inputs[..1], output))
    }

    /// That of the convolution, whose parameters are operands here.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let weight = g.operand_shape(1);
        let op = self.of_parameters(&weight, g.operands.len() == 3).map_err(|e| e.to_string())?;
        let (operands, parameters) = g.operands.split_at(1);
        let (result, of_result) = (g.result, g.of_result);
        op.gradient(&mut Gradient { building: &mut *g.building, operands, parameters, result, of_result })
    }
}
