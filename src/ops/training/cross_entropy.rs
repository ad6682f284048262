//! Cross entropy of class scores and labels: the loss of classifiers.

use crate::ops::attributes::attributes;
use crate::ops::gradient::{Gradient, Gradients};
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::training::cross_entropy_gradient::CrossEntropyGradient;
use crate::ops::{Operation, ShapeError, channels_of};
use crate::tensor::{Element, Shape, Tensor};

attributes! {
    /// `(logits [N, C, …], labels [N, …]) → []`: the mean of `−Σ q · log softmax(logits)` over images, or pixels, where q is
    /// `1 − smoothing + smoothing / C` for the label and `smoothing / C` for other classes, as in PyTorch. Those whose
    /// label is `ignored` do not count; where no other is left the mean is NaN, and so it is with labels that no class has.
    pub struct CrossEntropy {
        smoothing: f32 = 0.0,
        ignored: i64 = -100,
    }
}

/// The scores of one image or pixel, and its label.
pub(super) struct Sample {
    /// Places of its scores among all.
    pub scores: Vec<usize>,
    /// `None` where it does not count; `Some(None)` where no class has the label.
    pub class: Option<Option<usize>>,
}

impl CrossEntropy {
    /// All images, or pixels, in the labels' order.
    pub(super) fn samples(&self, logits: &Shape, labels: &Tensor) -> Vec<Sample> {
        let (classes, pixels) = (logits[1], logits.dims()[2..].iter().product::<usize>());
        let sample = |i: usize| {
            let first = i / pixels * classes * pixels + i % pixels;
            let label = labels.get(i);
            let class = (0..classes).find(|&c| c as f64 == label);
            let counts = label != self.ignored as f64;
            Sample { scores: (0..classes).map(|c| first + c * pixels).collect(), class: counts.then_some(class) }
        };
        (0..labels.len()).map(sample).collect()
    }

    /// How probable each class is to be.
    pub(super) fn target(&self, class: Option<usize>, classes: usize) -> impl Fn(usize) -> f64 {
        let share = f64::from(self.smoothing) / classes as f64;
        let certain = 1.0 - f64::from(self.smoothing);
        move |c| match class {
            Some(class) => share + if c == class { certain } else { 0.0 },
            None => f64::NAN,
        }
    }

    /// Requires scores, and a label for each image or pixel.
    pub(super) fn check(&self, inputs: &[&Shape]) -> Result<(), ShapeError> {
        channels_of(inputs, Self::NAME)?;
        if !(0.0..=1.0).contains(&self.smoothing) {
            return Err(ShapeError::new(format!("smoothing is a share, not {}", self.smoothing)).param("smoothing"));
        }
        let [n, _, rest @ ..] = inputs[0].dims() else { unreachable!("there are channels") };
        let labels = [&[*n], rest].concat();
        match inputs[1].dims() == labels {
            true => Ok(()),
            false => Err(ShapeError::new(format!(
                "labels of {} are {}, not {}",
                inputs[0],
                Shape::of(inputs[1].element(), labels),
                inputs[1]
            ))
            .operand(1)),
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
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        self.check(inputs)?;
        Ok(Shape::new([]))
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        Self::check_elements(inputs)
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &(0..inputs[0].rank()).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let (mut sum, mut count) = (0.0f64, 0usize);
        for Sample { scores, class } in self.samples(inputs[0].shape(), inputs[1]) {
            let Some(class) = class else { continue };
            let scores: Vec<f64> = scores.into_iter().map(|at| inputs[0].get(at)).collect();
            let target = self.target(class, scores.len());
            // 0 · −∞ is 0: a class that cannot be is no loss where none is asked for.
            let terms = log_softmax(&scores).into_iter().enumerate().map(|(c, log)| (target(c), log));
            sum -= terms.filter(|(share, _)| *share != 0.0).map(|(share, log)| share * log).sum::<f64>();
            count += 1;
        }
        Tensor::from_values(output.clone(), [sum / count as f64])
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let op = CrossEntropyGradient { smoothing: self.smoothing, ignored: self.ignored };
        let of_logits = g.add(op, &[g.operands[0], g.operands[1], g.of_result])?;
        Ok(vec![Some(of_logits), None])
    }
}
