//! Winograd convolution F(m×m, r×r): fewer multiplications by working on transformed tiles.
//!
//! ```text
//! V[e] = Bᵀ d B      input tiles of α×α, a vector a channel block;  e = 0 .. α²
//! M[e] = V[e] · U[e]   α² matrix products over channels, U = G g Gᵀ packed at compile time in f64
//! y    = Aᵀ M A      then bias, epilogue, store
//! ```
//!
//! One task is one set of output channels for one block of tiles. Tasks of a block follow one another,
//! and the thread's scratch keeps the block's V, so that it is transformed once (once a thread, where
//! a block is shared). V and M of a block stay in the second-level cache. Tiles at the image's border
//! have transforms of their own, in which the padding's zeros are left out.
//!
//! Convolutions of bytes are exact: V and U are whole numbers of 16 bits, M and all that is made of it i32 modulo 2³², from
//! which the sum of products follows, to the last bit ([`cook_toom`] has the proof). Then the sum goes through what direct
//! kernels do to sums, too. Inputs less their zero point are transformed in f32, which holds all numbers on the way: they
//! are whole and below 2²⁴.
//!
//! Stride 2 takes other matrices ([`cook_toom`]) and is else the same: a tile's window is
//! α = s (m − 1) + r wide, and windows are s m apart. A transposed convolution is done phase by phase.
//!
//! Of bf16, V and U are rounded to bf16 once they are transformed, and M is f32 again; or both are f32, and only input
//! and output are bf16. For the few digits of bf16 there are points whose transforms make rounding errors grow less
//! ([`Points`]); a tile then has more products along an axis than its window has inputs.

use super::super::Error;
use super::super::emit::{Driver, Emitted, Emitter, Packed};
use super::super::key::{Epilogue, KernelKey};
use super::super::packing::{self, Fill, Loop, Part, Walk};
use super::super::vector::{
    Address, Builder, Callee, Condition, Function, Int, IntOp, Operand, UnaryOp, Vector, VectorOp,
};
use super::cook_toom::{self, Transforms};
use super::direct::{BlockRun, Row, Tail, runs};
use super::epilogue::{self, Elements};
use super::{LANE, grid};
use crate::balance::TaskCost;
use crate::plan::conv::{Arithmetic, Axis, Geometry, Points, Taps, Winograd, registers_beside_stores};
use crate::plan::{Step, View};
use crate::target::Unit;
use crate::tensor::Element;
use std::ops::Range;

/// Sizes that the driver, the packing and the kernels share. Bytes, where not said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sizes {
    /// Outputs along each axis of a tile, taps, and stride, of which the matrices are made.
    m: usize,
    taps: usize,
    stride: usize,
    points: Points,
    /// Inputs along each axis of a window, and products of a tile.
    window: usize,
    products: usize,
    /// Different weights along an axis: elements from the last of them on share theirs.
    distinct: usize,
    in_blocks: usize,
    /// Input blocks that a set reads: those of its group.
    group_blocks: usize,
    /// How V is multiplied, which says what it consists of.
    arithmetic: Arithmetic,
    /// V: a tile's block of channels, from a channel block to the next, and from an element to the next.
    v_tile: usize,
    v_block: usize,
    v_element: usize,
    m_block: usize,
    m_element: usize,
    /// A vector of f32 or of sums, which M and half transformed tiles consist of.
    vector: usize,
}

impl Sizes {
    /// Of a step with such an input: a pixel's channels of a block are the lanes of a vector.
    fn new(w: &Winograd, input: &View) -> Sizes {
        let in_blocks = input.blocks();
        let vector = input.block() * LANE;
        let v_tile = input.block() * w.products.input().bytes();
        let (v_block, m_block) = (w.tiles * v_tile, w.tiles * vector);
        Sizes {
            m: w.m,
            taps: w.taps(),
            stride: w.stride(),
            points: w.points,
            window: w.window(),
            products: w.alpha(),
            distinct: w.distinct(),
            in_blocks,
            group_blocks: w.problem.in_per_group().div_ceil(input.block()),
            arithmetic: w.products,
            v_tile,
            v_block,
            v_element: in_blocks * v_block,
            m_block,
            m_element: w.blocks * m_block,
            vector,
        }
    }

    fn transforms(&self) -> Transforms {
        cook_toom::transforms(self.m, self.taps, self.stride, self.points)
    }

    fn elements(&self) -> usize {
        self.products * self.products
    }

    /// Where M begins in the scratch; V begins at 0.
    fn m_offset(&self) -> usize {
        (self.elements() * self.v_element).next_multiple_of(self.vector)
    }

    /// Where a transform keeps its half-transformed tile.
    fn half_offset(&self) -> usize {
        self.m_offset() + self.elements() * self.m_element
    }

    fn scratch(&self) -> usize {
        self.half_offset() + self.elements() * self.vector
    }
}

