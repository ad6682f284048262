//! What a step of the walk may add: layers as networks have them, joins, and things that few think of.
//!
//! Each adds ops to the value that it is given, and gives the last; `None` where they do not fit it.

use super::walk::Walk;
use crate::ir::NodeId;
use crate::ops::activation::Activation;
use crate::ops::adaptive_avg_pool::AdaptiveAvgPool;
use crate::ops::arg_reduce::Extreme;
use crate::ops::binary::BinaryKind;
use crate::ops::global_pool::PoolKind;
use crate::ops::indices::Reduction;
use crate::ops::lrn::LongerHalf;
use crate::ops::pad::PadMode;
use crate::ops::reduce::ReduceKind;
use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
use crate::ops::*;
use crate::testing::{binary, conv, relu};

impl Walk {
    pub(super) fn conv(&mut self, x: NodeId) -> Option<NodeId> {
        let c = self.shape(x)[1];
        let groups =
            if self.chance(4) { (1..=c).rev().find(|g| c.is_multiple_of(*g) && *g <= 4).unwrap_or(1) } else { 1 };
        let op = Conv2d {
            channels: groups * self.size(1, 24 / groups),
            kernel: self.pair(1, 5),
            stride: self.pair(1, 3),
            pad: self.pad(2),
            dilation: if self.chance(5) { self.pair(1, 2) } else { [1; 2] },
            groups,
            bias: self.chance(2),
            epilogue: vec![],
        };
        self.add(op, &[x])
    }

    pub(super) fn pointwise(&mut self, x: NodeId) -> Option<NodeId> {
        let op = Conv2d { bias: self.chance(2), ..conv(self.size(1, 24), 1, 1, 0) };
        self.add(op, &[x])
    }

    pub(super) fn depthwise(&mut self, x: NodeId) -> Option<NodeId> {
        let c = self.shape(x)[1];
        let multiplier = self.size(1, 2);
        let op = Conv2d { groups: c, ..conv(c * multiplier, 3, self.size(1, 2), 1) };
        self.add(op, &[x])
    }

    pub(super) fn conv_norm_act(&mut self, x: NodeId) -> Option<NodeId> {
        let op = Conv2d { bias: self.chance(2), ..conv(self.size(1, 20), 3, self.size(1, 2), 1) };
        let y = self.add(op, &[x])?;
        let y = self.norm(y)?;
        self.activate(y)
    }

    pub(super) fn residual(&mut self, x: NodeId) -> Option<NodeId> {
        let c = self.shape(x)[1];
        let squeeze = conv(self.size(1, 8), 1, 1, 0);
        let narrow = self.add(squeeze, &[x])?;
        let narrow = self.add(relu(), &[narrow])?;
        let wide = self.add(Conv2d { bias: false, ..conv(c, 3, 1, 1) }, &[narrow])?;
        let wide = self.add(BatchNorm { eps: 1e-5, affine: true }, &[wide])?;
        let kind = if self.chance(4) { BinaryKind::Mul } else { BinaryKind::Add };
        let operands = if self.chance(2) { [wide, x] } else { [x, wide] };
        let sum = self.add(binary(kind), &operands)?;
        self.add(relu(), &[sum])
    }

    pub(super) fn inception(&mut self, x: NodeId) -> Option<NodeId> {
        let mut branches = vec![];
        for _ in 0..self.size(2, 3) {
            let (reduce, widen) = (conv(self.size(1, 9), 1, 1, 0), conv(self.size(1, 9), 3, 1, 1));
            let reduced = self.add(reduce, &[x])?;
            let reduced = self.add(relu(), &[reduced])?;
            branches.push(if self.chance(2) { self.add(widen, &[reduced])? } else { reduced });
        }
        if self.chance(2) {
            let op = MaxPool { kernel: [3; 2], stride: [1; 2], pad: [1; 4], dilation: [1; 2], ceil: true };
            branches.push(self.add(op, &[x])?);
        }
        self.add(Concat { axis: 1 }, &branches)
    }

    pub(super) fn conv_transpose(&mut self, x: NodeId) -> Option<NodeId> {
        let stride = self.pair(1, 3);
        let c = self.shape(x)[1];
        let groups = if self.chance(3) && c.is_multiple_of(2) { 2 } else { 1 };
        let op = ConvTranspose2d {
            channels: groups * self.size(1, 9),
            kernel: self.pair(1, 4),
            stride,
            pad: self.pad(1),
            output_pad: if self.chance(3) { stride.map(|s| s - 1) } else { [0; 2] },
            dilation: if self.chance(5) { [2; 2] } else { [1; 2] },
            groups,
            bias: self.chance(2),
            epilogue: vec![],
        };
        let y = self.add(op, &[x])?;
        if self.chance(2) { self.norm(y) } else { Some(y) }
    }

