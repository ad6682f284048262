//! Direct convolution: all taps are added up while a tile of the output stays in registers.

use super::cost::{group_cycles, uneven};
use super::geometry::Axis;
use super::problem::Problem;
use super::tile::{BlockSets, half_filled, split};
use super::{Arithmetic, Family, OF_BF16};
use crate::balance::TaskCost;
use crate::target::{Target, Unit};

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

impl Family for Direct {
    const READS_PLAIN: bool = true;

    /// Every tile that fits; at least one.
    fn candidates(problem: &Problem, block: usize, target: &Target) -> Vec<(Direct, f64)> {
        let unit = target.unit;
        let out_blocks = problem.blocks_together(block);
        // Tiles of a grouped convolution stay within a group; where a block holds several groups, one
        // block at a time keeps the products with other groups' channels few.
        let allowed = |blocks: usize| match problem.groups {
            1 => true,
            _ if problem.out_per_group() % block == 0 => out_blocks % blocks == 0,
            _ => blocks == 1,
        };
        let mut candidates = vec![];
        for fold in folds(problem) {
            let most_blocks = unit.registers.div_ceil(4);
            for blocks in (1..=out_blocks.min(most_blocks)).filter(|&b| allowed(b)) {
                let pixels = problem.most_pixels(blocks, unit).min(28);
                if pixels == 0 {
                    continue;
                }
                let direct = Direct { problem: problem.clone(), pixels, blocks, fold };
                let cycles = direct.cycles(out_blocks, block, target) * uneven(&direct.tasks(out_blocks, block, unit));
                candidates.push((direct, target.core.nanoseconds(cycles)));
            }
        }
        candidates
    }

    fn name(&self) -> String {
        "direct".into()
    }

    fn describe(&self) -> String {
        let fold = match self.fold {
            Fold::Rows => String::new(),
            Fold::Image { height, width } => format!(" as {height}x{width}"),
            Fold::Batch => " over batch".into(),
        };
        let of = if self.problem.arithmetic == Arithmetic::Bf16 { OF_BF16 } else { "" };
        format!("direct{of} {}x{}{fold}", self.pixels, self.blocks)
    }
}

impl Direct {
    /// The tasks of full sets of channel blocks and of the rest, as the kernels will number them.
    fn tasks(&self, out_blocks: usize, block: usize, unit: Unit) -> Vec<TaskCost> {
        let p = &self.problem;
        let half = p.groups == 1 && half_filled(p.out_channels, block, unit);
        let sets = BlockSets::of(out_blocks, self.blocks, half);
        let group_sets = if p.groups > 1 && p.out_per_group() == out_blocks * block { p.groups } else { 1 };
        let mut tasks = vec![];
        for g in p.phases.iter() {
            let rows = match self.fold {
                Fold::Rows => g.y.output * p.batch,
                Fold::Image { height, .. } => height * p.batch,
                Fold::Batch => 1,
            };
            let taps = (g.y.taps.count * g.x.taps.count) as f64;
            tasks.extend(sets.iter().map(|s| (s.sets * group_sets * rows, s.work() * taps)));
        }
        tasks
            .into_iter()
            .filter(|&(count, cost)| count > 0 && cost > 0.0)
            .map(|(n, cost)| TaskCost::new(n, cost))
            .collect()
    }

    fn cycles(&self, out_blocks: usize, block: usize, target: &Target) -> f64 {
        let (p, core) = (&self.problem, &target.core);
        let factors = p.arithmetic.factors(target.unit);
        let element = p.arithmetic.input().bytes();
        // Cycles of a result: of levels its sum is scaled, clamped, rounded and narrowed.
        let finish = if p.arithmetic.is_of_levels() { 5.0 / core.vectors } else { 1.5 };
        let group_sets = p.out_channels.div_ceil(block) / out_blocks;
        let in_channels = match p.groups {
            1 => p.in_channels,
            _ if p.period(block).is_some() => {
                // On average.
                let blocks = p.out_channels.div_ceil(block);
                (0..blocks).map(|b| p.input_span(b, block).len()).sum::<usize>() / blocks
            }
            _ => p.in_blocks(self.blocks, [block; 2]) * block,
        };
        let mut cycles = 0.0;
        for g in p.phases.iter() {
            let (height, width, images) = match self.fold {
                Fold::Rows => (g.y.output, g.x.output, p.batch),
                Fold::Image { height, width } => (height, width, p.batch),
                Fold::Batch => (1, p.batch, 1),
            };
            let inside = if self.fold == Fold::Rows { g.y.inside() * g.x.inside() } else { 1.0 };
            let groups = in_channels.div_ceil(p.arithmetic.group());
            let taps = (groups * g.y.taps.count * g.x.taps.count) as f64;
            let half = group_sets == 1 && half_filled(p.out_channels, block, target.unit);
            for set in BlockSets::of(out_blocks, self.blocks, half) {
                let BlockSets { blocks, sets, .. } = set;
                let row: f64 = split(width, self.pixels)
                    .into_iter()
                    .map(|t| {
                        let start = 25.0 + finish * (t * blocks) as f64;
                        let vectors = blocks * p.arithmetic.vectors(target.unit);
                        let panel = taps * (vectors * factors.vector_bytes(target.unit)) as f64;
                        let stream = panel / if panel > target.caches.l2 as f64 * 0.4 { core.l3 } else { core.l2 };
                        (taps * inside * group_cycles(p.arithmetic, t, set.work(), target) + start).max(stream)
                    })
                    .sum();
                let rows = (images * height * sets * group_sets) as f64;
                cycles += rows * (row + 20.0);
                // Every set of blocks reads the input again; beyond the second-level cache that shows.
                let input = (p.batch * p.in_per_group() * g.y.input * g.x.input * element) as f64;
                if input > target.caches.l2 as f64 * 0.5 {
                    cycles += (sets * group_sets) as f64 * input / core.l3 * 0.3;
                }
            }
        }
        let weights = p.out_channels * p.in_per_group() * p.kernel[0] * p.kernel[1] * factors.element().bytes();
        // Where memory is the limit, the cheaper arithmetic still wins.
        cycles.max(weights as f64 / core.memory + 0.1 * cycles)
    }
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
