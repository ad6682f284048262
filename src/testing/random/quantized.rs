//! Random quantized networks: layers of weights of 8 bits between values on grids, which are chosen by what flows.

use std::sync::Arc;

use super::random_inputs;
use crate::interpreter;
use crate::ir::{Graph, NodeId, Phase};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::global_pool::PoolKind;
use crate::ops::pad::PadMode;
use crate::ops::quantized::Levels;
use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
use crate::ops::*;
use crate::testing::{GraphBuilder, binary, relu};
use crate::weights::SplitMix;

struct Walk {
    b: GraphBuilder,
    random: SplitMix,
    /// Images that a next step may read.
    values: Vec<NodeId>,
}

/// A verified graph as written: of f32 between pairs of quantize and dequantize, which rarely clip.
pub(crate) fn quantized_graph(seed: u64) -> Graph {
    let mut walk = Walk { b: GraphBuilder::new("q", Phase::Infer), random: SplitMix(seed), values: vec![] };
    walk.b.graph.weights.seed = seed;
    let [n, c, side] = [1 + walk.below(2), 1 + walk.below(19), 3 + walk.below(10)];
    let x = walk.b.input([n, c, side, side + walk.random.below(3)]);
    let x = walk.quantize(x);
    walk.values.push(x);
    for _ in 0..2 + walk.below(6) {
        let value = walk.step();
        walk.values.extend(value);
    }
    walk.finish()
}

impl Walk {
    fn below(&mut self, n: usize) -> usize {
        self.random.below(n)
    }

    fn recent(&mut self) -> NodeId {
        let back = 1 + self.below(self.values.len().min(3));
        self.values[self.values.len() - back]
    }

    fn shape(&self, id: NodeId) -> [usize; 4] {
        self.b.graph.node(id).shape.nchw().expect("steps are on images")
    }

    /// A pair of quantize and dequantize, whose grid holds what comes on the inputs of seed 0.
    fn quantize(&mut self, x: NodeId) -> NodeId {
        let mut range = [0.0f32; 2];
        let inputs = random_inputs(&self.b.graph, 0);
        let observe = |id: NodeId, value: &crate::tensor::Tensor| {
            if id == x {
                range = value.data().iter().fold(range, |[low, high], &v| [low.min(v), high.max(v)]);
            }
        };
        interpreter::run_observed(&self.b.graph, &inputs, observe).expect("a small graph");
        let levels = match self.below(6) {
            0 | 1 => Levels::I8,
            2 => Levels { bits: 7, signed: false },
            _ => Levels::U8,
        };
        let steps = (levels.high() - levels.low()) as f32;
        let scale = ((range[1] - range[0]) / steps).max(1e-3);
        let zero = ((levels.low() as f32 - range[0] / scale).round() as i64).clamp(levels.low(), levels.high());
        let symmetric = levels.signed && self.below(3) == 0;
        let scale = if symmetric { range[1].max(-range[0]).max(1e-3) / levels.high() as f32 } else { scale };
        let op = FakeQuantize { levels, axis: None, symmetric, whole: false, scale: None, zero_point: None };
        let q = self.b.add(op, &[x]);
        let parameters = self.b.graph.weights_read(q);
        self.b.graph.weights.set(parameters[0], Arc::new(vec![scale]));
        if let Some(&zero_point) = parameters.get(1) {
            self.b.graph.weights.set(zero_point, Arc::new(vec![zero as f32]));
        }
        q
    }

    /// Gives a layer's weights values: of all channels alike, or each with a scale of its own.
    fn fill(&mut self, layer: NodeId) {
        let weights = self.b.graph.weights_read(layer);
        let spread = (100 + self.below(28)) as f32 / 127.0;
        let levels: Vec<f32> = (*self.b.graph.weights.values(weights[0])).as_ref().to_vec();
        let levels: Vec<f32> = levels.iter().map(|v| (v * spread).round()).collect();
        self.b.graph.weights.set(weights[0], Arc::new(levels));
        let count = self.b.graph.weights.get(weights[1]).shape.elements();
        let same = self.below(3) == 0;
        let scales: Vec<f32> =
            (0..count).map(|_| 0.001 + 0.002 * if same { 0.5 } else { self.random.uniform() }).collect();
        self.b.graph.weights.set(weights[1], Arc::new(scales));
        if let Some(&bias) = weights.get(2) {
            let values = (0..count).map(|_| self.random.uniform() - 0.5).collect::<Vec<_>>();
            self.b.graph.weights.set(bias, Arc::new(values));
        }
    }

    fn step(&mut self) -> Option<NodeId> {
        let x = self.recent();
        let [_, c, h, w] = self.shape(x);
        Some(match self.below(16) {
            0 => {
                let pad = self.below(2);
                let op = MaxPool { kernel: [2; 2], stride: [1 + pad; 2], pad: [pad; 4], dilation: [1; 2], ceil: false };
                let y = self.b.try_add(op, &[x]).ok()?;
                if self.below(2) == 0 { self.quantize(y) } else { y }
            }
            1 => {
                let op = Pad { pads: [1, 0, 1, 2], mode: PadMode::Constant, value: 0.0 };
                self.b.add(op, &[x])
            }
            2 if c % 2 == 0 => self.b.add(ChannelShuffle { groups: 2 }, &[x]),
            3 if h * w < 200 => {
                let op = Upsample {
                    to: ResizeTo::Scale([2.0; 2]),
                    mode: Interpolation::Nearest,
                    coordinates: Coordinates::Usual,
                    rounding: Rounding::Floor,
                };
                self.b.try_add(op, &[x]).ok()?
            }
            4 => {
                let other = self.recent();
                let [m, _, a, b] = self.shape(other);
                let [n, ..] = self.shape(x);
                if [m, a, b] != [n, h, w] || other == x {
                    return None;
                }
                let y = self.b.add(Concat { axis: 1 }, &[x, other]);
                if self.below(2) == 0 { self.quantize(y) } else { y }
            }
            6 => self.function(x),
            7 => self.mean(x)?,
            8 => self.gate(x),
            9 if h * w < 120 => self.transposed(x)?,
            5 => {
                let other = self.recent();
                if self.shape(other) != self.shape(x) {
                    return None;
                }
                let sum = self.b.add(binary(BinaryKind::Add), &[x, other]);
                let y = self.activate(sum);
                self.quantize(y)
            }
            _ => self.convolution(x),
        })
    }

