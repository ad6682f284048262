//! Convolutions as sums over taps: their geometry, and the choice of tile for the direct kernel.
//!
//! Convolution, linear layer and transposed convolution are one thing here: along each axis, output
//! position q reads input positions `q · step + first + k · distance` for taps `k`. A linear layer
//! over a flattened image is a convolution whose window is the image. A transposed convolution of
//! stride s is s² ordinary ones, its phases, whose results interleave.

use std::ops::Range;
use std::sync::Arc;

use crate::balance::{TaskCost, imbalance};
use crate::ops::{Conv2d, ConvTranspose2d, Linear};
use crate::target::{Core, Target, Unit};

/// The taps along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taps {
    /// Input positions from one output position to the next.
    pub step: usize,
    /// Input position of tap 0 at output position 0; negative where it is in the padding.
    pub first: isize,
    /// Input positions from one tap to the next.
    pub distance: usize,
    pub count: usize,
    /// Index into the kernel of tap 0, and from one tap to the next.
    pub kernel_first: usize,
    pub kernel_step: isize,
}

impl Taps {
    pub fn kernel_index(&self, tap: usize) -> usize {
        (self.kernel_first as isize + tap as isize * self.kernel_step) as usize
    }

    /// The input position, which may lie in the padding.
    pub fn position(&self, output: usize, tap: usize) -> isize {
        (output * self.step + tap * self.distance) as isize + self.first
    }
}

/// One axis of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    pub taps: Taps,
    pub input: usize,
    /// Output positions that are computed, and where they lie in the output.
    pub output: usize,
    pub output_first: usize,
    pub output_step: usize,
}

impl Axis {
    pub fn in_bounds(&self, output: usize, tap: usize) -> bool {
        let p = self.taps.position(output, tap);
        p >= 0 && (p as usize) < self.input
    }

    /// The share of taps that lie in the image rather than in the padding.
    pub fn inside(&self) -> f64 {
        let taps = (0..self.output).flat_map(|q| (0..self.taps.count).map(move |k| (q, k)));
        let inside = taps.filter(|&(q, k)| self.in_bounds(q, k)).count();
        inside as f64 / (self.output * self.taps.count).max(1) as f64
    }

    fn conv(input: usize, output: usize, kernel: usize, stride: usize, pad: usize, dilation: usize) -> Axis {
        let taps = Taps {
            step: stride,
            first: -(pad as isize),
            distance: dilation,
            count: kernel,
            kernel_first: 0,
            kernel_step: 1,
        };
        Axis { taps, input, output, output_first: 0, output_step: 1 }
    }

    /// Phase `r` of a transposed convolution: outputs r, r + stride, ….
    fn transposed(
        input: usize,
        output: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
        dilation: usize,
        r: usize,
    ) -> Axis {
        // Output o gathers from input (o + pad - k * dilation) / stride, where that divides.
        let fits: Vec<usize> = (0..kernel)
            .filter(|k| (r as isize + pad as isize - (k * dilation) as isize).rem_euclid(stride as isize) == 0)
            .collect();
        let last = fits.last().copied().unwrap_or(0);
        let between = if fits.len() > 1 { fits[1] - fits[0] } else { stride };
        let taps = Taps {
            step: 1,
            first: (r as isize + pad as isize - (last * dilation) as isize).div_euclid(stride as isize),
            distance: between * dilation / stride,
            count: fits.len(),
            kernel_first: last,
            kernel_step: -(between as isize),
        };
        Axis { taps, input, output: (output - r).div_ceil(stride), output_first: r, output_step: stride }
    }
}

/// One pass over the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub y: Axis,
    pub x: Axis,
}

/// A convolution, whatever op it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    /// Size of the stored kernel.
    pub kernel: [usize; 2],
    /// Shared, since a transposed convolution has many and each of its kernels knows the problem.
    pub phases: Arc<[Geometry]>,
    /// The stored weight is `[in, out / groups, kh, kw]` rather than `[out, in / groups, kh, kw]`.
    pub transposed: bool,
}