pub(crate) fn emit(e: &mut Emitter, step: &Step, w: &Winograd) -> Result<Emitted, Error> {
    super::check_blocks_are_vectors(e, step);
    let tail = Tail::of(e.graph, step.node, &w.problem);
    let runs = runs(&step.outputs, w.blocks, e.unit());
    let sizes = Sizes::new(w, &step.inputs[0]);
    let (bias, panels) = pack(e, step, w, &sizes, &runs, tail.bias);
    let finish = Finish::new(w, tail, &sizes);
    let mut panels = panels.into_iter();
    let passes: Vec<Pass> =
        w.problem.phases.iter().map(|g| Pass::new(e, step, w, &sizes, g, &runs, &finish, &mut panels)).collect();

    let sets: usize = runs.iter().map(|r| r.tiles).sum();
    let tasks = |pass: &Pass| pass.total.div_ceil(w.tiles) * sets;
    let grid = passes.iter().map(tasks).sum();
    e.task_costs = passes.iter().flat_map(|pass| pass.task_costs(w.tiles)).collect();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut begin = 0;
        for pass in &passes {
            let current = d.b.int(-1i64);
            d.tasks(begin, tasks(pass), |d, task| {
                let (block, set) = d.split(task, sets);
                let (block, set) = (d.int(block), d.int(set));
                let first = d.b.mul(block, w.tiles);
                let all = d.b.int(pass.total);
                let rest = d.b.int_op(IntOp::Sub, all, first);
                let count = d.b.int_op(IntOp::Min, rest, w.tiles);
                d.if_then(Condition::NotEqual, block, current, |d| {
                    d.b.set_int(current, block);
                    transform_inputs(e, d, step, w, &sizes, pass, first, count);
                });
                let mut begin = 0;
                for part in &pass.runs {
                    d.if_within(set, begin, part.run.tiles, |d, set| {
                        multiply(d, e.unit(), w, &sizes, part, set, count);
                        transform_outputs(e, d, step, w, &sizes, pass, part, bias, set, first, count);
                    });
                    begin += part.run.tiles;
                }
            });
            begin += tasks(pass);
        }
    });
    Ok(Emitted { entry, grid, scratch: sizes.scratch() })
}

/// The output channels of one task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Set {
    /// Of the step's outputs, which has them, and as which of its channels the first.
    pub output: usize,
    pub first_in_output: usize,
    /// Of the layer.
    pub channels: Range<usize>,
}

/// The sets of a step. Task t is set t mod n of block t / n of tiles; the nth set's weights are the
/// step's packed part n + 1, after the bias.
pub(crate) fn sets(step: &Step, w: &Winograd, unit: Unit) -> Vec<Set> {
    let block = step.outputs[0].block();
    let of_run = |run: BlockRun| {
        (0..run.tiles).map(move |tile| {
            let first = (run.first + tile * run.blocks) * block;
            Set {
                output: run.output,
                first_in_output: first - run.origin * block,
                channels: first..(first + run.blocks * block).min(w.problem.out_channels),
            }
        })
    };
    runs(&step.outputs, w.blocks, unit).into_iter().flat_map(of_run).collect()
}

/// The largest number that the step computes on its way, where neither weights nor inputs are larger
/// than 1. Each product has a factor of 1 in some output of its tile, so that no product is larger either.
pub(crate) fn largest(w: &Winograd) -> f64 {
    cook_toom::transforms(w.m, w.taps(), w.stride(), w.points).growth().powi(2) * w.problem.in_per_group() as f64
}

/// One phase of the convolution: all of it, where it is not transposed.
struct Pass<'a> {
    geometry: &'a Geometry,
    /// Tiles along each axis, and of the whole batch.
    grid: [usize; 2],
    total: usize,
    inputs: Vec<Border>,
    runs: Vec<PassRun>,
}

/// The sets of one run in a pass.
struct PassRun {
    run: BlockRun,
    /// Byte offset of the first set's panel in the weights section.
    panels: Packed,
    products: Vec<Product>,
    outputs: Vec<Border>,
    /// Vectors a channel block of biases, or of what sums are scaled by.
    bias_vectors: usize,
}

impl<'a> Pass<'a> {
    #[allow(clippy::too_many_arguments)] // One value each of the step's many sides.
    fn new(
        e: &mut Emitter,
        step: &Step,
        w: &Winograd,
        s: &Sizes,
        geometry: &'a Geometry,
        runs: &[BlockRun],
        finish: &Finish,
        panels: &mut impl Iterator<Item = Packed>,
    ) -> Pass<'a> {
        let grid = w.grid(geometry);
        let total = w.problem.batch * grid[0] * grid[1];
        let inputs = input_kernels(e, step, w, s, geometry);
        let runs = runs.iter().map(|&run| PassRun {
            run,
            panels: panels.next().expect("one a phase and run"),
            products: product_kernels(e, w, s, run, total),
            outputs: output_kernels(e, step, w, s, geometry, run, finish),
            bias_vectors: finish.vectors_per_block(),
        });
        Pass { geometry, grid, total, inputs, runs: runs.collect() }
    }

    /// A task costs as its tiles times its channel blocks.
    fn task_costs(&self, tiles: usize) -> Vec<TaskCost> {
        let block = |tiles: usize| {
            let set = move |r: &PassRun| TaskCost::new(r.run.tiles, tiles as f64 * r.run.work());
            self.runs.iter().map(set).collect::<Vec<_>>()
        };
        let (full, last) = (self.total / tiles, self.total % tiles);
        let mut costs = match block(tiles).as_slice() {
            [same] => vec![TaskCost { tasks: same.tasks * full as u32, ..*same }],
            sets => sets.repeat(full),
        };
        if last > 0 {
            costs.extend(block(last));
        }
        costs.retain(|c| c.tasks > 0);
        costs
    }
}

// Weights.

/// Reserves the bias, or the two numbers a channel by which sums are scaled, and, for each phase and run, the transformed
/// weights of its sets. Returns their offsets.
fn pack(
    e: &mut Emitter,
    step: &Step,
    w: &Winograd,
    s: &Sizes,
    runs: &[BlockRun],
    has_bias: bool,
) -> (Packed, Vec<Packed>) {
    let (weights, output) = (e.weights(step), &step.outputs[0]);
    let mut packed = vec![match s.points {
        Points::Real | Points::Complex => Part::bias(has_bias, w.problem.out_channels, output),
        Points::Whole => grid::scales(0, w.problem.out_channels, output.block(), true),
    }];
    let mut first_part = vec![];
    for geometry in w.problem.phases.iter() {
        for run in runs {
            first_part.push(packed.len());
            for set in 0..run.tiles {
                let first = run.first + set * run.blocks;
                packed.push(panel(w, s, geometry, first, run.blocks, output.block(), e.unit()));
            }
        }
    }
    let packed = e.pack(weights, packed);
    (packed[0], first_part.into_iter().map(|p| packed[p]).collect())
}

