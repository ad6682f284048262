//! Winograd convolution: fewer multiplications by working on transformed tiles.
//!
//! Of bytes there is F(4×4, 3×3) of stride 1, whose products are of 16 bits, at half the rate of products of bytes: a quarter
//! of the products then takes half the time. Other sizes gain nothing: F(2×2, 3×3) has 4/9 of the products, and phases of
//! stride 2 have 9/16; the points of F(6×6, 3×3) and the sums of five taps leave 16 bits. It is exact, and a candidate where
//! [`Problem::largest_sum`] proves that.

use super::cost::{group_cycles, uneven};
use super::geometry::{Axis, Geometry};
use super::problem::Problem;
use super::tile::{half_filled, split, work};
use super::{Arithmetic, Family, OF_BF16};
use crate::balance::TaskCost;
use crate::target::{Target, Unit};

/// The points at which a Winograd convolution multiplies polynomials, the least rounding error first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Points {
    /// 0, ±1, ±2 and infinity, of whole numbers: there is no error.
    Whole,
    /// 0, ±1, ±i and infinity: seven products for a window of six.
    Complex,
    /// 0 and pairs of real numbers, and infinity: as many products as the window has inputs.
    Real,
}

impl Points {
    /// Inputs of a window with complex points.
    pub const WINDOW: usize = 6;
}

/// A Winograd convolution F(m×m, r×r) of stride 1 or 2, or of each phase of a transposed one: tiles of
/// m×m outputs, transformed and multiplied in blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Winograd {
    pub problem: Problem,
    /// In which transformed inputs and weights are multiplied: as the input lies in memory, or in f32.
    pub products: Arithmetic,
    /// Where polynomials are multiplied.
    pub points: Points,
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

    /// Inputs along each axis of a tile's window.
    pub fn window(&self) -> usize {
        self.stride() * (self.m - 1) + self.taps()
    }

    /// Products along each axis of a tile.
    pub fn alpha(&self) -> usize {
        self.window() + usize::from(self.points == Points::Complex)
    }

    /// Weights along each axis of a tile. Where the last of the classes into which a stride divides
    /// the taps has a single one, its m products share their weight.
    pub fn distinct(&self) -> usize {
        let shared = if self.taps() < 2 * self.stride() { self.m - 1 } else { 0 };
        self.alpha() - shared
    }

    /// Bytes of the transformed weights of so many output channels.
    pub fn weight_bytes(&self, channels: usize, unit: Unit) -> usize {
        let p = &self.problem;
        let element = self.products.factors(unit).element().bytes();
        p.phases.len() * self.distinct() * self.distinct() * p.in_per_group() * channels * element
    }

    /// Whether results are the definition's, to the last bit.
    pub fn is_exact(&self) -> bool {
        self.points == Points::Whole
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
    fn tasks(&self, out_blocks: usize) -> Vec<TaskCost> {
        let (sets, rest) = (out_blocks / self.blocks, out_blocks % self.blocks);
        let block = [TaskCost::new(sets, self.blocks as f64), TaskCost::new(usize::from(rest > 0), rest as f64)];
        let blocks = (self.most_tiles() * self.problem.phases.len()).div_ceil(self.tiles);
        let block: Vec<TaskCost> = block.into_iter().filter(|c| c.tasks > 0).collect();
        match block.as_slice() {
            [same] => vec![TaskCost { tasks: same.tasks * blocks as u32, ..*same }],
            // Many blocks of tiles can be divided whatever their sets cost.
            sets => sets.repeat(blocks.min(16)),
        }
    }

    fn cycles(&self, out_blocks: usize, block: usize, target: &Target) -> f64 {
        let (p, core) = (&self.problem, &target.core);
        let element = self.products.input().bytes() as f64;
        let products = (self.alpha() * self.alpha()) as f64;
        let total = (self.most_tiles() * p.phases.len()) as f64;
        let tile_blocks = total / self.tiles as f64;
        let in_blocks = p.in_channels.div_ceil(block) as f64;
        // Loads, sums and stores of the transforms, by element.
        let converted = if p.arithmetic == Arithmetic::Bf16 { CONVERTED } else { 1.0 };
        let input = total * in_blocks * products * core.transform * converted;
        let output = total * out_blocks as f64 * products * core.transform * converted;
        let sets = work(out_blocks, half_filled(p.out_channels, block, target.unit)) / self.blocks as f64;
        let taps = p.in_per_group().div_ceil(self.products.group()) as f64;
        let product_tile: f64 = split(self.tiles, self.pixels)
            .into_iter()
            .map(|t| {
                taps * group_cycles(self.products, t, self.blocks as f64, target)
                    + 40.0
                    + 2.0 * (t * self.blocks) as f64
            })
            .sum();
        // Short sums of small groups do not hide how a product's weights begin to arrive.
        let start = if p.groups > 1 { 150.0 } else { 0.0 };
        let mut multiply = tile_blocks * sets * products * (product_tile + start);
        // Transformed inputs of a block of tiles are read once a set, a few lines at a time, which shows even
        // while they fit the second-level cache.
        let transformed = products * self.tiles as f64 * p.in_per_group() as f64 * element;
        let fits = transformed * (p.groups as f64) < target.caches.l2 as f64 * 0.8;
        multiply += tile_blocks * sets * transformed / if fits { core.l2 / 2.0 } else { core.l3 };
        let weights = self.weight_bytes(p.out_channels, target.unit) as f64;
        let stream = if weights > target.caches.l2 as f64 * 0.5 { weights * tile_blocks / core.l3 * 0.3 } else { 0.0 };
        input + output + (multiply + stream).max(weights / core.memory + 0.1 * multiply)
    }
}