    pub(super) fn norm(&mut self, x: NodeId) -> Option<NodeId> {
        let affine = self.chance(2);
        match self.random.below(8) {
            0..3 => self.add(BatchNorm { eps: 1e-3, affine: true }, &[x]),
            3 => {
                let plain = self.add(BatchNorm { eps: 1e-5, affine: false }, &[x])?;
                self.add(ChannelAffine { bias: true, epilogue: vec![] }, &[plain])
            }
            4 if affine && self.shape(x).dims().get(1).is_some_and(|&c| c > 1) => {
                let c = self.shape(x)[1];
                let [mul, add] = [0.75, -0.5].map(|v| (0..c).map(|i| v + i as f32 / 8.0).collect());
                self.add(ChannelConstants { mul, add }, &[x])
            }
            4 => self.add(ChannelAffine { bias: affine, epilogue: vec![] }, &[x]),
            5 => self.add(InstanceNorm { eps: 1e-2, affine }, &[x]),
            6 if self.chance(2) => {
                let c = *self.shape(x).dims().get(1)?;
                let groups = (1..=c).rev().filter(|g| c.is_multiple_of(*g)).nth(self.size(0, 2)).unwrap_or(1);
                self.add(GroupNorm { groups, eps: 1e-2, affine }, &[x])
            }
            6 => self.add(LayerNorm { eps: 1e-2, affine, sizes: vec![] }, &[x]),
            _ => {
                let longer_half = if affine { LongerHalf::Before } else { LongerHalf::After };
                let (size, alpha_over_size) = (self.size(1, 6), self.chance(2));
                self.add(Lrn { size, alpha: 0.1, beta: 0.75, k: 1.0, alpha_over_size, longer_half }, &[x])
            }
        }
    }

    pub(super) fn activate(&mut self, x: NodeId) -> Option<NodeId> {
        let kind = match self.random.below(36) {
            0..6 => Activation::Relu,
            6 => Activation::LeakyRelu { slope: 0.2 },
            7 => Activation::Elu { alpha: 0.7 },
            8 => Activation::Sigmoid,
            9 => Activation::Tanh,
            10 => Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
            11 => Activation::HardSwish,
            12 => Activation::Silu,
            13 => Activation::Gelu,
            14 => Activation::GeluTanh,
            15 => Activation::Softplus,
            16 => Activation::Clip { min: -1.5, max: 6.0 },
            17 => Activation::Scale { mul: -0.75, add: 0.25 },
            18 => Activation::Abs,
            19 => Activation::Erf,
            20 => return self.of_positive(x, Activation::Log),
            21 => return self.of_positive(x, Activation::Sqrt),
            22 => return self.of_positive(x, Activation::Exp),
            23 => Activation::Sin,
            24 => Activation::Cos,
            25 => Activation::Atan,
            26 => Activation::Asinh,
            27 => return self.of_bounded(x, Activation::Tan, 0.0),
            28 => return self.of_bounded(x, Activation::Sinh, 0.0),
            29 => return self.of_bounded(x, Activation::Cosh, 0.0),
            30 => return self.of_bounded(x, Activation::Asin, 0.0),
            31 => return self.of_bounded(x, Activation::Acos, 0.0),
            32 => return self.of_bounded(x, Activation::Atanh, 0.0),
            33 => return self.of_bounded(x, Activation::Acosh, 2.0),
            _ => {
                let per_channel = self.chance(2);
                return self.add(PRelu { per_channel }, &[x]);
            }
        };
        self.add(Activate { kind }, &[x])
    }

    /// A function that is not good for all numbers: of |x| + 1/2, of −|x| where it grows fast.
    pub(super) fn of_positive(&mut self, x: NodeId, kind: Activation) -> Option<NodeId> {
        let grows = kind == Activation::Exp;
        let (mul, add) = if grows { (-1.0, 0.0) } else { (1.0, 0.5) };
        let size = self.add(Activate { kind: Activation::Abs }, &[x])?;
        let moved = self.add(Activate { kind: Activation::Scale { mul, add } }, &[size])?;
        self.add(Activate { kind }, &[moved])
    }

