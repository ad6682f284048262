//! One value for each image of another.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::Images;
use super::layer::{Arity, Layer};
use super::planes::fill_elements;
use super::{Op, Operation, ShapeError};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `[1, …]` and a value `[N, …]` to `[N, …]`: the first as often as the second has images, of which nothing else is
    /// read. PyTorch's `token.expand(x.shape[0], -1, -1)`: a class token (Dosovitskiy et al. 2021, arXiv:2010.11929,
    /// section 3.1), or the queries of a decoder.
    pub struct ExpandImages {}
}

impl Operation for ExpandImages {
    const NAME: &'static str = "expand_images";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "expand_images",
        doc: "the flow, [1, …], once for each image of another value",
        arity: Arity::Join,
        params: &[],
        build: |_| Ok(ExpandImages {}.into()),
        arguments: |op| matches!(op, Op::ExpandImages(_)).then(Vec::new),
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let ([1, rest @ ..], [images, ..]) = (inputs[0].dims(), inputs[1].dims()) else {
            return Err(ShapeError::new(format!("{} is no value for one image", inputs[0]))
                .operand(0)
                .help("its first size must be 1, such as that of `parameter([1, 1, 192])`"));
        };
        Ok(Shape::new([&[*images], rest].concat()))
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        Ok(inputs[0])
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        match images {
            [Images::Nowhere, of_other @ (Images::Nowhere | Images::Along { axis: 0, .. })] => Ok(*of_other),
            [Images::Along { .. }, _] => Err("it repeats what is of images already".into()),
            _ => Err("the other value has its images along another axis than the first".into()),
        }
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        fill_elements(output, |index| {
            let at = index[1..].iter().zip(&output.dims()[1..]).fold(0, |at, (i, size)| at * size + i);
            inputs[0].get(at)
        })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        Ok(vec![Some(g.summed_to(g.of_result, &g.operand_shape(0))?), None])
    }
}
