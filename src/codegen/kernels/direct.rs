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
use super::super::packing::{self, Fill, Loop, Part, Walk};
use super::super::vector::{Address, Builder, Callee, Function, Int, IntOp, Operand, Vector};
use super::{LANE, epilogue};
use crate::balance::TaskCost;
use crate::ops::epilogue::PostOp;
use crate::ops::{Op, epilogue::extra_operands};
use crate::plan::conv::{self, Axis, BlockSets, Direct, Fold, Geometry, Problem};
use crate::plan::{Step, View};
use crate::target::Unit;

/// Instructions of an unrolled loop body at most, so that it stays in the decoded-instruction cache.
const UNROLL_LIMIT: usize = 700;

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

/// All that a row kernel's code depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    /// Horizontal geometry, for the taps that fall into the padding.
    x: Axis,
    width: usize,
    tile: usize,
    blocks: usize,
    /// The last block's channels lie in the lower half of its lanes: the upper half is not computed.
    half: bool,
    /// Bytes in the input from an output pixel to the next, and from a tap to the next.
    in_pixel: usize,
    in_tap: usize,
    in_row_tap: usize,
    in_block: usize,
    /// Channels of an input block: lanes, or one where the input is plain.
    in_lanes: usize,
    /// Input blocks, lanes of the first that are passed over, and one past those of the last.
    in_blocks: usize,
    first_lane: usize,
    last_lanes: usize,
    ky: usize,
    /// Fewer kernel rows apply at the image's upper and lower edge.
    trimmed: bool,
    out_pixel: usize,
    out_block: usize,
    /// Block and pixel strides of the epilogue's operands.
    extra: Vec<(usize, usize)>,
    epilogue: Epilogue,
    /// All taps lie in the image whatever the pixel is.
    inside: bool,
    /// Accumulators start from the bias rather than from zero.
    bias: bool,
}

impl Row {
    /// A matrix product over `width` pixels that lie one vector apart, a block of channels each.
    pub(super) fn product(
        width: usize,
        [tile, blocks]: [usize; 2],
        half: bool,
        channels: usize,
        unit: Unit,
        strides: [usize; 2],
    ) -> Row {
        let taps = conv::Taps { step: 1, first: 0, distance: 1, count: 1, kernel_first: 0, kernel_step: 1 };
        let in_blocks = channels.div_ceil(unit.lanes);
        Row {
            x: Axis { taps, input: width, output: width, output_first: 0, output_step: 1 },
            width,
            tile: tile.min(conv::most_pixels(blocks, unit)).min(width),
            blocks,
            half,
            in_pixel: unit.bytes(),
            in_tap: 0,
            in_row_tap: 0,
            in_block: strides[0],
            in_lanes: unit.lanes,
            in_blocks,
            first_lane: 0,
            last_lanes: channels - (in_blocks - 1) * unit.lanes,
            ky: 1,
            trimmed: false,
            out_pixel: unit.bytes(),
            out_block: strides[1],
            extra: vec![],
            epilogue: Epilogue::default(),
            inside: true,
            bias: false,
        }
    }
}

impl Row {
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
    let node = e.graph.node(step.node);
    let (has_bias, steps) = match node.op() {
        Some(Op::Conv2d(c)) => (c.bias, c.epilogue.clone()),
        Some(Op::Linear(l)) => (l.bias, l.epilogue.clone()),
        Some(Op::ConvTranspose2d(c)) => (c.bias, c.epilogue.clone()),
        _ => unreachable!("direct kernels are planned for convolutions only"),
    };
    assert_eq!(extra_operands(&steps), step.inputs.len() - 1, "one operand a step of the epilogue");
    let weights = e.weights(step);
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let block = [output.block(), input.block()];
    let runs = match direct.problem.period(output.block()) {
        Some(period) if input.layout.is_blocked() && step.outputs.len() == 1 => {
            periodic_runs(&direct.problem, period, output.block())
        }
        _ => runs(&step.outputs, direct.blocks, unit),
    };

