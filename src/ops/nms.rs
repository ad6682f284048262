//! Non-maximum suppression: of boxes that overlap, the best.

use super::attributes::attributes;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart, joined};
use super::indices;
use super::layer::{Arity, Layer, ParamType, Preset, param};
use super::{Op, Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// Boxes `[N, B, 4]` and scores `[N, C, B]` to `[N, C, K]`: for each image and class the indices of the boxes that stay,
    /// best first, then −1. K is `most`, or B where that is less.
    ///
    /// Time and again the box of the largest score stays, of equal ones the first, and those go with whose area it has
    /// more than `iou` of their union in common. Only scores above `score` count, and no NaN. A box is two corners in any order, y first as
    /// ONNX has them (x first is as good), or where `centers` is set a centre and sizes, x first. All is computed in f32,
    /// step by step as [`Corners`] says.
    pub struct Nms {
        iou: f32 = 0.5,
        score: f32 = f32::NEG_INFINITY,
        most: usize = usize::MAX,
        centers: bool = false,
    }
}

/// A box by its corners, and its area.
#[derive(Clone, Copy)]
struct Corners {
    low: [f32; 2],
    high: [f32; 2],
    area: f32,
}

impl Corners {
    fn of(numbers: [f32; 4], centers: bool) -> Self {
        let [a, b, c, d] = numbers;
        let (first, second) = match centers {
            true => {
                let half = [c * 0.5, d * 0.5];
                ([a - half[0], b - half[1]], [a + half[0], b + half[1]])
            }
            false => ([a, b], [c, d]),
        };
        let low = [0, 1].map(|i| if first[i] < second[i] { first[i] } else { second[i] });
        let high = [0, 1].map(|i| if first[i] > second[i] { first[i] } else { second[i] });
        Self { low, high, area: (high[0] - low[0]) * (high[1] - low[1]) }
    }

    /// Whether a box has more than a share of the union in common with another.
    fn overlaps(&self, other: &Self, iou: f32) -> bool {
        let side = |i: usize| {
            let low = if self.low[i] > other.low[i] { self.low[i] } else { other.low[i] };
            let high = if self.high[i] < other.high[i] { self.high[i] } else { other.high[i] };
            if high - low > 0.0 { high - low } else { 0.0 }
        };
        let common = side(0) * side(1);
        common > 0.0 && common / (self.area + other.area - common) > iou
    }
}

impl Nms {
    /// Boxes of a class that stay at most.
    pub fn kept(&self, boxes: usize) -> usize {
        self.most.min(boxes)
    }
}

impl Operation for Nms {
    const NAME: &'static str = "nms";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "nms",
        doc: "non-maximum suppression of boxes [N, B, 4] by scores [N, C, B]: [N, C, most] indices, best first, then -1",
        arity: Arity::Join,
        params: &[
            param("iou", ParamType::Float, Preset::Float(0.5), "share of the union from which on boxes are one"),
            param("score", ParamType::Float, Preset::Absent, "boxes below are left out"),
            param("most", ParamType::Size, Preset::Absent, "boxes of a class that stay at most"),
            param("centers", ParamType::Bool, Preset::Bool(false), "boxes are centres and sizes, not corners"),
        ],
        build: |a| {
            let score = if a.has("score") { a.float("score") } else { f32::NEG_INFINITY };
            let most = if a.has("most") { a.size("most") } else { usize::MAX };
            Ok(Nms { iou: a.float("iou"), score, most, centers: a.bool("centers") }.into())
        },
        arguments: |op| match op {
            Op::Nms(op) => {
                let mut arguments = vec![("iou", op.iou.into()), ("centers", op.centers.into())];
                arguments.extend((op.score != f32::NEG_INFINITY).then(|| ("score", op.score.into())));
                arguments.extend((op.most != usize::MAX).then(|| ("most", op.most.into())));
                Some(arguments)
            }
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let (&[n, boxes, 4], &[m, classes, of_scores]) = (inputs[0].dims(), inputs[1].dims()) else {
            let message =
                format!("nms takes boxes [N, B, 4] and scores [N, C, B], not {} and {}", inputs[0], inputs[1]);
            return Err(ShapeError::new(message).between_operands());
        };
        if n != m || boxes != of_scores {
            return Err(
                ShapeError::new(format!("scores {} do not fit boxes {}", inputs[1], inputs[0])).between_operands()
            );
        }
        if self.most == 0 || self.iou.is_nan() || self.score.is_nan() {
            return Err(ShapeError::new("nms needs numbers, and keeps one box at least").param("most"));
        }
        indices::check_size(boxes)?;
        Ok([n, classes, self.kept(boxes)].into())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        let boxes = apart(images[0], &[1, 2])?;
        let scores = apart(images[1], &[2])?;
        joined([boxes, scores])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let (classes, kept) = (output[1], output[2]);
        let count = inputs[0].shape()[1];
        let number = |tensor: &Tensor, i: usize| tensor.get(i) as f32;
        let mut values = Vec::with_capacity(output.elements());
        for row in 0..output[0] * classes {
            let image = row / classes;
            let corners = |i: usize| {
                let numbers = [0, 1, 2, 3].map(|part| number(inputs[0], (image * count + i) * 4 + part));
                Corners::of(numbers, self.centers)
            };
            let boxes: Vec<Corners> = (0..count).map(corners).collect();
            let score = |i: usize| number(inputs[1], row * count + i);
            let mut scores: Vec<f32> =
                (0..count).map(|i| if score(i) > self.score { score(i) } else { f32::NEG_INFINITY }).collect();
            for _ in 0..kept {
                let mut best = 0;
                for i in 1..count {
                    if scores[i] > scores[best] {
                        best = i;
                    }
                }
                if scores[best] == f32::NEG_INFINITY {
                    values.push(-1.0);
                    continue;
                }
                values.push(best as f64);
                scores[best] = f32::NEG_INFINITY;
                let chosen = boxes[best];
                for (score, other) in scores.iter_mut().zip(&boxes) {
                    if chosen.overlaps(other, self.iou) {
                        *score = f32::NEG_INFINITY;
                    }
                }
            }
        }
        Tensor::from_values(output.clone(), values)
    }

    fn gradient(&self, _: &mut Gradient) -> Gradients {
        Ok(vec![None, None])
    }
}
