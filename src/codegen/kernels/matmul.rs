//! Products of two plain matrices that are both values: a tile of rows × columns in registers.
//!
//! A small right matrix is read where it lies. Of a large one, each task first copies a block into its scratch, as
//! panels whose rows are as wide as a tile, so that the tiles read neighbours:
//!
//! ```text
//! task: a block of columns, and of rows
//!   for each block of k:
//!     panels [panel][k][columns of a tile] = right[k][columns]
//!     for each panel, tile of rows:
//!       acc[row][column] = 0, or what the blocks before left in the output
//!       acc[row][column] += broadcast(left[row][k]) · panel[k][column]        for each k
//! ```
//!
//! Meanwhile the next block of k is brought nearer.
//! Both ways add up in the order of k.

use super::super::emit::{Driver, Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Builder, Callee, Condition, Function, Int, IntOp, Operand, Vector};
use super::LANE;
use super::nest::row_major;
use crate::balance::TaskCost;
use crate::plan::{Step, View};
use crate::target::Unit;

/// Vectors of columns in a tile.
const COLUMNS: usize = 2;

/// Bytes of a right matrix that is read where it lies.
const SMALL: usize = 64 << 10;
/// Rows of a panel at most: a panel then stays in the first-level cache while the tiles of rows go by.
const PANEL_ROWS: usize = 96;
/// Columns of a block, whose panels stay in the second-level cache, and rows at least where rows are cut as well.
const BLOCK_COLUMNS: usize = 512;
const BLOCK_ROWS: usize = 96;
/// Tasks that a step should have.
const TASKS: usize = 16;

pub(crate) fn emit(e: &mut Emitter, step: &Step) -> Emitted {
    let (a, b, output) = (&step.inputs[0], &step.inputs[1], &step.outputs[0]);
    let rank = output.shape.rank();
    let (m, l) = (output.shape[rank - 2], output.shape[rank - 1]);
    let k = a.shape[a.shape.rank() - 1];
    // Rows of a tile are reached by displacements.
    let reaches = |row: usize| i32::try_from(row.saturating_mul(LANE * e.unit().registers)).is_ok();
    if k * l * LANE > SMALL && reaches(k) && reaches(l) {
        return Blocks { a, b, output, sizes: [m, k, l] }.emit(e, step);
    }
    in_place(e, step, [m, k, l])
}

/// One task is a tile of rows of one product, all columns of it.
fn in_place(e: &mut Emitter, step: &Step, [m, k, l]: [usize; 3]) -> Emitted {
    let unit = e.unit();
    let (a, b, output) = (&step.inputs[0], &step.inputs[1], &step.outputs[0]);
    let rank = output.shape.rank();
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

/// Products with a large right matrix.
struct Blocks<'a> {
    a: &'a View,
    b: &'a View,
    output: &'a View,
    /// Of the left matrix's rows, its columns and the right one's columns.
    sizes: [usize; 3],
}

/// Tasks of one shape.
struct Region {
    first_row: usize,
    rows: usize,
    row_blocks: usize,
    first_column: usize,
    columns: usize,
    column_blocks: usize,
}

/// The kernels of a region.
struct Calls {
    pack: Callee,
    /// For whole panels and for the last one: first row, number of tiles, kernel.
    whole: Vec<(usize, usize, Callee)>,
    rest: Vec<(usize, usize, Callee)>,
}

