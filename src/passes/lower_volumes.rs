//! Convolutions and pools of sequences and volumes become those of images.
//!
//! A sequence is an image one pixel high. A volume is a row of frames, images of their own, of which a window takes several
//! along its depth. A convolution has them as channels of one image, so that it is one convolution; a pool joins frames
//! element by element:
//!
//! ```text
//! [N, C, D, H, W]  ⟶  [N, D, C, H, W]                     frames
//!   conv3d            tap k: frames k, k + stride, …       [N, D', C, H, W] each, zeros beyond the ends
//!                     side by side along the channels      [N · D', kd · C, H, W]
//!                     conv2d, the weight's taps likewise   [N · D', channels, H', W']
//!   conv_transpose3d  for each remainder of the depth by the stride: the same with the taps that reach it
//!   pools             pool of each frame, then max or sum of the frames of each tap
//! ```
//!
//! What follows a layer element by element is done before frames are moved back, and frames that the next layer wants are
//! not moved at all.
//!
//! A weight that is known is arranged here. In a step of training it changes, and is arranged in the graph.
//!
//! Legal when: always. Numerics: sums in another order; denormal weights as elsewhere. Order: before folds and fusions, which take convolutions.

use crate::ir::{Editor, NodeId, Phase};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::pool_nd::WindowPool;
use crate::ops::{
    Activate, Binary, Concat, Constant, Conv2d, ConvNd, ConvTranspose2d, Fill, Op, PoolNd, Reshape, Slice, Transpose,
};

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        // The node may be gone when it is done.
        let (name, locations) = (e.describe(id), e.locations(&[id]));
        let done = match e.node(id).op().cloned() {
            Some(Op::ConvNd(op)) if op.kernel.len() == 1 => sequence_conv(e, id, &op),
            Some(Op::ConvNd(op)) => volume_conv(e, id, &op),
            Some(Op::PoolNd(op)) if op.kernel.len() == 1 => sequence_pool(e, id, &op),
            Some(Op::PoolNd(op)) => volume_pool(e, id, &op),
            _ => None,
        };
        if let Some(what) = done {
            e.remark(format!("{name} is made of {what}"), locations);
        }
    });
}

fn reshape(e: &mut Editor, x: NodeId, dims: &[usize], like: NodeId) -> NodeId {
    if e.node(x).shape.dims() == dims {
        return x;
    }
    e.insert(Reshape { shape: sizes(dims) }, &[x], vec![], like)
}

fn sizes(dims: &[usize]) -> Vec<i64> {
    dims.iter().map(|&size| size as i64).collect()
}

/// Makes `id` what the value is under the sizes that `id` has.
fn end(e: &mut Editor, id: NodeId, value: NodeId) {
    let (last, value) = followed(e, id, value);
    let shape = sizes(e.node(id).shape.dims());
    e.rewrite(last, Reshape { shape }, &[value], vec![]);
}

/// Functions of single elements that alone follow `id`, done on the value instead; the last of them, which is to become what
/// the value is moved to.
fn followed(e: &mut Editor, id: NodeId, mut value: NodeId) -> (NodeId, NodeId) {
    let mut last = id;
    while let Some(next) = e.sole_user(last) {
        let Some(Op::Activate(kind)) = e.node(next).op().cloned() else { break };
        value = e.insert(kind, &[value], vec![], next);
        last = next;
    }
    (last, value)
}

/// A layer's weight, `[outer, inner, kernel…]`.
enum Weight {
    /// Its name, sizes and numbers.
    Known(String, Vec<usize>, Vec<f64>),
    /// A value of a step of training, and its sizes.
    Changes(NodeId, Vec<usize>),
}

impl Weight {
    /// That of a layer, and its further parameters; `None` of a weight that is computed where it should be known.
    fn of(e: &mut Editor, id: NodeId) -> Option<(Weight, Vec<NodeId>)> {
        let parameters = e.parameters(id);
        let (&first, others) = parameters.split_first()?;
        let sizes = e.node(first).shape.dims().to_vec();
        let weight = match e.node(first).parameter() {
            Some(weight) if e.phase != Phase::Train => {
                Weight::Known(e.weights.get(weight).name.clone(), sizes, e.weight_values(weight))
            }
            Some(weight) => Weight::Changes(e.insert(Constant::of(sizes.clone()), &[], vec![weight], id), sizes),
            None if e.phase == Phase::Train => Weight::Changes(first, sizes),
            None => return None,
        };
        Some((weight, others.to_vec()))
    }

