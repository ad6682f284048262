//! The gradient of max pooling: each output pixel's goes to the maximum of its window, which is looked for again.
//!
//! The lanes are channels, each with a maximum of its own. Of one window, a first pass finds the number of the tap
//! that holds it, a second adds to that tap's gradient and 0 to the others':
//!
//! ```text
//! gradient[all] = 0
//! for each window:      place = which tap is the greatest, of equal ones the first
//!     for each tap:     gradient[tap] += if tap is place { dy } else { 0 }
//! ```
//!
//! Windows overlap: one task is all of a channel block's image. Its rows are clipped by a table, its columns are as
//! [`pool`] has them.

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Address, Builder, Compare, Function, Inst, Int, Operand, Vector, VectorOp};
use super::pool::{Axis, Columns, MOST_UNROLLED, entries};
use super::table;
use crate::ops::MaxPoolGradient;
use crate::plan::Step;
use crate::target::Unit;

pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &MaxPoolGradient) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let ([x, dy], dx) = ([&step.inputs[0], &step.inputs[1]], &step.outputs[0]);
    let ([images, _, h, w], [.., rows, _]) = (x.image(), dy.image());
    let axis = |a: usize| {
        let window = [op.kernel[a], op.stride[a], op.dilation[a]];
        Axis::sliding([h, w][a], dy.image()[2 + a], window, [op.pad[a], op.pad[a + 2]], false)
    };
    let (vertical, horizontal) = (axis(0), axis(1));
    let row = Row {
        step: vertical.distance * x.row_stride(),
        columns: Columns::of(&horizontal),
        width: horizontal.spans.len(),
        distance: horizontal.distance,
    };
    let mut parts = vec![entries(&vertical, x.row_stride(), |rows| 1.0 / rows as f32)];
    if let Columns::Table = row.columns {
        parts.push(entries(&horizontal, x.pixel_stride(), |columns| 1.0 / columns as f32));
    }
    let packed = e.pack(vec![], parts);
    let (clear, kernel) = (e.kernel(&Clear { vectors: h * w }), e.kernel(&row));
    let blocks = x.blocks();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, images * blocks, |d, task| {
            let (image, block) = d.split(task, blocks);
            let [from, gradient, to] = [x, dy, dx].map(|view| {
                let base = d.view(e, view);
                d.step(base, image, view.batch_stride);
                d.step(base, block, view.block_stride());
                base
            });
            d.b.call(clear, vec![to.into()]);
            let entry = d.weights(packed[0]);
            let columns = packed.get(1).map(|&columns| d.weights(columns));
            d.range(0i64, rows, |d, _| {
                let arguments = [from, entry, gradient, to].into_iter().chain(columns);
                d.b.call(kernel, arguments.map(Operand::from).collect());
                d.b.advance(entry, table::ENTRY);
                d.b.advance(gradient, dy.row_stride());
            });
        });
    });
    Emitted { entry, grid: images * blocks, scratch: 0 }
}

/// So many vectors of zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Clear {
    pub vectors: usize,
}

impl KernelKey for Clear {
    /// Parameter: the first.
    fn build(&self, unit: Unit) -> Function {
        const AT_A_TIME: usize = 8;
        let mut b = Builder::new(format!("clear {}", self.vectors), unit, 1);
        let (to, zero) = (b.parameter(0), b.splat(0.0));
        let store = |b: &mut Builder, count: usize| {
            (0..count).for_each(|i| b.store(to.at(i * unit.bytes()), zero));
            b.advance(to, count * unit.bytes());
        };
        b.repeat(self.vectors / AT_A_TIME, |b| store(b, AT_A_TIME));
        store(&mut b, self.vectors % AT_A_TIME);
        b.finish()
    }
}

/// The windows of one row of output pixels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    /// Bytes from one of a window's rows to the next.
    step: usize,
    columns: Columns,
    width: usize,
    /// Columns from one of a window's to the next.
    distance: usize,
}

impl KernelKey for Row {
    /// Parameters: the image, entry of the row table, the row's gradient, the image's gradient, the column table.
    fn build(&self, unit: Unit) -> Function {
        let with_table = matches!(self.columns, Columns::Table);
        let mut b = Builder::new(format!("max pool gradient {self:?}"), unit, if with_table { 5 } else { 4 });
        let [x, entry, dy, dx] = [0, 1, 2, 3].map(|i| b.parameter(i));
        let offset = table::number(&mut b, entry, 0);
        let rows = table::number(&mut b, entry, 1);
        b.advance(x, offset);
        b.advance(dx, offset);
        match &self.columns {
            Columns::Runs(runs) => {
                for run in runs {
                    let [from, to] = [x, dx].map(|p| b.add(p, run.span.first * unit.bytes()));
                    b.repeat(run.outputs, |b| {
                        self.window(b, [from, to, dy], rows, run.span.count.into());
                        [from, to].iter().for_each(|&p| b.advance(p, run.stride * unit.bytes()));
                        b.advance(dy, unit.bytes());
                    });
                }
            }
            Columns::Table => {
                let entry = b.parameter(4);
                b.repeat(self.width, |b| {
                    let offset = table::number(b, entry, 0);
                    let columns = table::number(b, entry, 1);
                    let [from, to] = [x, dx].map(|p| b.add(p, offset));
                    self.window(b, [from, to, dy], rows, columns.into());
                    b.advance(dy, unit.bytes());
                    b.advance(entry, table::ENTRY);
                });
            }
        }
        b.finish()
    }
}

