//! Products of two plain matrices that are both values: a tile of rows × columns in registers.

use super::super::emit::{Driver, Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Builder, Function, Int, Operand, Vector};
use super::LANE;
use super::nest::row_major;
use crate::plan::{Step, View};
use crate::target::Unit;

/// Vectors of columns in a tile.
const COLUMNS: usize = 2;

/// One task is a tile of rows of one product, all columns of it.
pub(crate) fn emit(e: &mut Emitter, step: &Step) -> Emitted {
    let unit = e.unit();
    let (a, b, output) = (&step.inputs[0], &step.inputs[1], &step.outputs[0]);
    let rank = output.shape.rank();
    let (m, l) = (output.shape[rank - 2], output.shape[rank - 1]);
    let k = a.shape[a.shape.rank() - 1];
    // Accumulators, the columns' vectors and one broadcast.
    let most = (unit.registers - COLUMNS - 1) / COLUMNS;
    let tile = m.div_ceil(m.div_ceil(most));
    let products: usize = output.shape.dims()[..rank - 2].iter().product();

    let mut regions = vec![];
    for (first, rows, tiles) in [(0, tile, m / tile), (m / tile * tile, m % tile, 1)] {
        if rows > 0 && tiles > 0 {
            let kernel = e.kernel(&MatMulKernel { rows, k, l });
            regions.push((first, rows, tiles, kernel));
        }
    }
    let grid = regions.iter().map(|r| r.2 * products).sum();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut start = 0;
        for &(first, rows, tiles, kernel) in &regions {
            d.tasks(start, tiles * products, |d, task| {
                let (product, tile) = d.split(task, tiles);
                let product = d.int(product);
                let pointers = [(a, k), (b, 0), (output, l)].map(|(view, row)| {
                    let base = d.view(e, view);
                    lead(d, base, product, view, output);
                    d.b.advance(base, first * row * view.element_bytes());
                    d.step(base, tile, rows * row * view.element_bytes());
                    base
                });
                d.b.call(kernel, pointers.map(Operand::from).to_vec());
            });
            start += tiles * products;
        }
    });
    Emitted { entry, grid, scratch: 0 }
}

/// Moves the pointer to the matrix of the given product; axes that the view lacks or has once
/// repeat.
fn lead(d: &mut Driver, base: Int, product: Int, view: &View, output: &View) {
    let axes = output.shape.rank() - 2;
    let missing = output.shape.rank() - view.shape.rank();
    let strides = row_major(&view.shape);
    let mut rest = Operand::from(product);
    for axis in (0..axes).rev() {
        let at = d.int(rest);
        let (outer, index) = d.split(at, output.shape[axis]);
        if axis >= missing && view.shape[axis - missing] > 1 {
            d.step(base, index, strides[axis - missing] as usize);
        }
        rest = outer;
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct MatMulKernel {
    rows: usize,
    k: usize,
    l: usize,
}

impl KernelKey for MatMulKernel {
    /// Parameters: rows of a, the matrix b, rows of the output.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("matmul_{}x{}x{}", self.rows, self.k, self.l), unit, 3);
        let tile = COLUMNS * unit.lanes;
        b.repeat(self.l / tile, |b| {
            self.tile(b, &[unit.lanes; COLUMNS]);
            [1, 2].iter().for_each(|&i| b.advance(b.parameter(i), LANE * tile));
        });
        let rest = self.l % tile;
        let widths: Vec<usize> =
            (0..rest.div_ceil(unit.lanes)).map(|i| (rest - i * unit.lanes).min(unit.lanes)).collect();
        if !widths.is_empty() {
            self.tile(&mut b, &widths);
        }
        b.finish()
    }
}

impl MatMulKernel {
    /// The tile of all rows and of columns in vectors of the given widths.
    fn tile(&self, b: &mut Builder, widths: &[usize]) {
        let acc: Vec<Vec<Vector>> = (0..self.rows).map(|_| widths.iter().map(|_| b.splat(0.0)).collect()).collect();
        let (left, right) = (b.int(b.parameter(0)), b.int(b.parameter(1)));
        let vector = b.unit().bytes();
        b.repeat(self.k, |b| {
            let columns: Vec<Vector> =
                widths.iter().enumerate().map(|(i, &w)| b.load_first(right.at(i * vector), w)).collect();
            // Rows lie `k` elements apart, which may be farther than an address reaches.
            let row = b.int(left);
            for (i, acc) in acc.iter().enumerate() {
                let x = b.broadcast(row.at(0));
                acc.iter().zip(&columns).for_each(|(&acc, &column)| b.fma(acc, x, column));
                if i + 1 < self.rows {
                    b.advance(row, LANE * self.k);
                }
            }
            b.advance(left, LANE);
            b.advance(right, LANE * self.l);
        });
        let to = b.int(b.parameter(2));
        for acc in &acc {
            for (i, (&acc, &width)) in acc.iter().zip(widths).enumerate() {
                b.store_first(to.at(i * vector), acc, width);
            }
            b.advance(to, LANE * self.l);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::MatMul;
    use crate::testing;

    #[test]
    fn shapes() {
        for (a, b) in [
            (&[7, 5][..], &[5, 9][..]),
            (&[1, 40], &[40, 1]),
            (&[33, 3], &[3, 70]),
            (&[2, 3, 4, 5], &[2, 3, 5, 17]),
            (&[2, 1, 4, 5], &[3, 5, 6]),
            (&[4, 5], &[2, 3, 5, 33]),
        ] {
            let mut builder = testing::GraphBuilder::new("matmul", Phase::Infer);
            let [x, y] = [a, b].map(|s| builder.input(crate::tensor::Shape::new(s)));
            let z = builder.add(MatMul {}, &[x, y]);
            check(builder.finish(&[z]));
        }
    }
}
