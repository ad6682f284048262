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
use crate::tensor::Element;
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
        let q = self.b.add(Quantize { levels, axis: None, symmetric, scale: None, zero_point: None }, &[x]);
        let parameters = self.b.graph.weights_read(q);
        self.b.graph.weights.set(parameters[0], Arc::new(vec![scale]));
        if let Some(&zero_point) = parameters.get(1) {
            self.b.graph.weights.set(zero_point, Arc::new(vec![zero as f32]));
        }
        self.dequantize(q, symmetric, parameters)
    }

    fn dequantize(&mut self, q: NodeId, symmetric: bool, parameters: Vec<crate::weights::WeightId>) -> NodeId {
        let label = format!("n{}", self.b.graph.len());
        self.b.graph.add(Dequantize { axis: None, symmetric }, &[q], parameters, Some(label), None).expect("it fits")
    }

    /// A layer's weight of 8 bits, as a computed parameter.
    fn weight(&mut self, dims: Vec<usize>) -> NodeId {
        let (per_channel, zeros) = (self.below(3) > 0, self.below(5) == 0);
        let channels = dims[0];
        let constant = self.b.add(Constant { shape: dims, element: Element::I8, learned: true }, &[]);
        let weight = self.b.graph.weights_read(constant)[0];
        let spread = 100 + self.below(28);
        let levels: Vec<f32> = self.b.graph.weights.values(weight).as_ref().as_ref().to_vec();
        let levels: Vec<f32> = levels.iter().map(|v| (v * spread as f32 / 127.0).round().clamp(-90.0, 127.0)).collect();
        self.b.graph.weights.set(weight, Arc::new(levels));
        let axis = per_channel.then_some(0);
        let w = self.b.add(Dequantize { axis, symmetric: !zeros }, &[constant]);
        let parameters = self.b.graph.weights_read(w);
        let scales = if per_channel { channels } else { 1 };
        let scales = (0..scales).map(|_| 0.001 + 0.002 * self.random.uniform()).collect::<Vec<_>>();
        let zero_points = scales.iter().map(|_| self.random.below(2) as f32).collect::<Vec<_>>();
        self.b.graph.weights.set(parameters[0], Arc::new(scales));
        if let Some(&id) = parameters.get(1) {
            self.b.graph.weights.set(id, Arc::new(zero_points));
        }
        w
    }

    /// Makes a layer read its weight dequantized, and gives its bias values.
    fn read_weight(&mut self, layer: NodeId, dims: Vec<usize>) {
        // The weight must stand before the layer that reads it, whatever their numbers.
        let weight = self.weight(dims);
        let mut parameters = self.b.graph.parameters(layer);
        parameters[0] = weight;
        if let Some(bias) = parameters.get(1).and_then(|&bias| self.b.graph.node(bias).parameter()) {
            let count = self.b.graph.weights.get(bias).shape.elements();
            let values = (0..count).map(|_| self.random.uniform() - 0.5).collect::<Vec<_>>();
            self.b.graph.weights.set(bias, Arc::new(values));
        }
        self.b.graph.set_parameters(layer, &parameters);
    }

    fn step(&mut self) -> Option<NodeId> {
        let x = self.recent();
        let [_, c, h, w] = self.shape(x);
        Some(match self.below(12) {
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
        let conv = self.b.add(op, &[x]);
        self.read_weight(conv, vec![channels, c / groups, size, size]);
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
        let fan_in = self.b.graph.node(flat).shape[1];
        let scores = self.b.add(Linear { features: 10, bias: true, epilogue: vec![] }, &[flat]);
        self.read_weight(scores, vec![10, fan_in]);
        self.b.finish(&[scores, last])
    }
}
