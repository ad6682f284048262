//! Copies ranges of channels between blocked values: operands of a concat that could not be
//! computed in place, and slices that do not begin a block.
//!
//! ```text
//! source blocks   ……abcd efgh ij……          lane i of an output block comes from lane i + shift of
//! output block         ^^^^^^^^             one source block, or from the block after it
//! ```
//!
//! The kernel computes one output block from at most two source blocks, with masked loads that put
//! each piece into its lanes.

use super::super::emit::{Emitted, Emitter};
use super::super::vector::{Builder, Callee, Function, Inst, Int, Operand};
use crate::ops::Slice;
use crate::plan::{Step, View};
use crate::target::Unit;

/// Pixels in the copy loop's body.
const UNROLL: usize = 4;

/// Copies a concat's operand to the output's channels from `channel` on.
pub fn concat(e: &mut Emitter, step: &Step, channel: usize) -> Emitted {
    let [_, channels, ..] = step.inputs[0].image();
    copy(e, step, 0, channel, channels)
}

pub fn slice(e: &mut Emitter, step: &Step, op: &Slice) -> Emitted {
    copy(e, step, op.start, 0, op.end - op.start)
}

/// Output blocks that are written alike, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    first: usize,
    blocks: usize,
    /// Lanes that are copied, and one past the last that is written: padding becomes zero.
    from: usize,
    to: usize,
    end: usize,
}

/// Channels `source..source + count` of the input become channels `target..` of the output.
fn copy(e: &mut Emitter, step: &Step, source: usize, target: usize, count: usize) -> Emitted {
    let unit = e.unit();
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [images, channels, h, w] = output.image();
    // Source block and lane of what would be lane 0 of output block 0; blocks may be negative.
    let distance = source as i64 - target as i64;
    let shift = distance.rem_euclid(unit.lanes as i64) as usize;
    let source_block = distance.div_euclid(unit.lanes as i64);

    let runs = runs(target, count, channels, unit);
    let kernels: Vec<Callee> = runs.iter().map(|&run| kernel(e, run, shift, h * w)).collect();
    let grid = runs.iter().map(|r| r.blocks * images).sum();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut first = 0;
        for (run, &kernel) in runs.iter().zip(&kernels) {
            d.tasks(first, run.blocks * images, |d, task| {
                let (image, block) = d.split(task, run.blocks);
                let mut pointer = |view: &View, first: i64| {
                    let base = d.view(e, view);
                    d.step(base, image, view.batch_stride);
                    d.step(base, block, view.block_stride(unit));
                    d.b.advance(base, first * view.block_stride(unit) as i64);
                    base
                };
                let from = pointer(input, source_block + run.first as i64);
                let to = pointer(output, run.first as i64);
                let next = d.b.add(from, input.block_stride(unit));
                d.b.call(kernel, [from, next, to].map(Operand::from).to_vec());
            });
            first += run.blocks * images;
        }
    });
    Emitted { entry, grid, scratch: 0 }
}

/// The output blocks that hold channels `target..target + count`, in runs of equal lanes.
fn runs(target: usize, count: usize, channels: usize, unit: Unit) -> Vec<Run> {
    let mut runs: Vec<Run> = vec![];
    for block in target / unit.lanes..(target + count).div_ceil(unit.lanes) {
        let start = block * unit.lanes;
        let from = target.saturating_sub(start);
        let to = (target + count - start).min(unit.lanes);
        let end = if start + to == channels { unit.lanes } else { to };
        match runs.last_mut() {
            Some(run) if (run.from, run.to, run.end) == (from, to, end) => run.blocks += 1,
            _ => runs.push(Run { first: block, blocks: 1, from, to, end }),
        }
    }
    runs
}

fn kernel(e: &mut Emitter, run: Run, shift: usize, pixels: usize) -> Callee {
    let Run { from, to, end, .. } = run;
    let name = format!("channels_{from}_{to}_{end}_shift{shift}_{pixels}");
    e.kernel(&name, |unit| build(&name, unit, run, shift, pixels))
}