    /// A function of levels, or another grid.
    fn function(&mut self, x: NodeId) -> NodeId {
        let kinds = [Activation::Sigmoid, Activation::Silu, Activation::HardSwish, Activation::Tanh, Activation::Gelu];
        let y = match self.below(kinds.len() + 1) {
            n if n < kinds.len() => self.b.add(Activate { kind: kinds[n] }, &[x]),
            _ => x,
        };
        self.quantize(y)
    }

    /// Means of windows.
    fn mean(&mut self, x: NodeId) -> Option<NodeId> {
        let y = match self.below(2) {
            0 => {
                let (kernel, stride, count_include_pad) =
                    ([2 + self.below(2); 2], [1 + self.below(2); 2], self.below(2) == 0);
                let op =
                    AvgPool { kernel, stride, pad: [1, 1, 0, 1], dilation: [1; 2], ceil: false, count_include_pad };
                self.b.try_add(op, &[x]).ok()?
            }
            _ => {
                let output = [1 + self.below(4), 1 + self.below(4)];
                self.b.add(AdaptiveAvgPool { output }, &[x])
            }
        };
        Some(if self.below(3) > 0 { self.quantize(y) } else { y })
    }

    /// A number for each channel, by which all pixels are multiplied.
    fn gate(&mut self, x: NodeId) -> NodeId {
        let kind = if self.below(2) == 0 { PoolKind::Avg } else { PoolKind::Max };
        let pooled = self.b.add(GlobalPool { kind }, &[x]);
        let pooled = self.quantize(pooled);
        let gate = self.b.add(Activate { kind: Activation::Sigmoid }, &[pooled]);
        let gate = self.quantize(gate);
        let y = self.b.add(binary(BinaryKind::Mul), &[x, gate]);
        self.quantize(y)
    }

    fn transposed(&mut self, x: NodeId) -> Option<NodeId> {
        let [_, c, ..] = self.shape(x);
        let groups = if c % 2 == 0 && self.below(2) == 0 { 2 } else { 1 };
        let [size, stride] = [1 + self.below(4), 1 + self.below(3)];
        let of_reals = ConvTranspose2d {
            channels: groups * (1 + self.below(9)),
            kernel: [size; 2],
            stride: [stride; 2],
            pad: [self.below(2); 4],
            output_pad: [0; 2],
            dilation: [1; 2],
            groups,
            bias: self.below(2) > 0,
            epilogue: vec![],
        };
        let y = self.b.try_add(ConvTranspose2dW8 { of_reals, bits: 8 }, &[x]).ok()?;
        self.fill(y);
        let y = self.activate(y);
        Some(self.quantize(y))
    }

    fn activate(&mut self, x: NodeId) -> NodeId {
        match self.below(7) {
            0 | 1 => self.b.add(relu(), &[x]),
            2 => self.b.add(Activate { kind: Activation::Clip { min: 0.0, max: 6.0 } }, &[x]),
            3 => self.b.add(Activate { kind: Activation::LeakyRelu { slope: 0.1 } }, &[x]),
            4 => self.b.add(Activate { kind: Activation::HardSwish }, &[x]),
            _ => x,
        }
    }

    fn convolution(&mut self, x: NodeId) -> NodeId {
        let [_, c, h, w] = self.shape(x);
        let size = if h.min(w) >= 3 && self.below(2) == 0 { 3 } else { 1 };
        let (groups, channels) = match self.below(4) {
            0 => (c, c),
            1 if c % 2 == 0 => (2, 2 * (1 + self.below(9))),
            _ => (1, 1 + self.below(20)),
        };
        let op = Conv2d {
            channels,
            kernel: [size; 2],
            stride: [1 + self.below(2); 2],
            pad: [size / 2; 4],
            dilation: [1; 2],
            groups,
            bias: self.below(3) > 0,
            epilogue: vec![],
        };
        let conv = self.b.add(Conv2dW8 { of_reals: op, bits: 8 }, &[x]);
        self.fill(conv);
        let mut y = conv;
        if self.below(5) == 0 {
            y = self.b.add(BatchNorm { eps: 1e-5, affine: false }, &[y]);
        }
        if let Some(&residual) = self.values.iter().find(|&&v| self.shape(v) == self.shape(y))
            && self.below(2) == 0
        {
            y = self.b.add(binary(BinaryKind::Add), &[residual, y]);
        }
        y = self.activate(y);
        if self.below(8) > 0 { self.quantize(y) } else { y }
    }

    /// Up to two outputs: the last value, or a classifier on it.
    fn finish(mut self) -> Graph {
        let last = self.values[self.values.len() - 1];
        if self.below(3) > 0 {
            return self.b.finish(&[last]);
        }
        let pooled = self.b.add(GlobalPool { kind: PoolKind::Avg }, &[last]);
        let flat = self.b.add(Flatten {}, &[pooled]);
        let flat = self.quantize(flat);
        let of_reals = Linear { features: 10, bias: true, epilogue: vec![] };
        let scores = self.b.add(LinearW8 { of_reals, bits: 8 }, &[flat]);
        self.fill(scores);
        self.b.finish(&[scores, last])
    }
}