impl Row {
    /// One window, whose first taps are at the pointers.
    fn window(&self, b: &mut Builder, [from, to, dy]: [Int; 3], rows: Int, columns: Operand) {
        let (place, infinity) = (b.splat(0.0), b.splat(f32::INFINITY));
        // A tap takes the place unless it is less than or equal to the most so far. A NaN is not, and makes the most
        // infinite: from then on no number takes the place, but another NaN does.
        let most = b.load(from.at(0));
        b.op_into(most, VectorOp::Min, most, infinity);
        self.taps(b, from, rows, columns, |b, at, tap| {
            let v = b.load(at);
            b.push(Inst::Select { dst: place, compare: Compare::LessEqual, a: v, b: most, x: place, y: tap });
            b.op_into(most, VectorOp::Max, most, v);
            b.op_into(most, VectorOp::Min, most, infinity);
        });
        let gradient = b.load(dy.at(0));
        let zero = b.splat(0.0);
        self.taps(b, to, rows, columns, |b, at, tap| {
            let sum = b.load(at);
            let term = b.select(Compare::Equal, tap, place, gradient, zero);
            let sum = b.op(VectorOp::Add, sum, term);
            b.store(at, sum);
        });
    }

    /// Runs `body` with the address of each tap and its number.
    fn taps(
        &self,
        b: &mut Builder,
        first: Int,
        rows: Int,
        columns: Operand,
        body: impl Fn(&mut Builder, Address, Vector),
    ) {
        let (row, tap, one) = (b.int(first), b.splat(0.0), b.splat(1.0));
        let column = self.distance * b.unit().bytes();
        b.repeat(rows, |b| {
            match columns {
                Operand::Const(count) if count as usize <= MOST_UNROLLED => (0..count as usize).for_each(|i| {
                    body(b, row.at(i * column), tap);
                    b.op_into(tap, VectorOp::Add, tap, one);
                }),
                _ => {
                    let at = b.int(row);
                    b.repeat(columns, |b| {
                        body(b, at.at(0), tap);
                        b.op_into(tap, VectorOp::Add, tap, one);
                        b.advance(at, column);
                    });
                }
            }
            b.advance(row, self.step);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check_on;
    use crate::interpreter;
    use crate::ir::Phase;
    use crate::ops::{MaxPool, Operation};
    use crate::tensor::{Shape, Tensor};
    use crate::testing::{GraphBuilder, random_inputs};

    /// The gradient of a pool of images of that size; the images have many equal numbers.
    fn on(pool: MaxPool, size: [usize; 2]) {
        let shape = Shape::from([2, 19, size[0], size[1]]);
        let mut b = GraphBuilder::new("gradient", Phase::Train);
        let x = b.input(shape.clone());
        let dy = b.input(pool.infer(&[&shape]).unwrap());
        let dx = b.add(MaxPoolGradient::of(&pool), &[x, dy]);
        let graph = b.finish(&[dx]);
        let mut inputs = random_inputs(&graph, 5);
        inputs[0].data_mut().iter_mut().for_each(|v| *v = (2.0 * *v).round());
        check_on(&graph, &inputs, 1e-6);
    }

    fn max_pool(kernel: usize, stride: usize, pad: usize) -> MaxPool {
        MaxPool { kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 4], dilation: [1; 2], ceil: false }
    }

    #[test]
    fn goes_to_the_first_maximum() {
        on(max_pool(3, 2, 1), [17, 30]);
        on(max_pool(3, 1, 1), [7, 40]);
        on(max_pool(2, 2, 0), [9, 8]);
        on(MaxPool { ceil: true, ..max_pool(3, 2, 0) }, [8, 14]);
        on(MaxPool { dilation: [2, 3], pad: [2, 1, 0, 3], ..max_pool(3, 1, 0) }, [9, 11]);
        on(max_pool(1, 3, 0), [7, 7]);
        on(MaxPool { kernel: [2, 20], stride: [1, 3], ..max_pool(1, 1, 0) }, [2, 41]);
        // Windows of many widths.
        on(MaxPool { kernel: [1, 19], pad: [0, 9, 0, 9], ..max_pool(1, 1, 0) }, [2, 20]);
    }

    /// The last NaN of a window takes its gradient, as in the definition.
    #[test]
    fn nan_takes_the_gradient() {
        let pool = MaxPool { kernel: [1, 3], ..max_pool(1, 2, 0) };
        let mut b = GraphBuilder::new("gradient", Phase::Train);
        let (x, dy) = (b.input([1, 1, 1, 7]), b.input([1, 1, 1, 3]));
        let dx = b.add(MaxPoolGradient::of(&pool), &[x, dy]);
        let graph = b.finish(&[dx]);
        let low = f32::NEG_INFINITY;
        let x = Tensor::new([1, 1, 1, 7], vec![1.0, f32::NAN, f32::NAN, 4.0, low, low, low]);
        let inputs = [x, Tensor::new([1, 1, 1, 3], vec![1.0, 2.0, 4.0])];
        let expected = interpreter::run(&graph, &inputs).unwrap();
        assert_eq!(expected[0].data(), [0.0, 0.0, 3.0, 0.0, 4.0, 0.0, 0.0]);
        check_on(&graph, &inputs, 0.0);
    }
}
