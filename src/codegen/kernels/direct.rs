//! Direct convolution: a tile of output pixels × channel blocks stays in registers while all taps
//! are added up.
//!
//! ```text
//! for each kernel row, input block:            weights [ky][block][lane][kx][tile's channels]
//!   for each lane, kernel column:
//!     w[b] = weights              (one vector a channel block of the tile)
//!     acc[p][b] += broadcast(input[p · step + kx · distance]) · w[b]
//! ```
//!
//! A result is the bias and then the products by kernel row, input channel and kernel column: an
//! order that neither the vector unit nor the tile has a part in.
//!
//! Numbers of bf16 go the same way, two channels at a time: 32 bits of a pixel hold two, and a dot product adds up both
//! products, that of the second channel first. What a tile's sums become is f32 until it is stored.
//!
//! Whole numbers of 8 bits go the same way, four channels at a time ([`Arithmetic`]): a lane's 32 bits hold four
//! numbers of a pixel, and a dot product adds up their four products. The zero point is not subtracted from the
//! inputs one by one: sums begin with what it would take away ([`packing::Starts`]), by the taps that lie in the
//! image. Then the sum becomes f32 by two numbers a channel, and the epilogue's result the nearest number of a grid.
//!
//! One call of a row kernel computes one row of output pixels for one tile's worth of channels. The
//! taps that fall into the left or right padding are left out when the code is made, those above or
//! below by the range of kernel rows that the driver passes. The same kernel is the 1×1 convolution
//! (its pixels folded into rows of a convenient length), the linear layer (the images of the batch
//! are its pixels) and each phase of a transposed convolution.

use std::collections::BTreeSet;
use std::ops::Range;

use super::super::Error;
use super::super::emit::{Driver, Emitted, Emitter, Packed};
use super::super::key::{Epilogue, KernelKey};
use super::super::packing::{self, Fill, Loop, Part, Starts, Walk};
use super::super::vector::{
    Address, Builder, Callee, Dot, Function, Inst, Int, IntOp, Operand, UnaryOp, Vector, VectorOp,
};
use super::epilogue::{self, Elements};
use super::grid::{self, Grid, Places};
use super::{LANE, LINE, table};
use crate::balance::TaskCost;
use crate::ir::{Graph, NodeId};
use crate::ops::activation::Activation;
use crate::ops::epilogue::PostOp;
use crate::ops::{Op, epilogue::extra_operands, quantized};
use crate::plan::conv::{self, Arithmetic, Axis, BlockSets, Direct, Factors, Fold, Geometry, Problem};
use crate::plan::{Step, View};
use crate::target::Unit;
use crate::tensor::Element;

/// Instructions of an unrolled loop body at most, so that it stays in the decoded-instruction cache.
const UNROLL_LIMIT: usize = 700;

/// Passes over a panel of whole numbers in which the next panel is brought nearer: more passes hide that its first one
/// waits for memory.
const MOST_PASSES_AHEAD: usize = 32;

/// Bytes between what a pass reads and what it brings nearer where it is the only one over its panel.
const STREAM_AHEAD: usize = 4 << 10;

/// Bytes of a number in a table.
const TABLE_ENTRY: usize = 8;

/// How an operand is walked, in bytes.
#[derive(Clone, Copy, Debug)]
struct Strides {
    batch: usize,
    block: usize,
    row: usize,
    pixel: usize,
}

impl Strides {
    fn of(view: &View, fold: Fold) -> Strides {
        let (pixel, block) = (view.pixel_stride(), view.block_stride());
        match fold {
            Fold::Rows => Strides { batch: view.batch_stride, block, row: view.row_stride(), pixel },
            Fold::Image { width, .. } => Strides { batch: view.batch_stride, block, row: width * pixel, pixel },
            Fold::Batch => Strides { batch: 0, block, row: view.row_stride(), pixel },
        }
    }
}

/// What of a tile's weights is stored, of the channels that its vectors have lanes for.
///
/// Where much would be padding, it is left out. A vector of weights is still loaded whole: what its last lanes hold are
/// weights that follow, and so what is added up there means nothing, until these lanes are made 0 before the epilogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stored {
    /// Output channels of a tap, and groups of input channels of a kernel row.
    channels: usize,
    groups: usize,
}

impl Stored {
    /// All that there are lanes for.
    fn whole(blocks: usize, lanes: usize, groups: usize) -> Stored {
        Stored { channels: blocks * lanes, groups }
    }

    /// Of a tile of so many blocks that reads `count` input blocks. Blocks have so many channels in the output and in the
    /// input.
    fn of(problem: &Problem, run: &BlockRun, count: usize, [out_lanes, in_lanes]: [usize; 2]) -> Stored {
        let group = problem.arithmetic.group();
        let whole = Stored::whole(run.blocks, out_lanes, count * in_lanes.div_ceil(group));
        if problem.arithmetic != Arithmetic::F32 || problem.groups > 1 {
            return whole;
        }
        // Less than a quarter is not worth it.
        let worth = |all: usize, used: usize| if 4 * used <= 3 * all { used } else { all };
        // Of half a vector, no lanes are made 0.
        let least = if run.half { whole.channels - out_lanes / 2 } else { 0 };
        let channels = whole.channels.min(problem.out_channels - run.first * out_lanes).max(least);
        let channels = if run.tiles == 1 { worth(whole.channels, channels) } else { whole.channels };
        Stored { channels, groups: worth(whole.groups, problem.in_channels) }
    }
}

/// All that a row kernel's code depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    arithmetic: Arithmetic,
    /// Horizontal geometry, for the taps that fall into the padding.
    x: Axis,
    width: usize,
    tile: usize,
    blocks: usize,
    /// The last block's channels lie in the lower half of its lanes: the upper half is not computed.
    half: bool,
    stored: Stored,
    /// Bytes in the input from an output pixel to the next, and from a tap to the next.
    in_pixel: usize,
    in_tap: usize,
    in_row_tap: usize,
    in_block: usize,
    /// Groups of channels ([`Arithmetic`]) of an input block: of f32 lanes, or one where the input is plain.
    in_groups: usize,
    /// Input blocks, groups of the first that are passed over, and one past those of the last.
    in_blocks: usize,
    first_group: usize,
    last_groups: usize,
    ky: usize,
    /// Fewer kernel rows apply at the image's upper and lower edge.
    trimmed: bool,
    out_pixel: usize,
    out_block: usize,
    /// Block and pixel strides of the epilogue's operands, and the grids that they are on.
    extra: Vec<(usize, usize, Option<Grid>)>,
    epilogue: Epilogue,
    /// Of the output and the epilogue's operands, where they are no levels.
    elements: Elements,
    /// All taps lie in the image whatever the pixel is.
    inside: bool,
    /// Accumulators start from the bias rather than from zero.
    bias: bool,
    /// The grid that results are on, and whether they are known to be small ([`grid::Tail`]).
    grid: Option<Grid>,
    small: bool,
    /// Lines of another panel that a row brings nearer; 0 where it brings none.
    ahead: usize,
}

impl Row {
    /// A matrix product over `width` pixels that lie side by side, a block of channels each. Strides are those from a
    /// block of channels to the next, of inputs and of sums, which are stored as they are. The weights of the next
    /// product lie behind its own; it may bring them nearer.
    #[allow(clippy::too_many_arguments)] // One value each of the product's many sides.
    pub(super) fn product(
        arithmetic: Arithmetic,
        width: usize,
        [tile, blocks]: [usize; 2],
        half: bool,
        channels: usize,
        unit: Unit,
        strides: [usize; 2],
        brings_ahead: bool,
    ) -> Row {
        let taps = conv::Taps { step: 1, first: 0, distance: 1, count: 1, kernel_first: 0, kernel_step: 1 };
        let (in_blocks, group) = (channels.div_ceil(unit.lanes), arithmetic.group());
        let mut row = Row {
            arithmetic,
            x: Axis { taps, input: width, output: width, output_first: 0, output_step: 1 },
            width,
            tile: tile.min(arithmetic.most_pixels(blocks, unit)).min(width),
            blocks,
            half,
            stored: Stored::whole(blocks, unit.lanes, in_blocks * (unit.lanes / group)),
            in_pixel: unit.lanes * arithmetic.input().bytes(),
            in_tap: 0,
            in_row_tap: 0,
            in_block: strides[0],
            in_groups: unit.lanes / group,
            in_blocks,
            first_group: 0,
            last_groups: (channels - (in_blocks - 1) * unit.lanes).div_ceil(group),
            ky: 1,
            trimmed: false,
            out_pixel: unit.bytes(),
            out_block: strides[1],
            extra: vec![],
            epilogue: Epilogue::default(),
            elements: Elements::of_sums(),
            inside: true,
            bias: false,
            grid: None,
            small: false,
            ahead: 0,
        };
        if brings_ahead {
            row.ahead = row.lines_ahead(1, unit);
        }
        row
    }