/// The transformed weights of one set, of blocks of `block` channels.
fn panel(
    w: &Winograd,
    s: &Sizes,
    geometry: &Geometry,
    out_block: usize,
    blocks: usize,
    block: usize,
    unit: Unit,
) -> Part {
    let (problem, r) = (&w.problem, w.taps());
    let channels = blocks * block;
    let first_channel = out_block * block;
    // A set's channels are of one group.
    let group = problem.outputs_of(problem.groups_of(&(first_channel..first_channel + 1)).start);
    let outputs = group.end.min(first_channel + channels) - first_channel;
    let filter =
        problem.weight_index(first_channel, problem.first_input(first_channel), 0, 0).expect("both are of a group");
    let [out_step, input_step] = problem.weight_steps();
    // Where the phase's taps lie in the stored kernel.
    let (y, x) = (geometry.y.taps, geometry.x.taps);
    let first_tap = y.kernel_first * problem.kernel[1] + x.kernel_first;
    let filters = Walk::new(
        filter + first_tap,
        0,
        [
            Loop { count: outputs, from: out_step as isize, to: 1 },
            Loop { count: r, from: y.kernel_step * problem.kernel[1] as isize, to: r * channels },
            Loop { count: r, from: x.kernel_step, to: channels },
        ],
    );
    let element_step = s.group_blocks * block * channels;
    let factors = w.products.factors(unit);
    let packed = packing::Winograd {
        m: w.m,
        taps: r,
        stride: w.stride(),
        points: w.points,
        weight: 0,
        filters,
        inputs: problem.in_per_group(),
        input_step,
        channels,
        together: factors.together(),
        element_step,
    };
    let elements = w.distinct() * w.distinct() * element_step;
    Part { element: factors.element(), elements, fill: Fill::Winograd(packed) }
}

// Tiles and their borders.

/// A kernel for the tiles of some rows and columns of the grid of tiles.
struct Border {
    rows: Range<usize>,
    columns: Range<usize>,
    kernel: Callee,
}

/// Consecutive tiles along an axis of which the same positions count: `(tiles, positions)`.
fn classes(tiles: usize, positions: impl Fn(usize) -> Range<usize>) -> Vec<(Range<usize>, Range<usize>)> {
    let mut classes: Vec<(Range<usize>, Range<usize>)> = vec![];
    for tile in 0..tiles {
        let valid = positions(tile);
        match classes.last_mut() {
            Some((tiles, last)) if *last == valid => tiles.end = tile + 1,
            _ => classes.push((tile..tile + 1, valid)),
        }
    }
    classes
}

/// Positions of the input window of a tile that lie in the image.
fn window(axis: &Axis, m: usize, alpha: usize, tile: usize) -> Range<usize> {
    let window = Taps { step: m * axis.taps.step, distance: 1, count: alpha, ..axis.taps };
    window.inside(tile, axis.input)
}

/// Calls the kernel of the tile's place in the grid, for each tile of the block. `arguments` get
/// the image, the tile's row and column, and its index in the block.
fn for_tiles(
    d: &mut Driver,
    [height, width]: [usize; 2],
    borders: &[Border],
    first: Int,
    count: Int,
    arguments: impl Fn(&mut Driver, [Int; 3], Int) -> Vec<Operand>,
) {
    d.range(0i64, count, |d, index| {
        let tile = d.b.add(first, index);
        let (rest, x) = d.split(tile, width);
        let rest = d.int(rest);
        let (image, y) = d.split(rest, height);
        let (image, y, x) = (d.int(image), d.int(y), d.int(x));
        let arguments = arguments(d, [image, y, x], index);
        for border in borders {
            d.if_within(y, border.rows.start, border.rows.len(), |d, _| {
                d.if_within(x, border.columns.start, border.columns.len(), |d, _| {
                    d.b.call(border.kernel, arguments.clone());
                });
            });
        }
    });
}

// Input transform.

fn input_kernels(e: &mut Emitter, step: &Step, w: &Winograd, s: &Sizes, g: &Geometry) -> Vec<Border> {
    let [height, width] = w.grid(g);
    let view = &step.inputs[0];
    let strides = [view.row_stride(), view.pixel_stride(), view.block_stride()];
    let columns = classes(width, |t| window(&g.x, w.m, s.window, t));
    let mut borders = vec![];
    for (rows, valid_rows) in classes(height, |t| window(&g.y, w.m, s.window, t)) {
        for (columns, valid_columns) in &columns {
            let valid = [valid_rows.clone(), valid_columns.clone()];
            let kernel = e.kernel(&InputTransform { sizes: *s, arithmetic: w.problem.arithmetic, valid, strides });
            borders.push(Border { rows: rows.clone(), columns: columns.clone(), kernel });
        }
    }
    borders
}

/// All that the kernel of an input transform depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct InputTransform {
    sizes: Sizes,
    arithmetic: Arithmetic,
    /// Rows and columns of the window that lie in the image.
    valid: [Range<usize>; 2],
    /// Bytes from a row, a pixel and a channel block of the input to the next.
    strides: [usize; 3],
}