impl Family for Winograd {
    /// The blocks of tiles of each F(m×m, r×r) that fits.
    fn candidates(problem: &Problem, block: usize, target: &Target) -> Vec<(Winograd, f64)> {
        let (f32, bf16) = (Arithmetic::F32, Arithmetic::Bf16);
        let forms: &[(Arithmetic, Points)] = match problem.arithmetic {
            Arithmetic::Bf16 => &[(bf16, Points::Real), (bf16, Points::Complex), (f32, Points::Real)],
            Arithmetic::Bytes { .. } | Arithmetic::I16 => &[OF_BYTES],
            Arithmetic::F32 | Arithmetic::WholeWeights => &[(f32, Points::Real)],
        };
        let of = |&form: &(Arithmetic, Points)| {
            sizes(problem, form, block).iter().flat_map(move |&m| tile_blocks(problem, form, m, block, target))
        };
        forms.iter().flat_map(of).collect()
    }

    fn name(&self) -> String {
        name(self.products, self.points, self.m)
    }

    fn describe(&self) -> String {
        format!("{} {} tiles {}x{}", self.name(), self.tiles, self.pixels, self.blocks)
    }
}

/// What kernels of such choices are called.
pub(crate) fn name(products: Arithmetic, points: Points, m: usize) -> String {
    let points = if points == Points::Complex { "c" } else { "" };
    let of = if products == Arithmetic::Bf16 { OF_BF16 } else { "" };
    format!("winograd{m}{points}{of}")
}

/// What transforms of bf16 take, which widen what they read and narrow what they store, beside what they take in f32.
const CONVERTED: f64 = 1.15;

/// What sums of bytes have to stay below: 2⁶ times a sum is taken from 32 bits. `codegen` has the proof beside the matrices,
/// and holds the plan to it.
const SUMS: u64 = 1 << 25;

/// The largest weight, without its sign, whose transform 16 bits hold.
pub(crate) const LARGEST_WEIGHT: i16 = i16::MAX / (12 * 12);

/// The largest sum of bytes by such weights, without its sign; `None` where a weight's transform may leave 16 bits.
pub(crate) fn largest_sum(p: &Problem, weights: &[f32]) -> Option<u64> {
    let holds = weights.iter().all(|w| w.abs() <= f32::from(LARGEST_WEIGHT));
    p.bound_of_sums(weights).filter(|_| holds)
}