impl Problem {
    /// `input` and `output` are `[n, c, h, w]`.
    pub fn conv(op: &Conv2d, input: [usize; 4], output: [usize; 4]) -> Problem {
        let axis =
            |a: usize| Axis::conv(input[2 + a], output[2 + a], op.kernel[a], op.stride[a], op.pad[a], op.dilation[a]);
        Problem {
            batch: input[0],
            in_channels: input[1],
            out_channels: output[1],
            groups: op.groups,
            kernel: op.kernel,
            phases: [Geometry { y: axis(0), x: axis(1) }].into(),
            transposed: false,
        }
    }

    /// `input` is the image before it was flattened.
    pub fn linear(op: &Linear, input: [usize; 4]) -> Problem {
        let axis = |a: usize| Axis::conv(input[2 + a], 1, input[2 + a], 1, 0, 1);
        Problem {
            batch: input[0],
            in_channels: input[1],
            out_channels: op.features,
            groups: 1,
            kernel: [input[2], input[3]],
            phases: [Geometry { y: axis(0), x: axis(1) }].into(),
            transposed: false,
        }
    }

    pub fn conv_transpose(op: &ConvTranspose2d, input: [usize; 4], output: [usize; 4]) -> Problem {
        let axis = |a: usize, r: usize| {
            let (k, s, p, d) = (op.kernel[a], op.stride[a], op.pad[a], op.dilation[a]);
            Axis::transposed(input[2 + a], output[2 + a], k, s, p, d, r)
        };
        let rows = op.stride[0].min(output[2]);
        let columns = op.stride[1].min(output[3]);
        let phases = (0..rows)
            .flat_map(|ry| (0..columns).map(move |rx| (ry, rx)))
            .map(|(ry, rx)| Geometry { y: axis(0, ry), x: axis(1, rx) })
            .collect();
        Problem {
            batch: input[0],
            in_channels: input[1],
            out_channels: output[1],
            groups: op.groups,
            kernel: op.kernel,
            phases,
            transposed: true,
        }
    }

    pub fn in_per_group(&self) -> usize {
        self.in_channels / self.groups
    }

