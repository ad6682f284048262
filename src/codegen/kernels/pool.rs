//! Pooling: the maximum or mean of windows, one row of output pixels of a channel block at a time.
//!
//! Windows are separable. A row kernel first combines the input rows of its windows, column by
//! column, into a row in scratch memory, then combines the columns of each window:
//!
//! ```text
//! scratch[x] = input[y0][x] ∘ input[y1][x] ∘ …        for every input column
//! output[x]  = scratch[x0] ∘ scratch[x1] ∘ …          for every output column
//! ```
//!
//! Which rows a window has, clipped at the image's edges, and by what its sum is divided, the
//! kernel reads from a table with one entry an output row; so the code does not grow with the
//! image, and adaptive pooling is nothing special. Columns are known when the code is made; where
//! they follow no pattern they come from a table as well.

use std::fmt;

use super::super::emit::{Emitted, Emitter, Packed};
use super::super::key::{Bits, KernelKey};
use super::super::packing::Part;
use super::super::vector::{Address, Builder, Callee, Compare, Function, Inst, Int, Operand, Vector, VectorOp};
use super::LANE;
use super::grid::{self, Grid};
use super::reduce;
use super::table::{self, Entry};
use crate::ops::adaptive_avg_pool::adaptive_range;
use crate::ops::global_pool::PoolKind;
use crate::ops::quantized::{column_factor, row_factor};
use crate::ops::reduce::ReduceKind;
use crate::ops::{
    AdaptiveAvgPool, AvgPool, GlobalPool, MaxPool, QuantizedAdaptiveAvgPool, QuantizedAvgPool, QuantizedGlobalPool,
    Reduce, quantized,
};
use crate::plan::Step;
use crate::plan::conv::Taps;
use crate::target::Unit;
use crate::tensor::Element;

/// Columns that are combined at a time, a vector register each.
const COLUMNS: usize = 8;
/// Columns of a window that are combined without a loop.
pub(super) const MOST_UNROLLED: usize = 16;
/// Runs of columns that a kernel is made of before it uses a table.
const MOST_RUNS: usize = 12;

/// A window's part along one axis: input positions `first, first + distance, …`, all inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Span {
    pub first: usize,
    pub count: usize,
    /// What a mean divides by; differs from `count` where padding counts.
    pub divisor: usize,
}

/// One axis of the windows.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub spans: Vec<Span>,
    pub distance: usize,
    pub input: usize,
}

impl Axis {
    /// A sliding window of size, stride and dilation.
    pub(super) fn sliding(
        input: usize,
        output: usize,
        [kernel, stride, dilation]: [usize; 3],
        [before, after]: [usize; 2],
        include_pad: bool,
    ) -> Axis {
        let taps = Taps::window(kernel, stride, before, dilation);
        let span = |o: usize| {
            let inside = taps.inside(o, input);
            let divisor = if include_pad { taps.before(o, input + after) } else { inside.len() };
            Span { first: taps.first_inside(o, input), count: inside.len(), divisor: divisor.max(1) }
        };
        Axis { spans: (0..output).map(span).collect(), distance: dilation, input }
    }

    pub(super) fn adaptive(input: usize, output: usize) -> Axis {
        let span = |o: usize| {
            let range = adaptive_range(o, input, output);
            Span { first: range.start, count: range.len(), divisor: range.len() }
        };
        Axis { spans: (0..output).map(span).collect(), distance: 1, input }
    }
}

pub(crate) fn max(e: &mut Emitter, step: &Step, op: &MaxPool) -> Emitted {
    let axes = [0, 1].map(|a| {
        let window = [op.kernel[a], op.stride[a], op.dilation[a]];
        let (input, output) = (step.inputs[0].image()[2 + a], step.outputs[0].image()[2 + a]);
        Axis::sliding(input, output, window, [op.pad[a], op.pad[a + 2]], false)
    });
    emit(e, step, Kind::of_reals(PoolKind::Max), axes)
}

pub(crate) fn average(e: &mut Emitter, step: &Step, op: &AvgPool) -> Emitted {
    emit(e, step, Kind::of_reals(PoolKind::Avg), sliding_means(step, op))
}

pub(crate) fn adaptive(e: &mut Emitter, step: &Step, op: &AdaptiveAvgPool) -> Emitted {
    emit(e, step, Kind::of_reals(PoolKind::Avg), adaptive_means(step, op))
}