/// Parameters: a source block, the one after it, the output block. A block that no lane comes from
/// is not read.
fn build(name: &str, unit: Unit, run: Run, shift: usize, pixels: usize) -> Function {
    let mut b = Builder::new(name, unit, 3);
    let pointers: [Int; 3] = [0, 1, 2].map(|i| b.parameter(i));
    // The pieces' bases: lane i lies 4 · i bytes from it.
    b.advance(pointers[0], 4 * shift);
    b.advance(pointers[1], -4 * (unit.lanes - shift) as i64);
    let copies = |b: &mut Builder, copies: usize| {
        (0..copies).for_each(|i| pixel(b, unit, run, shift, i * unit.bytes()));
        pointers.iter().for_each(|&p| b.advance(p, copies * unit.bytes()));
    };
    b.repeat(pixels / UNROLL, |b| copies(b, UNROLL));
    copies(&mut b, pixels % UNROLL);
    b.finish()
}

fn pixel(b: &mut Builder, unit: Unit, run: Run, shift: usize, offset: usize) {
    let [low, high, output] = [0, 1, 2].map(|i| b.parameter(i).at(offset));
    let Run { from, to, end, .. } = run;
    let middle = unit.lanes - shift;
    let v = if (from, to, shift) == (0, unit.lanes, 0) {
        b.load(low)
    } else {
        let v = b.splat(0.0);
        for (address, from, to) in [(low, from, to.min(middle)), (high, from.max(middle), to)] {
            if from < to {
                b.push(Inst::LoadLanes { dst: v, address, from: from as u8, to: to as u8 });
            }
        }
        v
    };
    if (from, end) == (0, unit.lanes) {
        b.store(output, v);
    } else {
        b.push(Inst::StoreLanes { address: output, src: v, from: from as u8, to: end as u8 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::Concat;
    use crate::testing::{self, conv, relu};

    #[test]
    fn runs_cover_the_channels() {
        let run = |first, blocks, from, to, end| Run { first, blocks, from, to, end };
        assert_eq!(runs(5, 30, 35, Unit::V256), [run(0, 1, 5, 8, 8), run(1, 3, 0, 8, 8), run(4, 1, 0, 3, 8)]);
        assert_eq!(runs(2, 3, 8, Unit::V256), [run(0, 1, 2, 5, 5)]);
        assert_eq!(runs(8, 8, 16, Unit::V256), [run(1, 1, 0, 8, 8)]);
    }

    #[test]
    fn unaligned_concat() {
        for channels in [[5, 11, 20], [16, 3, 40], [33, 35, 1], [1, 1, 1]] {
            let mut b = testing::Builder::new("concat", Phase::Infer);
            let x = b.input([2, 3, 5, 3]);
            let branches: Vec<_> = channels.iter().map(|&c| b.add(conv(c, 1, 1, 0), &[x])).collect();
            let y = b.add(Concat { axis: 1 }, &branches);
            let y = b.add(relu(), &[y]);
            check(b.finish(&[y]));
        }
    }

    #[test]
    fn inputs_and_repeated_values_are_copied() {
        let mut b = testing::Builder::new("concat", Phase::Infer);
        let x = b.input([2, 16, 5, 3]);
        let y = b.add(conv(32, 1, 1, 0), &[x]);
        let z = b.add(Concat { axis: 1 }, &[y, x, y]);
        check(b.finish(&[y, z]));
    }

    #[test]
    fn unaligned_slices() {
        for (start, end) in [(1, 40), (5, 6), (15, 33), (8, 19), (0, 3)] {
            let mut b = testing::Builder::new("slice", Phase::Infer);
            let x = b.input([2, 3, 3, 3]);
            let y = b.add(conv(40, 1, 1, 0), &[x]);
            let y = b.add(relu(), &[y]);
            let y = b.add(Slice { axis: 1, start, end, step: 1 }, &[y]);
            let y = b.add(conv(7, 1, 1, 0), &[y]);
            check(b.finish(&[y]));
        }
    }
}