    /// A function of numbers about `add`, none farther from it than 3/4.
    fn of_bounded(&mut self, x: NodeId, kind: Activation, add: f32) -> Option<NodeId> {
        let bounded = self.add(Activate { kind: Activation::Tanh }, &[x])?;
        let moved = self.add(Activate { kind: Activation::Scale { mul: 0.75, add } }, &[bounded])?;
        self.add(Activate { kind }, &[moved])
    }

    /// A weight of the value's shape. Functions that jump are of these: there, rounding must not tell which side is taken.
    fn beside(&mut self, x: NodeId) -> Option<NodeId> {
        let shape = self.shape(x).dims().to_vec();
        self.add(Constant::of(shape), &[])
    }

    /// What jumps, of weights, and the value where it is to be taken.
    pub(super) fn settled(&mut self, x: NodeId) -> Option<NodeId> {
        let (a, b) = (self.beside(x)?, self.beside(x)?);
        let number = 0.25;
        let kinds = [
            Activation::Sign,
            Activation::Floor,
            Activation::Ceil,
            Activation::Round,
            Activation::Trunc,
            Activation::IsNan,
            Activation::IsInf,
            Activation::EqualTo { number },
            Activation::EqualTo { number: 0.0 },
            Activation::NotEqualTo { number },
            Activation::GreaterThan { number },
            Activation::AtLeast { number },
            Activation::LessThan { number },
            Activation::AtMost { number },
        ];
        use BinaryKind::{And, Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual, Or, Xor};
        let told = match self.random.below(4) {
            0 | 1 => {
                let kind = kinds[self.random.below(kinds.len())];
                self.add(Activate { kind }, &[a])?
            }
            2 => {
                let kinds = [And, Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual, Or, Xor];
                let kind = kinds[self.random.below(kinds.len())];
                self.add(binary(kind), &[a, b])?
            }
            _ => {
                let size = self.add(Activate { kind: Activation::Abs }, &[b])?;
                let divisor = self.add(Activate { kind: Activation::Scale { mul: 1.0, add: 0.5 } }, &[size])?;
                match self.random.below(3) {
                    0 => self.add(binary(BinaryKind::Fmod), &[a, divisor])?,
                    1 => self.add(binary(BinaryKind::Remainder), &[a, divisor])?,
                    _ => {
                        let bounded = self.of_bounded(x, Activation::Abs, 1.0)?;
                        return self.add(binary(BinaryKind::Pow), &[bounded, a]);
                    }
                }
            }
        };
        match self.random.below(3) {
            0 => self.add(Where {}, &[told, x, b]),
            1 => {
                let same = self.add(Cast { to: crate::tensor::Element::F32 }, &[told])?;
                self.add(binary(BinaryKind::Mul), &[x, same])
            }
            _ => self.add(binary(BinaryKind::Add), &[x, told]),
        }
    }

    /// Parts of the value, by indices that weights are, or that tell of weights.
    pub(super) fn look_up(&mut self, x: NodeId) -> Option<NodeId> {
        let rank = self.shape(x).rank();
        let axis = 1 + self.random.below(rank.checked_sub(1)?.max(1));
        let (axis, size) = (axis.min(rank - 1), self.shape(x)[axis.min(rank - 1)]);
        let weights = self.beside(x)?;
        match self.random.below(8) {
            6 => {
                let mask = self.add(Constant::of([self.shape(x)[0]]), &[])?;
                let mask = self.add(Activate { kind: Activation::GreaterThan { number: 0.0 } }, &[mask])?;
                self.add(Compact {}, &[x, mask])
            }
            7 => {
                let (count, classes) = (self.size(1, 40), self.size(1, 2));
                let boxes = self.add(Constant::of([1, count, 4]), &[])?;
                let scores = self.add(Constant::of([1, classes, count]), &[])?;
                let (most, centers) = (self.size(1, count), self.chance(2));
                let chosen = self.add(Nms { iou: 0.2, score: 0.0, most, centers }, &[boxes, scores])?;
                let indices = self.add(Reshape { shape: vec![-1] }, &[chosen])?;
                let few = self.add(Slice { axis: 0, start: 0, end: 1, step: 1 }, &[indices])?;
                self.add(Gather { axis }, &[x, few])
            }
            0 => {
                let count = self.size(1, 2 * size);
                let indices = (0..count).map(|_| self.random.below(size)).collect();
                self.add(IndexSelect { axis, indices }, &[x])
            }
            1 => {
                let kind = if self.chance(2) { Extreme::Max } else { Extreme::Min };
                let (keepdims, last) = (self.chance(2), self.chance(2));
                let best = self.add(ArgReduce { kind, axis, keepdims, last }, &[weights])?;
                let indices = self.add(Reshape { shape: vec![-1] }, &[best])?;
                let few = self.add(Slice { axis: 0, start: 0, end: 1, step: 1 }, &[indices])?;
                self.add(Gather { axis }, &[x, few])
            }
            2 => {
                let (k, largest) = (self.size(1, size), self.chance(2));
                let best = self.add(TopK { k, axis, largest }, &[weights])?;
                self.add(GatherElements { axis }, &[x, best])
            }
            3 => {
                let indices = self.whole(weights)?;
                self.add(GatherElements { axis }, &[x, indices])
            }
            4 => {
                let shape = vec![self.size(1, 4), self.size(1, rank)];
                let indices = self.add(Constant::of(shape), &[])?;
                let indices = self.whole(indices)?;
                self.add(GatherNd { batch_dims: 0 }, &[x, indices])
            }
            _ => {
                let shape = vec![self.size(1, 2 * size)];
                let indices = self.add(Constant::of(shape), &[])?;
                let indices = self.whole(indices)?;
                self.add(Gather { axis }, &[x, indices])
            }
        }
    }