/// Sums of levels that f32 holds exactly, then two factors.
pub(crate) fn average_of_levels(e: &mut Emitter, step: &Step, op: &QuantizedAvgPool) -> Emitted {
    let kind = Kind::of_levels(op.zero, op.multiplier, op.output.as_ref());
    emit(e, step, kind, sliding_means(step, &op.of_reals))
}

/// As [`average_of_levels`].
pub(crate) fn adaptive_of_levels(e: &mut Emitter, step: &Step, op: &QuantizedAdaptiveAvgPool) -> Emitted {
    let kind = Kind::of_levels(op.zero, op.multiplier, op.output.as_ref());
    emit(e, step, kind, adaptive_means(step, &op.of_reals))
}

fn sliding_means(step: &Step, op: &AvgPool) -> [Axis; 2] {
    [0, 1].map(|a| {
        let window = [op.kernel[a], op.stride[a], op.dilation[a]];
        let (input, output) = (step.inputs[0].image()[2 + a], step.outputs[0].image()[2 + a]);
        Axis::sliding(input, output, window, [op.pad[a], op.pad[a + 2]], op.count_include_pad)
    })
}

fn adaptive_means(step: &Step, op: &AdaptiveAvgPool) -> [Axis; 2] {
    [0, 1].map(|a| Axis::adaptive(step.inputs[0].image()[2 + a], op.output[a]))
}

/// How the pixels of a window are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    kind: PoolKind,
    levels: Option<OfLevels>,
}

/// Means of levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct OfLevels {
    zero: i32,
    multiplier: Bits,
    output: Option<Grid>,
}

impl Kind {
    fn of_reals(kind: PoolKind) -> Kind {
        Kind { kind, levels: None }
    }

    fn of_levels(zero: i64, multiplier: f32, output: Option<&quantized::Grid>) -> Kind {
        let (zero, multiplier, output) = (zero as i32, Bits::of(multiplier), output.map(Grid::in_blocks));
        Kind { kind: PoolKind::Avg, levels: Some(OfLevels { zero, multiplier, output }) }
    }

    /// What a mean over so many rows multiplies its sum by.
    fn row_factor(self, rows: usize) -> f32 {
        match self.levels {
            None => 1.0 / rows as f32,
            Some(levels) => row_factor(levels.multiplier.value(), rows),
        }
    }
}

/// One task is one row of output pixels of one block.
fn emit(e: &mut Emitter, step: &Step, kind: Kind, [y, x]: [Axis; 2]) -> Emitted {
    let [.., width] = step.outputs[0].image();
    let pixel = step.inputs[0].pixel_stride();
    let row = Row {
        kind,
        elements: [&step.inputs[0], &step.outputs[0]].map(|view| view.shape.element()),
        input: x.input,
        step: y.distance * x.input * pixel,
        single: y.spans.iter().all(|s| s.count == 1),
        columns: Columns::of(&x),
        width,
        distance: x.distance,
    };
    let mut parts = vec![entries(&y, x.input * pixel, |rows| kind.row_factor(rows))];
    if let Columns::Table = row.columns {
        parts.push(entries(&x, row.source_pixel(e.unit()), column_factor));
    }
    let packed = e.pack(vec![], parts);
    let kernel = e.kernel(&row);
    let scratch = x.input * e.unit().bytes();
    table::emit_rows(e, step, (packed[0], table::ENTRY), scratch, |d, [from, rows, to]| {
        let columns = packed.get(1).map(|&columns| d.weights(columns));
        let arguments = [from, rows, d.scratch, to].into_iter().chain(columns);
        let arguments = arguments.map(Operand::from).collect();
        d.b.call(kernel, arguments);
    })
}

/// For each span the byte offset of its first position, its length, and the factor that its divisor gives.
pub(super) fn entries(axis: &Axis, stride: usize, factor: impl Fn(usize) -> f32) -> Part {
    let entry = |s: &Span| Entry { numbers: [s.first * stride, s.count, 0], factor: factor(s.divisor) };
    table::part(&axis.spans.iter().map(entry).collect::<Vec<_>>())
}

/// How the columns of a row are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Columns {
    Runs(Vec<Run>),
    Table,
}

/// Output columns whose windows are alike but for a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Run {
    pub outputs: usize,
    pub span: Span,
    /// Input columns from one window to the next.
    pub stride: usize,
}