    pub fn out_per_group(&self) -> usize {
        self.out_channels / self.groups
    }

    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.in_per_group() == 1 && self.out_per_group() == 1 && !self.transposed
    }

    /// The first input channel of an output channel's group.
    pub fn first_input(&self, out_channel: usize) -> usize {
        out_channel / self.out_per_group() * self.in_per_group()
    }

    /// Channels of a group, where several groups of several channels share a block.
    pub fn small_group(&self, unit: Unit) -> Option<usize> {
        let group = self.out_per_group();
        let fits = self.groups > 1 && group == self.in_per_group() && !self.transposed;
        (fits && group > 1 && group < unit.lanes && unit.lanes.is_multiple_of(group)).then_some(group)
    }

    /// Index into the stored weight, or `None` where the channels are in different groups.
    pub fn weight_index(&self, oc: usize, ic: usize, ky: usize, kx: usize) -> Option<usize> {
        let (ipg, opg) = (self.in_per_group(), self.out_per_group());
        if oc >= self.out_channels || ic >= self.in_channels || oc / opg != ic / ipg {
            return None;
        }
        let channels = if self.transposed { ic * opg + oc % opg } else { oc * ipg + ic % ipg };
        Some((channels * self.kernel[0] + ky) * self.kernel[1] + kx)
    }

    /// Channel blocks that read the same input channels: those of a group, where groups are made
    /// of whole blocks; else all.
    pub fn blocks_together(&self, unit: Unit) -> usize {
        if self.groups > 1 && self.out_per_group() % unit.lanes == 0 {
            self.out_per_group() / unit.lanes
        } else {
            self.out_channels.div_ceil(unit.lanes)
        }
    }

    /// First input block that a tile of output blocks reads, where the input comes in blocks of
    /// `in_lanes` channels and every tile reads `count` of them.
    pub fn first_in_block(&self, out_block: usize, unit: Unit, in_lanes: usize, count: usize) -> usize {
        let channel = out_block * unit.lanes / self.out_per_group() * self.in_per_group();
        (channel / in_lanes).min(self.in_channels.div_ceil(in_lanes) - count)
    }

    /// The input channels that a block of output channels reads: those of all groups that it meets.
    pub fn input_span(&self, out_block: usize, unit: Unit) -> Range<usize> {
        let (first, end) = (out_block * unit.lanes, ((out_block + 1) * unit.lanes).min(self.out_channels));
        self.first_input(first)..self.first_input(end - 1) + self.in_per_group()
    }

    /// Where groups are not made of whole blocks: how many output blocks, and how many input blocks, lie
    /// between two that meet their groups alike. `None` where the blocks are many or not so made.
    pub fn period(&self, unit: Unit) -> Option<[usize; 2]> {
        const MOST: usize = 32;
        if self.groups == 1 || self.out_per_group() % unit.lanes == 0 {
            return None;
        }
        let inputs = |blocks: usize| blocks * unit.lanes / self.out_per_group() * self.in_per_group();
        let alike = |&blocks: &usize| {
            (blocks * unit.lanes).is_multiple_of(self.out_per_group()) && inputs(blocks).is_multiple_of(unit.lanes)
        };
        (1..=MOST).find(alike).map(|blocks| [blocks, inputs(blocks) / unit.lanes])
    }

    /// Input blocks that a tile of `blocks` output blocks reads at most.
    pub fn in_blocks(&self, blocks: usize, unit: Unit, in_lanes: usize) -> usize {
        if self.groups == 1 {
            return self.in_channels.div_ceil(in_lanes);
        }
        let (ipg, opg) = (self.in_per_group(), self.out_per_group());
        let tile = blocks * unit.lanes;
        (0..self.out_channels.div_ceil(tile))
            .map(|t| {
                let first_group = t * tile / opg;
                let last_group = (((t + 1) * tile).min(self.out_channels) - 1) / opg;
                ((last_group + 1) * ipg).div_ceil(in_lanes) - first_group * ipg / in_lanes
            })
            .max()
            .unwrap_or(1)
    }

    /// 1×1 with stride 1 and no padding.
    pub fn is_pointwise(&self) -> bool {
        let unit_axis = |a: &Axis| {
            a.taps.count == 1 && a.taps.first == 0 && a.taps.step == 1 && a.output_step == 1 && a.output == a.input
        };
        matches!(&*self.phases, [g] if unit_axis(&g.y) && unit_axis(&g.x))
    }

    /// Multiply-accumulates, padding included.
    pub fn macs(&self) -> f64 {
        let per_channel: usize =
            self.phases.iter().map(|g| g.y.output * g.x.output * g.y.taps.count * g.x.taps.count).sum();
        (self.batch * self.out_channels * self.in_per_group() * per_channel) as f64
    }
}

/// How the pixels of a direct convolution are walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Rows of the image.
    Rows,
    /// A 1×1 convolution's pixels as an image of another height and width.
    Image { height: usize, width: usize },
    /// The images of the batch are the pixels: linear layers.
    Batch,
}

/// The direct kernel's choices: a tile of `pixels × blocks` accumulators in registers.
#[derive(Clone, Debug, PartialEq)]
pub struct Direct {
    pub problem: Problem,
    /// Most pixels in a tile; a row is split into tiles of nearly equal size.
    pub pixels: usize,
    /// Channel blocks in a tile.
    pub blocks: usize,
    pub fold: Fold,
}

/// A Winograd convolution F(m×m, r×r) of stride 1 or 2, or of each phase of a transposed one: tiles of
/// m×m outputs, transformed and multiplied in blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Winograd {
    pub problem: Problem,
    /// Outputs along each axis of a tile.
    pub m: usize,
    /// Tiles that are transformed and multiplied at a time.
    pub tiles: usize,
    /// Accumulators of the products: tiles × channel blocks.
    pub pixels: usize,
    pub blocks: usize,
}

impl Winograd {
    pub fn stride(&self) -> usize {
        self.problem.phases[0].x.taps.step
    }

    /// Taps along each axis: those of a phase, where the convolution is transposed.
    pub fn taps(&self) -> usize {
        self.problem.phases[0].y.taps.count
    }

    /// Products along each axis of a tile, and inputs of its window.
    pub fn alpha(&self) -> usize {
        self.stride() * (self.m - 1) + self.taps()
    }