    /// Bytes from the weights of a product to those that it brings nearer; `None` where it brings none.
    pub(super) fn next_product(&self, unit: Unit) -> Option<usize> {
        (self.ahead > 0).then(|| self.panel_bytes(unit))
    }
}

impl Row {
    fn factors(&self, unit: Unit) -> Factors {
        self.arithmetic.factors(unit)
    }

    /// The dot product by which the unit multiplies a group, where it has one that takes the group as it is.
    fn dot(&self, unit: Unit) -> Option<Dot> {
        match (self.arithmetic, self.factors(unit)) {
            (_, Factors::Quads) => Some(Dot::U8I8),
            (_, Factors::Bf16) => Some(Dot::Bf16),
            (Arithmetic::I16, Factors::Pairs) => Some(Dot::I16).filter(|dot| dot.is_of(unit)),
            _ => None,
        }
    }

    /// Bytes of the weights of one group and one kernel column.
    fn tap_bytes(&self, unit: Unit) -> usize {
        self.arithmetic.vectors(unit) * self.stored.channels * self.factors(unit).vector_bytes(unit) / unit.lanes
    }

    /// Lanes of the tile's last block that hold channels, where what the others hold is no sum of theirs.
    fn channels_of_last(&self, unit: Unit) -> Option<usize> {
        let whole = self.blocks * unit.lanes;
        (self.stored.channels < whole && !self.half).then(|| unit.lanes - (whole - self.stored.channels))
    }

    /// What is done to sums of whole numbers.
    fn tail(&self) -> grid::Tail {
        grid::Tail {
            steps: self.epilogue.clone(),
            reads: self.extra.iter().map(|&(_, _, grid)| grid).collect(),
            output: self.grid,
            small: self.small,
        }
    }

    /// Whether a tile's sums leave too few registers for what is done to them, and wait in scratch memory.
    fn wants_scratch(&self, unit: Unit) -> bool {
        let sums = self.tile * self.blocks;
        match self.arithmetic.is_scaled() {
            true => self.tail().is_crowded(sums, self.arithmetic.registers(unit)),
            false => self.elements.wants_scratch(&self.epilogue, sums, unit),
        }
    }

    /// Parameters of its kernel, and which of them is scratch memory.
    fn parameters(&self, unit: Unit) -> (usize, Option<usize>) {
        let others = 5 + self.extra.len() + usize::from(self.arithmetic.is_scaled());
        let scratch = self.wants_scratch(unit);
        (others + usize::from(scratch) + usize::from(self.ahead > 0), scratch.then_some(others))
    }

    /// Which parameter is what is brought nearer.
    fn ahead_parameter(&self, unit: Unit) -> Option<usize> {
        (self.ahead > 0).then(|| self.parameters(unit).0 - 1)
    }

    /// Of the weights of one kernel row, of all input blocks.
    fn ky_bytes(&self, unit: Unit) -> usize {
        self.stored.groups * self.x.taps.count * self.tap_bytes(unit)
    }

    /// Of all weights of a tile.
    fn panel_bytes(&self, unit: Unit) -> usize {
        let beyond = self.blocks * unit.lanes - self.stored.channels;
        (self.ky * self.ky_bytes(unit) + beyond * LANE).next_multiple_of(packing::ALIGNMENT)
    }

    /// From a tile's panel to the next: behind those of whole numbers lie multipliers and offsets.
    fn panel_with_scales_bytes(&self, unit: Unit) -> usize {
        let scales = if self.arithmetic.is_scaled() { 2 * self.blocks * unit.bytes() } else { 0 };
        self.panel_bytes(unit) + scales.next_multiple_of(packing::ALIGNMENT)
    }

    /// Lines of another panel that each of so many rows, which read a panel one after the other, brings nearer.
    ///
    /// A core multiplies whole numbers faster than the third-level cache or memory delivers weights: without this, the
    /// first pass over a panel waits for it, and few others follow in images of few pixels.
    fn lines_ahead(&self, rows: usize, unit: Unit) -> usize {
        let few = rows * tiles(self).len() <= MOST_PASSES_AHEAD;
        if few && self.arithmetic.is_of_whole_numbers() { self.panel_bytes(unit).div_ceil(LINE * rows) } else { 0 }
    }

    /// Groups of channels that a tile consumes, all kernel rows together.
    fn groups(&self) -> usize {
        self.ky * ((self.in_blocks - 1) * self.in_groups + self.last_groups - self.first_group)
    }

    fn is_half(&self, block: usize) -> bool {
        self.half && block + 1 == self.blocks
    }
}

/// Output blocks that one kernel serves: `tiles` tiles of `blocks` blocks from `first` on, written
/// to output `output`.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockRun {
    pub first: usize,
    pub blocks: usize,
    pub tiles: usize,
    /// Blocks from a tile to the next.
    pub step: usize,
    /// What a tile reads, where that follows from the run rather than from the group of the tile.
    pub reads: Option<Reads>,
    pub output: usize,
    /// The output's own first block.
    pub origin: usize,
    /// The channels of the last block fill no more than the lower half of its lanes.
    pub half: bool,
}

/// The input channels of the first tile of a run; those of the next lie `step` blocks further.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reads {
    first_block: usize,
    blocks: usize,
    first_lane: usize,
    /// One past the lanes of the last block.
    last_lanes: usize,
    step: usize,
}

impl BlockRun {
    /// Blocks' worth of arithmetic in a tile.
    pub(crate) fn work(&self) -> f64 {
        conv::work(self.blocks, self.half)
    }
}

/// The step's driver and kernels.
pub(crate) fn emit(e: &mut Emitter, step: &Step, direct: &Direct) -> Result<Emitted, Error> {
    super::check_blocks_are_vectors(e, step);
    let unit = e.unit();
    let tail = Tail::of(e.graph, step.node, &direct.problem);
    assert_eq!(extra_operands(&tail.steps), step.inputs.len() - 1, "one operand a step of the epilogue");
    let weights = e.weights(step);
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let block = [output.block(), input.block()];
    let runs = match direct.problem.period(output.block()) {
        Some(period) if input.layout.is_blocked() && step.outputs.len() == 1 => {
            periodic_runs(&direct.problem, period, output.block())
        }
        _ => runs(&step.outputs, direct.blocks, unit),
    };

    let of_levels = direct.problem.arithmetic.is_of_levels();
    let mut parts = match direct.problem.arithmetic {
        Arithmetic::F32 | Arithmetic::Bf16 => vec![Part::bias(tail.bias, direct.problem.out_channels, output)],
        // The bias is added at the end.
        Arithmetic::WholeWeights => vec![Part::bias(false, direct.problem.out_channels, output)],
        Arithmetic::Bytes { .. } | Arithmetic::I16 => vec![],
    };
    // What sums of each phase begin with: the first of its parts, and bytes from a block of channels to the next.
    let mut begins = vec![];
    for g in direct.problem.phases.iter() {
        if !of_levels {
            begins.push((0, unit.bytes()));
            continue;
        }
        let sets =
            [g.y, g.x].map(|axis| TapSets::of(direct.problem.arithmetic, &axis, direct.fold != Fold::Rows, unit));
        let block_bytes = sets[1].sets.len() * unit.bytes();
        begins.push((parts.len(), block_bytes));
        // Of each output row the byte at which what its sums begin with begins.
        let set_of_rows = block_bytes * direct.problem.out_channels.div_ceil(output.block());
        let places = sets[0].of.iter().flat_map(|set| table::words(set * set_of_rows)).collect();
        parts.extend([starts(&direct.problem, *g, sets, output.block(), unit), Part::words(places)]);
    }
    // Where in `parts` the panels of each phase and run begin.
    let mut regions = vec![];
    for (phase, g) in direct.problem.phases.iter().enumerate() {
        for run in &runs {
            let count = match run.reads {
                Some(reads) => reads.blocks,
                None => direct.problem.in_blocks(run.blocks, block),
            };
            regions.push((phase, *run, count, parts.len()));
            for tile in 0..run.tiles {
                parts.push(panel(&direct.problem, *g, *run, tile, count, block, unit));
                if direct.problem.arithmetic.is_scaled() {
                    let first = (run.first + tile * run.step) * block[0];
                    let channels = (run.blocks * block[0]).min(direct.problem.out_channels - first);
                    parts.push(grid::scales(first, channels, block[0], of_levels || tail.bias));
                }
            }
        }
    }
    let packed = e.pack(weights, parts);

    let (height, images) = match direct.fold {
        Fold::Rows => (None, direct.problem.batch),
        Fold::Image { height, .. } => (Some(height), direct.problem.batch),
        Fold::Batch => (Some(1), 1),
    };
    let rows = |phase: usize| height.unwrap_or(direct.problem.phases[phase].y.output);
    let mut calls = vec![];
    for &(phase, run, count, part) in &regions {
        let mut row = row_spec(step, direct, direct.problem.phases[phase], run, count, &tail, unit);
        let by_rows = goes_by_rows(&direct.problem, run, images * rows(phase), row.panel_bytes(unit), input);
        row.ahead = if by_rows { 0 } else { row.lines_ahead(rows(phase), unit) };
        let callee = e.kernel(&row);
        let (begin, begin_block) = begins[phase];
        let begins = &packed[begin..][..if of_levels { 2 } else { 1 }];
        let begins = begins.to_vec();
        calls.push(Region {
            phase,
            run,
            count,
            rows: rows(phase),
            by_rows,
            panels: packed[part],
            begins,
            begin_block,
            row,
            callee,
        });
    }

    let grid = calls.iter().map(|r| r.run.tiles * images * rows(r.phase)).sum();
    e.task_costs = calls.iter().map(|r| TaskCost::new(r.run.tiles * images * rows(r.phase), r.cost())).collect();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut first = 0;
        for region in &calls {
            let height = rows(region.phase);
            let count = region.run.tiles * images * height;
            d.tasks(first, count, |d, task| {
                // (image, y, tile) or (tile, image, y), outermost first.
                let [middle, inner] = if region.by_rows { [height, region.run.tiles] } else { [images, height] };
                let (rest, c) = d.split(task, inner);
                let rest = d.int(rest);
                let (a, b) = d.split(rest, middle);
                let tile_image_y = if region.by_rows { [c, a, b] } else { [a, b, c] };
                region.call(e, d, step, direct, tile_image_y);
            });
            first += count;
        }
    });
    let wants = |r: &&Region| direct.problem.arithmetic.is_scaled() || r.row.wants_scratch(unit);
    let scratch = calls.iter().filter(wants).map(|r| r.row.tile * r.row.blocks * unit.bytes()).max().unwrap_or(0);
    Ok(Emitted { entry, grid, scratch })
}