impl Columns {
    pub(super) fn of(axis: &Axis) -> Columns {
        let mut runs: Vec<Run> = vec![];
        for (o, span) in axis.spans.iter().enumerate() {
            let joins = runs.last_mut().filter(|run| {
                let shift = span.first.wrapping_sub(axis.spans[o - 1].first);
                (run.span.count, run.span.divisor) == (span.count, span.divisor)
                    && (run.outputs == 1 || run.stride == shift)
                    && span.first >= run.span.first
            });
            match joins {
                Some(run) => {
                    run.stride = span.first - axis.spans[o - 1].first;
                    run.outputs += 1;
                }
                None => runs.push(Run { outputs: 1, span: *span, stride: 0 }),
            }
        }
        if runs.len() > MOST_RUNS { Columns::Table } else { Columns::Runs(runs) }
    }
}

/// All that a row kernel's code depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Row {
    kind: Kind,
    /// Of input and output. Rows in scratch memory are of f32, or of bytes where those are all that is compared.
    elements: [Element; 2],
    /// Input columns.
    input: usize,
    /// Bytes from one of a window's rows to the next.
    step: usize,
    /// Windows have one row: the input's rows are read where they are.
    single: bool,
    columns: Columns,
    width: usize,
    /// Columns from one of a window's to the next.
    distance: usize,
}

/// For the kernel's name, which tells the element by itself.
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { kind, elements: _, input, step, single, columns, width, distance } = self;
        let mut row = f.debug_struct("Row");
        row.field("kind", &kind.kind).field("input", input).field("step", step).field("single", single);
        row.field("columns", columns).field("width", width).field("distance", distance).finish()
    }
}

impl KernelKey for Row {
    /// Parameters: input, entry of the row table, scratch, output, the column table.
    fn build(&self, unit: Unit) -> Function {
        let with_table = matches!(self.columns, Columns::Table);
        let mut of = match self.elements {
            [Element::F32, Element::F32] => String::new(),
            [from, to] if from == to => format!(" of {from}"),
            [from, to] => format!(" of {from} to {to}"),
        };
        if let Some(levels) = self.kind.levels {
            of += &format!(" {levels:?}");
        }
        let mut b = Builder::new(format!("pool {self:?}{of}"), unit, if with_table { 5 } else { 4 });
        let [input, rows, scratch, output] = [0, 1, 2, 3].map(|i| b.parameter(i));
        let offset = table::number(&mut b, rows, 0);
        b.advance(input, offset);
        let factor = (self.kind.kind == PoolKind::Avg).then(|| b.broadcast(table::factor(rows)));
        let zero = self.kind.levels.filter(|levels| levels.zero != 0).map(|levels| b.splat(levels.zero as f32));
        let constants = Constants { factor, zero };
        let source = if self.single {
            input
        } else {
            let count = table::number(&mut b, rows, 1);
            self.combine_rows(&mut b, [input, scratch], count, constants);
            scratch
        };
        match &self.columns {
            Columns::Runs(runs) => runs.iter().for_each(|run| self.run(&mut b, run, source, output, constants)),
            Columns::Table => self.by_table(&mut b, source, output, constants),
        }
        b.finish()
    }
}

/// What a row kernel keeps in registers: of means what the row's divisor gives, and a zero point.
#[derive(Clone, Copy)]
struct Constants {
    factor: Option<Vector>,
    zero: Option<Vector>,
}

impl Row {
    /// A vector of the input. Zero points are taken from what is summed one by one: sums of centred levels are those
    /// that f32 holds.
    fn load(&self, b: &mut Builder, address: Address, constants: Constants) -> Vector {
        if self.is_of_bytes(b.unit()) {
            return b.load_as(Element::I32, address, self.elements[0]);
        }
        let v = grid::load_stored(b, address, self.elements[0]);
        constants.zero.map_or(v, |zero| b.op(VectorOp::Sub, v, zero))
    }

    /// A vector of a row: the input's, or one that was combined of several.
    fn load_source(&self, b: &mut Builder, address: Address, constants: Constants) -> Vector {
        match self.single || self.is_of_bytes(b.unit()) {
            true => self.load(b, address, constants),
            false => b.load(address),
        }
    }

    /// Whether maxima of bytes are bytes, of which a vector holds several pixels.
    fn is_of_bytes(&self, unit: Unit) -> bool {
        let [from, to] = self.elements;
        self.kind.kind == PoolKind::Max && from == to && matches!(from, Element::U8 | Element::I8) && unit.narrow
    }

