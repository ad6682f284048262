//! A transposed convolution to few channels becomes a convolution to the channels of all its phases, which are then put
//! between one another.
//!
//! ```text
//! %y = conv_transpose2d %x, @w, @b { channels=1 kernel=9x9 stride=3x3 pad=4,4,4,4 … }
//!         ⟶
//! %p = conv2d %x, @w', @b' { channels=9 kernel=3x3 pad=1,1,2,2 … }
//! %s = pixel_shuffle %p { factor=3 }
//! %r = slice %s { axis=2 … }
//! %y = slice %r { axis=3 … }
//! ```
//!
//! Row `o` of the result lies at `o + pad = stride · q + r` of what is not cut off yet, and sums over j the kernel's row
//! `r + stride · j` by x's row `q − j`: the same rows of x for each phase r. Where there are few channels, a phase alone
//! leaves most lanes of a vector unused, and all of them together read x once.
//!
//! Legal when: the stride is the same along both axes, there is one group, no dilation, weights that are known, and no
//! epilogue that reads another value. Numerics: the same products; phases that have fewer taps than others multiply by
//! zeros beside them, which infinities and NaN turn into NaN. Order: behind `fuse_epilogue`, whose activation is that of
//! the convolution, on as many elements.

use crate::ir::{Editor, NodeId};
use crate::ops::epilogue::PostOp;
use crate::ops::{Conv2d, ConvTranspose2d, Op, PixelShuffle, Slice};

/// Channels of a result at most: with stride 2 four times as many still fit the widest vector.
const MOST_CHANNELS: usize = 4;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        join(e, id);
    });
}

/// One axis of the convolution to all phases.
struct Axis {
    taps: usize,
    pad: [usize; 2],
    /// Positions of the shuffled result that are cut off before the first that counts, and those that count.
    first: usize,
    size: usize,
    /// Positions of the shuffled result.
    shuffled: usize,
}

impl Axis {
    /// `None` where the result begins behind all that the input reaches.
    fn of(op: &ConvTranspose2d, axis: usize, input: usize, output: usize) -> Option<Axis> {
        let (stride, before) = (op.stride[axis], op.pad[axis]);
        let taps = op.kernel[axis].div_ceil(stride);
        let first = before / stride;
        let wanted = (before + output - 1) / stride - first + 1;
        let pad = (taps - 1).checked_sub(first)?;
        let behind = (wanted + taps - 1).saturating_sub(input + pad);
        let shuffled = stride * (input + pad + behind + 1 - taps);
        Some(Axis { taps, pad: [pad, behind], first: before % stride, size: output, shuffled })
    }
}

fn join(e: &mut Editor, id: NodeId) -> Option<()> {
    let Op::ConvTranspose2d(op) = e.node(id).op()?.clone() else { return None };
    let factor = op.stride[0];
    let is_plain = op.groups == 1 && op.dilation == [1, 1] && op.stride == [factor; 2];
    let is_elementwise = op.epilogue.iter().all(|step| matches!(step, PostOp::Activate(_)));
    if factor == 1 || !is_plain || !is_elementwise || op.channels > MOST_CHANNELS {
        return None;
    }
    let known = e.weights_of(id)?;
    let x = e.operands(id)[0];
    let (from, to) = (e.node(x).shape.clone(), e.node(id).shape.clone());
    let [rows, columns] = [Axis::of(&op, 0, from[2], to[2])?, Axis::of(&op, 1, from[3], to[3])?];

    let origin = e.parameter_name(id, 0);
    let weight = phases(&op, &e.weight_values(known[0]), from[1], [&rows, &columns]);
    let channels = op.channels * factor * factor;
    let mut weights = vec![e.derive(&origin, [channels, from[1], rows.taps, columns.taps], &weight, true)];
    if let Some(&bias) = known.get(1) {
        let bias: Vec<f64> =
            e.weight_values(bias).iter().flat_map(|&v| std::iter::repeat_n(v, factor * factor)).collect();
        weights.push(e.derive(&e.parameter_name(id, 1), [channels], &bias, true));
    }
    let conv = Conv2d {
        channels,
        kernel: [rows.taps, columns.taps],
        stride: [1, 1],
        pad: [rows.pad[0], columns.pad[0], rows.pad[1], columns.pad[1]],
        dilation: [1, 1],
        groups: 1,
        bias: op.bias,
        epilogue: op.epilogue,
    };
    let message = format!("{} computes all {} phases at once", e.describe(id), factor * factor);
    let locations = e.locations(&[id]);
    let conv = e.insert(conv, &[x], weights, id);
    let cuts = [(2, rows), (3, columns)].into_iter().filter(|(_, a)| a.first > 0 || a.size < a.shuffled);
    let cuts = cuts.map(|(axis, a)| Slice { axis, start: a.first, end: a.first + a.size, step: 1 }.into());
    let mut ops: Vec<Op> = std::iter::once(PixelShuffle { factor }.into()).chain(cuts).collect();
    let last = ops.pop().expect("the shuffle at least");
    let value = ops.into_iter().fold(conv, |value, op| e.insert(op, &[value], vec![], id));
    e.rewrite(id, last, &[value], vec![]);
    e.remark(message, locations);
    Some(())
}

/// The weight `[channels, rows, columns]` of each phase and input: taps are in the order of x's pixels, which is the
/// kernel's turned round. What lies beyond the kernel is 0.
fn phases(op: &ConvTranspose2d, weight: &[f64], inputs: usize, [rows, columns]: [&Axis; 2]) -> Vec<f64> {
    let ([height, width], factor) = (op.kernel, op.stride[0]);
    let mut all = Vec::with_capacity(op.channels * factor * factor * inputs * rows.taps * columns.taps);
    for (channel, phase) in (0..op.channels).flat_map(|channel| (0..factor * factor).map(move |p| (channel, p))) {
        for input in 0..inputs {
            for (row, column) in (0..rows.taps).rev().flat_map(|row| (0..columns.taps).rev().map(move |c| (row, c))) {
                let (y, x) = (phase / factor + factor * row, phase % factor + factor * column);
                let inside = y < height && x < width;
                all.push(if inside { weight[((input * op.channels + channel) * height + y) * width + x] } else { 0.0 });
            }
        }
    }
    all
}