/// Whether all tiles of channels of a row are computed one after the other, and not all rows of a tile.
///
/// What is read again for each, the row or the panel of weights, should be the smaller; and a thread, which has tasks that
/// follow one another, then reads its part of the larger only. Half of the input may lie in another core's cache.
fn goes_by_rows(problem: &Problem, run: BlockRun, rows: usize, panel: usize, input: &View) -> bool {
    let reads_all = problem.groups == 1 && run.reads.is_none();
    reads_all && run.tiles > 1 && rows > 1 && run.tiles * panel < input.bytes()
}

/// What a convolution does to sums.
pub(super) struct Tail {
    /// Of f32, or beside weights of 8 bits; sums of levels have multipliers and offsets.
    pub bias: bool,
    pub steps: Vec<PostOp>,
    /// Of each operand of the steps, and of the result.
    pub reads: Vec<Option<Grid>>,
    pub output: Option<Grid>,
    /// As [`grid::Tail::small`].
    pub small: bool,
}

impl Tail {
    /// # Panics
    /// When the node is no convolution and no linear layer.
    pub(super) fn of(graph: &Graph, node: NodeId, problem: &Problem) -> Tail {
        let of_levels = |steps: &[PostOp], reads: &[Option<quantized::Grid>], output: Option<quantized::Grid>| {
            let small = results_are_small(graph, node, problem, (steps, reads, output));
            Tail { small, ..Tail::of_levels(steps, reads, output) }
        };
        match graph.node(node).op() {
            Some(Op::Conv2d(c)) => Tail::of_reals(c.bias, &c.epilogue),
            Some(Op::Linear(l)) => Tail::of_reals(l.bias, &l.epilogue),
            Some(Op::ConvTranspose2d(c)) => Tail::of_reals(c.bias, &c.epilogue),
            Some(Op::LinearW8(l)) => Tail::of_reals(l.of_reals.bias, &l.of_reals.epilogue),
            Some(Op::QuantizedConv2d(c)) => of_levels(&c.epilogue, &c.reads, c.output),
            Some(Op::QuantizedConvTranspose2d(c)) => of_levels(&c.epilogue, &c.reads, c.output),
            Some(Op::QuantizedLinear(l)) => of_levels(&l.epilogue, &l.reads, l.output),
            _ => unreachable!("these kernels are planned for convolutions only"),
        }
    }

    /// What is done to sums of levels.
    pub(super) fn of_sums(self) -> grid::Tail {
        let Tail { steps, reads, output, small, .. } = self;
        grid::Tail { steps: Epilogue::of(&steps), reads, output, small }
    }

    fn of_reals(bias: bool, steps: &[PostOp]) -> Tail {
        Tail { bias, steps: steps.to_vec(), reads: vec![None; extra_operands(steps)], output: None, small: false }
    }

    fn of_levels(steps: &[PostOp], reads: &[Option<quantized::Grid>], output: Option<quantized::Grid>) -> Tail {
        let reads = reads.iter().map(|grid| grid.as_ref().map(Grid::in_blocks)).collect();
        let output = output.as_ref().map(Grid::in_blocks);
        Tail { bias: false, steps: steps.to_vec(), reads, output, small: false }
    }
}

/// Whether what is rounded to levels is known to be finite and far within the range of i32, by the number of products, the
/// multipliers and offsets, and the operands' grids.
fn results_are_small(
    graph: &Graph,
    node: NodeId,
    problem: &Problem,
    (steps, reads, output): (&[PostOp], &[Option<quantized::Grid>], Option<quantized::Grid>),
) -> bool {
    // A quarter of i32's range: a zero point is added, and bounds are rounded otherwise than results.
    const SMALL: f64 = (1u64 << 29) as f64;
    let largest = |which: usize| {
        let values = graph.weights.values(graph.weights_read(node)[which]);
        // NaN is larger than all others.
        (*values).as_ref().iter().map(|v| f64::from(v.abs())).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
    };
    let (multiplier, offset) = (largest(1), largest(2));
    let mut bound = problem.most_of_sums() * multiplier + offset;
    let mut operands = reads.iter();
    for step in steps {
        let operand = match step {
            PostOp::Add | PostOp::Mul => operands.next().copied().flatten(),
            PostOp::Activate(_) => None,
        };
        let levels = |grid: quantized::Grid| (grid.levels.high() - grid.levels.low()) as f64 * f64::from(grid.scale);
        bound = match (step, operand.map(levels)) {
            (PostOp::Add, Some(most)) => bound + most,
            (PostOp::Mul, Some(most)) => bound * most,
            (PostOp::Activate(Activation::Relu), _) => bound,
            (PostOp::Activate(Activation::Clip { min, max }), _) if min <= max => {
                bound.max(f64::from(min.abs())).max(f64::from(max.abs()))
            }
            (PostOp::Activate(Activation::LeakyRelu { slope }), _) if !slope.is_nan() => {
                bound * f64::from(slope.abs()).max(1.0)
            }
            _ => f64::INFINITY,
        };
    }
    output.is_some_and(|grid| bound / f64::from(grid.scale) < SMALL)
}

/// The taps along an axis that lie in the image: the sets that there are, and which is that of each output position.
struct TapSets {
    sets: Vec<Range<usize>>,
    of: Vec<usize>,
}

impl TapSets {
    /// One set where all taps lie in the image, and where all sums begin with 0.
    fn of(arithmetic: Arithmetic, axis: &Axis, inside: bool, unit: Unit) -> TapSets {
        let mut found = TapSets { sets: vec![], of: vec![] };
        if inside || arithmetic.zero(unit) == 0 {
            found.sets.push(0..axis.taps.count);
            return found;
        }
        // Neither end grows from one position to the next, so that equal sets are neighbours.
        for position in 0..axis.output {
            let set = axis.taps.inside(position, axis.input);
            if found.sets.last() != Some(&set) {
                found.sets.push(set);
            }
            found.of.push(found.sets.len() - 1);
        }
        found
    }

    fn at(&self, position: usize) -> usize {
        self.of.get(position).copied().unwrap_or(0)
    }
}

/// What sums of whole numbers of a phase begin with.
fn starts(problem: &Problem, g: Geometry, [rows, columns]: [TapSets; 2], block: usize, unit: Unit) -> Part {
    let [out_step, in_step] = problem.weight_steps();
    let places = |sets: Vec<Range<usize>>, axis: Axis, line: usize| packing::TapSets {
        sets,
        first: axis.taps.kernel_first * line,
        step: axis.taps.kernel_step * line as isize,
    };
    let (inputs, filter) = (problem.in_per_group(), problem.kernel[0] * problem.kernel[1]);
    let starts = Starts {
        weight: 0,
        zeros: match problem.zeros.is_empty() {
            true => vec![problem.arithmetic.zero(unit)],
            false => problem.zeros.iter().map(|&zero| zero.into()).collect(),
        },
        channels: problem.out_channels,
        group: problem.out_per_group(),
        block,
        steps: [inputs * problem.out_per_group() * filter, out_step, in_step],
        inputs,
        rows: places(rows.sets, g.y, problem.kernel[1]),
        columns: places(columns.sets, g.x, 1),
    };
    Part { element: Element::I32, elements: starts.elements(), fill: Fill::Starts(starts) }
}

