//! Product of two matrices that are both values.

use super::attributes::attributes;
use super::binary::broadcast;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart, broadcast as aligned};
use super::layer::{Arity, Layer};
use super::planes::{element_at, fill_elements};
use super::{Op, Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[…, M, K] · […, K, L] → […, M, L]`; the leading axes broadcast as numpy's do.
    pub struct MatMul {}
}

impl Operation for MatMul {
    const NAME: &'static str = "matmul";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "matmul",
        doc: "matrix product of the flow and another value over their last two axes",
        arity: Arity::Fold,
        params: &[],
        build: |_| Ok(MatMul {}.into()),
        arguments: |op| matches!(op, Op::MatMul(_)).then(Vec::new),
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let misfit = || {
            ShapeError::new(format!("cannot multiply {} and {}", inputs[0], inputs[1]))
                .between_operands()
                .help("the first value's last size must be the second's last but one")
        };
        let ([lead_a @ .., m, k], [lead_b @ .., inner, l]) = (inputs[0].dims(), inputs[1].dims()) else {
            return Err(misfit());
        };
        let lead = broadcast(&Shape::new(lead_a), &Shape::new(lead_b)).filter(|_| k == inner).ok_or_else(misfit)?;
        Ok(Shape::new([lead.dims(), &[*m, *l]].concat()))
    }

    /// Rows of the left matrix and columns of the right one are axes of the result.
    fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
        let (rows, columns) = (inputs[0].rank(), inputs[1].rank());
        let summed = [apart(images[0], &[rows - 1])?, apart(images[1], &[columns - 2])?];
        aligned(&summed, inputs, output)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let inner = inputs[0].shape()[inputs[0].shape().rank() - 1];
        let lead = output.rank() - 2;
        // The part of a leading index that an operand has, with repeated axes at 0.
        let own = |t: &Tensor, index: &[usize]| -> Vec<usize> {
            let dims = &t.shape().dims()[..t.shape().rank() - 2];
            index[lead - dims.len()..lead].iter().zip(dims).map(|(&i, &d)| if d == 1 { 0 } else { i }).collect()
        };
        fill_elements(output, |index| {
            let (a, b) = (own(inputs[0], index), own(inputs[1], index));
            let mut sum = 0.0f64;
            for k in 0..inner {
                let x = element_at(inputs[0], &[&a[..], &[index[lead], k]].concat());
                let y = element_at(inputs[1], &[&b[..], &[k, index[lead + 1]]].concat());
                sum += x * y;
            }
            sum
        })
    }

    fn macs(&self, inputs: &[&Shape], output: &Shape) -> u64 {
        (output.elements() as u64).saturating_mul(inputs[0][inputs[0].rank() - 1] as u64)
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let (a, b) = (g.operands[0], g.operands[1]);
        let (rows, columns) = (g.transposed(b)?, g.transposed(a)?);
        let (of_a, of_b) = (g.add(MatMul {}, &[g.of_result, rows])?, g.add(MatMul {}, &[columns, g.of_result])?);
        Ok(vec![Some(g.summed_to(of_a, &g.shape(a))?), Some(g.summed_to(of_b, &g.shape(b))?)])
    }
}
