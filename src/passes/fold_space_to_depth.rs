//! A convolution reads pixels that were put into channels as one pixel unshuffle gives them, or reads the image itself: the
//! slices and the concat of a Focus (YOLOv5, YOLOX) are not computed.
//!
//! ```text
//! %a = slice %x { axis=2 start=0 step=2 … }
//! %b = slice %a { axis=3 start=0 step=2 … }
//! …                                                               %u = pixel_unshuffle %x { factor=2 }
//! %g = concat %b, %d, %e, %f                            ⟶         %y = conv2d %u, @w', @b { kernel=3x3 … }
//! %y = conv2d %g, @w, @b { kernel=3x3 … }
//!
//! %u = pixel_unshuffle %x { factor=2 }
//! %y = conv2d %u, @w, @b { kernel=1x1 … }               ⟶         %y = conv2d %x, @w', @b { kernel=2x2 stride=2x2 … }
//! ```
//!
//! The pixels may be moved by pixel unshuffles, slices with steps, concats and shuffles of channels, in any order. A channel
//! that holds the pixels `(f · y + dy, f · x + dx)` of the image's channel c is channel `(c · f + dy) · f + dx` of the pixel
//! unshuffle, and the weights follow. As a layer of the image, a 1×1 convolution has its weight for that channel at the tap
//! `(dy, dx)`; larger windows stay behind the pixel unshuffle, where they are computed with fewer products (Winograd).
//!
//! Legal when: weights are known, one group, no dilation, and nobody else reads what the convolution reads. There are
//! as many channels as the image's have phases, so that no more is computed; a phase that is missing has weights of 0. The second form: the image has few channels,
//! which kernels of first layers read as they lie. Numerics: the same products in another order. Order: behind
//! `fold_batch_norm` and `merge_parallel_convolutions`, which make several convolutions one, and before `fuse_epilogue`.

use crate::ir::{Editor, NodeId};
use crate::ops::{ChannelShuffle, Concat, Conv2d, IndexSelect, Op, PixelUnshuffle, Slice};

/// Channels of an image that a convolution is to read itself, at most.
const MOST_CHANNELS: usize = 4;
/// Moves that are followed back from one convolution: those of a Focus are 13.
const MOST_MOVES: usize = 64;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        fold(e, id);
    });
}

/// A value whose channels hold pixels of an image that lie `factor` apart.
#[derive(Clone, Debug, PartialEq)]
struct Phases {
    image: NodeId,
    /// Of height and width.
    factor: [usize; 2],
    channels: Vec<Phase>,
}

/// The pixels `(factor · y + from[0], factor · x + from[1])` of a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Phase {
    channel: usize,
    from: [usize; 2],
}

impl Phases {
    /// An image as it is.
    fn all(e: &Editor, image: NodeId) -> Phases {
        let channels = (0..e.node(image).shape[1]).map(|channel| Phase { channel, from: [0, 0] }).collect();
        Phases { image, factor: [1, 1], channels }
    }

    /// What moves pixels of an image, back to the first value that is computed. `None` where joined values are of several images.
    fn of(e: &Editor, id: NodeId, left: &mut usize) -> Option<Phases> {
        *left = left.checked_sub(1)?;
        let mut of_operand = || Phases::of(e, e.operands(id)[0], left);
        match e.node(id).op() {
            Some(&Op::PixelUnshuffle(PixelUnshuffle { factor })) => {
                Some(of_operand()?.apart([factor; 2], |phase, channels| {
                    let places = (0..factor * factor).map(|at| [at / factor, at % factor]);
                    channels.extend(places.map(|[y, x]| phase([y, x])));
                }))
            }
            Some(&Op::Slice(Slice { axis: 1, start, end, step })) => {
                let of = of_operand()?;
                Some(of.with(of.channels[start..end].iter().step_by(step)))
            }
            // The pixels in between are of other slices, which are as many.
            Some(&Op::Slice(Slice { axis: axis @ (2 | 3), start, step, .. }))
                if start < step && e.node(id).shape[axis] * step == e.node(e.operands(id)[0]).shape[axis] =>
            {
                let (mut factor, mut from) = ([1, 1], [0, 0]);
                (factor[axis - 2], from[axis - 2]) = (step, start);
                Some(of_operand()?.apart(factor, |phase, channels| channels.push(phase(from))))
            }
            Some(Op::Concat(Concat { axis: 1 })) => {
                let mut parts = e.operands(id).into_iter().map(|part| Phases::of(e, part, left));
                let mut all = parts.next()??;
                for part in parts {
                    let part = part?;
                    if (part.image, part.factor) != (all.image, all.factor) {
                        return None;
                    }
                    all.channels.extend(part.channels);
                }
                Some(all)
            }
            Some(Op::IndexSelect(IndexSelect { axis: 1, indices })) => {
                let of = of_operand()?;
                Some(of.with(indices.iter().map(|&index| &of.channels[index])))
            }
            Some(Op::ChannelShuffle(op)) => {
                let of = of_operand()?;
                let count = of.channels.len();
                Some(of.with((0..count).map(|c| &of.channels[ChannelShuffle::source(op, c, count)])))
            }
            _ => Some(Phases::all(e, id)),
        }
    }