/// Splits the output's blocks into runs of equal tiles that do not cross from one output to the next.
pub(super) fn runs(outputs: &[View], tile: usize, unit: Unit) -> Vec<BlockRun> {
    let mut runs = vec![];
    let mut origin = 0;
    for (output, view) in outputs.iter().enumerate() {
        let half = conv::half_filled(view.shape[1], view.block(), unit);
        let mut first = origin;
        for BlockSets { blocks, sets, half } in BlockSets::of(view.blocks(), tile, half) {
            runs.push(BlockRun { first, blocks, tiles: sets, step: blocks, reads: None, output, origin, half });
            first += blocks * sets;
        }
        origin += view.blocks();
    }
    runs
}

/// The output's blocks where several groups share one: a run for each that meets its groups otherwise
/// than the others, so that each reads the channels of its own groups only. Input and output have blocks of
/// so many channels.
fn periodic_runs(problem: &Problem, [period, step]: [usize; 2], block: usize) -> Vec<BlockRun> {
    let blocks = problem.out_channels.div_ceil(block);
    let run = |first: usize, tiles: usize| {
        let span = problem.input_span(first, block);
        let first_block = span.start / block;
        let reads = Reads {
            first_block,
            blocks: span.end.div_ceil(block) - first_block,
            first_lane: span.start % block,
            last_lanes: (span.end - 1) % block + 1,
            step,
        };
        BlockRun { first, blocks: 1, tiles, step: period, reads: Some(reads), output: 0, origin: 0, half: false }
    };
    let mut runs = vec![];
    for first in 0..period.min(blocks) {
        let tiles = (blocks - first).div_ceil(period);
        let last = first + (tiles - 1) * period;
        // The output's last block may meet fewer groups than those that lie periods before it.
        match problem.input_span(last, block).len() == problem.input_span(first, block).len() {
            true => runs.push(run(first, tiles)),
            false if tiles > 1 => runs.extend([run(first, tiles - 1), run(last, 1)]),
            false => runs.push(run(last, 1)),
        }
    }
    runs
}

/// The weights of one tile of channels, in the order in which the row kernel reads them. Blocks have so many
/// channels in the output and in the input.
fn panel(
    problem: &Problem,
    g: Geometry,
    run: BlockRun,
    tile: usize,
    count: usize,
    block: [usize; 2],
    unit: Unit,
) -> Part {
    let [out_lanes, in_lanes] = block;
    let (group, factors) = (problem.arithmetic.group(), problem.arithmetic.factors(unit));
    let stored = Stored::of(problem, &run, count, block);
    let channels = stored.channels;
    let (ky, kx) = (g.y.taps.count, g.x.taps.count);
    let out_block = run.first + tile * run.step;
    let first_block = match run.reads {
        Some(reads) => reads.first_block + tile * reads.step,
        None => problem.first_in_block(out_block, block, count),
    };
    let outputs = out_block * out_lanes..(out_block * out_lanes + channels).min(problem.out_channels);
    let first_channel = first_block * in_lanes;
    // The last block may hold fewer channels, but its kernel rows lie as far apart as the others'.
    let end = first_channel + (count - 1) * in_lanes + last_lanes(problem, &run, in_lanes);
    let inputs = first_channel..end.min(problem.in_channels);

    let [out_step, in_step] = problem.weight_steps();
    let y = Loop {
        count: ky,
        from: g.y.taps.kernel_step * problem.kernel[1] as isize,
        to: stored.groups * group * kx * channels,
    };
    let x = Loop { count: kx, from: g.x.taps.kernel_step, to: channels * group };
    let first_tap = g.y.taps.kernel_first * problem.kernel[1] + g.x.taps.kernel_first;
    let mut walks = vec![];
    // The weights of a group of channels: those of a lane that lie together, then the next vector's.
    let (together, vectors) = (factors.together(), problem.arithmetic.vectors(unit));
    let in_group = [
        Loop { count: together, from: (vectors * in_step) as isize, to: 1 },
        Loop { count: vectors, from: in_step as isize, to: channels * together },
    ];
    let group_elements = kx * channels * group;
    for own in problem.groups_of(&outputs) {
        let outputs = overlap(&outputs, &problem.outputs_of(own));
        let inputs = overlap(&inputs, &problem.inputs_of(own));
        let Some(filter) = problem.weight_index(outputs.start, inputs.start, 0, 0) else { continue };
        let from = |input: usize| filter + first_tap + (input - inputs.start) * in_step;
        let to = |input: usize| {
            let (input, within) = ((input - first_channel) / group, (input - first_channel) % group);
            let lane = within % vectors * channels * together + within / vectors;
            input * group_elements + lane + (outputs.start - out_block * out_lanes) * together
        };
        let output = Loop { count: outputs.len(), from: out_step as isize, to: together };
        // Whole groups, and channels one by one where others share theirs.
        let first = (inputs.start - first_channel).next_multiple_of(group) + first_channel;
        let whole = inputs.end.saturating_sub(first) / group * group;
        let first = first.min(inputs.end);
        for input in (inputs.start..first).chain(first + whole..inputs.end) {
            walks.push(Walk::new(from(input), to(input), [output, y, x]));
        }
        let input =
            |channels: usize| Loop { count: channels / group, from: (group * in_step) as isize, to: group_elements };
        // A block's worth of inputs of every output at a time: what is read lies together, and what is
        // written stays in the cache.
        let (blocks, rest) = (whole / in_lanes, whole % in_lanes);
        let block = Loop { count: blocks, from: (in_lanes * in_step) as isize, to: in_lanes * kx * channels };
        let [outer, inner] = in_group;
        if blocks > 0 {
            walks.push(Walk::new(from(first), to(first), [block, output, input(in_lanes), outer, inner, y, x]));
        }
        if rest > 0 {
            let first = first + blocks * in_lanes;
            walks.push(Walk::new(from(first), to(first), [output, input(rest), outer, inner, y, x]));
        }
    }
    let beyond = run.blocks * out_lanes - channels;
    let elements = stored.groups * group * ky * kx * channels + beyond;
    Part { element: factors.element(), elements, fill: Fill::Filters { weight: 0, walks } }
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}

/// One past the lanes of the last input block that a tile reads. With groups and no [`Reads`], whole
/// blocks are read and the products with other groups' channels are zero, and those with padding lanes:
/// it is for this that [`Layout::Blocked`](crate::plan::Layout::Blocked) has them finite.
fn last_lanes(problem: &Problem, run: &BlockRun, in_lanes: usize) -> usize {
    if let Some(reads) = run.reads {
        return reads.last_lanes;
    }
    match problem.in_channels % in_lanes {
        r if r > 0 && problem.groups == 1 => r,
        _ => in_lanes,
    }
}

#[allow(clippy::too_many_arguments)] // One value each of the step's many sides.
fn row_spec(
    step: &Step,
    direct: &Direct,
    g: Geometry,
    run: BlockRun,
    in_blocks: usize,
    tail: &Tail,
    unit: Unit,
) -> Row {
    let (in_lanes, group) = (step.inputs[0].block(), direct.problem.arithmetic.group());
    let input = Strides::of(&step.inputs[0], direct.fold);
    let output = Strides::of(&step.outputs[run.output], direct.fold);
    let (width, in_pixel, out_pixel) = match direct.fold {
        Fold::Rows => (g.x.output, g.x.taps.step * input.pixel, g.x.output_step * output.pixel),
        Fold::Image { width, .. } => (width, input.pixel, output.pixel),
        Fold::Batch => (direct.problem.batch, step.inputs[0].batch_stride, step.outputs[run.output].batch_stride),
    };
    let extra = step.inputs[1..].iter().zip(&tail.reads).map(|(v, &grid)| {
        let s = Strides::of(v, direct.fold);
        let pixel = match direct.fold {
            Fold::Rows => g.x.output_step * s.pixel,
            Fold::Image { .. } => s.pixel,
            Fold::Batch => v.batch_stride,
        };
        (s.block, pixel, grid)
    });
    // Of whole numbers as many as leave registers for what is done to them, if that is one pixel at least.
    let uncrowded = match direct.problem.arithmetic {
        Arithmetic::F32 | Arithmetic::Bf16 => width,
        arithmetic => {
            let free = arithmetic.registers(unit).saturating_sub(grid::temporaries(&tail.steps));
            (free / run.blocks).max(1)
        }
    };
    Row {
        arithmetic: direct.problem.arithmetic,
        x: g.x,
        width,
        tile: direct.pixels.min(direct.problem.most_pixels(run.blocks, unit)).min(width).min(uncrowded),
        blocks: run.blocks,
        half: run.half,
        stored: Stored::of(&direct.problem, &run, in_blocks, [step.outputs[run.output].block(), in_lanes]),
        in_pixel,
        in_tap: g.x.taps.distance * input.pixel,
        in_row_tap: g.y.taps.distance * input.row,
        in_block: input.block,
        in_groups: in_lanes.div_ceil(group),
        in_blocks,
        first_group: run.reads.map_or(0, |reads| reads.first_lane / group),
        last_groups: last_lanes(&direct.problem, &run, in_lanes).div_ceil(group),
        ky: g.y.taps.count,
        trimmed: direct.fold == Fold::Rows && trims_rows(&g.y),
        out_pixel,
        out_block: output.block,
        extra: extra.collect(),
        epilogue: Epilogue::of(&tail.steps),
        elements: Elements::of(&step.outputs[run.output], &step.inputs[1..]),
        inside: direct.fold != Fold::Rows,
        bias: true,
        grid: tail.output,
        small: tail.small,
        ahead: 0,
    }
}