    /// Weights along each axis of a tile. Where the last of the classes into which a stride divides
    /// the taps has a single one, its m products share their weight.
    pub fn distinct(&self) -> usize {
        let shared = if self.taps() < 2 * self.stride() { self.m - 1 } else { 0 };
        self.alpha() - shared
    }

    /// Tiles along each axis of an image.
    pub fn grid(&self, phase: &Geometry) -> [usize; 2] {
        [phase.y.output.div_ceil(self.m), phase.x.output.div_ceil(self.m)]
    }

    /// Tiles of the whole batch, of the phase that has the most.
    pub fn most_tiles(&self) -> usize {
        let [h, w] = self.grid(&self.problem.phases[0]);
        self.problem.batch * h * w
    }
}

/// Splits `width` positions into the fewest tiles of at most `most`, of nearly equal size, the
/// larger ones first.
pub fn split(width: usize, most: usize) -> Vec<usize> {
    let tiles = width.div_ceil(most.max(1)).max(1);
    (0..tiles).map(|i| width / tiles + usize::from(i < width % tiles)).collect()
}

/// Whether the last block's channels lie in the lower half of a vector, where leaving out the upper
/// half saves time.
pub fn half_filled(channels: usize, unit: Unit) -> bool {
    unit.halves && (1..=unit.lanes / 2).contains(&(channels % unit.lanes))
}

/// Cycles of one tap of one tile: multiply-adds against loads. `blocks` may end in a half.
fn tap_cycles(pixels: usize, blocks: f64, core: &Core) -> f64 {
    let multiply = pixels as f64 * blocks / core.vectors;
    let load = blocks / core.vectors + pixels as f64 / core.broadcasts;
    multiply.max(load).max(core.tap)
}

/// Most pixels of a tile with that many channel blocks: accumulators and weights, and one broadcast or,
/// where a lane is a factor, each pixel's channels.
pub fn most_pixels(blocks: usize, unit: Unit) -> usize {
    match unit.multiply_by_lane {
        true => (unit.registers - blocks) / (blocks + 1),
        false => (unit.registers - blocks - 1) / blocks,
    }
}

/// The direct tiles that fit the problem, with estimates in nanoseconds; at least one.
pub fn direct_candidates(problem: &Problem, target: &Target) -> Vec<(Direct, f64)> {
    let unit = target.unit;
    let out_blocks = problem.blocks_together(unit);
    // Tiles of a grouped convolution stay within a group; where a block holds several groups, one
    // block at a time keeps the products with other groups' channels few.
    let allowed = |blocks: usize| match problem.groups {
        1 => true,
        _ if problem.out_per_group() % unit.lanes == 0 => out_blocks % blocks == 0,
        _ => blocks == 1,
    };
    let mut candidates = vec![];
    for fold in folds(problem) {
        let most_blocks = unit.registers.div_ceil(4);
        for blocks in (1..=out_blocks.min(most_blocks)).filter(|&b| allowed(b)) {
            let pixels = most_pixels(blocks, unit).min(28);
            if pixels == 0 {
                continue;
            }
            let direct = Direct { problem: problem.clone(), pixels, blocks, fold };
            let cycles = direct_cycles(&direct, out_blocks, target) * uneven(&direct_tasks(&direct, out_blocks, unit));
            candidates.push((direct, target.core.nanoseconds(cycles)));
        }
    }
    candidates
}

/// Of bringing a plain input into blocks, in nanoseconds.
pub fn convert_cost(problem: &Problem, target: &Target) -> f64 {
    let (g, unit) = (&problem.phases[0], target.unit);
    let blocks = problem.in_channels.div_ceil(unit.lanes);
    target.core.nanoseconds(1.5 * (problem.batch * blocks * unit.lanes * g.y.input * g.x.input) as f64)
}