    /// Pixels of a vector of bytes.
    const PIXELS: usize = LANE;

    fn store(&self, b: &mut Builder, address: Address, v: Vector) {
        match self.kind.levels {
            None if self.is_of_bytes(b.unit()) => b.store_as(address, v, self.elements[1]),
            None => grid::store_stored(b, address, v, self.elements[1]),
            Some(levels) => grid::store(b, address, v, levels.output),
        }
    }

    /// What columns are read as.
    fn source(&self, unit: Unit) -> Element {
        if self.single || self.is_of_bytes(unit) { self.elements[0] } else { Element::F32 }
    }

    /// Bytes from one of them to the next.
    fn source_pixel(&self, unit: Unit) -> usize {
        unit.lanes * self.source(unit).bytes()
    }

    /// Bytes from one pixel of the input to the next, and of the output.
    fn pixels(&self, unit: Unit) -> [usize; 2] {
        self.elements.map(|element| unit.lanes * element.bytes())
    }

    /// `scratch[x] = input[0][x] ∘ input[1][x] ∘ …` over `count` rows.
    fn combine_rows(&self, b: &mut Builder, [input, scratch]: [Int; 2], count: Int, constants: Constants) {
        let ([pixel, _], scratch_pixel) = (self.pixels(b.unit()), self.source_pixel(b.unit()));
        let bytes = self.is_of_bytes(b.unit());
        let to = b.int(scratch);
        // So many vectors, each of that many columns.
        let columns = |b: &mut Builder, vectors: usize, each: usize| {
            let load = |b: &mut Builder, address| match each {
                1 => self.load(b, address, constants),
                _ => b.load_of(self.elements[0], address),
            };
            let acc: Vec<Vector> = (0..vectors).map(|i| load(b, input.at(i * each * pixel))).collect();
            let from = b.int(input);
            b.loop_range(1i64, count, 1, |b, _| {
                b.advance(from, self.step);
                for (i, &acc) in acc.iter().enumerate() {
                    let v = load(b, from.at(i * each * pixel));
                    combine(b, self.kind.kind, acc, v);
                }
            });
            for (i, &acc) in acc.iter().enumerate() {
                let to = to.at(i * each * scratch_pixel);
                if bytes && each == 1 { self.store(b, to, acc) } else { b.store(to, acc) }
            }
            b.advance(input, vectors * each * pixel);
            b.advance(to, vectors * each * scratch_pixel);
        };
        let mut left = self.input;
        for each in if bytes { vec![Self::PIXELS, 1] } else { vec![1] } {
            let vectors = left / each;
            b.repeat(vectors / COLUMNS, |b| columns(b, COLUMNS, each));
            if vectors % COLUMNS > 0 {
                columns(b, vectors % COLUMNS, each);
            }
            left %= each;
        }
    }

    fn run(&self, b: &mut Builder, run: &Run, source: Int, output: Int, constants: Constants) {
        let ([_, pixel], source_pixel) = (self.pixels(b.unit()), self.source_pixel(b.unit()));
        let factor = constants.factor.map(|f| {
            let by_column = b.splat(column_factor(run.span.divisor));
            b.op(VectorOp::Mul, f, by_column)
        });
        let from = b.add(source, run.span.first * source_pixel);
        let side_by_side = run.stride == 1 && run.span.count <= MOST_UNROLLED && self.is_of_bytes(b.unit());
        let vectors = if side_by_side { run.outputs / Self::PIXELS } else { 0 };
        b.repeat(vectors, |b| {
            // Pixels of a vector are as many windows.
            let at = |tap: usize| from.at(tap * self.distance * source_pixel);
            let acc = b.load_of(self.elements[0], at(0));
            for tap in 1..run.span.count {
                let v = b.load_of(self.elements[0], at(tap));
                combine(b, self.kind.kind, acc, v);
            }
            b.store(output.at(0), acc);
            b.advance(from, Self::PIXELS * source_pixel);
            b.advance(output, Self::PIXELS * pixel);
        });
        let outputs = run.outputs - vectors * Self::PIXELS;
        let tile = if run.span.count > MOST_UNROLLED { 1 } else { COLUMNS };
        let pixels = |b: &mut Builder, pixels: usize| {
            let acc = self.windows(b, run, from, pixels, constants);
            for (i, acc) in acc.into_iter().enumerate() {
                let v = factor.map_or(acc, |f| b.op(VectorOp::Mul, acc, f));
                self.store(b, output.at(i * pixel), v);
            }
            b.advance(from, pixels * run.stride * source_pixel);
            b.advance(output, pixels * pixel);
        };
        b.repeat(outputs / tile, |b| pixels(b, tile));
        if outputs % tile > 0 {
            pixels(b, outputs % tile);
        }
    }