    fn with<'a>(&self, channels: impl Iterator<Item = &'a Phase>) -> Phases {
        Phases { channels: channels.copied().collect(), ..*self }
    }

    /// The same with pixels that lie farther apart by `factor`; `take` gets each channel's phase by where its pixels begin now.
    fn apart(&self, factor: [usize; 2], take: impl Fn(&dyn Fn([usize; 2]) -> Phase, &mut Vec<Phase>)) -> Phases {
        let mut channels = vec![];
        for phase in &self.channels {
            let along = |axis: usize, begin: usize| phase.from[axis] + self.factor[axis] * begin;
            take(&|[y, x]| Phase { channel: phase.channel, from: [along(0, y), along(1, x)] }, &mut channels);
        }
        Phases { image: self.image, factor: [0, 1].map(|axis| self.factor[axis] * factor[axis]), channels }
    }
}

fn fold(e: &mut Editor, id: NodeId) -> Option<()> {
    let Op::Conv2d(op) = e.node(id).op()?.clone() else { return None };
    let known = e.weights_of(id)?;
    let moved = e.operands(id)[0];
    if op.groups != 1 || op.dilation != [1, 1] || !e.feeds_only(moved, id) {
        return None;
    }
    let mut left = MOST_MOVES;
    let Phases { image, factor, channels } = Phases::of(e, moved, &mut left)?;
    let inputs = e.node(image).shape[1];
    let phases = factor[0] * factor[1];
    if phases == 1 || channels.len() != inputs * phases {
        return None;
    }
    let known_values = e.weight_values(known[0]);
    // The channel of a pixel unshuffle that each channel is.
    let unshuffled = |p: &Phase| (p.channel * factor[0] + p.from[0]) * factor[1] + p.from[1];
    let taps = op.kernel[0] * op.kernel[1];
    let mut weight = vec![0.0; known_values.len()];
    for (plane, values) in known_values.chunks(taps).enumerate() {
        let (output, at) = (plane / channels.len(), unshuffled(&channels[plane % channels.len()]));
        let to = (output * channels.len() + at) * taps;
        weight[to..to + taps].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    let reads_image = taps == 1 && op.pad == [0; 4] && inputs <= MOST_CHANNELS;
    let is_unshuffled = e.operands(moved) == [image] && matches!(e.node(moved).op(), Some(Op::PixelUnshuffle(_)));
    if !reads_image && (is_unshuffled || factor[0] != factor[1]) {
        return None;
    }
    let name = e.describe(moved);
    let locations = e.locations(&[moved, id]);
    let (of, message) = match reads_image {
        true => (image, format!("{} reads the pixels that {name} puts into channels", e.describe(id))),
        false => {
            let shuffle = PixelUnshuffle { factor: factor[0] };
            (e.insert(shuffle, &[image], vec![], moved), format!("{name} is a pixel unshuffle"))
        }
    };
    let (kernel, shape) = match reads_image {
        // A plane of one tap for each phase, rows first, is a window.
        true => (factor, [op.channels, inputs, factor[0], factor[1]]),
        false => (op.kernel, [op.channels, channels.len(), op.kernel[0], op.kernel[1]]),
    };
    let stride = if reads_image { [0, 1].map(|axis| op.stride[axis] * factor[axis]) } else { op.stride };
    let mut weights = vec![e.derive(&e.parameter_name(id, 0), shape, &weight, true)];
    weights.extend(&known[1..]);
    let operands = [&[of], &e.operands(id)[1..]].concat();
    e.rewrite(id, Conv2d { kernel, stride, ..op }, &operands, weights);
    e.remark(message, locations);
    Some(())
}