impl KernelKey for InputTransform {
    /// Parameters: the window's first pixel (which may lie outside the image), V of the tile, the half
    /// transformed tile. Loops over channel blocks.
    fn build(&self, unit: Unit) -> Function {
        let InputTransform { sizes: s, arithmetic, ref valid, strides: [row, pixel, block] } = *self;
        let transforms = &s.transforms();
        let mut b = Builder::new(format!("winograd_input_{}", s.products), unit, 3);
        let [source, v, half] = [0, 1, 2].map(|i| b.parameter(i));
        let paired = pair_rows(transforms);
        let mut constants = Constants::new(&mut b, &paired.matrix);
        let zero = match arithmetic {
            Arithmetic::Bytes { zero, .. } if zero != 0 => Some(f64::from(zero)),
            _ => None,
        };
        zero.iter().for_each(|&zero| constants.hold(&mut b, zero));
        b.repeat(s.in_blocks, |b| {
            for j in valid[1].clone() {
                let load = |b: &mut Builder, constants: &Constants, i: usize| {
                    let x = grid::load_stored(b, source.at(i * row + j * pixel), arithmetic.input());
                    let Some(zero) = zero else { return x };
                    let zero = constants.get(b, zero);
                    b.op(VectorOp::Sub, x, zero)
                };
                let column: Vec<_> =
                    (0..s.window).map(|i| valid[0].contains(&i).then(|| load(b, &constants, i))).collect();
                multiply_rows(b, &mut constants, &paired, &column, |b, i, value| {
                    let value = value.unwrap_or_else(|| b.splat(0.0));
                    b.store(half.at((i * s.window + j) * s.vector), value);
                });
            }
            for i in 0..s.products {
                let load = |b: &mut Builder, j: usize| b.load(half.at((i * s.window + j) * s.vector));
                let line: Vec<_> = (0..s.window).map(|j| valid[1].contains(&j).then(|| load(b, j))).collect();
                multiply_rows(b, &mut constants, &paired, &line, |b, j, value| {
                    let value = value.unwrap_or_else(|| b.splat(0.0));
                    let place = v.at((i * s.products + j) * s.v_element);
                    grid::store_stored(b, place, value, s.arithmetic.input());
                });
            }
            b.advance(source, block);
            b.advance(v, s.v_block);
        });
        b.finish()
    }
}

#[allow(clippy::too_many_arguments)] // One value each of the step's many sides.
fn transform_inputs(
    e: &Emitter,
    d: &mut Driver,
    step: &Step,
    w: &Winograd,
    s: &Sizes,
    pass: &Pass,
    first: Int,
    count: Int,
) {
    let (g, view) = (pass.geometry, &step.inputs[0]);
    let row = view.row_stride();
    for_tiles(d, pass.grid, &pass.inputs, first, count, |d, [image, y, x], index| {
        let source = d.view(e, view);
        d.step(source, image.into(), view.batch_stride);
        d.step(source, y.into(), w.m * w.stride() * row);
        let pixel = view.pixel_stride();
        d.step(source, x.into(), w.m * w.stride() * pixel);
        d.b.advance(source, g.y.taps.first as i64 * row as i64 + g.x.taps.first as i64 * pixel as i64);
        let v = d.b.int(d.scratch);
        d.step(v, index.into(), s.v_tile);
        let half = d.b.add(d.scratch, s.half_offset());
        vec![source.into(), v.into(), half.into()]
    });
}

// Products.

/// Products of one block of tiles.
#[derive(Clone, Copy)]
struct Product {
    tiles: usize,
    callee: Callee,
    /// Bytes from its weights to those that it brings nearer meanwhile.
    ahead: Option<usize>,
}

/// Whether weights are brought nearer while those before them are multiplied. Small ones that many blocks of tiles read
/// are in the second-level cache already.
fn brings_ahead(w: &Winograd) -> bool {
    const SMALL: usize = 512 << 10;
    const MANY: usize = 4;
    let p = &w.problem;
    let bytes = w.distinct() * w.distinct() * p.in_per_group() * p.out_channels * w.products.input().bytes();
    bytes > SMALL || w.most_tiles().div_ceil(w.tiles) < MANY
}

/// A kernel for a full block of tiles and one for the last.
fn product_kernels(e: &mut Emitter, w: &Winograd, s: &Sizes, run: BlockRun, total: usize) -> Vec<Product> {
    let last = total % w.tiles;
    let counts = [w.tiles.min(total), last].into_iter().filter(|&c| c > 0 && (c == last || total >= w.tiles));
    let mut kernels: Vec<Product> = vec![];
    for tiles in counts {
        if kernels.iter().any(|k| k.tiles == tiles) {
            continue;
        }
        let tile = [w.pixels, run.blocks];
        let (channels, strides) = (w.problem.in_per_group(), [s.v_block, s.m_block]);
        let row = Row::product(w.products, tiles, tile, run.half, channels, e.unit(), strides, brings_ahead(w));
        let callee = e.kernel(&row);
        kernels.push(Product { tiles, callee, ahead: row.next_product(e.unit()) });
    }
    kernels
}