impl Blocks<'_> {
    fn emit(&self, e: &mut Emitter, step: &Step) -> Emitted {
        let [m, k, l] = self.sizes;
        let tile = panel_columns(e.unit());
        let products: usize = self.output.shape.dims()[..self.output.shape.rank() - 2].iter().product();
        let columns = BLOCK_COLUMNS.next_multiple_of(tile);
        let row_blocks = TASKS.div_ceil(products * l.div_ceil(columns)).min(m / BLOCK_ROWS).max(1);
        let regions: Vec<Region> = pieces(m, m.div_ceil(row_blocks))
            .flat_map(|(first_row, row_blocks, rows)| {
                pieces(l, columns).map(move |(first_column, column_blocks, columns)| Region {
                    first_row,
                    rows,
                    row_blocks,
                    first_column,
                    columns,
                    column_blocks,
                })
            })
            .collect();
        let calls: Vec<Calls> = regions.iter().map(|region| self.calls(e, region)).collect();
        let count = |region: &Region| products * region.row_blocks * region.column_blocks;
        e.task_costs = regions.iter().map(|r| TaskCost::new(count(r), (r.rows * r.columns) as f64)).collect();
        let entry = e.driver(&super::step_name(e, step), |e, d| {
            let mut first = 0;
            for (region, calls) in regions.iter().zip(&calls) {
                d.tasks(first, count(region), |d, task| {
                    let (rest, row) = d.split(task, region.row_blocks);
                    let rest = d.int(rest);
                    let (product, column) = d.split(rest, region.column_blocks);
                    let product = d.int(product);
                    self.task(e, d, region, calls, [product.into(), row, column]);
                });
                first += count(region);
            }
        });
        let widest = regions.iter().map(|r| r.columns.next_multiple_of(tile)).max().unwrap_or(0);
        Emitted { entry, grid: regions.iter().map(count).sum(), scratch: k.min(PANEL_ROWS) * widest * LANE }
    }

    fn calls(&self, e: &mut Emitter, region: &Region) -> Calls {
        let [_, k, l] = self.sizes;
        let tile = panel_columns(e.unit());
        let panel = k.min(PANEL_ROWS) * tile * LANE;
        let pack = e.kernel(&PackKernel { columns: region.columns, row: l * LANE, panel });
        let vectors = tile / e.unit().lanes;
        let most = (e.unit().registers - vectors - 1) / vectors;
        let mut of_panel = |columns: usize| {
            let (mut first, mut calls) = (0, vec![]);
            // The first tiles bring this panel of the next block of k nearer, a share each.
            let (mut first_ahead, mut sharing) =
                (0, if k > PANEL_ROWS { vectors.min(region.rows.div_ceil(most)) } else { 0 });
            let share = vectors.div_ceil(sharing.max(1));
            for (rows, tiles) in tiles(region.rows, most) {
                let shares = sharing.min(tiles);
                sharing -= shares;
                for (ahead, tiles) in [(share, shares), (0, tiles - shares)].into_iter().filter(|part| part.1 > 0) {
                    let kernel = PanelKernel { rows, columns, k, l, ahead, first_ahead };
                    calls.push((first, tiles, e.kernel(&kernel)));
                    first += rows * tiles;
                    first_ahead += ahead * tiles;
                }
            }
            calls
        };
        Calls { pack, whole: of_panel(tile.min(region.columns)), rest: of_panel(region.columns % tile) }
    }

    fn task(&self, e: &Emitter, d: &mut Driver, region: &Region, calls: &Calls, [product, row, column]: [Operand; 3]) {
        let [_, k, l] = self.sizes;
        let tile = panel_columns(e.unit());
        let depth = k.min(PANEL_ROWS);
        let product = d.int(product);
        let [a, b, to] = [self.a, self.b, self.output].map(|view| {
            let base = d.view(e, view);
            lead(d, base, product, view, self.output);
            base
        });
        for (base, width) in [(a, k), (to, l)] {
            d.b.advance(base, region.first_row * width * LANE);
            d.step(base, row, region.rows * width * LANE);
        }
        for base in [b, to] {
            d.b.advance(base, region.first_column * LANE);
            d.step(base, column, region.columns * LANE);
        }
        d.range(0i64, k.div_ceil(depth), |d, block| {
            let first = d.b.mul(block, depth);
            let all = d.b.int(k);
            let left = d.b.int_op(IntOp::Sub, all, first);
            let count = d.b.int_op(IntOp::Min, left, depth);
            let (a, b) = (d.b.int(a), d.b.int(b));
            d.step(a, first.into(), LANE);
            d.step(b, first.into(), l * LANE);
            d.b.call(calls.pack, vec![b.into(), d.scratch.into(), count.into()]);
            let of_panel = |d: &mut Driver, panel: Operand, calls: &[(usize, usize, Callee)]| {
                let next = d.b.add(b, depth * l * LANE);
                d.step(next, panel, tile * LANE);
                for &(row, tiles, kernel) in calls {
                    let (a, panels, to) = (d.b.add(a, row * k * LANE), d.b.int(d.scratch), d.b.add(to, row * l * LANE));
                    d.step(panels, panel, depth * tile * LANE);
                    d.step(to, panel, tile * LANE);
                    let arguments = [a, panels, to, count].map(Operand::from);
                    d.b.call(kernel, [&arguments[..], &[tiles.into(), block.into(), next.into()]].concat());
                }
            };
            let whole = region.columns / tile;
            d.range(0i64, whole, |d, panel| of_panel(d, panel.into(), &calls.whole));
            if region.columns % tile > 0 {
                of_panel(d, whole.into(), &calls.rest);
            }
        });
    }
}