/// The m for which there is an F(m×m, r×r) of the problem's taps and stride. Groups must consist of
/// whole blocks.
fn winograd_sizes(p: &Problem, unit: Unit) -> &'static [usize] {
    let first = &p.phases[0];
    let (taps, step) = (first.y.taps.count, first.y.taps.step);
    let fits = |a: &Axis| a.taps.distance == 1 && a.taps.count == taps && a.taps.step == step;
    let whole = |channels: usize| channels.is_multiple_of(unit.lanes);
    let grouped = p.groups > 1 && (p.transposed || !whole(p.in_per_group()) || !whole(p.out_per_group()));
    if grouped || !p.phases.iter().all(|g| fits(&g.y) && fits(&g.x)) {
        return &[];
    }
    match (taps, step) {
        (3, 1) => &[2, 4, 6],
        (2 | 5, 1) => &[2, 4],
        (3 | 4, 2) => &[2, 3, 4],
        _ => &[],
    }
}

/// The blocks of tiles of each F(m×m, r×r) that fits the problem, with estimates in nanoseconds.
pub fn winograd_candidates(problem: &Problem, target: &Target) -> Vec<(Winograd, f64)> {
    winograd_sizes(problem, target.unit).iter().flat_map(|&m| tile_blocks(problem, m, target)).collect()
}

fn tile_blocks(problem: &Problem, m: usize, target: &Target) -> Vec<(Winograd, f64)> {
    let unit = target.unit;
    let out_blocks = problem.out_channels.div_ceil(unit.lanes);
    let mut candidates: Vec<(Winograd, f64)> = vec![];
    let together = problem.blocks_together(unit);
    for blocks in (1..=together.min(4)).filter(|b| problem.groups == 1 || together % b == 0) {
        let pixels = most_pixels(blocks, unit).min(28);
        for rows in 1..=4 {
            let mut w = Winograd { problem: problem.clone(), m, tiles: 1, pixels, blocks };
            let total = w.most_tiles();
            // Blocks of equal size: the last one is not much smaller than the others.
            let count = total.div_ceil(rows * pixels);
            w.tiles = total.div_ceil(count);
            if candidates.iter().all(|(other, _)| *other != w) {
                let cycles = winograd_cycles(&w, out_blocks, target) * uneven(&winograd_tasks(&w, out_blocks));
                candidates.push((w, target.core.nanoseconds(cycles)));
            }
        }
    }
    candidates
}

/// A model runs on any number of threads. Of kernels that take nearly the same time on one, those are
/// better whose tasks can be divided evenly among several: that counts as a factor, a little above 1.
fn uneven(tasks: &[TaskCost]) -> f64 {
    1.0 + 0.1 * (imbalance(tasks, 2) - 1.0) + 0.05 * (imbalance(tasks, 4) - 1.0)
}

/// The tasks of full sets of channel blocks and of the rest, as the kernels will number them.
fn direct_tasks(direct: &Direct, out_blocks: usize, unit: Unit) -> Vec<TaskCost> {
    let p = &direct.problem;
    let half = p.groups == 1 && half_filled(p.out_channels, unit);
    let sets = BlockSets::of(out_blocks, direct.blocks, half);
    let group_sets = if p.groups > 1 && p.out_per_group() == out_blocks * unit.lanes { p.groups } else { 1 };
    let mut tasks = vec![];
    for g in p.phases.iter() {
        let rows = match direct.fold {
            Fold::Rows => g.y.output * p.batch,
            Fold::Image { height, .. } => height * p.batch,
            Fold::Batch => 1,
        };
        let taps = (g.y.taps.count * g.x.taps.count) as f64;
        tasks.extend(sets.iter().map(|s| (s.sets * group_sets * rows, s.work() * taps)));
    }
    tasks.into_iter().filter(|&(count, cost)| count > 0 && cost > 0.0).map(|(n, cost)| TaskCost::new(n, cost)).collect()
}

/// Sets of output blocks that are computed alike.
#[derive(Clone, Copy, Debug)]
pub struct BlockSets {
    /// Blocks of a set.
    pub blocks: usize,
    pub sets: usize,
    /// The last block is computed by half vectors.
    pub half: bool,
}

impl BlockSets {
    /// The output's blocks in sets of `set` and one of what is left, which has the last block where
    /// that is half filled.
    pub fn of(out_blocks: usize, set: usize, half: bool) -> Vec<BlockSets> {
        let (sets, rest) = match out_blocks % set {
            0 if half => (out_blocks / set - 1, set),
            rest => (out_blocks / set, rest),
        };
        let full = BlockSets { blocks: set, sets, half: false };
        let last = BlockSets { blocks: rest, sets: 1, half };
        [full, last].into_iter().filter(|s| s.blocks > 0 && s.sets > 0).collect()
    }