fn multiply(d: &mut Driver, unit: Unit, w: &Winograd, s: &Sizes, part: &PassRun, set: Int, count: Int) {
    let lanes = s.vector / s.arithmetic.sum().bytes();
    let weight = s.arithmetic.factors(unit).element().bytes();
    let element = s.group_blocks * lanes * part.run.blocks * lanes * weight;
    let weights = d.weights(part.panels);
    d.step(weights, set.into(), element * s.distinct * s.distinct);
    let input = d.b.int(d.scratch);
    if w.problem.groups > 1 {
        let block = d.b.int(part.run.first);
        d.step(block, set.into(), part.run.blocks);
        let group = d.b.int_op(IntOp::Div, block, w.problem.out_per_group() / lanes);
        d.step(input, group.into(), s.group_blocks * s.v_block);
    }
    for &Product { tiles, callee, ahead } in &part.products {
        d.if_then(Condition::Equal, count, tiles, |d| {
            d.range(0i64, s.elements(), |d, index| {
                let v = d.b.int(input);
                d.step(v, index.into(), s.v_element);
                let u = d.b.int(weights);
                let weight = weight_element(d, s, index);
                d.step(u, weight, element);
                let m = d.b.add(d.scratch, s.m_offset());
                d.step(m, index.into(), s.m_element);
                let mut arguments = vec![v.into(), u.into(), 0i64.into(), 1i64.into(), m.into()];
                arguments.extend(ahead.map(|bytes| Operand::from(d.b.add(u, bytes))));
                d.b.call(callee, arguments);
            });
        });
    }
}

/// Which of the packed elements the weights of an element of the tile are.
fn weight_element(d: &mut Driver, s: &Sizes, element: Int) -> Operand {
    if s.distinct == s.products {
        return element.into();
    }
    let (row, column) = d.split(element, s.products);
    let (row, column) = (d.int(row), d.int(column));
    let row = d.b.int_op(IntOp::Min, row, s.distinct - 1);
    let column = d.b.int_op(IntOp::Min, column, s.distinct - 1);
    let element = d.b.mul(row, s.distinct);
    d.b.add(element, column).into()
}

// Output transform.

fn output_kernels(
    e: &mut Emitter,
    step: &Step,
    w: &Winograd,
    s: &Sizes,
    g: &Geometry,
    run: BlockRun,
    finish: &Finish,
) -> Vec<Border> {
    let [height, width] = w.grid(g);
    let strides: Vec<[usize; 3]> = std::iter::once(&step.outputs[run.output])
        .chain(&step.inputs[1..])
        .map(|v| [g.y.output_step * v.row_stride(), g.x.output_step * v.pixel_stride(), v.block_stride()])
        .collect();
    let inside = |size: usize| move |tile: usize| 0..w.m.min(size - tile * w.m);
    let columns = classes(width, inside(g.x.output));
    let mut borders = vec![];
    for (rows, valid_rows) in classes(height, inside(g.y.output)) {
        for (columns, valid_columns) in &columns {
            let valid = [valid_rows.len(), valid_columns.len()];
            let kernel = e.kernel(&OutputTransform {
                sizes: *s,
                valid,
                strides: strides.clone(),
                blocks: run.blocks,
                finish: finish.clone(),
                elements: Elements::of(&step.outputs[run.output], &step.inputs[1..]),
            });
            borders.push(Border { rows: rows.clone(), columns: columns.clone(), kernel });
        }
    }
    borders
}

/// All that the kernel of an output transform depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct OutputTransform {
    sizes: Sizes,
    /// Rows and columns of the tile that lie in the image.
    valid: [usize; 2],
    /// Bytes from a row, a pixel and a channel block to the next, of the output and the epilogue's operands.
    strides: Vec<[usize; 3]>,
    /// Channel blocks of a set.
    blocks: usize,
    finish: Finish,
    elements: Elements,
}

/// What is done to results.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Finish {
    /// A bias is added.
    Reals(Epilogue),
    /// Multiplied by that number modulo 2³² and shifted to the right by so many bits they are the sums of products, which
    /// are finished as others are.
    Levels { inverse: i32, shift: u8, tail: grid::Tail },
}

impl Finish {
    /// # Panics
    /// When sums are not known to be so small that what comes of the transforms tells them.
    fn new(w: &Winograd, tail: Tail, s: &Sizes) -> Finish {
        match s.points {
            Points::Real | Points::Complex => Finish::Reals(Epilogue::of(&tail.steps)),
            Points::Whole => {
                let (inverse, shift) = s.transforms().unscale();
                let largest = w.problem.largest_sum.expect("the plan knows how large sums are");
                assert!(largest < 1 << (31 - shift), "2^{shift} times a sum of {largest} leaves 32 bits");
                Finish::Levels { inverse, shift, tail: tail.of_sums() }
            }
        }
    }

    /// Vectors a channel block of what sums are multiplied by and what is added.
    fn vectors_per_block(&self) -> usize {
        match self {
            Finish::Reals(_) => 1,
            Finish::Levels { .. } => 2,
        }
    }
}

impl KernelKey for OutputTransform {
    /// Parameters: M of the tile, bias, the half transformed tile, output, the epilogue's operands.
    /// Loops over the set's channel blocks.
    ///
    /// Results for whose epilogue there are too few registers wait where they are to lie. Of other elements than f32 they
    /// wait in place of the line that they were made of.
    fn build(&self, unit: Unit) -> Function {
        let OutputTransform { sizes: s, ref strides, blocks, .. } = *self;
        let transforms = &s.transforms();
        let mut b = Builder::new(format!("winograd_output_{}", s.products), unit, 3 + strides.len());
        let [m, bias, half] = [0, 1, 2].map(|i| b.parameter(i));
        let places: Vec<Int> = (0..strides.len()).map(|i| b.parameter(3 + i)).collect();
        let paired = pair_columns(transforms);
        let (sum, mut constants) = match &self.finish {
            Finish::Reals(_) => (Element::F32, Constants::new(&mut b, &paired.matrix)),
            // Factors are powers of two, which shift.
            Finish::Levels { .. } => (Element::I32, Constants::default()),
        };
        b.repeat(blocks, |b| {
            for j in 0..s.products {
                let column =
                    (0..s.products).map(|i| b.load_of(sum, m.at((i * s.products + j) * s.m_element))).collect();
                multiply_columns(b, &mut constants, &paired, column, self.valid[0], |b, k, value| {
                    b.store(half.at((k * s.products + j) * s.vector), value);
                });
            }
            match &self.finish {
                Finish::Reals(steps) => self.store_reals(b, &paired, &mut constants, steps, [bias, half], &places),
                Finish::Levels { inverse, shift, tail } => {
                    self.store_levels(b, &paired, (*inverse, *shift), tail, [bias, half], &places);
                }
            }
            b.advance(m, s.m_block);
            b.advance(bias, self.finish.vectors_per_block() * s.vector);
            places.iter().zip(strides).for_each(|(&p, s)| b.advance(p, s[2]));
        });
        b.finish()
    }
}