    let mut parts = vec![Part::bias(has_bias, direct.problem.out_channels, output)];
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
                parts.push(panel(&direct.problem, *g, *run, tile, count, block));
            }
        }
    }
    let packed = e.pack(weights, parts);

    let mut calls = vec![];
    for &(phase, run, count, part) in &regions {
        let row = row_spec(step, direct, direct.problem.phases[phase], run, count, &steps, unit);
        let callee = e.kernel(&row);
        calls.push(Region { phase, run, count, panels: packed[part], row, callee });
    }

    let (height, images) = match direct.fold {
        Fold::Rows => (None, direct.problem.batch),
        Fold::Image { height, .. } => (Some(height), direct.problem.batch),
        Fold::Batch => (Some(1), 1),
    };
    let rows = |r: &Region| height.unwrap_or(direct.problem.phases[r.phase].y.output);
    let grid = calls.iter().map(|r| r.run.tiles * images * rows(r)).sum();
    e.task_costs = calls.iter().map(|r| TaskCost::new(r.run.tiles * images * rows(r), r.cost())).collect();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut first = 0;
        for region in &calls {
            let height = rows(region);
            let count = region.run.tiles * images * height;
            d.tasks(first, count, |d, task| {
                let (rest, y) = d.split(task, height);
                let rest = d.int(rest);
                let (tile, image) = d.split(rest, images);
                region.call(e, d, step, direct, packed[0], [tile, image, y]);
            });
            first += count;
        }
    });
    Ok(Emitted { entry, grid, scratch: 0 })
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
fn panel(problem: &Problem, g: Geometry, run: BlockRun, tile: usize, count: usize, block: [usize; 2]) -> Part {
    let [out_lanes, in_lanes] = block;
    let channels = run.blocks * out_lanes;
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
        to: count * in_lanes * kx * channels,
    };
    let x = Loop { count: kx, from: g.x.taps.kernel_step, to: channels };
    let first_tap = g.y.taps.kernel_first * problem.kernel[1] + g.x.taps.kernel_first;
    let mut walks = vec![];
    for group in problem.groups_of(&outputs) {
        let outputs = overlap(&outputs, &problem.outputs_of(group));
        let inputs = overlap(&inputs, &problem.inputs_of(group));
        let Some(filter) = problem.weight_index(outputs.start, inputs.start, 0, 0) else { continue };
        let (from, to) = (
            filter + first_tap,
            (inputs.start - first_channel) * kx * channels + outputs.start - out_block * out_lanes,
        );
        let output = Loop { count: outputs.len(), from: out_step as isize, to: 1 };
        let input = |count: usize| Loop { count, from: in_step as isize, to: kx * channels };
        // A block's worth of inputs of every output at a time: what is read lies together, and what is
        // written stays in the cache.
        let (blocks, rest) = (inputs.len() / in_lanes, inputs.len() % in_lanes);
        let block = Loop { count: blocks, from: (in_lanes * in_step) as isize, to: in_lanes * kx * channels };
        if blocks > 0 {
            walks.push(Walk::new(from, to, [block, output, input(in_lanes), y, x]));
        }
        if rest > 0 {
            let done = blocks * in_lanes;
            walks.push(Walk::new(from + done * in_step, to + done * kx * channels, [output, input(rest), y, x]));
        }
    }
    let elements = count * in_lanes * ky * kx * channels;
    Part { element: problem.element, elements, fill: Fill::Filters { weight: 0, walks } }
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
    steps: &[PostOp],
    unit: Unit,
) -> Row {
    let in_lanes = step.inputs[0].block();
    let input = Strides::of(&step.inputs[0], direct.fold);
    let output = Strides::of(&step.outputs[run.output], direct.fold);
    let (width, in_pixel, out_pixel) = match direct.fold {
        Fold::Rows => (g.x.output, g.x.taps.step * input.pixel, g.x.output_step * output.pixel),
        Fold::Image { width, .. } => (width, input.pixel, output.pixel),
        Fold::Batch => (direct.problem.batch, step.inputs[0].batch_stride, step.outputs[run.output].batch_stride),
    };
    let extra = step.inputs[1..].iter().map(|v| {
        let s = Strides::of(v, direct.fold);
        let pixel = match direct.fold {
            Fold::Rows => g.x.output_step * s.pixel,
            Fold::Image { .. } => s.pixel,
            Fold::Batch => v.batch_stride,
        };
        (s.block, pixel)
    });
    Row {
        x: g.x,
        width,
        tile: direct.pixels.min(conv::most_pixels(run.blocks, unit)).min(width),
        blocks: run.blocks,
        half: run.half,
        in_pixel,
        in_tap: g.x.taps.distance * input.pixel,
        in_row_tap: g.y.taps.distance * input.row,
        in_block: input.block,
        in_lanes,
        in_blocks,
        first_lane: run.reads.map_or(0, |reads| reads.first_lane),
        last_lanes: last_lanes(&direct.problem, &run, in_lanes),
        ky: g.y.taps.count,
        trimmed: direct.fold == Fold::Rows && trims_rows(&g.y),
        out_pixel,
        out_block: output.block,
        extra: extra.collect(),
        epilogue: Epilogue::of(steps),
        inside: direct.fold != Fold::Rows,
        bias: true,
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
    /// The first tile's panel.
    panels: Packed,
    row: Row,
    callee: Callee,
}

impl Region {
    /// Multiply-adds of a call, in vectors, and the stores, which are all of it where a phase has no taps.
    fn cost(&self) -> f64 {
        let lanes = (self.count - 1) * self.row.in_lanes + self.row.last_lanes - self.row.first_lane;
        let taps = lanes * self.row.ky * self.row.x.taps.count;
        self.run.work() * (self.row.width * (taps + 4)) as f64
    }

    /// Bytes of weights of one kernel row, of all input blocks.
    fn ky_bytes(&self, unit: Unit) -> usize {
        self.count * self.row.in_lanes * self.row.x.taps.count * self.row.blocks * unit.bytes()
    }

    fn panel_bytes(&self, unit: Unit) -> usize {
        let bytes = self.row.ky * self.ky_bytes(unit);
        bytes.next_multiple_of(packing::ALIGNMENT)
    }

    /// One call: `at` is the tile of channels, the image and the row.
    #[allow(clippy::too_many_arguments)] // One value each of the step's many sides.
    fn call(&self, e: &Emitter, d: &mut Driver, step: &Step, direct: &Direct, bias: Packed, at: [Operand; 3]) {
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
        d.step(weights, tile, self.panel_bytes(unit));
        let bias_block = step.outputs[0].pixel_stride();
        let bias = d.weights(bias + self.run.first * bias_block);
        d.step(bias, tile, self.run.step * bias_block);

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
    /// Parameters: input, weights, bias, kernel rows, output, the epilogue's operands.
    fn build(&self, unit: Unit) -> Function {
        let row = self;
        let half = if row.half { "half" } else { "" };
        let name = format!("direct_{}x{}{half}_w{}_k{}x{}", row.tile, row.blocks, row.width, row.ky, row.x.taps.count);
        let mut b = Builder::new(name, unit, 5 + row.extra.len());
        let input = b.parameter(0);
        let mut outs = vec![b.parameter(4)];
        outs.extend((0..row.extra.len()).map(|i| b.parameter(5 + i)));
        let strides: Vec<usize> = std::iter::once(row.out_pixel).chain(row.extra.iter().map(|e| e.1)).collect();

        let tiles = tiles(row);
        let mut i = 0;
        while i < tiles.len() {
            let (first, pixels) = tiles[i];
            let same = tiles[i..].iter().take_while(|t| t.1 == pixels && is_interior(row, t.0, t.1)).count().max(1);
            b.repeat(same, |b| {
                tile(b, row, unit, first, pixels);
                b.advance(input, pixels * row.in_pixel);
                outs.iter().zip(&strides).for_each(|(&o, &s)| b.advance(o, pixels * s));
            });
            i += same;
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
    let acc: Vec<Vec<Vector>> = (0..row.blocks)
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
        .collect();
    let rows = if row.trimmed { Operand::Var(rows) } else { Operand::Const(row.ky as i64) };
    let tap_bytes = row.x.taps.count * row.blocks * unit.bytes();
    let end = if row.last_lanes == row.in_lanes { row.in_blocks } else { row.in_blocks - 1 };
    let begin = usize::from(row.first_lane > 0);
    let w = b.int(weights);
    let line = b.int(input);
    let lanes = |b: &mut Builder, x: Int, lanes: usize| {
        let unroll = unroll(row, lanes, pixels);
        b.loop_range(0i64, lanes * LANE, (unroll * LANE) as i64, |b, lane| {
            for u in 0..unroll {
                for kx in 0..row.x.taps.count {
                    let at = (u * row.x.taps.count + kx) * row.blocks * unit.bytes();
                    let source = Address { index: Some((lane, 1)), ..x.at(u * LANE + kx * row.in_tap) };
                    tap(b, row, unit, &acc, w.at(at), source, (first, kx));
                }
            }
            b.advance(w, unroll * tap_bytes);
        });
    };
    let resident = resident(row, unit, first, pixels);
    let whole_block = |b: &mut Builder, x: Int| match &resident {
        Some(offsets) => {
            let inputs: Vec<Vector> = offsets.iter().map(|&o| b.load(x.at(o))).collect();
            for (lane, kx) in (0..row.in_lanes).flat_map(|l| (0..row.x.taps.count).map(move |kx| (l, kx))) {
                let at = (lane * row.x.taps.count + kx) * row.blocks * unit.bytes();
                tap_by_lane(b, row, unit, &acc, w.at(at), (offsets, &inputs), (first, kx, lane));
            }
            b.advance(w, row.in_lanes * tap_bytes);
        }
        None => lanes(b, x, row.in_lanes),
    };
    b.repeat(rows, |b| {
        if begin > 0 {
            b.advance(w, row.first_lane * tap_bytes);
            let x = b.add(line, LANE * row.first_lane);
            let end = if row.in_blocks == 1 { row.last_lanes } else { row.in_lanes };
            lanes(b, x, end - row.first_lane);
        }
        if begin < end {
            b.loop_range(begin * row.in_block, end * row.in_block, row.in_block.max(1) as i64, |b, offset| {
                let x = b.add(line, offset);
                whole_block(b, x);
            });
        }
        if end < row.in_blocks {
            if begin <= end {
                let x = b.add(line, end * row.in_block);
                lanes(b, x, row.last_lanes);
            }
            // The next kernel row's weights begin behind a whole block.
            b.advance(w, (row.in_lanes - row.last_lanes) * tap_bytes);
        }
        b.advance(line, row.in_row_tap);
    });
    store(b, row, &acc);
}

/// The offsets of the input pixels that a tile's taps read, where there are registers for all of them
/// and the unit multiplies by a lane: a pixel's channels are then loaded once for all their products.
///
/// Accumulators + weights of a tap + pixels ≤ registers.
fn resident(row: &Row, unit: Unit, first: usize, pixels: usize) -> Option<Vec<usize>> {
    if !unit.multiply_by_lane || row.in_lanes != unit.lanes {
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
fn unroll(row: &Row, lanes: usize, pixels: usize) -> usize {
    let per_lane = row.x.taps.count * (row.blocks + pixels * (row.blocks + 1));
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
    let weight_at = |block: usize| shifted(weights, block * unit.bytes());
    if let [p] = *pixels.as_slice() {
        // Each weight is used once: it comes straight from memory.
        let x = b.broadcast(shifted(source, p * row.in_pixel));
        for (block, acc) in acc.iter().enumerate() {
            b.push(super::super::vector::Inst::FmaLoad { acc: acc[p], a: x, address: weight_at(block) });
        }
        return;
    }
    let load = |block: usize| {
        let w = b.load(weight_at(block));
        if row.is_half(block) {
            b.halve(w);
        }
        w
    };
    let w: Vec<Vector> = (0..row.blocks).map(load).collect();
    for p in pixels {
        let address = shifted(source, p * row.in_pixel);
        if row.blocks == 1 && unit.embedded_broadcast {
            b.push(super::super::vector::Inst::FmaBroadcast { acc: acc[0][p], a: w[0], address });
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

/// Applies the epilogue and stores the tile.
fn store(b: &mut Builder, row: &Row, acc: &[Vec<Vector>]) {
    let to = b.parameter(4);
    let extra: Vec<Int> = (0..row.extra.len()).map(|i| b.parameter(5 + i)).collect();
    let places: Vec<(usize, usize)> = (0..acc.len()).flat_map(|b| (0..acc[b].len()).map(move |p| (b, p))).collect();
    let results: Vec<(Vector, Address)> =
        places.iter().map(|&(block, p)| (acc[block][p], to.at(block * row.out_block + p * row.out_pixel))).collect();
    epilogue::store_all(b, &row.epilogue, &results, |result, i| {
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
    use crate::ops::{Conv2d, ConvTranspose2d, Flatten, Linear, Op};
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
