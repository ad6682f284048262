//! Cross entropy of class scores and labels: the loss of classifiers.

use crate::ops::attributes::attributes;
use crate::ops::gradient::{Gradient, Gradients};
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::training::cross_entropy_gradient::CrossEntropyGradient;
use crate::ops::{Operation, ShapeError, channels_of};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `(logits [N, C, …], labels [N, …], weights [C]) → []`: over images, or pixels, the sum of `−Σ w · q · log
    /// softmax(logits)` divided by the sum of the labels' w, as in PyTorch. q is `1 − smoothing + smoothing / C` for
    /// the label and `smoothing / C` for other classes, w the weight of a class, which is 1 where no weights are
    /// given. What has the label `ignored` does not count; where nothing else is left the result is NaN, and so it is
    /// with labels that no class has.
    pub struct CrossEntropy {
        smoothing: f32 = 0.0,
        ignored: i64 = -100,
    }
}

/// An image or pixel that counts.
pub(super) struct Sample {
    /// Places of its scores among all.
    pub places: Vec<usize>,
    /// w · q of each class.
    pub shares: Vec<f64>,
    /// w of its label.
    pub weight: f64,
}

impl CrossEntropy {
    /// All that count, in the labels' order.
    pub(super) fn samples(&self, logits: &Shape, labels: &Tensor, weights: Option<&Tensor>) -> Vec<Sample> {
        let (classes, pixels) = (logits[1], logits.dims()[2..].iter().product::<usize>());
        let weight = |class: usize| weights.map_or(1.0, |weights| weights.get(class));
        let spread = f64::from(self.smoothing) / classes as f64;
        let sample = |i: usize| {
            let first = i / pixels * classes * pixels + i % pixels;
            let label = labels.get(i);
            let is_label = |class: usize| class as f64 == label;
            let certain = |class| if is_label(class) { 1.0 - f64::from(self.smoothing) } else { 0.0 };
            Sample {
                places: (0..classes).map(|class| first + class * pixels).collect(),
                shares: (0..classes).map(|class| weight(class) * (certain(class) + spread)).collect(),
                weight: (0..classes).find(|&class| is_label(class)).map_or(f64::NAN, weight),
            }
        };
        (0..labels.len()).filter(|&i| labels.get(i) != self.ignored as f64).map(sample).collect()
    }

    /// Requires scores, a label for each image or pixel and, where there are some, a weight for each class.
    pub(super) fn check(&self, logits: &Shape, labels: &Shape, weights: Option<&&Shape>) -> Result<(), ShapeError> {
        let classes = channels_of(&[logits], Self::NAME)?;
        if !(0.0..=1.0).contains(&self.smoothing) {
            return Err(ShapeError::new(format!("smoothing is a share, not {}", self.smoothing)).param("smoothing"));
        }
        let expected = Shape::of(labels.element(), [&logits.dims()[..1], &logits.dims()[2..]].concat());
        if *labels != expected {
            return Err(ShapeError::new(format!("labels of {logits} are {expected}, not {labels}")).operand(1));
        }
        match weights {
            Some(weights) if weights.dims() != [classes] => {
                Err(ShapeError::new(format!("weights of {classes} classes are f32[{classes}], not {weights}")))
            }
            _ => Ok(()),
        }
    }

    /// Scores, and whatever else is numbers, are f32; labels may be any numbers.
    pub(super) fn check_elements(inputs: &[Element]) -> Result<Element, String> {
        match inputs.iter().enumerate().find(|&(i, element)| i != 1 && *element != Element::F32) {
            Some((_, other)) => Err(format!("takes f32, not {other}")),
            None => Ok(Element::F32),
        }
    }
}

/// Natural logarithms of softmax.
pub(super) fn log_softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
    scores.iter().map(|score| score - largest - sum.ln()).collect()
}

impl Operation for CrossEntropy {
    const NAME: &'static str = "cross_entropy";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 3)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        self.check(inputs[0], inputs[1], inputs.get(2))?;
        Ok(Shape::new([]))
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        Self::check_elements(inputs)
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &(0..inputs[0].rank()).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let (mut sum, mut weights) = (0.0f64, 0.0f64);
        for Sample { places, shares, weight } in self.samples(inputs[0].shape(), inputs[1], inputs.get(2).copied()) {
            let scores: Vec<f64> = places.into_iter().map(|at| inputs[0].get(at)).collect();
            // 0 · −∞ is 0: a class that cannot be is no loss where none is asked for.
            let terms = log_softmax(&scores).into_iter().zip(shares).filter(|(_, share)| *share != 0.0);
            sum -= terms.map(|(log, share)| share * log).sum::<f64>();
            weights += weight;
        }
        Tensor::from_values(output.clone(), [sum / weights])
    }

    /// With respect to the scores: labels and weights of classes are given.
    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let op = CrossEntropyGradient { smoothing: self.smoothing, ignored: self.ignored };
        let reads = [&[g.operands[0], g.operands[1], g.of_result], &g.operands[2..]].concat();
        let mut gradients = vec![None; g.operands.len()];
        gradients[0] = Some(g.add(op, &reads)?);
        Ok(gradients)
    }
}