    /// Indices: whole numbers, some of them beyond the axis.
    fn whole(&mut self, x: NodeId) -> Option<NodeId> {
        self.add(Activate { kind: Activation::Round }, &[x])
    }

    /// Parts placed in the value, by indices that weights are.
    pub(super) fn place(&mut self, x: NodeId) -> Option<NodeId> {
        let rank = self.shape(x).rank();
        let weights = self.beside(x)?;
        if self.chance(2) {
            let axis = self.random.below(rank.max(1));
            let indices = self.whole(weights)?;
            return self.add(ScatterElements { axis, reduction: Reduction::Add }, &[x, indices, x]);
        }
        let count = self.size(1, 3);
        let first = self.shape(x).dims().get(1..)?.to_vec();
        let indices = self.add(Constant::of([count, 1]), &[])?;
        let indices = self.whole(indices)?;
        let updates = self.add(Constant::of([vec![count], first].concat()), &[])?;
        let reduction = [Reduction::None, Reduction::Mul, Reduction::Max, Reduction::Min][self.random.below(4)];
        self.add(ScatterNd { reduction }, &[x, indices, updates])
    }

    pub(super) fn running_sum(&mut self, x: NodeId) -> Option<NodeId> {
        let axis = self.random.below(self.shape(x).rank());
        let (exclusive, reverse) = (self.chance(2), self.chance(2));
        self.add(CumSum { axis, exclusive, reverse }, &[x])
    }

    pub(super) fn pool(&mut self, x: NodeId) -> Option<NodeId> {
        let kernel = self.pair(1, 3);
        let stride = self.pair(1, 4);
        let pad = if self.chance(2) { [0; 4] } else { [0, 1, 2, 3].map(|i| kernel[i % 2] / 2) };
        let (ceil, count_include_pad) = (self.chance(2), self.chance(2));
        if self.chance(2) {
            let dilation = if self.chance(6) { [2; 2] } else { [1; 2] };
            return self.add(MaxPool { kernel, stride, pad, dilation, ceil }, &[x]);
        }
        self.add(AvgPool { kernel, stride, pad, dilation: [1; 2], ceil, count_include_pad }, &[x])
    }

    /// A linear 1×1 convolution beside an average: what may commute.
    pub(super) fn pool_then_pointwise(&mut self, x: NodeId) -> Option<NodeId> {
        let (bias, ceil) = (self.chance(2), self.chance(2));
        let pointwise = Conv2d { bias, ..conv(self.size(1, 24), 1, 1, 0) };
        let pad = if self.chance(2) { [0; 4] } else { [1; 4] };
        let count_include_pad = self.chance(2);
        let pool = AvgPool { kernel: [3; 2], stride: [2; 2], pad, dilation: [1; 2], ceil, count_include_pad };
        let pool: Op = if self.chance(2) { GlobalPool { kind: PoolKind::Avg }.into() } else { pool.into() };
        if self.chance(2) {
            let y = self.add(pool, &[x])?;
            self.add(pointwise, &[y])
        } else {
            let y = self.add(pointwise, &[x])?;
            self.add(pool, &[y])
        }
    }

