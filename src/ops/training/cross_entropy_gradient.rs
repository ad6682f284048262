//! The gradient of cross entropy with respect to the class scores.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::training::cross_entropy::{CrossEntropy, Sample, log_softmax};
use crate::ops::{Operation, ShapeError, check_number};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `(softmax(logits) · Σ w · q − w · q) · d` for each image or pixel that counts, divided by the sum of the
    /// labels' w; 0 for others. See [`CrossEntropy`]. Operands: logits, labels, the loss's own gradient d, a number,
    /// and weights of classes where there are some.
    pub struct CrossEntropyGradient {
        smoothing: f32 = 0.0,
        ignored: i64 = -100,
    }
}

impl CrossEntropyGradient {
    fn loss(&self) -> CrossEntropy {
        CrossEntropy { smoothing: self.smoothing, ignored: self.ignored }
    }
}

impl Operation for CrossEntropyGradient {
    const NAME: &'static str = "cross_entropy_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (3, 4)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        self.loss().check(inputs[0], inputs[1], inputs.get(3))?;
        check_number(inputs, 2)?;
        Ok(inputs[0].clone())
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        CrossEntropy::check_elements(inputs)
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &(0..inputs[0].rank()).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let samples = self.loss().samples(output, inputs[1], inputs.get(3).copied());
        let factor = inputs[2].get(0) / samples.iter().map(|sample| sample.weight).sum::<f64>();
        let mut out = Tensor::zeros(output.clone());
        for Sample { places, shares, .. } in samples {
            let scores: Vec<f64> = places.iter().map(|&at| inputs[0].get(at)).collect();
            let sum: f64 = shares.iter().sum();
            for ((place, share), log) in places.into_iter().zip(shares).zip(log_softmax(&scores)) {
                out.data_mut()[place] = ((log.exp() * sum - share) * factor) as f32;
            }
        }
        out
    }
}
