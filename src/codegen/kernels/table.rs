//! Tables that kernels read at run time: where an output row or column gets its values from.
//!
//! A table lies among the packed weights. It keeps irregular geometry (clipped windows, adaptive
//! windows, resized positions) out of the code, whose size then does not depend on the image's.

use super::super::emit::{Driver, Emitted, Emitter, Packed};
use super::super::packing::Part;
use super::super::vector::{Address, Builder, Int};
use crate::plan::Step;
use crate::tensor::Element;

/// Bytes of an entry.
pub(crate) const ENTRY: usize = 32;
const WORDS: usize = ENTRY / Element::I32.bytes();

/// One row or column: numbers (byte offsets, counts) and a factor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Entry {
    pub numbers: [usize; 3],
    pub factor: f32,
}

/// The part of the packed weights that holds the entries. Numbers are stored as two words each.
pub(crate) fn part(entries: &[Entry]) -> Part {
    let mut all = vec![0; entries.len() * WORDS];
    for (entry, out) in entries.iter().zip(all.chunks_exact_mut(WORDS)) {
        for (&number, out) in entry.numbers.iter().zip(out.chunks_exact_mut(2)) {
            out.copy_from_slice(&words(number));
        }
        out[6] = entry.factor.to_bits();
    }
    Part::words(all)
}

/// A number as it lies among weights.
pub(crate) fn words(number: usize) -> [u32; 2] {
    [number as u32, (number as u64 >> 32) as u32]
}

/// Loads one of the numbers of the entry at `entry`.
pub(crate) fn number(b: &mut Builder, entry: Int, index: usize) -> Int {
    b.load_int(entry.at(8 * index))
}

/// Address of the entry's factor.
pub(crate) fn factor(entry: Int) -> Address {
    entry.at(24)
}

/// The driver of a step whose tasks are the output rows of the channel blocks, one entry of `size`
/// bytes a row in the table at byte `rows` of the weights. `call` gets the addresses of the input's
/// block, of the row's entry and of the output's row.
pub(crate) fn emit_rows(
    e: &mut Emitter,
    step: &Step,
    (rows, size): (Packed, usize),
    scratch: usize,
    call: impl Fn(&mut Driver, [Int; 3]),
) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [images, _, height, _] = output.image();
    let blocks = output.blocks();
    let grid = images * blocks * height;
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, grid, |d, task| {
            let (rest, y) = d.split(task, height);
            let rest = d.int(rest);
            let (image, block) = d.split(rest, blocks);
            let [from, to] = [input, output].map(|view| {
                let base = d.view(e, view);
                d.step(base, image, view.batch_stride);
                d.step(base, block, view.block_stride());
                base
            });
            d.step(to, y, output.row_stride());
            let row = d.weights(rows);
            d.step(row, y, size);
            call(d, [from, row, to]);
        });
    });
    Emitted { entry, grid, scratch }
}