    fn sizes(&self) -> &[usize] {
        let (Weight::Known(_, sizes, _) | Weight::Changes(_, sizes)) = self;
        sizes
    }

    /// The same numbers under other sizes, as a parameter.
    fn reshaped(&self, e: &mut Editor, dims: [usize; 4], like: NodeId) -> NodeId {
        match self {
            Weight::Known(name, _, values) => {
                let weight = e.derive(name, dims, values, true);
                e.parameter_of(weight)
            }
            Weight::Changes(value, _) => reshape(e, *value, &dims, like),
        }
    }
}

fn sequence_conv(e: &mut Editor, id: NodeId, op: &ConvNd) -> Option<&'static str> {
    let (weight, others) = Weight::of(e, id)?;
    let x = e.operands(id)[0];
    let &[n, c, l] = e.node(x).shape.dims() else { return None };
    let image = reshape(e, x, &[n, c, 1, l], id);
    let &[outer, inner, taps] = weight.sizes() else { return None };
    let parameter = weight.reshaped(e, [outer, inner, 1, taps], id);
    let planar: Op =
        planar(op, [1, op.kernel[0]], [1, op.stride[0]], [0, op.pad[0], 0, op.pad[1]], [1, op.dilation[0]]);
    let value = e.insert_reading(planar, &[image], &[&[parameter], &others[..]].concat(), id);
    end(e, id, value);
    Some("a layer of images one pixel high")
}

/// The layer of images with a window of its own.
fn planar(op: &ConvNd, kernel: [usize; 2], stride: [usize; 2], pad: [usize; 4], dilation: [usize; 2]) -> Op {
    let &ConvNd { channels, groups, bias, transposed, .. } = op;
    let epilogue = vec![];
    match transposed {
        false => Conv2d { channels, kernel, stride, pad, dilation, groups, bias, epilogue }.into(),
        true => {
            let last = op.output_pad.len() - 1;
            let output_pad = if last == 0 { [0, op.output_pad[0]] } else { [op.output_pad[1], op.output_pad[2]] };
            ConvTranspose2d { channels, kernel, stride, pad, output_pad, dilation, groups, bias, epilogue }.into()
        }
    }
}

fn sequence_pool(e: &mut Editor, id: NodeId, op: &PoolNd) -> Option<&'static str> {
    let x = e.operands(id)[0];
    let &[n, c, l] = e.node(x).shape.dims() else { return None };
    let image = reshape(e, x, &[n, c, 1, l], id);
    let value = e.insert(op.planar([None, Some(0)]), &[image], vec![], id);
    end(e, id, value);
    Some("a pool of images one pixel high")
}

/// The axes of a volume and of its frames, each way.
const FRAMES: [usize; 5] = [0, 2, 1, 3, 4];

/// A volume's frames, `[N, D, C, H, W]`: where another layer moved them back, as they were.
fn frames(e: &mut Editor, x: NodeId, like: NodeId) -> NodeId {
    match e.node(x).op() {
        Some(Op::Transpose(Transpose { perm })) if **perm == FRAMES => e.operands(x)[0],
        _ => e.insert(Transpose { perm: FRAMES.to_vec() }, &[x], vec![], like),
    }
}

/// Frames with zeros before and behind.
fn padded(e: &mut Editor, frames: NodeId, [before, after]: [usize; 2], like: NodeId) -> NodeId {
    let mut dims = e.node(frames).shape.dims().to_vec();
    let mut parts = vec![];
    for (count, first) in [(before, true), (after, false)] {
        if first {
            parts.push(frames);
        }
        if count == 0 {
            continue;
        }
        dims[1] = count;
        let zeros = e.insert(Fill { shape: dims.clone(), value: 0.0 }, &[], vec![], like);
        parts.insert(if first { 0 } else { parts.len() }, zeros);
    }
    match parts.len() {
        1 => frames,
        _ => e.insert(Concat { axis: 1 }, &parts, vec![], like),
    }
}