impl OutputTransform {
    /// Where a row of the half transformed tile lies.
    fn row(&self, half: Int, k: usize) -> impl Fn(usize) -> Address {
        let (products, vector) = (self.sizes.products, self.sizes.vector);
        move |j| half.at((k * products + j) * vector)
    }

    /// Where a result of the tile lies in the output, or of its operands.
    fn place(&self, places: &[Int], i: usize, k: usize, l: usize) -> Address {
        places[i].at(k * self.strides[i][0] + l * self.strides[i][1])
    }

    fn store_reals(
        &self,
        b: &mut Builder,
        paired: &Paired,
        constants: &mut Constants,
        steps: &Epilogue,
        [bias, half]: [Int; 2],
        places: &[Int],
    ) {
        let (products, [rows, columns], elements) = (self.sizes.products, self.valid, &self.elements);
        let bias_vector = b.load(bias.at(0));
        // Inputs, their sums, a result and the bias are live while results come out.
        let live = products + 4 + constants.held.len() + epilogue::temporaries(steps);
        let crowded = live > registers_beside_stores(elements.output, b.unit());
        let kept = |k: usize, l: usize| match elements.output {
            Element::F32 => self.place(places, 0, k, l),
            _ => self.row(half, k)(l),
        };
        let finish = |b: &mut Builder, k: usize, l: usize, value: Vector| {
            let load =
                |b: &mut Builder, i: usize| grid::load_stored(b, self.place(places, i + 1, k, l), elements.operands[i]);
            let value = epilogue::apply_all(b, steps, value, load);
            grid::store_stored(b, self.place(places, 0, k, l), value, elements.output);
        };
        for k in 0..rows {
            let line = (0..products).map(self.row(half, k)).map(|at| b.load(at)).collect();
            multiply_columns(b, constants, paired, line, columns, |b, l, value| {
                let value = b.op(VectorOp::Add, value, bias_vector);
                if crowded {
                    b.store(kept(k, l), value);
                } else {
                    finish(b, k, l, value);
                }
            });
        }
        for (k, l) in (0..rows).flat_map(|k| (0..columns).map(move |l| (k, l))).filter(|_| crowded) {
            let value = b.load(kept(k, l));
            finish(b, k, l, value);
        }
    }

    /// A row of results at a time, which waits, where there are too few registers, where it came from.
    fn store_levels(
        &self,
        b: &mut Builder,
        paired: &Paired,
        (inverse, shift): (i32, u8),
        tail: &grid::Tail,
        [scales, half]: [Int; 2],
        places: &[Int],
    ) {
        let registers = b.unit().registers_beside_narrowing();
        for k in 0..self.valid[0] {
            let kept = self.row(half, k);
            let line = (0..self.sizes.products).map(&kept).map(|at| b.load_of(Element::I32, at)).collect();
            let mut scaled = vec![];
            multiply_columns(b, &mut Constants::default(), paired, line, self.valid[1], |_, _, value| {
                scaled.push(value);
            });
            let inverse = b.splat_int(Element::I32, inverse);
            let sums: Vec<(Vector, grid::Places)> = scaled
                .into_iter()
                .enumerate()
                .map(|(l, value)| {
                    let value = b.op(VectorOp::Mul, value, inverse);
                    let sum = b.unary(UnaryOp::ShiftRightSigned(shift), value);
                    let to = self.place(places, 0, k, l);
                    (sum, grid::Places { to, scales: scales.at(0), kept: kept(l) })
                })
                .collect();
            tail.store(b, &sums, registers, |l, i| self.place(places, i + 1, k, l));
        }
    }
}

/// Transforms the products of `count` tiles back and stores them. Tile (y, x) of a phase holds its outputs m·y … m·y + m − 1
/// by m·x … m·x + m − 1, and output q of a phase is output `output_first + q · output_step` of the whole: so tiles write to
/// disjoint memory, and border tiles leave out what lies beyond (`Border`). The products of tile `index` lie `index` vectors
/// behind the first one's, for each element and channel block apart ([`Sizes`]).
#[allow(clippy::too_many_arguments)] // One value each of the step's many sides.
fn transform_outputs(
    e: &Emitter,
    d: &mut Driver,
    step: &Step,
    w: &Winograd,
    s: &Sizes,
    pass: &Pass,
    part: &PassRun,
    bias: Packed,
    set: Int,
    first: Int,
    count: Int,
) {
    let (g, run) = (pass.geometry, part.run);
    let views: Vec<(&View, usize)> = std::iter::once((&step.outputs[run.output], run.first - run.origin))
        .chain(step.inputs[1..].iter().map(|v| (v, run.first)))
        .collect();
    for_tiles(d, pass.grid, &part.outputs, first, count, |d, [image, y, x], index| {
        let m = d.b.add(d.scratch, s.m_offset());
        d.step(m, index.into(), s.vector);
        let bias_block = part.bias_vectors * s.vector;
        let bias = d.weights(bias + run.first * bias_block);
        d.step(bias, set.into(), run.blocks * bias_block);
        let half = d.b.add(d.scratch, s.half_offset());
        let mut arguments: Vec<Operand> = vec![m.into(), bias.into(), half.into()];
        for &(view, block) in &views {
            let base = d.view(e, view);
            let stride = view.block_stride();
            d.step(base, image.into(), view.batch_stride);
            d.step(base, set.into(), run.blocks * stride);
            let (row, pixel) = (view.row_stride(), view.pixel_stride());
            d.step(base, y.into(), w.m * g.y.output_step * row);
            d.step(base, x.into(), w.m * g.x.output_step * pixel);
            d.b.advance(base, block * stride + g.y.output_first * row + g.x.output_first * pixel);
            arguments.push(base.into());
        }
        arguments
    });
}