    fn work(&self) -> f64 {
        work(self.blocks, self.half)
    }
}

/// Blocks' worth of arithmetic in so many blocks.
pub fn work(blocks: usize, half: bool) -> f64 {
    blocks as f64 - if half { 0.5 } else { 0.0 }
}

fn winograd_tasks(w: &Winograd, out_blocks: usize) -> Vec<TaskCost> {
    let (sets, rest) = (out_blocks / w.blocks, out_blocks % w.blocks);
    let block = [TaskCost::new(sets, w.blocks as f64), TaskCost::new(usize::from(rest > 0), rest as f64)];
    let blocks = (w.most_tiles() * w.problem.phases.len()).div_ceil(w.tiles);
    let block: Vec<TaskCost> = block.into_iter().filter(|c| c.tasks > 0).collect();
    match block.as_slice() {
        [same] => vec![TaskCost { tasks: same.tasks * blocks as u32, ..*same }],
        // Many blocks of tiles can be divided whatever their sets cost.
        sets => sets.repeat(blocks.min(16)),
    }
}

fn winograd_cycles(w: &Winograd, out_blocks: usize, target: &Target) -> f64 {
    let (p, unit, core) = (&w.problem, target.unit, &target.core);
    let products = (w.alpha() * w.alpha()) as f64;
    let total = (w.most_tiles() * p.phases.len()) as f64;
    let tile_blocks = total / w.tiles as f64;
    let in_blocks = p.in_channels.div_ceil(unit.lanes) as f64;
    // Loads, sums and stores of the transforms, by element.
    let input = total * in_blocks * products * core.transform;
    let output = total * out_blocks as f64 * products * core.transform;
    let sets = work(out_blocks, half_filled(p.out_channels, unit)) / w.blocks as f64;
    let taps = p.in_per_group() as f64;
    let product_tile: f64 = split(w.tiles, w.pixels)
        .into_iter()
        .map(|t| taps * tap_cycles(t, w.blocks as f64, core) + 40.0 + 2.0 * (t * w.blocks) as f64)
        .sum();
    // Short sums of small groups do not hide how a product's weights begin to arrive.
    let start = if p.groups > 1 { 150.0 } else { 0.0 };
    let mut multiply = tile_blocks * sets * products * (product_tile + start);
    // Transformed inputs of a block of tiles are read once a set, a few lines at a time, which shows even
    // while they fit the second-level cache.
    let transformed = products * w.tiles as f64 * p.in_per_group() as f64 * 4.0;
    let fits = transformed * (p.groups as f64) < target.caches.l2 as f64 * 0.8;
    multiply += tile_blocks * sets * transformed / if fits { core.l2 / 2.0 } else { core.l3 };
    let weights = (p.phases.len() * w.distinct() * w.distinct() * p.in_per_group() * p.out_channels) as f64 * 4.0;
    let stream = if weights > target.caches.l2 as f64 * 0.5 { weights * tile_blocks / core.l3 * 0.3 } else { 0.0 };
    input + output + (multiply + stream).max(weights / core.memory + 0.1 * multiply)
}

fn folds(problem: &Problem) -> Vec<Fold> {
    let g = &problem.phases[0];
    let single = problem.phases.len() == 1 && g.y.output == 1 && g.x.output == 1;
    // From its first pixel on: a transposed convolution may crop to one that lies further in.
    let covers = |a: &Axis| a.taps.first == 0 && (0..a.taps.count).all(|k| a.in_bounds(0, k));
    let inside = single && covers(&g.y) && covers(&g.x);
    if inside {
        return vec![Fold::Batch];
    }
    if !problem.is_pointwise() {
        return vec![Fold::Rows];
    }
    let pixels = g.y.output * g.x.output;
    let mut folds = vec![Fold::Rows];
    folds.extend(
        (1..=pixels.min(256)).filter(|w| pixels % w == 0).map(|w| Fold::Image { height: pixels / w, width: w }),
    );
    folds
}

