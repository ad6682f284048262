//! Resizing of images. Which rows and columns an output pixel mixes, and in which shares, comes from
//! tables, so that every mode, factor and alignment is one of two kernels: a copy, and
//!
//! ```text
//! scratch[x] = Σ share · input[row][x]          over the rows of the output row, for every input column
//! output[x]  = Σ share · scratch[column]        over the columns of every output column
//! ```
//!
//! so that four taps along each axis cost eight multiply-adds a pixel, not sixteen.

use std::fmt;

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::packing::Part;
use super::super::vector::{Address, Builder, Function, Int, Operand, Vector, VectorOp};
use super::{LANE, grid, table};
use crate::ops::Upsample;
use crate::plan::Step;
use crate::target::Unit;
use crate::tensor::Element;

/// One task is one row of output pixels of a block.
pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &Upsample) -> Emitted {
    let ([.., h, w], [.., height, width]) = (step.inputs[0].image(), step.outputs[0].image());
    let pixel = step.inputs[0].pixel_stride();
    let elements = [&step.inputs[0], &step.outputs[0]].map(|view| view.shape.element());
    let mix = Mix { taps: op.mode.taps(), input: w, output: width, elements };
    let column = e.unit().lanes * mix.source().bytes();
    let parts = vec![mix.table(op, 0, [h, height], w * pixel), mix.table(op, 1, [w, width], column)];
    let packed = e.pack(vec![], parts);
    let kernel = e.kernel(&mix);
    let scratch = if mix.taps == 1 { 0 } else { w * column };
    table::emit_rows(e, step, (packed[0], mix.entry()), scratch, |d, [from, row, to]| {
        let columns = d.weights(packed[1]);
        d.b.call(kernel, [from, to, row, columns, d.scratch].map(Operand::from).to_vec());
    })
}

/// Makes one row: so many taps along each axis, columns in and out.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Mix {
    taps: usize,
    input: usize,
    output: usize,
    /// Of input and output; rows in scratch memory are of f32.
    elements: [Element; 2],
}

/// For the kernel's name, which tells the element by itself.
impl fmt::Debug for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mix { taps, input, output, elements: _ } = self;
        f.debug_struct("Mix").field("taps", taps).field("input", input).field("output", output).finish()
    }
}

impl KernelKey for Mix {
    /// Parameters: the input's block, the output's row, the row's entry, the columns' entries, scratch.
    fn build(&self, unit: Unit) -> Function {
        let of = match self.elements {
            [Element::F32, Element::F32] => String::new(),
            [from, to] if from == to => format!(" of {from}"),
            [from, to] => format!(" of {from} to {to}"),
        };
        let mut b = Builder::new(format!("resize {self:?}{of}"), unit, 5);
        let [input, output, row, columns, scratch] = [0, 1, 2, 3, 4].map(|i| b.parameter(i));
        let from = match self.taps {
            1 => {
                let offset = table::number(&mut b, row, 0);
                b.add(input, offset)
            }
            _ => {
                self.mix_rows(&mut b, [input, row, scratch], unit);
                scratch
            }
        };
        b.repeat(self.output, |b| {
            let taps: Vec<Vector> = (0..self.taps)
                .map(|tap| {
                    let offset = table::number(b, columns, tap);
                    grid::load_stored(b, from.plus(offset, 0), self.source())
                })
                .collect();
            let mixed = match taps[..] {
                [only] => only,
                _ => {
                    let shares: Vec<Vector> = (0..self.taps).map(|tap| b.broadcast(self.share(columns, tap))).collect();
                    weighted(b, &taps, &shares)
                }
            };
            grid::store_stored(b, output.at(0), mixed, self.elements[1]);
            b.advance(output, unit.lanes * self.elements[1].bytes());
            b.advance(columns, self.entry());
        });
        b.finish()
    }
}

impl Mix {
    /// What columns are read as.
    fn source(self) -> Element {
        if self.taps == 1 { self.elements[0] } else { Element::F32 }
    }

    /// Bytes of an entry of the tables: an offset for each tap, then a share for each.
    fn entry(self) -> usize {
        (12 * self.taps).next_multiple_of(16)
    }

    fn share(self, entry: Int, tap: usize) -> Address {
        entry.at(8 * self.taps + LANE * tap)
    }

    /// The taps of each output position of an axis; `stride` is the distance of input positions.
    fn table(self, op: &Upsample, axis: usize, [input, output]: [usize; 2], stride: usize) -> Part {
        let words = self.entry() / Element::I32.bytes();
        let mut all = vec![0; output * words];
        for (taps, out) in op.taps(axis, input, output).iter().zip(all.chunks_exact_mut(words)) {
            let (offsets, shares) = out.split_at_mut(2 * taps.len());
            for ((&(place, share), offset), slot) in taps.iter().zip(offsets.chunks_exact_mut(2)).zip(shares) {
                offset.copy_from_slice(&table::words(place * stride));
                *slot = (share as f32).to_bits();
            }
        }
        Part::words(all)
    }

    /// The rows of an output row, mixed, into scratch memory.
    fn mix_rows(self, b: &mut Builder, [input, row, scratch]: [Int; 3], unit: Unit) {
        let rows: Vec<Int> = (0..self.taps)
            .map(|tap| {
                let offset = table::number(b, row, tap);
                b.add(input, offset)
            })
            .collect();
        let shares: Vec<Vector> = (0..self.taps).map(|tap| b.broadcast(self.share(row, tap))).collect();
        let to = b.int(scratch);
        b.repeat(self.input, |b| {
            let taps: Vec<Vector> = rows.iter().map(|row| grid::load_stored(b, row.at(0), self.elements[0])).collect();
            let mixed = weighted(b, &taps, &shares);
            b.store(to.at(0), mixed);
            rows.iter().for_each(|&row| b.advance(row, unit.lanes * self.elements[0].bytes()));
            b.advance(to, unit.bytes());
        });
    }
}

/// Σ share · tap
fn weighted(b: &mut Builder, taps: &[Vector], shares: &[Vector]) -> Vector {
    let sum = b.op(VectorOp::Mul, taps[0], shares[0]);
    taps.iter().zip(shares).skip(1).for_each(|(&tap, &share)| b.fma(sum, tap, share));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
    use crate::testing::{self, conv};

    #[test]
    fn modes_and_coordinates() {
        let targets =
            [ResizeTo::Scale([2.0; 2]), ResizeTo::Scale([1.5, 0.7]), ResizeTo::Size([9, 4]), ResizeTo::Size([1, 1])];
        for (i, to) in targets.into_iter().enumerate() {
            use Interpolation::{Bicubic, Bilinear, CatmullRom, Nearest};
            for mode in [Nearest, Bilinear, Bicubic, CatmullRom] {
                for coordinates in [Coordinates::Usual, Coordinates::AlignCorners, Coordinates::HalfPixel] {
                    let rounding = [Rounding::Floor, Rounding::Ceil, Rounding::HalfDown, Rounding::HalfUp][i];
                    let mut b = testing::GraphBuilder::new("upsample", Phase::Infer);
                    let x = b.input([2, 3, 5, 6]);
                    let x = b.add(conv(19, 1, 1, 0), &[x]);
                    let y = b.add(Upsample { to, mode, coordinates, rounding }, &[x]);
                    check(b.finish(&[y]));
                }
            }
        }
    }
}