// One-dimensional transforms on vectors.

/// Factors of f32 as vectors: held in registers where there are many, made where they are used elsewhere.
#[derive(Default)]
struct Constants {
    held: Vec<(f64, Vector)>,
}

impl Constants {
    /// For transforms by that matrix, its rows or columns paired.
    fn new(b: &mut Builder, matrix: &[Vec<f64>]) -> Constants {
        let mut constants = Constants::default();
        let simple = |factor: f64| factor == 0.0 || factor.abs() == 1.0;
        matrix.iter().flatten().filter(|&&factor| !simple(factor)).for_each(|&factor| constants.hold(b, factor));
        constants
    }

    fn hold(&mut self, b: &mut Builder, factor: f64) {
        const MOST: usize = 10;
        let is_held = self.held.iter().any(|(f, _)| *f == factor);
        if b.unit().registers >= 32 && self.held.len() < MOST && !is_held {
            let v = b.splat(factor as f32);
            self.held.push((factor, v));
        }
    }

    fn get(&self, b: &mut Builder, factor: f64) -> Vector {
        match self.held.iter().find(|(f, _)| *f == factor) {
            Some((_, v)) => *v,
            None => b.splat(factor as f32),
        }
    }
}

/// A matrix by whose rows or columns of points p and −p their sums and differences are reached.
struct Paired {
    matrix: Vec<Vec<f64>>,
    pairs: Vec<usize>,
}

/// Rows of points p and −p as their half sum and half difference: the even and the odd part.
fn pair_rows(transforms: &Transforms) -> Paired {
    let mut matrix = transforms.input.clone();
    for &pair in &transforms.pairs {
        for k in 0..matrix[pair].len() {
            let (p, n) = (matrix[pair][k], matrix[pair + 1][k]);
            (matrix[pair][k], matrix[pair + 1][k]) = ((p + n) / 2.0, (p - n) / 2.0);
        }
    }
    Paired { matrix, pairs: transforms.pairs.clone() }
}

/// The same for columns: factors of the sum and of the difference of a pair of inputs.
fn pair_columns(transforms: &Transforms) -> Paired {
    let mut matrix = transforms.output.clone();
    for row in &mut matrix {
        for &pair in &transforms.pairs {
            let (p, n) = (row[pair], row[pair + 1]);
            (row[pair], row[pair + 1]) = ((p + n) / 2.0, (p - n) / 2.0);
        }
    }
    Paired { matrix, pairs: transforms.pairs.clone() }
}

/// `matrix · inputs`, the matrix given by [`pair_rows`]; absent inputs are zero, and each result is handed out as soon as it is there.
fn multiply_rows(
    b: &mut Builder,
    constants: &mut Constants,
    paired: &Paired,
    inputs: &[Option<Vector>],
    mut done: impl FnMut(&mut Builder, usize, Option<Vector>),
) {
    let rows = &paired.matrix;
    let in_pair = |i: usize| paired.pairs.iter().any(|&p| p == i || p + 1 == i);
    for alone in (0..rows.len()).filter(|&i| !in_pair(i)) {
        let value = combine(b, constants, &rows[alone], inputs);
        done(b, alone, value);
    }
    for &pair in &paired.pairs {
        let even = combine(b, constants, &rows[pair], inputs);
        let odd = combine(b, constants, &rows[pair + 1], inputs);
        let (sum, difference) = match (even, odd) {
            (Some(e), Some(o)) => (Some(b.op(VectorOp::Add, e, o)), Some(b.op(VectorOp::Sub, e, o))),
            (Some(e), None) => (Some(e), Some(e)),
            (None, Some(o)) => {
                let zero = b.splat(0.0);
                (Some(o), Some(b.op(VectorOp::Sub, zero, o)))
            }
            (None, None) => (None, None),
        };
        done(b, pair, sum);
        done(b, pair + 1, difference);
    }
}

/// The first `count` rows of `matrix · inputs`, the matrix given by [`pair_columns`].
fn multiply_columns(
    b: &mut Builder,
    constants: &mut Constants,
    paired: &Paired,
    mut inputs: Vec<Vector>,
    count: usize,
    mut done: impl FnMut(&mut Builder, usize, Vector),
) {
    for &pair in &paired.pairs {
        let (p, n) = (inputs[pair], inputs[pair + 1]);
        inputs[pair] = b.op(VectorOp::Add, p, n);
        inputs[pair + 1] = b.op(VectorOp::Sub, p, n);
    }
    let inputs: Vec<Option<Vector>> = inputs.into_iter().map(Some).collect();
    for (k, row) in paired.matrix.iter().enumerate().take(count) {
        let value = combine(b, constants, row, &inputs).expect("every row has a factor");
        done(b, k, value);
    }
}