fn trims_rows(y: &Axis) -> bool {
    (0..y.output).any(|q| (0..y.taps.count).any(|k| !y.in_bounds(q, k)))
}

/// Calls of one row kernel: a phase and a run of tiles.
struct Region {
    phase: usize,
    run: BlockRun,
    /// Input blocks that a tile reads.
    count: usize,
    /// Rows of an image.
    rows: usize,
    /// Tasks that follow one another are the tiles of a row; else the rows of a tile.
    by_rows: bool,
    /// The first tile's panel.
    panels: Packed,
    /// The bias; of whole numbers what sums begin with, and for each row of the output where that is.
    begins: Vec<Packed>,
    /// Bytes from a block of channels to the next there.
    begin_block: usize,
    row: Row,
    callee: Callee,
}

impl Region {
    /// Multiply-adds of a call, in vectors, and the stores, which are all of it where a phase has no taps.
    fn cost(&self) -> f64 {
        let groups = (self.count - 1) * self.row.in_groups + self.row.last_groups - self.row.first_group;
        let taps = groups * self.row.ky * self.row.x.taps.count;
        self.run.work() * (self.row.width * (taps + 4)) as f64
    }

    /// Bytes of weights of one kernel row, of all input blocks.
    fn ky_bytes(&self, unit: Unit) -> usize {
        self.row.ky_bytes(unit)
    }

    /// One call: `at` is the tile of channels, the image and the row.
    fn call(&self, e: &Emitter, d: &mut Driver, step: &Step, direct: &Direct, at: [Operand; 3]) {
        let unit = e.unit();
        let [tile, image, y] = at;
        let g = direct.problem.phases[self.phase];
        let input = Strides::of(&step.inputs[0], direct.fold);

        let source = d.view(e, &step.inputs[0]);
        d.step(source, image, input.batch);
        if let Some(reads) = self.run.reads {
            d.step(source, tile, reads.step * input.block);
            d.b.advance(source, reads.first_block * input.block);
        } else if direct.problem.groups > 1 {
            let first = self.first_in_block(d, &direct.problem, tile, step);
            d.step(source, first, input.block);
        }
        let weights = d.weights(self.panels);
        d.step(weights, tile, self.row.panel_with_scales_bytes(unit));
        let of_bytes = direct.problem.arithmetic.is_scaled();
        let ahead = (self.row.ahead > 0).then(|| {
            let alone = self.rows == 1 && tiles(&self.row).len() == 1;
            let next = d.b.add(weights, if alone { STREAM_AHEAD } else { self.row.panel_with_scales_bytes(unit) });
            d.step(next, y, self.row.ahead * LINE);
            next
        });
        // Before the weights move to the first kernel row that counts.
        let scales = of_bytes.then(|| d.b.add(weights, self.row.panel_bytes(unit)));
        let bias = d.weights(self.begins[0] + self.run.first * self.begin_block);
        d.step(bias, tile, self.run.step * self.begin_block);

        if of_bytes && direct.fold == Fold::Rows && direct.problem.arithmetic.zero(unit) != 0 {
            let place = d.weights(self.begins[1]);
            d.step(place, y, TABLE_ENTRY);
            let place = d.b.load_int(place.at(0));
            d.b.advance(bias, place);
        }
        let rows = self.kernel_rows(d, &g.y, y, direct.fold, source, weights, input.row, unit);
        if direct.fold == Fold::Rows && g.x.taps.first != 0 {
            d.b.advance(source, g.x.taps.first as i64 * input.pixel as i64);
        }

        let mut arguments: Vec<Operand> = vec![source.into(), weights.into(), bias.into(), rows];
        let outputs = std::iter::once((&step.outputs[self.run.output], self.run.first - self.run.origin));
        for (view, first_block) in outputs.chain(step.inputs[1..].iter().map(|v| (v, self.run.first))) {
            let s = Strides::of(view, direct.fold);
            let base = d.view(e, view);
            d.step(base, image, s.batch);
            d.step(base, tile, self.run.step * s.block);
            let (row_step, mut fixed) = match direct.fold {
                Fold::Rows => (g.y.output_step * s.row, g.y.output_first * s.row + g.x.output_first * s.pixel),
                _ => (s.row, 0),
            };
            d.step(base, y, row_step);
            fixed += first_block * s.block;
            if fixed > 0 {
                d.b.advance(base, fixed);
            }
            arguments.push(base.into());
        }
        arguments.extend(scales.map(Operand::from));
        if self.row.wants_scratch(unit) {
            arguments.push(d.scratch.into());
        }
        arguments.extend(ahead.map(Operand::from));
        d.b.call(self.callee, arguments);
    }

    /// [`Problem::first_in_block`] at run time.
    fn first_in_block(&self, d: &mut Driver, p: &Problem, tile: Operand, step: &Step) -> Operand {
        let [out_lanes, in_lanes] = [step.outputs[0].block(), step.inputs[0].block()];
        let block = d.b.int(self.run.first);
        d.step(block, tile, self.run.blocks);
        let channel = d.b.mul(block, out_lanes);
        let group = d.b.int_op(IntOp::Div, channel, p.out_per_group());
        let channel = d.b.mul(group, p.in_per_group());
        let first = d.b.int_op(IntOp::Div, channel, in_lanes);
        d.b.int_op(IntOp::Min, first, p.in_channels.div_ceil(in_lanes) - self.count).into()
    }

    /// The number of kernel rows that lie in the image; moves the pointers to the first of them.
    #[allow(clippy::too_many_arguments)] // One value each of the step's many sides.
    fn kernel_rows(
        &self,
        d: &mut Driver,
        axis: &Axis,
        y: Operand,
        fold: Fold,
        source: Int,
        weights: Int,
        row: usize,
        unit: Unit,
    ) -> Operand {
        let taps = axis.taps;
        if fold != Fold::Rows {
            d.step(source, y, row);
            return taps.count.into();
        }
        let position = d.b.int(taps.first as i64);
        d.step(position, y, taps.step);
        let from_row = d.b.mul(position, row);
        d.b.advance(source, from_row);
        if !self.row.trimmed {
            return taps.count.into();
        }
        // Tap k of output row y reads input row p + k · distance, with p = first + y · step. Of all k those count
        // with 0 ≤ p + k · distance < input: from low = ⌈−p / distance⌉ to before high = ⌈(input − p) / distance⌉,
        // both clipped to 0 ≤ k < taps. Numerators are clipped to 0 first, since division is of unsigned numbers.
        let zero = d.b.int(0i64);
        let above = d.b.int_op(IntOp::Sub, zero, position);
        let above = d.b.add(above, taps.distance - 1);
        let above = d.b.int_op(IntOp::Max, above, 0i64);
        let low = d.b.int_op(IntOp::Div, above, taps.distance.max(1));
        let last = d.b.int((axis.input - 1 + taps.distance) as i64);
        let below = d.b.int_op(IntOp::Sub, last, position);
        let below = d.b.int_op(IntOp::Max, below, 0i64);
        let high = d.b.int_op(IntOp::Div, below, taps.distance.max(1));
        let high = d.b.int_op(IntOp::Min, high, taps.count);
        let count = d.b.int_op(IntOp::Sub, high, low);
        let count = d.b.int_op(IntOp::Max, count, 0i64);
        d.step(source, low.into(), self.row.in_row_tap);
        d.step(weights, low.into(), self.ky_bytes(unit));
        count.into()
    }
}

// The row kernel.

impl KernelKey for Row {
    /// Parameters: input, weights, bias, kernel rows, output, the epilogue's operands; of whole numbers the multipliers
    /// and offsets; scratch memory where it takes sums; what is brought nearer.
    fn build(&self, unit: Unit) -> Function {
        let row = self;
        let half = if row.half { "half" } else { "" };
        let of = match row.arithmetic {
            Arithmetic::F32 => "",
            Arithmetic::WholeWeights => "whole_weights_",
            Arithmetic::Bf16 => "bf16_",
            Arithmetic::Bytes { .. } => "bytes_",
            Arithmetic::I16 => "i16_",
        };
        let name =
            format!("direct_{of}{}x{}{half}_w{}_k{}x{}", row.tile, row.blocks, row.width, row.ky, row.x.taps.count);
        let mut b = Builder::new(name, unit, row.parameters(unit).0);
        let input = b.parameter(0);
        let mut outs = vec![b.parameter(4)];
        outs.extend((0..row.extra.len()).map(|i| b.parameter(5 + i)));
        let strides: Vec<usize> = std::iter::once(row.out_pixel).chain(row.extra.iter().map(|e| e.1)).collect();

        let tiles = tiles(row);
        let mut i = 0;
        while i < tiles.len() {
            let (first, pixels) = tiles[i];
            let alike = tiles[i..].iter().take_while(|t| t.1 == pixels && is_interior(row, t.0, t.1)).count().max(1);
            b.repeat(alike, |b| {
                tile(b, row, unit, first, pixels);
                b.advance(input, pixels * row.in_pixel);
                outs.iter().zip(&strides).for_each(|(&o, &s)| b.advance(o, pixels * s));
            });
            i += alike;
        }
        b.finish()
    }
}

