//! Channels and pixels that change places, written as a transposition between two reshapes.
//!
//! ```text
//! %a = reshape %x { shape=[0,2,4,7,7] } : f32[1,2,4,7,7]
//! %b = transpose %a { perm=[0,2,1,3,4] }                  ⟶     %y = channel_shuffle %x { groups=2 } : f32[1,8,7,7]
//! %y = reshape %b { shape=[0,8,7,7] } : f32[1,8,7,7]
//! ```
//!
//! Likewise `pixel_shuffle` and `pixel_unshuffle`; where a pixel's place is the slowest part of the channel's
//! number, as in TensorFlow's `depth_to_space`, that is `channel_shuffle` and `pixel_shuffle`. Legal when: the
//! sizes between are those of the images' own axes, split; and nobody else reads the transposed value.
//! Numerics: exact; elements only move. Order: anywhere behind `cse`; there it joins the other passes that
//! recognise what is written out.

use super::pattern::is_closed;
use crate::ir::{Editor, NodeId};
use crate::ops::{ChannelShuffle, Op, PixelShuffle, PixelUnshuffle};

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        recognise(e, id);
    });
}

fn recognise(e: &mut Editor, last: NodeId) -> Option<()> {
    let Op::Reshape(_) = e.node(last).op()? else { return None };
    let moved = e.operands(last)[0];
    let Op::Transpose(transpose) = e.node(moved).op()? else { return None };
    let split = e.operands(moved)[0];
    let Op::Reshape(_) = e.node(split).op()? else { return None };
    let x = e.operands(split)[0];
    let dims = |id: NodeId| e.node(id).shape.dims();
    let steps = shuffle(dims(x), dims(split), &transpose.perm, dims(last))?;
    if !is_closed(e, &[moved].into(), last) {
        return None;
    }
    let names: Vec<&str> = steps.iter().map(Op::layer_name).collect();
    let message = format!("wrote the operations up to {} as {}", e.describe(last), names.join(" and "));
    let locations = e.locations(&[split, moved, last]);
    let (step, before) = steps.split_last()?;
    let x = before.iter().fold(x, |x, op| e.insert(op.clone(), &[x], vec![], last));
    e.rewrite(last, step.clone(), &[x], vec![]);
    e.remark(message, locations);
    Some(())
}

/// What splitting axes, moving and merging them does to images.
fn shuffle(from: &[usize], split: &[usize], perm: &[usize], to: &[usize]) -> Option<Vec<Op>> {
    let &[n, c, h, w] = from else { return None };
    let steps = match (perm, split) {
        ([0, 2, 1, 3, 4], &[m, groups, each, y, x]) if [m, groups * each, y, x] == [n, c, h, w] && to == from => {
            vec![ChannelShuffle { groups }.into()]
        }
        ([0, 1, 4, 2, 5, 3], &[m, each, f, g, y, x])
            if f == g && [m, each * f * f, y, x] == [n, c, h, w] && to == [n, each, h * f, w * f] =>
        {
            vec![PixelShuffle { factor: f }.into()]
        }
        ([0, 3, 4, 1, 5, 2], &[m, f, g, each, y, x])
            if f == g && [m, f * f * each, y, x] == [n, c, h, w] && to == [n, each, h * f, w * f] =>
        {
            vec![ChannelShuffle { groups: f * f }.into(), PixelShuffle { factor: f }.into()]
        }
        ([0, 1, 3, 5, 2, 4], &[m, each, y, f, x, g])
            if f == g && [m, each, y * f, x * f] == [n, c, h, w] && to == [n, c * f * f, y, x] =>
        {
            vec![PixelUnshuffle { factor: f }.into()]
        }
        _ => return None,
    };
    Some(steps)
}