fn direct_cycles(direct: &Direct, out_blocks: usize, target: &Target) -> f64 {
    let (p, unit, core) = (&direct.problem, target.unit, &target.core);
    let group_sets = p.out_channels.div_ceil(unit.lanes) / out_blocks;
    let in_channels = match p.groups {
        1 => p.in_channels,
        _ if p.period(unit).is_some() => {
            // On average.
            let blocks = p.out_channels.div_ceil(unit.lanes);
            (0..blocks).map(|b| p.input_span(b, unit).len()).sum::<usize>() / blocks
        }
        _ => p.in_blocks(direct.blocks, unit, unit.lanes) * unit.lanes,
    };
    let mut cycles = 0.0;
    for g in p.phases.iter() {
        let (height, width, images) = match direct.fold {
            Fold::Rows => (g.y.output, g.x.output, p.batch),
            Fold::Image { height, width } => (height, width, p.batch),
            Fold::Batch => (1, p.batch, 1),
        };
        let inside = if direct.fold == Fold::Rows { g.y.inside() * g.x.inside() } else { 1.0 };
        let taps = (in_channels * g.y.taps.count * g.x.taps.count) as f64;
        let half = group_sets == 1 && half_filled(p.out_channels, unit);
        for set in BlockSets::of(out_blocks, direct.blocks, half) {
            let BlockSets { blocks, sets, .. } = set;
            let row: f64 = split(width, direct.pixels)
                .into_iter()
                .map(|t| {
                    let start = 25.0 + 1.5 * (t * blocks) as f64;
                    let panel = taps * (blocks * unit.bytes()) as f64;
                    let stream = panel / if panel > target.caches.l2 as f64 * 0.4 { core.l3 } else { core.l2 };
                    (taps * inside * tap_cycles(t, set.work(), core) + start).max(stream)
                })
                .sum();
            let rows = (images * height * sets * group_sets) as f64;
            cycles += rows * (row + 20.0);
            // Every set of blocks reads the input again; beyond the second-level cache that shows.
            let input = (p.batch * p.in_per_group() * g.y.input * g.x.input * 4) as f64;
            if input > target.caches.l2 as f64 * 0.5 {
                cycles += (sets * group_sets) as f64 * input / core.l3 * 0.3;
            }
        }
    }
    let weights = (p.out_channels * p.in_per_group() * p.kernel[0] * p.kernel[1] * 4) as f64;
    // Where memory is the limit, the cheaper arithmetic still wins.
    cycles.max(weights / core.memory + 0.1 * cycles)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every output of a transposed axis gets every product exactly once.
    #[test]
    fn phases_cover_a_transposed_axis() {
        for (kernel, stride, pad, dilation, input) in
            [(4, 2, 1, 1, 5), (3, 3, 0, 1, 4), (5, 2, 2, 2, 6), (2, 3, 0, 1, 3)]
        {
            let output = (input - 1) * stride + dilation * (kernel - 1) + 1 - 2 * pad;
            let mut expected: Vec<(usize, usize, usize)> = (0..input)
                .flat_map(|i| (0..kernel).map(move |k| (i, k)))
                .filter_map(|(i, k)| {
                    let o = i * stride + k * dilation;
                    (o >= pad && o - pad < output).then(|| (o - pad, i, k))
                })
                .collect();
            let mut found = vec![];
            for r in 0..stride.min(output) {
                let axis = Axis::transposed(input, output, kernel, stride, pad, dilation, r);
                for q in 0..axis.output {
                    for tap in (0..axis.taps.count).filter(|&t| axis.in_bounds(q, t)) {
                        let o = axis.output_first + q * axis.output_step;
                        found.push((o, axis.taps.position(q, tap) as usize, axis.taps.kernel_index(tap)));
                    }
                }
            }
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "kernel {kernel} stride {stride} pad {pad} dilation {dilation}");
        }
    }

    #[test]
    fn rows_split_evenly() {
        assert_eq!(split(55, 14), [14, 14, 14, 13]);
        assert_eq!(split(7, 14), [7]);
        assert_eq!(split(15, 14), [8, 7]);
    }
}
