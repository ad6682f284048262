//! The gradient of softmax and of its logarithm, by their results.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::{Operation, ShapeError, check_axis, same_shapes};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `y · (dy − Σ dy · y)` along `axis`; of the logarithm, `dy − exp(y) · Σ dy`. Operands: the result y, dy.
    pub struct SoftmaxGradient {
        axis: usize = 1,
        log: bool = false,
    }
}

impl Operation for SoftmaxGradient {
    const NAME: &'static str = "softmax_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        check_axis(self.axis, inputs[0])?;
        same_shapes(inputs)
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &[self.axis])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let dims = output.dims();
        let (length, step) = (dims[self.axis], dims[self.axis + 1..].iter().product::<usize>());
        let mut out = Tensor::zeros(output.clone());
        for start in (0..output.elements() / length).map(|i| i / step * step * length + i % step) {
            let (y, dy) = (|i: usize| inputs[0].get(start + i * step), |i: usize| inputs[1].get(start + i * step));
            let sum: f64 = (0..length).map(|i| dy(i) * if self.log { 1.0 } else { y(i) }).sum();
            for i in 0..length {
                let dx = if self.log { dy(i) - y(i).exp() * sum } else { y(i) * (dy(i) - sum) };
                out.data_mut()[start + i * step] = dx as f32;
            }
        }
        out
    }
}
