//! The same elements under another shape.

use super::attributes::attributes;
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, reshaped};
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::{Op, Operation, ShapeError};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// The same elements in the same order. In `shape` 0 keeps the input's size of that axis (so
    /// the batch stays free) and at most one -1 stands for what is left.
    pub struct Reshape { shape: Vec<i64> }
}

impl Reshape {
    /// The sizes with 0 replaced, -1 still in place.
    fn known(&self, input: &Shape) -> Result<Vec<i64>, ShapeError> {
        let size = |(axis, &size): (usize, &i64)| match size {
            0 => input.dims().get(axis).map(|&d| d as i64).ok_or_else(|| {
                ShapeError::new(format!("0 keeps axis {axis}, which {input} does not have")).param("shape")
            }),
            ..=-2 => Err(ShapeError::new(format!("a size cannot be {size}")).param("shape")),
            _ => Ok(size),
        };
        self.shape.iter().enumerate().map(size).collect()
    }
}

impl Operation for Reshape {
    const NAME: &'static str = "reshape";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "reshape",
        doc: "the same elements under another shape; 0 keeps a size, -1 is what is left",
        arity: Arity::Unary,
        params: &[
            param("shape", ParamType::Ints, Preset::Required, "sizes after the batch: [64, -1]"),
            param("batch", ParamType::Bool, Preset::Bool(false), "`shape` begins with the batch: [0, 64, -1]"),
        ],
        build: |a| {
            let batch: &[i64] = if a.bool("batch") { &[] } else { &[0] };
            Ok(Reshape { shape: [batch, &a.ints("shape")].concat() }.into())
        },
        arguments: |op| {
            let Op::Reshape(op) = op else { return None };
            let (batch, shape) = match op.shape.split_first() {
                Some((0, rest)) => (false, rest),
                _ => (true, op.shape.as_slice()),
            };
            Some(vec![("shape", shape.into()), ("batch", batch.into())])
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let sizes = self.known(inputs[0])?;
        let elements = inputs[0].elements() as i64;
        let product = sizes.iter().filter(|&&s| s != -1).try_fold(1i64, |p, &s| p.checked_mul(s));
        let misfit = || {
            // As the text has it, without the batch.
            let (own, of) = match (self.shape.split_first(), inputs[0].dims().first()) {
                (Some((0, rest)), Some(&images)) => (rest, elements / images.max(1) as i64),
                _ => (self.shape.as_slice(), elements),
            };
            let sizes = own.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            let image = if of == elements && own.len() == self.shape.len() { "" } else { " an image" };
            ShapeError::new(format!("{} has {of} elements{image}, which [{sizes}] cannot hold", inputs[0]))
                .param("shape")
                .operand(0)
        };
        let product = product.filter(|&p| p > 0).ok_or_else(misfit)?;
        let rest = match sizes.iter().filter(|&&s| s == -1).count() {
            0 if product == elements => 1,
            1 if elements % product == 0 => elements / product,
            0 | 1 => return Err(misfit()),
            _ => return Err(ShapeError::new("more than one size is -1").param("shape")),
        };
        Ok(Shape::new(sizes.iter().map(|&s| if s == -1 { rest } else { s } as usize).collect::<Vec<_>>()))
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::same(inputs)
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
        reshaped(images[0], inputs[0], output)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        inputs[0].clone().reshaped(output.clone())
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        Ok(vec![Some(g.reshaped(g.of_result, &g.operand_shape(0))?)])
    }
}