/// Columns of a tile, and of a panel.
fn panel_columns(unit: Unit) -> usize {
    let vectors = if unit.registers >= 28 { 4 } else { 2 };
    vectors * unit.lanes
}

/// `total` in pieces of `size`, and one of what is left: the first element, the number of pieces and the size of each.
fn pieces(total: usize, size: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let (whole, rest) = (total / size, total % size);
    [(0, whole, size), (whole * size, usize::from(rest > 0), rest)].into_iter().filter(|piece| piece.1 > 0)
}

/// Rows in tiles of at most `most` and of nearly equal size: sizes, and how many there are of each.
fn tiles(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let tiles = rows.div_ceil(most);
    let (size, larger) = (rows / tiles, rows % tiles);
    [(size + 1, larger), (size, tiles - larger)].into_iter().filter(|tile| tile.1 > 0)
}

/// Copies rows of a matrix, `columns` wide, into panels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PackKernel {
    columns: usize,
    /// Bytes from a row to the next.
    row: usize,
    /// Bytes from a panel to the next.
    panel: usize,
}

impl KernelKey for PackKernel {
    /// Parameters: the first row, the panels, the number of rows.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("panels {self:?}"), unit, 3);
        let [from, to, rows] = [0, 1, 2].map(|i| b.parameter(i));
        let tile = panel_columns(unit);
        b.repeat(rows, |b| {
            for first in (0..self.columns).step_by(unit.lanes) {
                let values = b.load_first(from.at(first * LANE), unit.lanes.min(self.columns - first));
                b.store(to.at(first / tile * self.panel + first % tile * LANE), values);
            }
            b.advance(from, self.row);
            b.advance(to, tile * LANE);
        });
        b.finish()
    }
}

/// Tiles of rows times a panel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PanelKernel {
    rows: usize,
    columns: usize,
    k: usize,
    l: usize,
    /// Vectors of each row of another panel that a tile brings nearer, from the given one on: those of the first tile;
    /// the next tile's follow.
    ahead: usize,
    first_ahead: usize,
}