    pub(super) fn global_pool(&mut self, x: NodeId) -> Option<NodeId> {
        match self.random.below(4) {
            0 => self.add(GlobalPool { kind: PoolKind::Max }, &[x]),
            1 => self.add(GlobalPool { kind: PoolKind::Avg }, &[x]),
            _ => {
                let output = self.pair(1, 5);
                self.add(AdaptiveAvgPool { output }, &[x])
            }
        }
    }

    /// Squeeze and excitation: a broadcast product.
    pub(super) fn gate(&mut self, x: NodeId) -> Option<NodeId> {
        let c = self.shape(x)[1];
        let squeezed = self.add(GlobalPool { kind: PoolKind::Avg }, &[x])?;
        let scores = self.add(conv(c, 1, 1, 0), &[squeezed])?;
        let gates = self.add(Activate { kind: Activation::Sigmoid }, &[scores])?;
        self.add(binary(BinaryKind::Mul), &[x, gates])
    }

    /// Any value of a shape that fits.
    pub(super) fn join(&mut self, x: NodeId) -> Option<NodeId> {
        let shape = self.shape(x).clone();
        let fits: Vec<NodeId> = self.values.iter().copied().filter(|&v| *self.shape(v) == shape).collect();
        let other = *fits.get(self.random.below(fits.len().max(1)))?;
        match self.random.below(8) {
            0 => self.add(binary(BinaryKind::Sub), &[x, other]),
            1 => self.add(binary(BinaryKind::Mul), &[x, other]),
            2 => self.add(binary(BinaryKind::Max), &[x, other]),
            3 => self.add(binary(BinaryKind::Min), &[other, x]),
            4 => {
                // Keeps divisors away from 0.
                let size = self.add(Activate { kind: Activation::Abs }, &[other])?;
                let divisor = self.add(Activate { kind: Activation::Scale { mul: 1.0, add: 1.0 } }, &[size])?;
                self.add(binary(BinaryKind::Div), &[x, divisor])
            }
            _ => self.add(binary(BinaryKind::Add), &[x, other]),
        }
    }

    pub(super) fn concat(&mut self, x: NodeId) -> Option<NodeId> {
        let others: Vec<NodeId> = (0..self.size(1, 3)).map(|_| self.any()).collect();
        let axis = if self.chance(6) { self.random.below(self.shape(x).rank()) } else { 1 };
        // What stands once beside each image is a pass's business.
        let is_whole = |o: NodeId| axis == 0 || self.shape(o).dims().first() == self.shape(x).dims().first();
        let fits = |&&o: &&NodeId| is_whole(o) && (Concat { axis }).infer(&[self.shape(x), self.shape(o)]).is_ok();
        let fitting: Vec<NodeId> = others.iter().filter(fits).copied().collect();
        self.add(Concat { axis }, &[&[x][..], &fitting].concat())
    }

    pub(super) fn slice(&mut self, x: NodeId) -> Option<NodeId> {
        let axis = if self.chance(4) { self.random.below(self.shape(x).rank()) } else { 1 };
        let size = self.shape(x)[axis];
        let start = self.random.below(size);
        let end = self.size(start + 1, size);
        let step = if self.chance(4) { self.size(1, 3) } else { 1 };
        self.add(Slice { axis, start, end, step }, &[x])
    }

    pub(super) fn rearrange(&mut self, x: NodeId) -> Option<NodeId> {
        let c = self.shape(x)[1];
        match self.random.below(5) {
            0 => self.add(PixelShuffle { factor: 2 }, &[x]),
            1 => self.add(PixelUnshuffle { factor: 2 }, &[x]),
            2 => {
                let groups = (2..=c).find(|g| c.is_multiple_of(*g)).unwrap_or(1);
                self.add(ChannelShuffle { groups }, &[x])
            }
            3 => {
                let perm = [[0, 1, 3, 2], [0, 2, 3, 1], [0, 3, 1, 2]][self.random.below(3)].to_vec();
                self.add(Transpose { perm }, &[x])
            }
            _ => {
                let shape = self.shape(x);
                let shape = vec![0, shape[1] as i64, -1, 1];
                self.add(Reshape { shape }, &[x])
            }
        }
    }