    /// The combined columns of `pixels` windows. A column that several windows share is loaded once.
    fn windows(&self, b: &mut Builder, run: &Run, from: Int, pixels: usize, constants: Constants) -> Vec<Vector> {
        let pixel = self.source_pixel(b.unit());
        if run.span.count > MOST_UNROLLED {
            return vec![self.window(b, from, run.span.count.into(), constants)];
        }
        let mut uses: Vec<(usize, usize)> = (0..pixels)
            .flat_map(|p| (0..run.span.count).map(move |k| (p * run.stride + k * self.distance, p)))
            .collect();
        uses.sort_unstable();
        let mut acc: Vec<Option<Vector>> = vec![None; pixels];
        for shared in uses.chunk_by(|a, b| a.0 == b.0) {
            let column = self.load_source(b, from.at(shared[0].0 * pixel), constants);
            for &(_, p) in shared {
                match acc[p] {
                    Some(acc) => combine(b, self.kind.kind, acc, column),
                    None if shared.len() == 1 => acc[p] = Some(column),
                    None => {
                        let copy = b.new_vector_like(&[column]);
                        b.copy(copy, column);
                        acc[p] = Some(copy);
                    }
                }
            }
        }
        acc.into_iter().map(|v| v.expect("no window is empty")).collect()
    }

    /// The combined columns of one window of `count` columns.
    fn window(&self, b: &mut Builder, from: Int, count: Operand, constants: Constants) -> Vector {
        let at = b.int(from);
        let acc = self.load_source(b, at.at(0), constants);
        b.loop_range(1i64, count, 1, |b, _| {
            b.advance(at, self.distance * self.source_pixel(b.unit()));
            let v = self.load_source(b, at.at(0), constants);
            combine(b, self.kind.kind, acc, v);
        });
        acc
    }

    fn by_table(&self, b: &mut Builder, source: Int, output: Int, constants: Constants) {
        let entry = b.parameter(4);
        b.repeat(self.width, |b| {
            let from = table::number(b, entry, 0);
            b.advance(from, source);
            let count = table::number(b, entry, 1);
            let mut v = self.window(b, from, count.into(), constants);
            if let Some(f) = constants.factor {
                let by_column = b.broadcast(table::factor(entry));
                let f = b.op(VectorOp::Mul, f, by_column);
                v = b.op(VectorOp::Mul, v, f);
            }
            self.store(b, output.at(0), v);
            b.advance(output, self.pixels(b.unit())[1]);
            b.advance(entry, table::ENTRY);
        });
    }
}

/// `acc = acc ∘ v`; a NaN of either stays.
pub(super) fn combine(b: &mut Builder, kind: PoolKind, acc: Vector, v: Vector) {
    match kind {
        PoolKind::Avg => b.op_into(acc, VectorOp::Add, acc, v),
        PoolKind::Max if b.element(acc) != Element::F32 => b.op_into(acc, VectorOp::Max, acc, v),
        PoolKind::Max => {
            // The machine's choice is v where one is NaN; right but for a NaN in acc.
            let greater = b.op(VectorOp::Max, acc, v);
            b.push(Inst::Select { dst: acc, compare: Compare::Equal, a: acc, b: acc, x: greater, y: acc });
        }
    }
}

/// One task is one block of an image.
pub(crate) fn global(e: &mut Emitter, step: &Step, op: &GlobalPool) -> Emitted {
    if !step.inputs[0].layout.is_blocked() {
        let kind = match op.kind {
            PoolKind::Avg => ReduceKind::Mean,
            PoolKind::Max => ReduceKind::Max,
        };
        return reduce::emit(e, step, &Reduce { kind, axes: vec![2, 3], keepdims: true });
    }
    super::check_blocks_are_vectors(e, step);
    let [_, _, h, w] = step.inputs[0].image();
    let elements = [&step.inputs[0], &step.outputs[0]].map(|view| view.shape.element());
    let kernel = e.kernel(&Global { kind: op.kind, pixels: h * w, elements });
    each_block(e, step, kernel, &[])
}

