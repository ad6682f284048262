//! Resizing of images. Which rows and columns an output pixel mixes, and in which shares, comes from
//! tables, so that every mode, factor and alignment is one of two kernels: a copy, and
//!
//! ```text
//! scratch[x] = Σ share · input[row][x]          over the rows of the output row, for every input column
//! output[x]  = Σ share · scratch[column]        over the columns of every output column
//! ```
//!
//! so that four taps along each axis cost eight multiply-adds a pixel, not sixteen.
//!
//! In plain memory, where the lanes are columns, an axis must become a whole number of times as long ([`Upsample::pattern`]).
//! Then a vector of input columns and its neighbours are as many vectors of output columns, of which each lane and tap
//! has its column and its share, the same for all vectors:
//!
//! ```text
//! scratch  e e e e | a b c d … | z z z z      the row with its border pixels repeated
//! output   a a b b   c c d d …                a shuffle for each tap, then as above
//! ```

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

/// One task is one row of output pixels of a block, or of a channel in plain memory.
pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &Upsample) -> Emitted {
    if !step.outputs[0].layout.is_blocked() {
        return planes(e, step, op);
    }
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

fn planes(e: &mut Emitter, step: &Step, op: &Upsample) -> Emitted {
    let ([.., h, w], [.., height, width]) = (step.inputs[0].image(), step.outputs[0].image());
    let pattern = op.pattern(1, w, width).expect("the plan has looked");
    let mix = Mix { taps: op.mode.taps(), input: w, output: width, elements: [Element::F32; 2] };
    let spread = Spread {
        mix,
        distances: pattern.iter().map(|taps| taps.iter().map(|&(distance, _)| distance).collect()).collect(),
        shares: pattern.iter().any(|taps| taps.iter().any(|&(_, share)| share != 1.0)),
    };
    let lanes = e.unit().lanes;
    let shares = spread.each(lanes).map(|(place, tap)| pattern[place % pattern.len()][tap].1.to_bits());
    let parts = vec![mix.table(op, 0, [h, height], w * LANE), Part::words(shares.collect())];
    let packed = e.pack(vec![], parts);
    let kernel = e.kernel(&spread);
    let scratch = spread.row(e.unit()) * LANE;
    table::emit_rows(e, step, (packed[0], mix.entry()), scratch, |d, [from, row, to]| {
        let shares = d.weights(packed[1]);
        d.b.call(kernel, [from, to, row, shares, d.scratch].map(Operand::from).to_vec());
    })
}

/// Makes one row of plain memory, a whole number of times as long as the input's.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Spread {
    mix: Mix,
    /// Of the output columns that an input column becomes, the distances of those that each mixes.
    distances: Vec<Vec<isize>>,
    /// They have shares, rather than being copied.
    shares: bool,
}

impl KernelKey for Spread {
    /// Parameters: the input's first row, the output's row, the row's entry, shares, scratch.
    fn build(&self, unit: Unit) -> Function {
        let Mix { input: width, .. } = self.mix;
        let lanes = unit.lanes;
        let mut b = Builder::new(format!("resize planes {:?} {:?}", self.mix, self.distances), unit, 5);
        let [input, output, row, shares, scratch] = [0, 1, 2, 3, 4].map(|i| b.parameter(i));
        let low = self.distances.iter().flatten().copied().min().unwrap_or(0);
        let from = match self.is_copied() {
            true => self.mix.rows(&mut b, input, row)[0],
            false => {
                let line = b.int(scratch);
                b.advance(line, unit.bytes());
                self.mix_planes(&mut b, [input, row, line]);
                let [first, last] = [0, width - 1].map(|column| b.broadcast(line.at(column * LANE)));
                b.store(scratch.at(0), first);
                b.store(line.at(width * LANE), last);
                b.advance(line, low as i64 * LANE as i64);
                line
            }
        };
        let times = self.distances.len();
        let columns = |b: &mut Builder, columns: usize| {
            let both = match self.is_copied() {
                true => [b.load_first(from.at(0), columns); 2],
                false => [0, unit.bytes()].map(|next| b.load(from.at(next))),
            };
            for vector in 0..(columns * times).div_ceil(lanes) {
                let taps: Vec<Vector> = (0..self.mix.taps)
                    .map(|tap| {
                        b.shuffle(both, |lane| {
                            let (column, p) = ((vector * lanes + lane) / times, (vector * lanes + lane) % times);
                            (column as isize + self.distances[p][tap] - low) as usize
                        })
                    })
                    .collect();
                let mixed = match self.shares {
                    false => taps[0],
                    true => {
                        let at = |tap: usize| (vector * self.mix.taps + tap) * unit.bytes();
                        let shares: Vec<Vector> = (0..self.mix.taps).map(|tap| b.load(shares.at(at(tap)))).collect();
                        weighted(b, &taps, &shares)
                    }
                };
                let wanted = (columns * times - vector * lanes).min(lanes);
                b.store_first(output.at(vector * unit.bytes()), mixed, wanted);
            }
            b.advance(from, unit.bytes());
            b.advance(output, times * unit.bytes());
        };
        b.repeat(width / lanes, |b| columns(b, lanes));
        if width % lanes > 0 {
            columns(&mut b, width % lanes);
        }
        b.finish()
    }
}