/// `Σ factor · input` over the inputs that are there; `None` where nothing is left.
fn combine(b: &mut Builder, constants: &mut Constants, factors: &[f64], inputs: &[Option<Vector>]) -> Option<Vector> {
    let mut terms: Vec<(f64, Vector)> =
        factors.iter().zip(inputs).filter(|(f, _)| **f != 0.0).filter_map(|(f, v)| v.map(|v| (*f, v))).collect();
    // Begin with a term that needs no multiplication, if there is one.
    let start = terms.iter().position(|(f, _)| *f == 1.0).unwrap_or(0);
    if terms.is_empty() {
        return None;
    }
    let (factor, first) = terms.remove(start);
    if b.element(first) == Element::I32 {
        let first = shifted(b, first, factor);
        return Some(terms.into_iter().fold(first, |sum, (factor, v)| {
            let v = shifted(b, v, factor);
            b.op(VectorOp::Add, sum, v)
        }));
    }
    let mut sum = first;
    let mut owned = false;
    if factor != 1.0 {
        let c = constants.get(b, factor);
        sum = b.op(VectorOp::Mul, first, c);
        owned = true;
    }
    for (factor, v) in terms {
        if factor == 1.0 || factor == -1.0 {
            sum = b.op(if factor > 0.0 { VectorOp::Add } else { VectorOp::Sub }, sum, v);
        } else {
            let c = constants.get(b, factor);
            if !owned {
                let copy = b.new_vector();
                b.copy(copy, sum);
                sum = copy;
            }
            b.fma(sum, v, c);
        }
        owned = true;
    }
    Some(sum)
}

/// Whole numbers times a power of two, by which the outputs of whole numbers are made.
fn shifted(b: &mut Builder, v: Vector, factor: f64) -> Vector {
    let bits = factor.log2();
    assert!(bits >= 0.0 && bits.fract() == 0.0, "{factor} is no power of two");
    if bits == 0.0 { v } else { b.unary(UnaryOp::ShiftLeft(bits as u8), v) }
}

#[cfg(test)]
mod tests {
    use crate::codegen::testing::check_with;
    use crate::ir::Phase;
    use crate::ops::activation::Activation;
    use crate::ops::attributes::AttributeValue;
    use crate::ops::epilogue::PostOp;
    use crate::ops::{Conv2d, ConvTranspose2d, Op};
    use crate::plan;
    use crate::testing::{GraphBuilder, conv, conv_transpose};

    fn forced(name: &str, op: impl Into<Op>, channels: usize, size: [usize; 2]) {
        let mut b = GraphBuilder::new("winograd", Phase::Infer);
        let x = b.input([2, 3, size[0], size[1]]);
        let y = b.add(conv(channels, 1, 1, 0), &[x]);
        let y = b.add(op, &[y]);
        let label = b.graph.node(y).name.clone().unwrap();
        let options = plan::Options { algorithms: vec![(label, name.into())], ..Default::default() };
        check_with(b.finish(&[y]), &options, 1e-3);
    }

    #[test]
    fn epilogues() {
        for activation in ["relu", "leaky_relu(0.2)", "silu"] {
            let epilogue = vec![PostOp::Activate(Activation::parse(activation).unwrap())];
            for name in ["winograd2", "winograd4", "winograd6"] {
                forced(name, Conv2d { epilogue: epilogue.clone(), ..conv(20, 3, 1, 1) }, 16, [9, 7]);
            }
            for name in ["winograd2", "winograd3", "winograd4"] {
                forced(name, Conv2d { epilogue: epilogue.clone(), ..conv(20, 3, 2, 1) }, 16, [9, 7]);
            }
        }
    }

    #[test]
    fn every_size_and_border() {
        for name in ["winograd2", "winograd4", "winograd6"] {
            forced(name, conv(33, 3, 1, 1), 20, [7, 7]);
            forced(name, conv(16, 3, 1, 1), 16, [13, 9]);
            forced(name, conv(70, 3, 1, 0), 35, [15, 12]);
            forced(name, Conv2d { pad: [2, 0, 1, 3], ..conv(8, 3, 1, 0) }, 5, [6, 5]);
            forced(name, conv(4, 3, 1, 1), 3, [1, 1]);
        }
        for name in ["winograd2", "winograd4"] {
            forced(name, conv(33, 5, 1, 2), 20, [7, 9]);
        }
        for name in ["winograd2", "winograd3", "winograd4"] {
            forced(name, conv(33, 3, 2, 1), 20, [14, 15]);
            forced(name, conv(16, 3, 2, 0), 35, [9, 6]);
            forced(name, Conv2d { pad: [2, 0, 1, 3], ..conv(70, 3, 2, 0) }, 5, [28, 11]);
            forced(name, conv(33, 4, 2, 1), 20, [14, 15]);
        }
    }

    #[test]
    fn phases_of_transposed_convolutions() {
        let epilogue = vec![PostOp::Activate(Activation::parse("relu").unwrap())];
        let op = |channels, kernel, stride, pad| ConvTranspose2d {
            epilogue: epilogue.clone(),
            ..conv_transpose(channels, kernel, stride, pad)
        };
        for name in ["winograd2", "winograd4"] {
            forced(name, op(33, 4, 2, 1), 20, [5, 8]);
            forced(name, op(16, 6, 3, 0), 5, [7, 4]);
            forced(name, ConvTranspose2d { pad: [1, 0, 2, 1], output_pad: [1, 0], ..op(20, 6, 2, 0) }, 16, [4, 7]);
        }
    }
}