/// How bytes are multiplied, and where.
const OF_BYTES: (Arithmetic, Points) = (Arithmetic::I16, Points::Whole);

/// Why a layer that else has a kernel of whole numbers has none: its sums may be too large.
pub(crate) fn objection(p: &Problem, block: usize) -> Option<String> {
    let sum = p.largest_sum?;
    (sum >= SUMS && wants_sums(p, block))
        .then(|| format!("winograd4 is exact for sums below {SUMS}; with the layer's weights they reach {sum}"))
}

/// Whether a kernel of whole numbers would fit, whatever sums are.
pub(crate) fn wants_sums(p: &Problem, block: usize) -> bool {
    p.arithmetic.is_of_levels() && !of_geometry(p, OF_BYTES, block).is_empty()
}

/// The m for which there is an F(m×m, r×r) that may be chosen.
fn sizes(p: &Problem, form: (Arithmetic, Points), block: usize) -> &'static [usize] {
    let is_proved = form != OF_BYTES || p.largest_sum.is_some_and(|sum| sum < SUMS);
    if is_proved { of_geometry(p, form, block) } else { &[] }
}

/// The m for which there is an F(m×m, r×r) of the problem's taps and stride. Groups must consist of
/// whole blocks of so many channels.
fn of_geometry(p: &Problem, (products, points): (Arithmetic, Points), block: usize) -> &'static [usize] {
    let first = &p.phases[0];
    let (taps, step) = (first.y.taps.count, first.y.taps.step);
    let fits = |a: &Axis| a.taps.distance == 1 && a.taps.count == taps && a.taps.step == step;
    let whole = |channels: usize| channels.is_multiple_of(block);
    // Levels are centred by one zero point; transposed ones, and weights of 8 bits alone, have no such kernel.
    let is_direct = !p.zeros.is_empty() || p.arithmetic == Arithmetic::WholeWeights;
    let is_direct = is_direct || p.arithmetic.is_of_levels() && p.transposed;
    let grouped = p.groups > 1 && (p.transposed || !whole(p.in_per_group()) || !whole(p.out_per_group()));
    if is_direct || grouped || !p.phases.iter().all(|g| fits(&g.y) && fits(&g.x)) {
        return &[];
    }
    match (taps, step) {
        (3, 1) if points == Points::Whole => &[4],
        _ if points == Points::Whole => &[],
        (3, 1) if points == Points::Complex => &[4],
        (5, 1) if points == Points::Complex => &[2],
        _ if points == Points::Complex => &[],
        // The larger the tile, the more its error: beyond some size bf16 has too few digits.
        (3, 1) if products == Arithmetic::Bf16 => &[2, 4],
        (3, 1) => &[2, 4, 6],
        (2 | 5, 1) => &[2, 4],
        (3 | 4, 2) => &[2, 3, 4],
        _ => &[],
    }
}

fn tile_blocks(
    problem: &Problem,
    (products, points): (Arithmetic, Points),
    m: usize,
    block: usize,
    target: &Target,
) -> Vec<(Winograd, f64)> {
    let unit = target.unit;
    let out_blocks = problem.out_channels.div_ceil(block);
    let mut candidates: Vec<(Winograd, f64)> = vec![];
    let together = problem.blocks_together(block);
    for blocks in (1..=together.min(4)).filter(|b| problem.groups == 1 || together % b == 0) {
        let pixels = products.most_pixels(blocks, unit).min(28);
        for rows in 1..=4 {
            let mut w = Winograd { problem: problem.clone(), products, points, m, tiles: 1, pixels, blocks };
            let total = w.most_tiles();
            // Blocks of equal size: the last one is not much smaller than the others.
            let count = total.div_ceil(rows * pixels);
            w.tiles = total.div_ceil(count);
            if candidates.iter().all(|(other, _)| *other != w) {
                let cycles = w.cycles(out_blocks, block, target) * uneven(&w.tasks(out_blocks));
                candidates.push((w, target.core.nanoseconds(cycles)));
            }
        }
    }
    candidates
}
