//! Resizing of images: which rows and columns an output pixel mixes, and how, comes from tables,
//! so that every mode, factor and alignment is one of two kernels.

use super::super::emit::{Emitted, Emitter, Fill};
use super::super::vector::{Builder, Function, Operand, Vector, VectorOp};
use super::table::{self, Entry};
use crate::ops::Upsample;
use crate::ops::upsample::Interpolation;
use crate::plan::Step;
use crate::target::Unit;

/// One task is one row of output pixels of a block.
pub fn emit(e: &mut Emitter, step: &Step, op: &Upsample) -> Emitted {
    let ([.., h, w], [.., height, width]) = (step.inputs[0].image(), step.outputs[0].image());
    let pixel = e.unit().bytes();
    let parts = vec![entries(op, 0, h, height, w * pixel), entries(op, 1, w, width, pixel)];
    let (base, offsets) = e.pack(vec![], parts);
    let mode = op.mode;
    let name = format!("upsample_{mode}_{width}");
    let kernel = e.kernel(&name, |unit| match mode {
        Interpolation::Nearest => nearest(&name, unit, width),
        Interpolation::Bilinear => bilinear(&name, unit, width),
    });
    table::emit_rows(e, step, base + offsets[0], 0, |d, [from, row, to]| {
        let columns = d.weights(base + offsets[1]);
        d.b.call(kernel, [from, to, row, columns].map(Operand::from).to_vec());
    })
}

/// For each output position of an axis the byte offsets of the two that it mixes, and the share of
/// the second.
fn entries(op: &Upsample, axis: usize, input: usize, output: usize, stride: usize) -> (usize, Fill) {
    let entry = |i: usize| {
        let (first, second, share) = op.source(axis, i, input, output);
        Entry { numbers: [first * stride, second * stride, 0], factor: share as f32 }
    };
    table::part((0..output).map(entry).collect())
}

/// Parameters: the input's block, the output's row, the row's entry, the columns' entries.
fn nearest(name: &str, unit: Unit, width: usize) -> Function {
    let mut b = Builder::new(name, unit, 4);
    let [input, output, row, columns] = [0, 1, 2, 3].map(|i| b.parameter(i));
    let offset = table::number(&mut b, row, 0);
    b.advance(input, offset);
    b.repeat(width, |b| {
        let x = table::number(b, columns, 0);
        let v = b.load(input.plus(x, 0));
        b.store(output.at(0), v);
        b.advance(output, unit.bytes());
        b.advance(columns, table::ENTRY);
    });
    b.finish()
}

/// Parameters: as for [`nearest`].
fn bilinear(name: &str, unit: Unit, width: usize) -> Function {
    let mut b = Builder::new(name, unit, 4);
    let [input, output, row, columns] = [0, 1, 2, 3].map(|i| b.parameter(i));
    let rows = [0, 1].map(|i| {
        let offset = table::number(&mut b, row, i);
        b.add(input, offset)
    });
    let down = b.broadcast(table::factor(row));
    b.repeat(width, |b| {
        let x = [0, 1].map(|i| table::number(b, columns, i));
        let right = b.broadcast(table::factor(columns));
        let [upper, lower] = rows.map(|row| {
            let [left, other] = x.map(|x| b.load(row.plus(x, 0)));
            mix(b, left, other, right)
        });
        let v = mix(b, upper, lower, down);
        b.store(output.at(0), v);
        b.advance(output, unit.bytes());
        b.advance(columns, table::ENTRY);
    });
    b.finish()
}

/// `a + (b − a) · share`
fn mix(builder: &mut Builder, a: Vector, b: Vector, share: Vector) -> Vector {
    let difference = builder.op(VectorOp::Sub, b, a);
    builder.fma(a, difference, share);
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::upsample::{Coordinates, Rounding, Target};
    use crate::testing::{self, conv};

    #[test]
    fn modes_and_coordinates() {
        let targets = [Target::Scale([2.0; 2]), Target::Scale([1.5, 0.7]), Target::Size([9, 4]), Target::Size([1, 1])];
        for (i, to) in targets.into_iter().enumerate() {
            for mode in [Interpolation::Nearest, Interpolation::Bilinear] {
                for coordinates in [Coordinates::Usual, Coordinates::AlignCorners, Coordinates::HalfPixel] {
                    let rounding = [Rounding::Floor, Rounding::Ceil, Rounding::HalfDown, Rounding::HalfUp][i];
                    let mut b = testing::Builder::new("upsample", Phase::Infer);
                    let x = b.input([2, 3, 5, 6]);
                    let x = b.add(conv(19, 1, 1, 0), &[x]);
                    let y = b.add(Upsample { to, mode, coordinates, rounding }, &[x]);
                    check(b.finish(&[y]));
                }
            }
        }
    }
}