/// Exact sums of levels, then a factor; one task is one block of an image.
pub(crate) fn global_of_levels(e: &mut Emitter, step: &Step, op: &QuantizedGlobalPool) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let input = &step.inputs[0];
    let [_, _, h, w] = input.image();
    let kernel = e.kernel(&GlobalOfLevels {
        element: input.shape.element(),
        zero: op.zero as i32,
        pixels: h * w,
        multiplier: Bits::of(op.multiplier),
        output: op.output.as_ref().map(Grid::in_blocks),
    });
    each_block(e, step, kernel, &[])
}

/// Calls the kernel for each block of each image, with where it begins in the input and in the output, and with packed
/// weights.
pub(super) fn each_block(e: &mut Emitter, step: &Step, kernel: Callee, packed: &[Packed]) -> Emitted {
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let [images, ..] = input.image();
    let blocks = input.blocks();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, images * blocks, |d, task| {
            let (image, block) = d.split(task, blocks);
            let mut arguments: Vec<Operand> = vec![];
            for view in [input, output] {
                let base = d.view(e, view);
                d.step(base, image, view.batch_stride);
                d.step(base, block, view.block_stride());
                arguments.push(base.into());
            }
            arguments.extend(packed.iter().map(|&at| Operand::from(d.weights(at))));
            d.b.call(kernel, arguments);
        });
    });
    Emitted { entry, grid: images * blocks, scratch: 0 }
}

/// All that the kernel of a whole image of levels depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct GlobalOfLevels {
    element: Element,
    zero: i32,
    pixels: usize,
    multiplier: Bits,
    output: Option<Grid>,
}

impl KernelKey for GlobalOfLevels {
    /// Parameters: the block's pixels, the result. Sums are modulo 2³², so that their order does not matter.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("{self:?}"), unit, 2);
        let (input, output) = (b.parameter(0), b.parameter(1));
        let pixel = unit.lanes * self.element.bytes();
        let count = self.pixels.min(COLUMNS);
        let begin = (i64::from(self.zero) * self.pixels as i64).wrapping_neg() as i32;
        let sums: Vec<Vector> = (0..count).map(|i| b.splat_int(Element::I32, if i == 0 { begin } else { 0 })).collect();
        let add = |b: &mut Builder, count: usize| {
            for (i, &sum) in sums.iter().enumerate().take(count) {
                let v = b.load_as(Element::I32, input.at(i * pixel), self.element);
                b.op_into(sum, VectorOp::Add, sum, v);
            }
            b.advance(input, count * pixel);
        };
        b.repeat(self.pixels / count, |b| add(b, count));
        add(&mut b, self.pixels % count);
        sums[1..].iter().for_each(|&sum| b.op_into(sums[0], VectorOp::Add, sums[0], sum));
        let v = b.convert_from_int(sums[0]);
        let multiplier = b.splat(self.multiplier.value());
        let v = b.op(VectorOp::Mul, v, multiplier);
        grid::store(&mut b, output.at(0), v, self.output);
        b.finish()
    }
}

/// All that the kernel of a whole image depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Global {
    kind: PoolKind,
    pixels: usize,
    /// Of input and output.
    elements: [Element; 2],
}

impl KernelKey for Global {
    /// Parameters: the block's pixels, the result. Several accumulators, so that additions overlap.
    fn build(&self, unit: Unit) -> Function {
        let Global { kind, pixels, elements: [from, to] } = *self;
        let pixel = unit.lanes * from.bytes();
        let mut b = Builder::new(format!("global_{kind}_{pixels}"), unit, 2);
        let (input, output) = (b.parameter(0), b.parameter(1));
        let count = pixels.min(COLUMNS);
        let acc: Vec<Vector> = (0..count).map(|i| grid::load_stored(&mut b, input.at(i * pixel), from)).collect();
        let add = |b: &mut Builder, count: usize| {
            for (i, &acc) in acc.iter().enumerate().take(count) {
                let v = grid::load_stored(b, input.at(i * pixel), from);
                combine(b, kind, acc, v);
            }
        };
        b.repeat(pixels / count - 1, |b| {
            b.advance(input, count * pixel);
            add(b, count);
        });
        b.advance(input, count * pixel);
        add(&mut b, pixels % count);
        acc[1..].iter().for_each(|&v| combine(&mut b, kind, acc[0], v));
        let mut result = acc[0];
        if kind == PoolKind::Avg {
            let factor = b.splat(1.0 / pixels as f32);
            result = b.op(VectorOp::Mul, result, factor);
        }
        grid::store_stored(&mut b, output.at(0), result, to);
        b.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::Op;
    use crate::testing::{self, conv};

    /// The op on an image of that size.
    fn on(op: impl Into<Op>, size: [usize; 2]) {
        let mut b = testing::GraphBuilder::new("pool", Phase::Infer);
        let x = b.input([2, 3, size[0], size[1]]);
        let x = b.add(conv(19, 1, 1, 0), &[x]);
        let y = b.add(op, &[x]);
        check(b.finish(&[y]));
    }

    fn max_pool(kernel: usize, stride: usize, pad: usize) -> MaxPool {
        MaxPool { kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 4], dilation: [1; 2], ceil: false }
    }