/// Frames `start, start + step, …`.
fn taken(e: &mut Editor, frames: NodeId, start: usize, count: usize, step: usize, like: NodeId) -> NodeId {
    if start == 0 && count == e.node(frames).shape[1] && step == 1 {
        return frames;
    }
    let (end, step) = (start + (count - 1) * step + 1, if count == 1 { 1 } else { step });
    e.insert(Slice { axis: 1, start, end, step }, &[frames], vec![], like)
}

/// Taps' frames as channels of images `[N · D', taps · C, H, W]`, those of a group together.
fn side_by_side(e: &mut Editor, taps: &[NodeId], groups: usize, like: NodeId) -> NodeId {
    let [n, d, c, h, w] = e.node(taps[0]).shape.dims()[..] else { unreachable!("frames have five axes") };
    let joined = match taps.len() {
        1 => taps[0],
        _ => {
            let dims = [n, d, groups, c / groups, h, w];
            let parts: Vec<NodeId> = taps.iter().map(|&tap| reshape(e, tap, &dims, like)).collect();
            e.insert(Concat { axis: 3 }, &parts, vec![], like)
        }
    };
    reshape(e, joined, &[n * d, taps.len() * c, h, w], like)
}

/// The convolution of each frame with the weights of some taps of the depth.
struct Taps<'a> {
    op: &'a ConvNd,
    weight: Weight,
    /// The bias, where there is one.
    others: Vec<NodeId>,
    like: NodeId,
}

impl Taps<'_> {
    fn conv(&self, e: &mut Editor, images: NodeId, taps: &[usize]) -> NodeId {
        let op = self.op;
        let parameter = match &self.weight {
            Weight::Known(name, dims, values) => {
                let (shape, values) = self.known(dims, values, taps);
                let weight = e.derive(name, shape, &values, true);
                e.parameter_of(weight)
            }
            Weight::Changes(value, dims) => self.changing(e, *value, dims, taps),
        };
        let of = |list: &[usize]| [list[1], list[2]];
        let pad = [op.pad[1], op.pad[2], op.pad[4], op.pad[5]];
        let planar = planar(op, of(&op.kernel), of(&op.stride), pad, of(&op.dilation));
        e.insert_reading(planar, &[images], &[&[parameter], &self.others[..]].concat(), self.like)
    }

    /// Sizes and numbers of the weight of some taps: `[channels, taps · inputs of a group, …]`, of a transposed layer
    /// `[groups · taps · inputs of a group, …]`.
    fn known(&self, dims: &[usize], values: &[f64], taps: &[usize]) -> ([usize; 4], Vec<f64>) {
        let &[outer, inner, depth, h, w] = dims else { unreachable!("a volume's weight has five axes") };
        let area = h * w;
        let at = |o: usize, i: usize, tap: usize| &values[((o * inner + i) * depth + tap) * area..][..area];
        let mut values = Vec::with_capacity(outer * inner * taps.len() * area);
        if !self.op.transposed {
            (0..outer).for_each(|o| {
                taps.iter().for_each(|&tap| (0..inner).for_each(|i| values.extend_from_slice(at(o, i, tap))));
            });
            return ([outer, taps.len() * inner, h, w], values);
        }
        let each = outer / self.op.groups;
        for group in 0..self.op.groups {
            for &tap in taps {
                let rows = group * each..(group + 1) * each;
                rows.for_each(|o| (0..inner).for_each(|i| values.extend_from_slice(at(o, i, tap))));
            }
        }
        ([outer * taps.len(), inner, h, w], values)
    }

    /// The same of a weight that the graph has.
    fn changing(&self, e: &mut Editor, value: NodeId, dims: &[usize], taps: &[usize]) -> NodeId {
        let (like, count) = (self.like, taps.len());
        let &[outer, inner, depth, h, w] = dims else { unreachable!("a volume's weight has five axes") };
        let taken = if taps.iter().copied().eq(0..depth) {
            value
        } else {
            let slice = |tap: usize| Slice { axis: 2, start: tap, end: tap + 1, step: 1 };
            let parts: Vec<NodeId> = taps.iter().map(|&tap| e.insert(slice(tap), &[value], vec![], like)).collect();
            if count == 1 { parts[0] } else { e.insert(Concat { axis: 2 }, &parts, vec![], like) }
        };
        let (apart, perm, joined) = match self.op.transposed {
            false => (vec![outer, inner, count, h, w], vec![0, 2, 1, 3, 4], [outer, count * inner, h, w]),
            true => {
                let groups = self.op.groups;
                let apart = vec![groups, outer / groups, inner, count, h * w];
                (apart, vec![0, 3, 1, 2, 4], [outer * count, inner, h, w])
            }
        };
        let apart = reshape(e, taken, &apart, like);
        let moved = if count == 1 { apart } else { e.insert(Transpose { perm }, &[apart], vec![], like) };
        reshape(e, moved, &joined, like)
    }
}

