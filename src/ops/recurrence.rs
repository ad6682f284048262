//! The steps of one recurrent layer, whose products with its inputs are given: what `lower_recurrent` leaves of
//! [`super::Recurrent`].

use super::attributes::attributes;
use super::images::{Images, apart};
use super::layer::Layer;
use super::recurrent::{Cell, Direction};
use super::{Init, Operation, ShapeError, WeightDecl};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, T, D · gates · hidden] → [N, T, D · hidden]`, or with N and T in the other order without `batch_first`, where D is
    /// the number of directions and `cells` adds those of an LSTM behind. Operands: the gates' products with the inputs, by
    /// direction and gate, their biases added; what is hidden at first, `[D, N, hidden]`, and the cells, zeros where they
    /// are not given. Weight `[D, gates · hidden, hidden]` and, where `bias` is set, that of the last gate of a GRU,
    /// `[D, hidden]`.
    pub struct Recurrence {
        cell: Cell,
        hidden: usize,
        direction: Direction = Direction::Forward,
        batch_first: bool = true,
        cells: bool = false,
        bias: bool = false,
    }
}

impl Recurrence {
    /// The axes of images and of steps.
    pub fn axes(&self) -> [usize; 2] {
        if self.batch_first { [0, 1] } else { [1, 0] }
    }

    /// Whether direction number `d` goes from the last step to the first.
    pub fn is_reverse(&self, d: usize) -> bool {
        self.direction == Direction::Reverse || d == 1
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Operation for Recurrence {
    const NAME: &'static str = "recurrence";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (1, if self.cell == Cell::Lstm { 3 } else { 2 })
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let directions = self.direction.count();
        let width = self.hidden.checked_mul(directions).filter(|&width| width > 0);
        let gates = width.and_then(|width| width.checked_mul(self.cell.gates()));
        let (Some(width), &[outer, inner, found]) = (width, inputs[0].dims()) else {
            return Err(ShapeError::new(format!("no products of gates: {}", inputs[0])).operand(0));
        };
        if Some(found) != gates {
            return Err(ShapeError::new(format!("{found} products of gates")).operand(0));
        }
        if (self.bias && self.cell != Cell::Gru) || (self.cells && self.cell != Cell::Lstm) {
            return Err(ShapeError::new("a bias of a GRU, cells of an LSTM"));
        }
        let states = Shape::from([directions, [outer, inner][self.axes()[0]], self.hidden]);
        if let Some(i) = (1..inputs.len()).find(|&i| *inputs[i] != states) {
            return Err(ShapeError::new(format!("its first state is {}, where {states} is due", inputs[i])).operand(i));
        }
        let width = width.checked_mul(if self.cells { 2 } else { 1 });
        Ok([outer, inner, width.ok_or_else(|| ShapeError::new("the result overflows"))?].into())
    }

    fn weights(&self, _: &[&Shape]) -> Vec<WeightDecl> {
        let (directions, rows) = (self.direction.count(), self.cell.gates().saturating_mul(self.hidden));
        let init = Init::He { fan_in: self.hidden };
        let shape = Shape::from([directions, rows, self.hidden]);
        let mut weights = vec![WeightDecl { role: "weight", shape, init, learnable: true }];
        if self.bias {
            let shape = Shape::from([directions, self.hidden]);
            weights.push(WeightDecl { role: "bias", shape, init: Init::Constant(0.0), learnable: true });
        }
        weights
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[self.axes()[1], 2])?;
        let states = images[1..].iter().all(|i| matches!(i, Images::Nowhere | Images::Along { axis: 1, .. }));
        if states { Ok(images[0]) } else { Err("its first state has the images elsewhere".into()) }
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
        let (hidden, gates, directions) = (self.hidden, self.cell.gates(), self.direction.count());
        let [images, steps] = self.axes().map(|axis| output[axis]);
        let row = |n: usize, t: usize| if self.batch_first { n * steps + t } else { t * images + n };
        let (own, width) = (gates * hidden, output[2]);
        let mut result = vec![0.0f32; output.elements()];
        for d in 0..directions {
            let weight = &weights[0].data()[d * own * hidden..][..own * hidden];
            let product = |gate: usize, unit: usize, h: &[f64]| -> f64 {
                let row = &weight[(gate * hidden + unit) * hidden..][..hidden];
                row.iter().zip(h).map(|(&w, &h)| f64::from(w) * h).sum()
            };
            let kept = |unit: usize| if self.bias { f64::from(weights[1].data()[d * hidden + unit]) } else { 0.0 };
            for n in 0..images {
                let first = |i: usize| -> Vec<f64> {
                    let state = inputs.get(i).map(|s| &s.data()[(d * images + n) * hidden..][..hidden]);
                    state.map_or_else(|| vec![0.0; hidden], |s| s.iter().map(|&v| f64::from(v)).collect())
                };
                let (mut h, mut c) = (first(1), first(2));
                for step in 0..steps {
                    let t = if self.is_reverse(d) { steps - 1 - step } else { step };
                    let x = &inputs[0].data()[(row(n, t) * directions + d) * own..][..own];
                    let x = |gate: usize, unit: usize| f64::from(x[gate * hidden + unit]);
                    let sum = |gate: usize, unit: usize| x(gate, unit) + product(gate, unit, &h);
                    let next: Vec<f64> = match self.cell {
                        Cell::Lstm => (0..hidden)
                            .map(|u| {
                                c[u] = sigmoid(sum(1, u)) * c[u] + sigmoid(sum(0, u)) * sum(2, u).tanh();
                                sigmoid(sum(3, u)) * c[u].tanh()
                            })
                            .collect(),
                        Cell::Gru => (0..hidden)
                            .map(|u| {
                                let n = (x(2, u) + sigmoid(sum(0, u)) * (product(2, u, &h) + kept(u))).tanh();
                                let z = sigmoid(sum(1, u));
                                (1.0 - z) * n + z * h[u]
                            })
                            .collect(),
                        Cell::GruResetBefore => {
                            let reset: Vec<f64> = (0..hidden).map(|u| sigmoid(sum(0, u)) * h[u]).collect();
                            let of = |u: usize| {
                                let z = sigmoid(sum(1, u));
                                (1.0 - z) * (x(2, u) + product(2, u, &reset)).tanh() + z * h[u]
                            };
                            (0..hidden).map(of).collect()
                        }
                        Cell::Tanh => (0..hidden).map(|u| sum(0, u).tanh()).collect(),
                        // A NaN stays.
                        Cell::Relu => (0..hidden).map(|u| sum(0, u)).map(|v| if v < 0.0 { 0.0 } else { v }).collect(),
                    };
                    h = next;
                    let at = row(n, t) * width + d * hidden;
                    h.iter().enumerate().for_each(|(u, &v)| result[at + u] = v as f32);
                    if self.cells {
                        c.iter().enumerate().for_each(|(u, &v)| result[at + directions * hidden + u] = v as f32);
                    }
                }
            }
        }
        Tensor::new(output.clone(), result)
    }

    fn macs(&self, inputs: &[&Shape], _: &Shape) -> u64 {
        (inputs[0].elements() as u64).saturating_mul(self.hidden as u64)
    }
}