/// First pixel and length of each tile of a row.
fn tiles(row: &Row) -> Vec<(usize, usize)> {
    let mut first = 0;
    conv::split(row.width, row.tile)
        .into_iter()
        .map(|pixels| {
            first += pixels;
            (first - pixels, pixels)
        })
        .collect()
}

fn tap_applies(row: &Row, pixel: usize, kx: usize) -> bool {
    row.inside || row.x.in_bounds(pixel, kx)
}

fn is_interior(row: &Row, first: usize, pixels: usize) -> bool {
    (first..first + pixels).all(|p| (0..row.x.taps.count).all(|k| tap_applies(row, p, k)))
}

/// One tile: accumulators from bias to store.
fn tile(b: &mut Builder, row: &Row, unit: Unit, first: usize, pixels: usize) {
    let [input, weights, bias, rows] = [0, 1, 2, 3].map(|i| b.parameter(i));
    let acc: Vec<Vec<Vector>> = match row.arithmetic {
        Arithmetic::F32 | Arithmetic::Bf16 => (0..row.blocks)
            .map(|block| {
                let start = if row.bias { b.load(bias.at(block * unit.bytes())) } else { b.splat(0.0) };
                if row.is_half(block) {
                    b.halve(start);
                }
                let mut of_block = vec![start];
                for _ in 1..pixels {
                    let v = b.new_vector_like(&[start]);
                    b.copy(v, start);
                    of_block.push(v);
                }
                of_block
            })
            .collect(),
        Arithmetic::WholeWeights => {
            let start = |b: &mut Builder, block: usize| {
                let zero = b.splat(0.0);
                if row.is_half(block) {
                    b.halve(zero);
                }
                zero
            };
            (0..row.blocks).map(|block| (0..pixels).map(|_| start(b, block)).collect()).collect()
        }
        Arithmetic::Bytes { .. } | Arithmetic::I16 => {
            let columns = TapSets::of(row.arithmetic, &row.x, row.inside, unit);
            let start = |b: &mut Builder, block: usize, p: usize| {
                if row.arithmetic.zero(unit) == 0 {
                    let zero = b.splat_int(Element::I32, 0);
                    if row.is_half(block) {
                        b.halve(zero);
                    }
                    return zero;
                }
                let vector = block * columns.sets.len() + columns.at(first + p);
                let start = b.load_of(Element::I32, bias.at(vector * unit.bytes()));
                if row.is_half(block) {
                    b.halve(start);
                }
                start
            };
            (0..row.blocks).map(|block| (0..pixels).map(|p| start(b, block, p)).collect()).collect()
        }
    };
    let rows = if row.trimmed { Operand::Var(rows) } else { Operand::Const(row.ky as i64) };
    let tap_bytes = row.x.taps.count * row.tap_bytes(unit);
    let end = if row.last_groups == row.in_groups { row.in_blocks } else { row.in_blocks - 1 };
    let begin = usize::from(row.first_group > 0);
    let constant = constant(b, row, unit);
    let w = b.int(weights);
    let line = b.int(input);
    let next = row.ahead_parameter(unit).map(|i| b.parameter(i));
    let passes = tiles(row).len();
    let lanes = |b: &mut Builder, x: Int, lanes: usize| {
        let unroll = unroll(row, unit, lanes, pixels);
        b.loop_range(0i64, lanes * LANE, (unroll * LANE) as i64, |b, lane| {
            if let Some(next) = next {
                let lines = (row.ahead * unroll).div_ceil(passes * row.groups());
                (0..lines).for_each(|line| b.prefetch(next.at(line * LINE)));
                b.advance(next, lines * LINE);
            }
            for u in 0..unroll {
                for kx in 0..row.x.taps.count {
                    let at = (u * row.x.taps.count + kx) * row.tap_bytes(unit);
                    let source = Address { index: Some((lane, 1)), ..x.at(u * LANE + kx * row.in_tap) };
                    match constant {
                        None => tap(b, row, unit, &acc, w.at(at), source, (first, kx)),
                        Some(constant) => tap_of_groups(b, row, &acc, w.at(at), source, (first, kx), constant),
                    }
                }
            }
            b.advance(w, unroll * tap_bytes);
        });
    };
    // Pixels of one tap are new to each tile, and half of them may lie in another core's cache: the next tile's are brought
    // nearer. Other taps find most of theirs where the row before left them.
    let is_read_once = row.ky * row.x.taps.count == 1 && row.arithmetic.is_of_levels();
    let pixels_ahead = if is_read_once { pixels * row.in_pixel } else { 0 };
    let resident = resident(row, unit, first, pixels);
    let whole_block = |b: &mut Builder, x: Int| match &resident {
        Some(offsets) => {
            let inputs: Vec<Vector> = offsets.iter().map(|&o| b.load(x.at(o))).collect();
            for (lane, kx) in (0..row.in_groups).flat_map(|l| (0..row.x.taps.count).map(move |kx| (l, kx))) {
                let at = (lane * row.x.taps.count + kx) * row.tap_bytes(unit);
                tap_by_lane(b, row, unit, &acc, w.at(at), (offsets, &inputs), (first, kx, lane));
            }
            b.advance(w, row.in_groups * tap_bytes);
        }
        None => lanes(b, x, row.in_groups),
    };
    b.repeat(rows, |b| {
        if begin > 0 {
            b.advance(w, row.first_group * tap_bytes);
            let x = b.add(line, LANE * row.first_group);
            let end = if row.in_blocks == 1 { row.last_groups } else { row.in_groups };
            lanes(b, x, end - row.first_group);
        }
        if begin < end {
            b.loop_range(begin * row.in_block, end * row.in_block, row.in_block.max(1) as i64, |b, offset| {
                let x = b.add(line, offset);
                for ahead in (0..pixels_ahead).step_by(LINE) {
                    b.prefetch(x.at(pixels * row.in_pixel + ahead));
                }
                whole_block(b, x);
            });
        }
        if end < row.in_blocks {
            if begin <= end {
                let x = b.add(line, end * row.in_block);
                lanes(b, x, row.last_groups);
            }
            // Where the next kernel row's weights begin behind a whole block.
            let behind = row.stored.groups - ((row.in_blocks - 1) * row.in_groups + row.last_groups);
            if behind > 0 {
                b.advance(w, behind * tap_bytes);
            }
        }
        b.advance(line, row.in_row_tap);
    });
    if let (Some(channels), Some(last)) = (row.channels_of_last(unit), acc.last()) {
        // The bias is 0 in these lanes.
        let (zeros, lanes) = (bias.at((row.blocks - 1) * unit.bytes()), unit.lanes as u8);
        for &dst in last {
            b.push(Inst::LoadLanes { dst, address: zeros, from: channels as u8, to: lanes });
        }
    }
    match row.arithmetic {
        Arithmetic::F32 | Arithmetic::Bf16 | Arithmetic::I16 => store(b, row, &acc),
        Arithmetic::WholeWeights | Arithmetic::Bytes { .. } => store_sums(b, row, &acc),
    }
}

/// The offsets of the input pixels that a tile's taps read, where there are registers for all of them
/// and the unit multiplies by a lane: a pixel's channels are then loaded once for all their products.
///
/// Accumulators + weights of a tap + pixels ≤ registers.
fn resident(row: &Row, unit: Unit, first: usize, pixels: usize) -> Option<Vec<usize>> {
    if !unit.multiply_by_lane || row.arithmetic != Arithmetic::F32 || row.in_groups != unit.lanes {
        return None;
    }
    let taps = (0..pixels).flat_map(|p| (0..row.x.taps.count).map(move |kx| (p, kx)));
    let applied = taps.filter(|&(p, kx)| tap_applies(row, first + p, kx));
    let offsets: BTreeSet<usize> = applied.map(|(p, kx)| p * row.in_pixel + kx * row.in_tap).collect();
    let registers = pixels * row.blocks + row.blocks + offsets.len();
    (registers <= unit.registers).then(|| offsets.into_iter().collect())
}