impl Spread {
    /// Whether each column only repeats, so that the input's row is read where it is.
    fn is_copied(&self) -> bool {
        self.distances.iter().all(|taps| *taps == [0])
    }

    /// Numbers of a row in scratch memory: a vector on either side, and what the last load reaches beyond.
    fn row(&self, unit: Unit) -> usize {
        self.mix.input.next_multiple_of(unit.lanes) + 3 * unit.lanes
    }

    /// The output columns of a vector of input columns and their taps, as shares are read.
    fn each(&self, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
        let (taps, vectors) = (self.mix.taps, self.distances.len());
        (0..vectors).flat_map(move |vector| {
            (0..taps).flat_map(move |tap| (0..lanes).map(move |lane| (vector * lanes + lane, tap)))
        })
    }

    /// The rows of an output row, mixed, into scratch memory.
    fn mix_planes(&self, b: &mut Builder, [input, row, line]: [Int; 3]) {
        let rows = self.mix.rows(b, input, row);
        let shares: Vec<Vector> = match self.mix.taps {
            1 => vec![],
            taps => (0..taps).map(|tap| b.broadcast(self.mix.share(row, tap))).collect(),
        };
        let to = b.int(line);
        let (lanes, width) = (b.lanes(), self.mix.input);
        let vector = |b: &mut Builder, lanes: usize| {
            let taps: Vec<Vector> = rows.iter().map(|row| b.load_first(row.at(0), lanes)).collect();
            let mixed = if shares.is_empty() { taps[0] } else { weighted(b, &taps, &shares) };
            b.store_first(to.at(0), mixed, lanes);
            rows.iter().chain([&to]).for_each(|&at| b.advance(at, lanes * LANE));
        };
        b.repeat(width / lanes, |b| vector(b, lanes));
        if width % lanes > 0 {
            vector(b, width % lanes);
        }
    }
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

    /// Where the rows of an output row begin.
    fn rows(self, b: &mut Builder, input: Int, row: Int) -> Vec<Int> {
        let row_of = |tap: usize| {
            let offset = table::number(b, row, tap);
            b.add(input, offset)
        };
        (0..self.taps).map(row_of).collect()
    }

    /// The rows of an output row, mixed, into scratch memory.
    fn mix_rows(self, b: &mut Builder, [input, row, scratch]: [Int; 3], unit: Unit) {
        let rows = self.rows(b, input, row);
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

    /// Between plain memory, where whole factors stay there; rows shorter and longer than vectors.
    #[test]
    fn planes() {
        use Interpolation::{Bicubic, Bilinear, Nearest};
        for (mode, width) in [Nearest, Bilinear, Bicubic].into_iter().flat_map(|mode| [5, 16, 37].map(|w| (mode, w))) {
            for factor in [[2.0; 2], [1.0, 3.0], [1.5, 2.0], [3.0, 5.0], [2.0, 1.5]] {
                for coordinates in [Coordinates::Usual, Coordinates::Asymmetric, Coordinates::HalfPixel] {
                    for rounding in [Rounding::Floor, Rounding::HalfUp] {
                        let mut b = testing::GraphBuilder::new("upsample", Phase::Infer);
                        let x = b.input([2, 3, 5, width]);
                        let y = b.add(Upsample { to: ResizeTo::Scale(factor), mode, coordinates, rounding }, &[x]);
                        check(b.finish(&[y]));
                    }
                }
            }
        }
    }
}