fn volume_conv(e: &mut Editor, id: NodeId, op: &ConvNd) -> Option<&'static str> {
    let (weight, others) = Weight::of(e, id)?;
    let x = e.operands(id)[0];
    let (depth, outputs) = (e.node(x).shape[2], e.node(id).shape[2]);
    let taps = Taps { op, weight, others, like: id };
    let source = frames(e, x, id);
    let (kernel, stride, dilation, before) = (op.kernel[0], op.stride[0], op.dilation[0], op.pad[0]);
    let images = match op.transposed {
        false => {
            let last = (outputs - 1) * stride + (kernel - 1) * dilation + 1;
            let after = last.saturating_sub(before + depth);
            let source = padded(e, source, [before, after], id);
            let all: Vec<usize> = (0..kernel).collect();
            let each: Vec<NodeId> = all.iter().map(|k| taken(e, source, k * dilation, outputs, stride, id)).collect();
            let images = side_by_side(e, &each, op.groups, id);
            taps.conv(e, images, &all)
        }
        true => transposed(e, source, &taps, [depth, outputs]),
    };
    moved_back(e, id, images, outputs);
    Some("convolutions of its frames")
}

/// The depth of a transposed convolution: outputs that are equal modulo the stride are reached by the same taps.
fn transposed(e: &mut Editor, source: NodeId, taps: &Taps, [depth, outputs]: [usize; 2]) -> NodeId {
    let (op, id) = (taps.op, taps.like);
    let (kernel, stride, dilation, before) = (op.kernel[0], op.stride[0], op.dilation[0], op.pad[0] as i64);
    let each = outputs.div_ceil(stride);
    // Of a remainder: its taps, and the frame of each that its first output reads, which may lie before the first.
    let phases: Vec<Vec<(usize, i64)>> = (0..stride.min(outputs))
        .map(|remainder| {
            let first = |k: usize| remainder as i64 + before - (k * dilation) as i64;
            (0..kernel).filter(|&k| first(k) % stride as i64 == 0).map(|k| (k, first(k) / stride as i64)).collect()
        })
        .collect();
    let all = || phases.iter().flatten().map(|&(_, first)| first);
    let front = all().min().map_or(0, |first| (-first).max(0)) as usize;
    let back = all().max().map_or(0, |first| (first + each as i64 - depth as i64).max(0)) as usize;
    let source = padded(e, source, [front, back], id);
    // A remainder that no tap reaches is a tap's convolution of zeros.
    let mut dims = e.node(source).shape.dims().to_vec();
    dims[1] = each;
    let parts: Vec<NodeId> = phases
        .iter()
        .map(|phase| {
            let (list, each): (Vec<usize>, Vec<NodeId>) = match phase.is_empty() {
                true => (vec![0], vec![e.insert(Fill { shape: dims.clone(), value: 0.0 }, &[], vec![], id)]),
                false => phase
                    .iter()
                    .map(|&(k, first)| (k, taken(e, source, (first + front as i64) as usize, each, 1, id)))
                    .unzip(),
            };
            let images = side_by_side(e, &each, op.groups, id);
            taps.conv(e, images, &list)
        })
        .collect();
    let [images, c, h, w] = e.node(parts[0]).shape.dims()[..] else { unreachable!("images have four axes") };
    let n = images / each;
    if parts.len() == 1 {
        return parts[0];
    }
    // Outputs of one place, then the next.
    let apart: Vec<NodeId> = parts.iter().map(|&part| reshape(e, part, &[n, each, 1, c, h, w], id)).collect();
    let joined = e.insert(Concat { axis: 2 }, &apart, vec![], id);
    let all = reshape(e, joined, &[n, each * parts.len(), c, h, w], id);
    let some = taken(e, all, 0, outputs, 1, id);
    reshape(e, some, &[n * outputs, c, h, w], id)
}