/// [`tap`] for one lane of pixels that are in registers.
fn tap_by_lane(
    b: &mut Builder,
    row: &Row,
    unit: Unit,
    acc: &[Vec<Vector>],
    weights: Address,
    (offsets, inputs): (&[usize], &[Vector]),
    (first, kx, lane): (usize, usize, usize),
) {
    let pixels: Vec<usize> = (0..acc[0].len()).filter(|p| tap_applies(row, first + p, kx)).collect();
    if pixels.is_empty() {
        return;
    }
    let w: Vec<Vector> = (0..row.blocks).map(|block| b.load(shifted(weights, block * unit.bytes()))).collect();
    for p in pixels {
        let at = offsets.binary_search(&(p * row.in_pixel + kx * row.in_tap)).expect("the tap applies");
        for (acc, &w) in acc.iter().zip(&w) {
            b.fma_lane(acc[p], w, inputs[at], lane);
        }
    }
}

/// Lanes that are unrolled: as many as the limit allows, a divisor of `lanes`.
fn unroll(row: &Row, unit: Unit, lanes: usize, pixels: usize) -> usize {
    let vectors = row.arithmetic.vectors(unit);
    let per_lane = row.x.taps.count * vectors * (row.blocks + pixels * (row.blocks + 1));
    (1..=lanes).rev().find(|u| lanes.is_multiple_of(*u) && (u * per_lane <= UNROLL_LIMIT || *u == 1)).unwrap_or(1)
}

/// One input channel times one kernel column: `acc[block][pixel] += w[block] · input[pixel]`.
fn tap(
    b: &mut Builder,
    row: &Row,
    unit: Unit,
    acc: &[Vec<Vector>],
    weights: Address,
    source: Address,
    (first, kx): (usize, usize),
) {
    let pixels: Vec<usize> = (0..acc[0].len()).filter(|p| tap_applies(row, first + p, kx)).collect();
    if pixels.is_empty() {
        return;
    }
    let factors = row.factors(unit);
    let weight_at = |block: usize| shifted(weights, block * factors.vector_bytes(unit));
    if let ([p], Factors::Single) = (pixels.as_slice(), factors) {
        let p = *p;
        // Each weight is used once: it comes straight from memory.
        let x = b.broadcast(shifted(source, p * row.in_pixel));
        for (block, acc) in acc.iter().enumerate() {
            b.push(Inst::FmaLoad { acc: acc[p], a: x, address: weight_at(block) });
        }
        return;
    }
    let load = |block: usize| {
        let w = match factors {
            Factors::Narrow => b.load_as(Element::F32, weight_at(block), Element::I8),
            _ => b.load(weight_at(block)),
        };
        if row.is_half(block) {
            b.halve(w);
        }
        w
    };
    let w: Vec<Vector> = (0..row.blocks).map(load).collect();
    for p in pixels {
        let address = shifted(source, p * row.in_pixel);
        if row.blocks == 1 && unit.embedded_broadcast {
            b.push(Inst::FmaBroadcast { acc: acc[0][p], a: w[0], address });
            continue;
        }
        let x = b.broadcast(address);
        for (acc, &w) in acc.iter().zip(&w) {
            b.fma(acc[p], w, x);
        }
    }
}

fn shifted(address: Address, bytes: usize) -> Address {
    let bytes = i32::try_from(bytes).expect("a tile spans less than 2 GiB");
    Address { offset: address.offset.checked_add(bytes).expect("a tile spans less than 2 GiB"), ..address }
}

/// What tiles of groups of several channels keep in a register beside accumulators, where they need something: by what
/// i8 become unsigned, or what keeps every second number. `None` of f32.
fn constant(b: &mut Builder, row: &Row, unit: Unit) -> Option<Option<Vector>> {
    let signed = match row.arithmetic {
        Arithmetic::F32 | Arithmetic::WholeWeights => return None,
        Arithmetic::Bf16 | Arithmetic::I16 => return Some(None),
        Arithmetic::Bytes { signed, .. } => signed,
    };
    Some(match row.factors(unit) {
        Factors::Quads => signed.then(|| b.splat_int(Element::U8, 0x80)),
        Factors::Pairs => (!signed).then(|| b.splat_int(Element::I16, 0xff)),
        Factors::Single | Factors::Narrow | Factors::Bf16 | Factors::Words => None,
    })
}

/// [`tap`] of a group of several channels.
fn tap_of_groups(
    b: &mut Builder,
    row: &Row,
    acc: &[Vec<Vector>],
    weights: Address,
    source: Address,
    (first, kx): (usize, usize),
    constant: Option<Vector>,
) {
    let pixels: Vec<usize> = (0..acc[0].len()).filter(|p| tap_applies(row, first + p, kx)).collect();
    if pixels.is_empty() {
        return;
    }
    let unit = b.unit();
    let factors = row.factors(unit);
    let dot = row.dot(unit);
    for vector in 0..row.arithmetic.vectors(unit) {
        let weight_at = |block: usize| shifted(weights, (vector * row.blocks + block) * unit.bytes());
        if let (Some(dot), [p]) = (dot, pixels.as_slice()) {
            // Each weight is used once: it comes straight from memory.
            let x = factor(b, row, shifted(source, p * row.in_pixel), vector, constant);
            for (block, acc) in acc.iter().enumerate() {
                b.push(Inst::DotLoad { dot, acc: acc[*p], a: x, address: weight_at(block) });
            }
            continue;
        }
        let load = |block: usize| {
            let w = b.load_of(factors.element(), weight_at(block));
            if row.is_half(block) {
                b.halve(w);
            }
            w
        };
        let w: Vec<Vector> = (0..row.blocks).map(load).collect();
        for &p in &pixels {
            let group = shifted(source, p * row.in_pixel);
            // Both factors are of one kind: the pixel's may come straight from memory.
            if let (Some(dot @ (Dot::I16 | Dot::Bf16)), [w], true) = (dot, w.as_slice(), unit.embedded_broadcast) {
                b.push(Inst::DotBroadcast { dot, acc: acc[0][p], a: *w, address: group });
                continue;
            }
            let x = factor(b, row, group, vector, constant);
            for (acc, &w) in acc.iter().zip(&w) {
                add_products(b, factors, acc[p], x, w);
            }
        }
    }
}

/// The group's numbers that the nth vector of its weights is multiplied by, in all lanes.
fn factor(b: &mut Builder, row: &Row, group: Address, vector: usize, constant: Option<Vector>) -> Vector {
    let signed = !matches!(row.arithmetic, Arithmetic::Bytes { signed: false, .. });
    match row.factors(b.unit()) {
        Factors::Single | Factors::Narrow => unreachable!("groups have several channels"),
        Factors::Bf16 => b.broadcast_group(Element::Bf16, group),
        Factors::Pairs if row.arithmetic == Arithmetic::I16 => b.broadcast_group(Element::I16, group),
        Factors::Quads => {
            let x = b.broadcast_group(Element::U8, group);
            constant.map_or(x, |constant| b.op(VectorOp::Xor, x, constant))
        }
        Factors::Pairs => {
            let x = b.broadcast_group(Element::I16, group);
            match (vector, constant) {
                (0, Some(mask)) => b.op(VectorOp::And, x, mask),
                (0, None) => {
                    let x = b.unary(UnaryOp::ShiftLeft(8), x);
                    b.unary(UnaryOp::ShiftRightSigned(8), x)
                }
                _ if signed => b.unary(UnaryOp::ShiftRightSigned(8), x),
                _ => b.unary(UnaryOp::ShiftRight(8), x),
            }
        }
        Factors::Words => {
            let x = b.broadcast_group(Element::I32, group);
            let rest = 32 - 8 * row.arithmetic.input().bytes() as u8;
            let above = rest - 8 * (vector * row.arithmetic.input().bytes()) as u8;
            let x = if above > 0 { b.unary(UnaryOp::ShiftLeft(above), x) } else { x };
            b.unary(if signed { UnaryOp::ShiftRightSigned(rest) } else { UnaryOp::ShiftRight(rest) }, x)
        }
    }
}

/// `acc += x · w`
fn add_products(b: &mut Builder, factors: Factors, acc: Vector, x: Vector, w: Vector) {
    match factors {
        Factors::Single | Factors::Narrow => b.fma(acc, w, x),
        Factors::Bf16 => b.dot(Dot::Bf16, acc, x, w),
        Factors::Quads => b.dot(Dot::U8I8, acc, x, w),
        Factors::Pairs => b.add_products_of_i16(acc, x, w),
        Factors::Words => {
            let product = b.op(VectorOp::Mul, x, w);
            b.op_into(acc, VectorOp::Add, acc, product);
        }
    }
}

/// Finishes sums of whole numbers and stores them.
fn store_sums(b: &mut Builder, row: &Row, acc: &[Vec<Vector>]) {
    let bytes = b.unit().bytes();
    let to = b.parameter(4);
    let extra: Vec<Int> = (0..row.extra.len()).map(|i| b.parameter(5 + i)).collect();
    let scales = b.parameter(5 + row.extra.len());
    let scratch = row.parameters(b.unit()).1.map_or(to, |scratch| b.parameter(scratch));
    let places: Vec<(usize, usize)> = (0..acc.len()).flat_map(|b| (0..acc[b].len()).map(move |p| (b, p))).collect();
    let sum = |(place, &(block, p)): (usize, &(usize, usize))| {
        let to = to.at(block * row.out_block + p * row.out_pixel);
        let places = Places { to, scales: scales.at(2 * block * bytes), kept: scratch.at(place * bytes) };
        (acc[block][p], places)
    };
    let sums: Vec<(Vector, Places)> = places.iter().enumerate().map(sum).collect();
    let tail = row.tail();
    tail.store(b, &sums, row.arithmetic.registers(b.unit()), |result, i| {
        let (block, p) = places[result];
        extra[i].at(block * row.extra[i].0 + p * row.extra[i].1)
    });
}