impl KernelKey for PanelKernel {
    /// Parameters: rows of a, the panel, rows of the output, rows of the panel, the number of tiles; 0 where the output
    /// has no sums yet; and where what is brought nearer lies.
    fn build(&self, unit: Unit) -> Function {
        let &PanelKernel { rows, columns, k, l, ahead, first_ahead } = self;
        let name = format!("panel_{rows}x{columns}x{k}x{l}_ahead{first_ahead}+{ahead}");
        let mut b = Builder::new(name, unit, 7);
        let next = b.parameter(6);
        let [a, panel, to, depth, tiles, before] = [0, 1, 2, 3, 4, 5].map(|i| b.parameter(i));
        let widths: Vec<usize> =
            (0..columns).step_by(unit.lanes).map(|first| unit.lanes.min(columns - first)).collect();
        let places: Vec<(usize, usize)> = (0..rows).flat_map(|r| (0..widths.len()).map(move |v| (r, v))).collect();
        b.repeat(tiles, |b| {
            let acc: Vec<Vec<Vector>> = (0..rows).map(|_| widths.iter().map(|_| b.splat(0.0)).collect()).collect();
            let place = |row: usize, vector: usize| to.at(row * l * LANE + vector * unit.bytes());
            b.if_then(Condition::NotEqual, before, 0i64, |b| {
                for &(row, vector) in &places {
                    let sum = b.load_first(place(row, vector), widths[vector]);
                    b.copy(acc[row][vector], sum);
                }
            });
            let (x, w, y) = (b.int(a), b.int(panel), b.int(next));
            b.repeat(depth, |b| {
                let columns: Vec<Vector> = (0..widths.len()).map(|v| b.load(w.at(v * unit.bytes()))).collect();
                for (row, acc) in acc.iter().enumerate() {
                    let factor = b.broadcast(x.at(row * k * LANE));
                    acc.iter().zip(&columns).for_each(|(&acc, &column)| b.fma(acc, factor, column));
                }
                if ahead > 0 {
                    (first_ahead..first_ahead + ahead).for_each(|v| b.prefetch(y.at(v * unit.bytes())));
                    b.advance(y, l * LANE);
                }
                b.advance(x, LANE);
                b.advance(w, panel_columns(unit) * LANE);
            });
            for &(row, vector) in &places {
                b.store_first(place(row, vector), acc[row][vector], widths[vector]);
            }
            b.advance(next, ahead * unit.bytes());
            b.advance(a, rows * k * LANE);
            b.advance(to, rows * l * LANE);
        });
        b.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{LANE, SMALL};
    use crate::codegen::testing::{check, model, targets};
    use crate::ir::{Graph, Phase};
    use crate::ops::MatMul;
    use crate::tensor::Tensor;
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
            // Larger than what is read in place.
            (&[1, 100], &[100, 170]),
            (&[33, 97], &[97, 600]),
            (&[200, 20], &[20, 1031]),
            (&[2, 3, 5, 193], &[2, 1, 193, 90]),
            (&[7, 1], &[1, 17000]),
        ] {
            let mut builder = testing::GraphBuilder::new("matmul", Phase::Infer);
            let [x, y] = [a, b].map(|s| builder.input(crate::tensor::Shape::new(s)));
            let z = builder.add(MatMul {}, &[x, y]);
            check(builder.finish(&[z]));
        }
    }

    /// Both ways add up in the same order.
    #[test]
    fn the_right_matrix_of_several_products_is_that_of_one() {
        // Seven columns more make the matrix large.
        let (k, columns) = (200, 81);
        let product = |columns: usize| {
            let mut builder = testing::GraphBuilder::new("matmul", Phase::Infer);
            let (x, y) = (builder.input([9, k]), builder.input([k, columns]));
            let z = builder.add(MatMul {}, &[x, y]);
            builder.finish(&[z])
        };
        let (few, many) = (product(columns), product(columns + 7));
        assert!(k * columns * LANE <= SMALL && k * (columns + 7) * LANE > SMALL);
        let inputs = testing::random_inputs(&many, 3);
        let right = inputs[1].data().chunks(columns + 7).flat_map(|row| row[..columns].to_vec()).collect();
        let cut = [inputs[0].clone(), Tensor::new([k, columns], right)];
        for target in targets() {
            let run = |graph: &Graph, inputs: &[Tensor]| {
                model(graph, &target, &Default::default(), 1).run_tensors(inputs).unwrap().swap_remove(0)
            };
            let (few, many) = (run(&few, &cut), run(&many, &inputs));
            let rows = few.data().chunks(columns).zip(many.data().chunks(columns + 7));
            rows.for_each(|(few, many)| assert_eq!(few, &many[..columns]));
        }
    }
}
