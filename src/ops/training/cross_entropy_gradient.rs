//! The gradient of cross entropy with respect to the class scores.

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::training::cross_entropy::{CrossEntropy, Sample, log_softmax};
use crate::ops::{Operation, ShapeError, check_number};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `(softmax(logits) − q) · d / count` for each image or pixel that counts, 0 for others; see
    /// [`CrossEntropy`]. Operands: logits, labels, and the loss's own gradient d, a number.
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
        (3, 3)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        self.loss().check(inputs)?;
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
        let loss = self.loss();
        let samples = loss.samples(output, inputs[1]);
        let count = samples.iter().filter(|sample| sample.class.is_some()).count();
        let factor = inputs[2].get(0) / count as f64;
        let mut out = Tensor::zeros(output.clone());
        for Sample { scores: places, class } in samples {
            let Some(class) = class else { continue };
            let scores: Vec<f64> = places.iter().map(|&at| inputs[0].get(at)).collect();
            let target = loss.target(class, scores.len());
            for (c, log) in log_softmax(&scores).into_iter().enumerate() {
                out.data_mut()[places[c]] = ((log.exp() - target(c)) * factor) as f32;
            }
        }
        out
    }
}