/// Applies the epilogue and stores the tile.
fn store(b: &mut Builder, row: &Row, acc: &[Vec<Vector>]) {
    let to = b.parameter(4);
    let extra: Vec<Int> = (0..row.extra.len()).map(|i| b.parameter(5 + i)).collect();
    let places: Vec<(usize, usize)> = (0..acc.len()).flat_map(|b| (0..acc[b].len()).map(move |p| (b, p))).collect();
    let results: Vec<(Vector, Address)> =
        places.iter().map(|&(block, p)| (acc[block][p], to.at(block * row.out_block + p * row.out_pixel))).collect();
    let scratch = row.parameters(b.unit()).1.map(|scratch| b.parameter(scratch));
    epilogue::store_all(b, &row.epilogue, &row.elements, scratch, &results, |result, i| {
        let (block, p) = places[result];
        extra[i].at(block * row.extra[i].0 + p * row.extra[i].1)
    });
}

#[cfg(test)]
mod tests {
    use crate::codegen::testing::{check, check_with};
    use crate::ir::{Graph, Phase};
    use crate::ops::activation::Activation;
    use crate::ops::attributes::AttributeValue;
    use crate::ops::epilogue::PostOp;
    use crate::ops::{Conv2d, ConvTranspose2d, Flatten, Linear, LinearW8, Op};
    use crate::testing::{GraphBuilder, conv, conv_transpose};

    fn one(input: [usize; 4], op: impl Into<Op>) -> Graph {
        let mut b = GraphBuilder::new("one", Phase::Infer);
        let x = b.input(input);
        let y = b.add(op, &[x]);
        b.finish(&[y])
    }

    #[test]
    fn plain_input() {
        check(one([1, 3, 9, 11], conv(20, 3, 1, 1)));
        check(one([2, 3, 17, 15], conv(33, 7, 2, 3)));
    }

    #[test]
    fn blocked_input() {
        for (c, oc, size, op) in [
            (16, 32, 7, conv(32, 3, 1, 1)),
            (19, 40, 15, conv(40, 3, 2, 1)),
            (35, 70, 29, conv(70, 1, 1, 0)),
            (35, 16, 9, conv(16, 1, 2, 0)),
            (24, 18, 8, Conv2d { dilation: [2, 3], pad: [2, 3, 4, 1], ..conv(18, 3, 1, 0) }),
            (5, 7, 4, conv(7, 4, 1, 0)),
            (5, 7, 2, conv(7, 5, 3, 4)),
        ] {
            let mut b = GraphBuilder::new("two", Phase::Infer);
            let x = b.input([2, 3, size, size]);
            let y = b.add(conv(c, 1, 1, 0), &[x]);
            let y = b.add(op, &[y]);
            assert_eq!(b.graph.node(y).shape[1], oc);
            check(b.finish(&[y]));
        }
    }

    /// Lanes that are no channels are not stored; what is computed in them is not seen.
    #[test]
    fn few_channels() {
        let sizes = [1, 2, 3, 5, 8, 12, 13, 17, 24].into_iter();
        for (c, oc) in sizes.clone().flat_map(|c| sizes.clone().map(move |oc| (c, oc))).step_by(2) {
            let mut b = GraphBuilder::new("few", Phase::Infer);
            let x = b.input([2, 3, 6, 5]);
            let x = b.add(conv(c, 1, 1, 0), &[x]);
            let y = b.add(Conv2d { epilogue: vec![PostOp::Activate(Activation::Sigmoid)], ..conv(oc, 3, 1, 1) }, &[x]);
            let z = b.add(Flatten {}, &[y]);
            let z = b.add(Linear { features: oc, bias: true, epilogue: vec![] }, &[z]);
            // Groups that straddle blocks read whole blocks.
            let w = b.add(Conv2d { groups: oc, ..conv(2 * oc, 1, 1, 0) }, &[y]);
            check(b.finish(&[y, z, w]));
        }
    }

    /// Twenty layers from one channel to one: what is packed are their weights, and lines that are begun.
    #[test]
    fn one_channel_takes_little() {
        let mut b = GraphBuilder::new("thin", Phase::Infer);
        let mut x = b.input([1, 1, 8, 8]);
        for _ in 0..20 {
            x = b.add(conv(1, 3, 1, 1), &[x]);
        }
        let graph = b.finish(&[x]);
        let target = &crate::codegen::testing::targets()[0];
        let options = crate::plan::Options { small: true, ..Default::default() };
        let generated = crate::codegen::generate(&graph, target, &options).unwrap();
        let packed: usize = generated.packings.iter().map(crate::codegen::packing::Packing::bytes).sum();
        // Nine weights, of half a vector where the unit has those, and a bias.
        assert!(packed <= 20 * 7 * 64, "{packed}");
    }

    #[test]
    fn groups() {
        let shapes = [(32, 64, 2), (48, 96, 2), (24, 40, 4), (12, 12, 3), (16, 32, 16), (72, 72, 3), (120, 120, 5)];
        for (c, oc, groups) in shapes.into_iter().chain([(20, 20, 4), (10, 120, 5), (56, 56, 1), (168, 168, 3)]) {
            let mut b = GraphBuilder::new("groups", Phase::Infer);
            let x = b.input([2, 3, 7, 6]);
            let y = b.add(conv(c, 1, 1, 0), &[x]);
            let y = b.add(Conv2d { groups, ..conv(oc, 3, 1, 1) }, &[y]);
            check(b.finish(&[y]));
        }
    }

    #[test]
    fn linear_layers() {
        for batch in [1, 3, 20] {
            let mut b = GraphBuilder::new("linear", Phase::Infer);
            let x = b.input([batch, 3, 6, 5]);
            let y = b.add(conv(18, 3, 1, 0), &[x]);
            let y = b.add(Flatten {}, &[y]);
            let y = b.add(Linear { features: 37, bias: true, epilogue: vec![] }, &[y]);
            let y = b.add(Linear { features: 10, bias: false, epilogue: vec![] }, &[y]);
            check(b.finish(&[y]));
        }
    }

    /// Weights of 8 bits beside inputs of f32.
    #[test]
    fn linear_layers_of_whole_weights() {
        for (batch, features) in [(1, 37), (3, 100), (20, 16)] {
            let mut b = GraphBuilder::new("whole", Phase::Infer);
            let x = b.input([batch, 3, 6, 5]);
            let y = b.add(conv(18, 3, 1, 0), &[x]);
            let y = b.add(Flatten {}, &[y]);
            let layer = |features, bias, epilogue| LinearW8 { of_reals: Linear { features, bias, epilogue }, bits: 8 };
            let gelu = PostOp::Activate(Activation::Gelu);
            let y = b.add(layer(features, true, vec![gelu]), &[y]);
            let z = b.add(layer(features, false, vec![]), &[y]);
            let y = b.add(layer(features, true, vec![PostOp::Add, gelu, PostOp::Mul]), &[y, z, z]);
            let x = b.input([batch, 1]);
            let one = b.add(layer(1, true, vec![]), &[x]);
            check(b.finish(&[y, one]));
        }
    }

    #[test]
    fn epilogues() {
        for activation in ["relu", "leaky_relu(0.2)", "clip(-0.5,0.5)", "sigmoid", "tanh", "silu", "gelu", "hard_swish"]
        {
            let activation = Activation::parse(activation).unwrap();
            for op in [conv(32, 1, 1, 0), conv(33, 3, 1, 1), conv(8, 3, 2, 1)] {
                let mut b = GraphBuilder::new("epilogue", Phase::Infer);
                let x = b.input([1, 3, 14, 15]);
                let y = b.add(conv(20, 1, 1, 0), &[x]);
                let other = b.add(op.clone(), &[y]);
                let epilogue = vec![PostOp::Add, PostOp::Activate(activation), PostOp::Mul];
                let y = b.add(Conv2d { epilogue, ..op }, &[y, other, other]);
                // Winograd may be chosen.
                check_with(b.finish(&[y]), &Default::default(), 1e-4);
            }
        }
    }

    #[test]
    fn transposed() {
        let op = conv_transpose;
        check(one([2, 20, 1, 1], op(33, 4, 1, 0)));
        check(one([2, 20, 5, 6], op(33, 4, 2, 1)));
        check(one([1, 20, 5, 6], op(9, 2, 3, 0)));
        check(one([1, 20, 5, 6], ConvTranspose2d { output_pad: [1, 0], dilation: [2, 1], ..op(9, 3, 2, 1) }));
    }
}