    #[test]
    fn spans_are_clipped() {
        let axis = Axis::sliding(6, 4, [3, 2, 1], [1, 1], false);
        let found: Vec<_> = axis.spans.iter().map(|s| (s.first, s.count, s.divisor)).collect();
        // The last window hangs over because of `ceil`.
        assert_eq!(found, [(0, 2, 2), (1, 3, 3), (3, 3, 3), (5, 1, 1)]);
        let axis = Axis::sliding(6, 4, [3, 2, 1], [1, 1], true);
        assert_eq!(axis.spans.iter().map(|s| s.divisor).collect::<Vec<_>>(), [3, 3, 3, 2]);
    }

    #[test]
    fn maximum() {
        on(max_pool(3, 2, 1), [17, 30]);
        on(max_pool(3, 1, 1), [7, 40]);
        on(max_pool(2, 2, 0), [9, 8]);
        on(MaxPool { ceil: true, ..max_pool(3, 2, 0) }, [8, 14]);
        on(MaxPool { dilation: [2, 3], pad: [2, 1, 0, 3], ..max_pool(3, 1, 0) }, [9, 11]);
        on(MaxPool { kernel: [1, 3], ..max_pool(1, 2, 0) }, [5, 9]);
        on(max_pool(1, 3, 0), [7, 7]);
        on(MaxPool { kernel: [2, 20], stride: [1, 3], ..max_pool(1, 1, 0) }, [2, 41]);
    }

    #[test]
    fn mean() {
        let average = |kernel, stride, pad, ceil, count_include_pad| AvgPool {
            kernel: [kernel; 2],
            stride: [stride; 2],
            pad: [pad; 4],
            dilation: [1; 2],
            ceil,
            count_include_pad,
        };
        for include in [true, false] {
            on(average(3, 2, 1, false, include), [17, 30]);
            on(average(3, 2, 1, true, include), [6, 10]);
            on(average(5, 3, 2, true, include), [14, 15]);
            on(average(7, 1, 3, false, include), [7, 7]);
        }
    }

    #[test]
    fn adaptive_windows() {
        for output in [[1, 1], [6, 6], [3, 4], [7, 20], [20, 33]] {
            on(AdaptiveAvgPool { output }, [13, 9]);
        }
    }

    #[test]
    fn whole_images() {
        for kind in [PoolKind::Avg, PoolKind::Max] {
            for size in [[1, 1], [1, 7], [7, 7], [5, 5]] {
                on(GlobalPool { kind }, size);
            }
        }
    }

    #[test]
    fn nan_stays() {
        use crate::codegen::testing::{model, targets};
        use crate::tensor::Tensor;
        let mut b = testing::GraphBuilder::new("nan", Phase::Infer);
        let x = b.input([1, 1, 1, 8]);
        let y = b.add(MaxPool { kernel: [1, 3], stride: [1, 1], ..max_pool(1, 1, 0) }, &[x]);
        let z = b.add(GlobalPool { kind: PoolKind::Max }, &[x]);
        let graph = b.finish(&[y, z]);
        let input = Tensor::new([1, 1, 1, 8], vec![0.0, 1.0, 2.0, f32::NAN, 4.0, 5.0, 6.0, 7.0]);
        for target in targets() {
            let got = model(&graph, &target, &Default::default(), 1).run_tensors(std::slice::from_ref(&input)).unwrap();
            let nan: Vec<bool> = got[0].data().iter().map(|v| v.is_nan()).collect();
            assert_eq!(nan, [false, true, true, true, false, false]);
            assert!(got[1].data()[0].is_nan());
        }
    }
}
