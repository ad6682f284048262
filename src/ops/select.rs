//! A choice between two values, element by element.

use super::attributes::attributes;
use super::binary::{broadcast, broadcast_element};
use super::gradient::{Gradient, Gradients};
use super::images::{self, Images};
use super::layer::{Arity, Layer};
use super::planes::fill_elements;
use super::{Op, Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `where(c, a, b)`: a where c is not 0, else b, which repeat along axes of size 1 as numpy's do. What is not taken has
    /// no part in the result, not even where it is NaN.
    pub struct Where {}
}

impl Operation for Where {
    const NAME: &'static str = "where";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "where",
        doc: "where(a, b): a where the flow is not 0, else b",
        arity: Arity::Join,
        params: &[],
        build: |_| Ok(Where {}.into()),
        arguments: |op| matches!(op, Op::Where(_)).then(Vec::new),
    }];

    fn operands(&self) -> (usize, usize) {
        (3, 3)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let both = broadcast(inputs[1], inputs[2]);
        both.and_then(|both| broadcast(inputs[0], &both)).ok_or_else(|| {
            ShapeError::new(format!("the operands of where do not fit: {}, {} and {}", inputs[0], inputs[1], inputs[2]))
                .between_operands()
                .help("sizes must be equal, or 1")
        })
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
        images::broadcast(images, inputs, output)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        fill_elements(output, |index| {
            let taken = if broadcast_element(inputs[0], index) == 0.0 { 2 } else { 1 };
            broadcast_element(inputs[taken], index)
        })
    }

    /// To each value where it was taken; the condition changes the result by jumps.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let (condition, dy) = (g.operands[0], g.of_result);
        let zero = g.fill(&g.shape(dy), 0.0)?;
        let of_yes = g.add(Where {}, &[condition, dy, zero])?;
        let of_no = g.add(Where {}, &[condition, zero, dy])?;
        let [yes, no] = [1, 2].map(|i| g.operand_shape(i));
        Ok(vec![None, Some(g.summed_to(of_yes, &yes)?), Some(g.summed_to(of_no, &no)?)])
    }
}
