//! Gradients of what mixes pixels along rows and columns, each in fixed shares: averages of windows, resizing, borders.
//!
//! Forward, an output row is a sum of input rows in certain shares; backward, an input row's gradient is the sum of
//! those of the output rows that it went to, in the same shares. So it is with columns:
//!
//! ```text
//! scratch[x]  = Σ share · dy[row][x]            over the rows of dy that the gradient's row went to
//! gradient[x] = Σ share · scratch[column]       over the columns of dy that its column went to
//! ```
//!
//! Rows, columns and shares come from tables, so that one kernel does for all. Each task writes a row of its own.

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::packing::Part;
use super::super::vector::{Builder, Function, Int, Operand, Vector};
use super::pool::Axis;
use super::table;
use crate::ops::{AdaptiveAvgPoolGradient, AvgPoolGradient, Pad, PadGradient, Upsample, UpsampleGradient};
use crate::plan::Step;
use crate::target::Unit;

/// Columns of dy that are mixed at a time, a vector register each.
const COLUMNS: usize = 8;
/// Bytes of an entry of a row or column: where its taps begin, and how many it has.
const ENTRY: usize = 16;
/// Bytes of a tap: how far the row or column of dy is, and its share.
const TAP: usize = 16;

/// One axis of the gradient: for each position the positions of dy that it went to, and its share there.
struct Taps(Vec<Vec<(usize, f64)>>);

impl Taps {
    /// Of so many positions, from what each position of dy is made of.
    fn of(size: usize, forward: impl IntoIterator<Item = Vec<(usize, f64)>>) -> Taps {
        let mut taps = vec![vec![]; size];
        for (output, inputs) in forward.into_iter().enumerate() {
            inputs.into_iter().for_each(|(input, share)| taps[input].push((output, share)));
        }
        Taps(taps)
    }

    fn of_means(axis: &Axis) -> Taps {
        let forward = axis.spans.iter().map(|span| {
            let share = 1.0 / span.divisor as f64;
            (0..span.count).map(|i| (span.first + i * axis.distance, share)).collect()
        });
        Taps::of(axis.input, forward)
    }

    /// The entries, then the taps; positions of dy are `stride` bytes apart.
    fn tables(&self, stride: usize) -> [Part; 2] {
        let (mut entries, mut taps) = (vec![], vec![]);
        for of_one in &self.0 {
            entries.extend(table::words(taps.len() / 4 * TAP));
            entries.extend(table::words(of_one.len()));
            for &(place, share) in of_one {
                taps.extend(table::words(place * stride));
                taps.extend([(share as f32).to_bits(), 0]);
            }
        }
        [entries, taps].map(Part::words)
    }
}

pub(crate) fn average(e: &mut Emitter, step: &Step, op: &AvgPoolGradient) -> Emitted {
    let output = step.inputs[0].image();
    let axes = [0, 1].map(|a| {
        let window = [op.kernel[a], op.stride[a], op.dilation[a]];
        Axis::sliding(op.input[a], output[2 + a], window, [op.pad[a], op.pad[a + 2]], op.count_include_pad)
    });
    emit(e, step, axes.map(|axis| Taps::of_means(&axis)))
}

pub(crate) fn adaptive(e: &mut Emitter, step: &Step, op: &AdaptiveAvgPoolGradient) -> Emitted {
    let output = step.inputs[0].image();
    emit(e, step, [0, 1].map(|a| Taps::of_means(&Axis::adaptive(op.input[a], output[2 + a]))))
}

pub(crate) fn upsample(e: &mut Emitter, step: &Step, op: &UpsampleGradient) -> Emitted {
    let output = step.inputs[0].image();
    let &UpsampleGradient { to, mode, coordinates, rounding, input } = op;
    let forward = Upsample { to, mode, coordinates, rounding };
    emit(e, step, [0, 1].map(|a| Taps::of(input[a], forward.taps(a, input[a], output[2 + a]))))
}

pub(crate) fn pad(e: &mut Emitter, step: &Step, op: &PadGradient) -> Emitted {
    let (padded, inner) = (step.inputs[0].image(), step.outputs[0].image());
    let taps = |a: usize| {
        let size = inner[2 + a];
        let source = |at: usize| Pad::source(op.mode, at, op.pads[a], size);
        Taps::of(size, (0..padded[2 + a]).map(|at| source(at).map(|place| (place, 1.0)).into_iter().collect()))
    };
    emit(e, step, [taps(0), taps(1)])
}

/// One task is one row of a block's gradient.
fn emit(e: &mut Emitter, step: &Step, [rows, columns]: [Taps; 2]) -> Emitted {
    let (dy, dx) = (&step.inputs[0], &step.outputs[0]);
    let ([.., from], [.., to]) = (dy.image(), dx.image());
    let parts = [rows.tables(dy.row_stride()), columns.tables(dy.pixel_stride())].into_iter().flatten().collect();
    let packed = e.pack(vec![], parts);
    let kernel = e.kernel(&Mix { from, to });
    table::emit_rows(e, step, (packed[0], ENTRY), dy.row_stride(), |d, [dy, row, dx]| {
        let [row_taps, columns, column_taps] = [1, 2, 3].map(|i| d.weights(packed[i]));
        let arguments = [dy, dx, row, row_taps, columns, column_taps, d.scratch];
        d.b.call(kernel, arguments.map(Operand::from).to_vec());
    })
}