/// Makes `id` the volume of the images `[N · D, C, H, W]`.
fn moved_back(e: &mut Editor, id: NodeId, images: NodeId, depth: usize) {
    let (last, images) = followed(e, id, images);
    let [all, c, h, w] = e.node(images).shape.dims()[..] else { unreachable!("images have four axes") };
    let frames = reshape(e, images, &[all / depth, depth, c, h, w], id);
    e.rewrite(last, Transpose { perm: FRAMES.to_vec() }, &[frames], vec![]);
}

fn volume_pool(e: &mut Editor, id: NodeId, op: &PoolNd) -> Option<&'static str> {
    let x = e.operands(id)[0];
    let (depth, outputs) = (e.node(x).shape[2], e.node(id).shape[2]);
    let source = frames(e, x, id);
    let [n, _, c, h, w] = e.node(source).shape.dims()[..] else { return None };
    let of = |list: &[usize]| [list[1], list[2]];
    let pad = [op.pad[1], op.pad[2], op.pad[4], op.pad[5]];
    let mut images = reshape(e, source, &[n * depth, c, h, w], id);
    if (of(&op.kernel), of(&op.stride), pad) != ([1, 1], [1, 1], [0; 4]) {
        images = e.insert(op.planar([Some(1), Some(2)]), &[images], vec![], id);
    }
    let [_, c, h, w] = e.node(images).shape.dims()[..] else { return None };
    let pooled = reshape(e, images, &[n, depth, c, h, w], id);
    let joined = join_frames(e, pooled, op, [depth, outputs], id);
    let images = reshape(e, joined, &[n * outputs, c, h, w], id);
    moved_back(e, id, images, outputs);
    Some("pools of its frames")
}

/// Max or mean of the frames of each window.
fn join_frames(e: &mut Editor, frames: NodeId, op: &PoolNd, [depth, outputs]: [usize; 2], id: NodeId) -> NodeId {
    let stride = op.stride[0];
    let windows: Vec<(Vec<usize>, usize)> = (0..outputs).map(|at| op.window_at(0, at, depth)).collect();
    let mut parts = vec![];
    let mut at = 0;
    while at < outputs {
        // Windows of the same frames, a stride apart, and the same count are taken together.
        let (first, count) = &windows[at];
        let follows = |i: usize| {
            let (own, own_count) = &windows[at + i];
            let same = own.len() == first.len() && own.iter().zip(first).all(|(a, b)| *a == b + i * stride);
            same && own_count == count
        };
        let run = (1..outputs - at).take_while(|&i| follows(i)).count() + 1;
        let mut joined: Option<NodeId> = None;
        for &frame in first {
            let own = taken(e, frames, frame, run, stride, id);
            let kind = if op.kind == WindowPool::Max { BinaryKind::Max } else { BinaryKind::Add };
            joined = Some(match joined {
                None => own,
                Some(before) => e.insert(Binary { kind, epilogue: vec![] }, &[before, own], vec![], id),
            });
        }
        let mut value = joined.expect("every window holds a frame");
        let divisor = match op.kind {
            WindowPool::Max => 1,
            WindowPool::Avg => first.len(),
            WindowPool::AvgWithPad => *count,
        };
        if divisor > 1 {
            let kind = Activation::Scale { mul: 1.0 / divisor as f32, add: 0.0 };
            value = e.insert(Activate { kind }, &[value], vec![], id);
        }
        parts.push(value);
        at += run;
    }
    match parts.len() {
        1 => parts[0],
        _ => e.insert(Concat { axis: 1 }, &parts, vec![], id),
    }
}