    pub(super) fn resize(&mut self, x: NodeId) -> Option<NodeId> {
        if self.chance(2) {
            let mode = [PadMode::Constant, PadMode::Reflect, PadMode::Edge][self.random.below(3)];
            let pads = self.pad(2);
            return self.add(Pad { pads, mode, value: -0.5 }, &[x]);
        }
        let to = match self.random.below(3) {
            0 => ResizeTo::Scale([2.0; 2]),
            1 => ResizeTo::Scale([1.5, 0.7]),
            _ => ResizeTo::Size(self.pair(1, 12)),
        };
        use Interpolation::{Bicubic, Bilinear, CatmullRom, Nearest};
        let mode = [Nearest, Nearest, Bilinear, Bilinear, Bicubic, CatmullRom][self.random.below(6)];
        let coordinates =
            [Coordinates::Usual, Coordinates::HalfPixel, Coordinates::Asymmetric, Coordinates::AlignCorners];
        let coordinates = coordinates[self.random.below(4)];
        let rounding = match mode {
            Nearest => [Rounding::Floor, Rounding::Ceil, Rounding::HalfDown, Rounding::HalfUp][self.random.below(4)],
            _ => Rounding::Floor,
        };
        self.add(Upsample { to, mode, coordinates, rounding }, &[x])
    }

    pub(super) fn nothing(&mut self, x: NodeId) -> Option<NodeId> {
        if self.chance(2) { self.add(Dropout { p: 0.5 }, &[x]) } else { self.add(Identity {}, &[x]) }
    }

    pub(super) fn reduce(&mut self, x: NodeId) -> Option<NodeId> {
        let kind = [ReduceKind::Mean, ReduceKind::Max, ReduceKind::Sum][self.random.below(3)];
        let axes = [&[2, 3][..], &[1], &[3]][self.random.below(3)].to_vec();
        let keepdims = self.chance(2);
        self.add(Reduce { kind, axes, keepdims }, &[x])
    }

    pub(super) fn constant(&mut self, x: NodeId) -> Option<NodeId> {
        let mut shape = self.shape(x).dims().to_vec();
        if self.chance(2) {
            shape.iter_mut().enumerate().filter(|(axis, _)| *axis != 1).for_each(|(_, size)| *size = 1);
        }
        let value = self.add(Constant::of(shape), &[])?;
        let value = if self.chance(2) { self.add(relu(), &[value])? } else { value };
        let kind = if self.chance(2) { BinaryKind::Add } else { BinaryKind::Mul };
        self.add(binary(kind), &[x, value])
    }

    /// The same operation with the same weights on the same operands, and a join of both.
    pub(super) fn twice(&mut self, x: NodeId) -> Option<NodeId> {
        let first = if self.shape(x).rank() == 4 { self.pointwise(x)? } else { self.linear(x)? };
        let operands = self.builder.graph.operands(first);
        let name = Some(format!("n{}", self.builder.graph.len()));
        let op = self.builder.graph.node(first).op().cloned()?;
        let weights = self.builder.graph.weights_of(first)?;
        let second = self.builder.graph.add(op, &operands, weights, name, None).ok()?;
        let second = if self.chance(2) { self.add(relu(), &[second])? } else { second };
        self.add(binary(BinaryKind::Add), &[first, second])
    }

    pub(super) fn classify(&mut self, x: NodeId) -> Option<NodeId> {
        let flat = self.add(Flatten {}, &[x])?;
        if self.chance(3) { Some(flat) } else { self.linear(flat) }
    }

    pub(super) fn linear(&mut self, x: NodeId) -> Option<NodeId> {
        let (features, bias) = (self.size(1, 20), self.chance(2));
        let y = self.add(Linear { features, bias, epilogue: vec![] }, &[x])?;
        if self.chance(2) { self.activate(y) } else { Some(y) }
    }

    pub(super) fn softmax(&mut self, x: NodeId) -> Option<NodeId> {
        let (axis, log) = (self.random.below(self.shape(x).rank()), self.chance(2));
        self.add(Softmax { axis, log }, &[x])
    }

    pub(super) fn matmul(&mut self, x: NodeId) -> Option<NodeId> {
        let rank = self.shape(x).rank();
        let perm = (0..rank.checked_sub(2)?).chain([rank - 1, rank - 2]).collect();
        let turned = self.add(Transpose { perm }, &[x])?;
        self.add(MatMul {}, &[x, turned])
    }

    /// Nothing; the flow goes on from an earlier image.
    pub(super) fn back(&mut self, _: NodeId) -> Option<NodeId> {
        let images: Vec<NodeId> = self.values.iter().copied().filter(|&v| self.shape(v).rank() == 4).collect();
        Some(images[self.random.below(images.len())])
    }
}