/// Makes one row: so many columns of dy, and of the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mix {
    from: usize,
    to: usize,
}

impl KernelKey for Mix {
    /// Parameters: dy's block, the gradient's row, the row's entry, the rows' taps, the columns' entries and taps,
    /// scratch.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("adjoint {self:?}"), unit, 7);
        let [dy, dx, row, row_taps, columns, column_taps, scratch] = [0, 1, 2, 3, 4, 5, 6].map(|i| b.parameter(i));
        let (taps, count) = taps_of(&mut b, row, row_taps);
        self.mix_rows(&mut b, [dy, scratch, taps, count]);
        b.repeat(self.to, |b| {
            let (tap, count) = taps_of(b, columns, column_taps);
            let sum = b.splat(0.0);
            b.repeat(count, |b| {
                let place = b.load_int(tap.at(0));
                let (v, share) = (b.load(scratch.plus(place, 0)), b.broadcast(tap.at(8)));
                b.fma(sum, v, share);
                b.advance(tap, TAP);
            });
            b.store(dx.at(0), sum);
            b.advance(dx, unit.bytes());
            b.advance(columns, ENTRY);
        });
        b.finish()
    }
}

/// The first tap of an entry, and how many there are.
fn taps_of(b: &mut Builder, entry: Int, taps: Int) -> (Int, Int) {
    let first = b.load_int(entry.at(0));
    b.advance(first, taps);
    (first, b.load_int(entry.at(8)))
}

impl Mix {
    /// The rows of dy, mixed, into scratch memory.
    fn mix_rows(self, b: &mut Builder, [dy, scratch, taps, count]: [Int; 4]) {
        let pixel = b.unit().bytes();
        let to = b.int(scratch);
        let columns = |b: &mut Builder, columns: usize| {
            let sums: Vec<Vector> = (0..columns).map(|_| b.splat(0.0)).collect();
            let tap = b.int(taps);
            b.repeat(count, |b| {
                let from = b.load_int(tap.at(0));
                b.advance(from, dy);
                let share = b.broadcast(tap.at(8));
                for (i, &sum) in sums.iter().enumerate() {
                    let v = b.load(from.at(i * pixel));
                    b.fma(sum, v, share);
                }
                b.advance(tap, TAP);
            });
            sums.iter().enumerate().for_each(|(i, &sum)| b.store(to.at(i * pixel), sum));
            b.advance(dy, columns * pixel);
            b.advance(to, columns * pixel);
        };
        b.repeat(self.from / COLUMNS, |b| columns(b, COLUMNS));
        if self.from % COLUMNS > 0 {
            columns(b, self.from % COLUMNS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::pad::PadMode;
    use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
    use crate::ops::{AvgPool, Op, Operation};
    use crate::tensor::Shape;
    use crate::testing::GraphBuilder;

    /// The gradient of an op that images of that size go through.
    fn on(forward: &impl Operation, gradient: impl Into<Op>, size: [usize; 2]) {
        let mut b = GraphBuilder::new("gradient", Phase::Train);
        let dy = b.input(forward.infer(&[&Shape::from([2, 19, size[0], size[1]])]).unwrap());
        let dx = b.add(gradient, &[dy]);
        check(b.finish(&[dx]));
    }

    #[test]
    fn means() {
        let average = |kernel, stride, pad, ceil, count_include_pad| AvgPool {
            kernel: [kernel; 2],
            stride: [stride; 2],
            pad: [pad; 4],
            dilation: [1; 2],
            ceil,
            count_include_pad,
        };
        for include in [true, false] {
            for (pool, size) in [
                (average(3, 2, 1, false, include), [17, 30]),
                (average(3, 2, 1, true, include), [6, 10]),
                (average(2, 3, 0, false, include), [8, 11]),
                (average(7, 1, 3, false, include), [7, 7]),
                (AvgPool { dilation: [2, 1], kernel: [2, 3], ..average(1, 1, 0, false, include) }, [5, 9]),
            ] {
                on(&pool, AvgPoolGradient::of(&pool, size), size);
            }
        }
    }

    #[test]
    fn means_to_a_size() {
        for output in [[1, 1], [6, 6], [3, 4], [7, 20], [20, 33]] {
            let forward = crate::ops::AdaptiveAvgPool { output };
            on(&forward, AdaptiveAvgPoolGradient { input: [13, 9] }, [13, 9]);
        }
    }

    #[test]
    fn resizing() {
        use Interpolation::{Bicubic, Bilinear, CatmullRom, Nearest};
        let targets =
            [ResizeTo::Scale([2.0; 2]), ResizeTo::Scale([1.5, 0.7]), ResizeTo::Size([9, 4]), ResizeTo::Size([1, 1])];
        for to in targets {
            for mode in [Nearest, Bilinear, Bicubic, CatmullRom] {
                for coordinates in [Coordinates::Usual, Coordinates::AlignCorners] {
                    let forward = Upsample { to, mode, coordinates, rounding: Rounding::Floor };
                    on(&forward, UpsampleGradient::of(&forward, [5, 6]), [5, 6]);
                }
            }
        }
    }

    #[test]
    fn borders() {
        for mode in [PadMode::Constant, PadMode::Reflect, PadMode::Edge] {
            for pads in [[1, 2, 3, 0], [0, 0, 0, 4], [4, 4, 4, 4]] {
                on(&Pad { pads, mode, value: -0.5 }, PadGradient { pads, mode }, [5, 6]);
            }
        }
    }
}
