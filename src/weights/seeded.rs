//! Seeded initialisation: the same values for the same seed, name and shape, on any machine and
//! with any number of threads.

use crate::ops::Init;
use crate::parallel;
use crate::tensor::Shape;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Elements that one independent stream of random numbers fills.
const CHUNK: usize = 1 << 14;

pub(crate) fn generate(seed: u64, name: &str, shape: &Shape, init: Init) -> Vec<f32> {
    let mut values = vec![0.0f32; shape.elements()];
    let stream = xxh3_64_with_seed(name.as_bytes(), seed);
    match init {
        Init::Constant(c) => values.fill(c),
        Init::Normal { mean, std } => fill(&mut values, stream, |r| mean + r.normal() * std),
        Init::Uniform { low, high } => fill(&mut values, stream, |r| low + r.uniform() * (high - low)),
        Init::He { fan_in } => {
            let std = (2.0 / fan_in.max(1) as f32).sqrt();
            fill(&mut values, stream, |r| r.normal() * std);
        }
        Init::Xavier { fan_in, fan_out } => {
            let bound = (6.0 / (fan_in + fan_out).max(1) as f32).sqrt();
            fill(&mut values, stream, |r| (2.0 * r.uniform() - 1.0) * bound);
        }
    }
    if shape.element().integer_range().is_some() {
        parallel::shared(|| values.par_iter_mut().for_each(|v| *v = v.round_ties_even()));
    }
    values
}

fn fill(values: &mut [f32], stream: u64, draw: impl Fn(&mut SplitMix) -> f32 + Sync) {
    let fill = |(i, chunk): (usize, &mut [f32])| {
        let mut random = SplitMix(stream ^ (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        chunk.iter_mut().for_each(|v| *v = draw(&mut random));
    };
    parallel::shared(|| values.par_chunks_mut(CHUNK).enumerate().for_each(fill));
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, fast, good enough for initial weights.
pub(crate) struct SplitMix(pub u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// In 0..n, for n small against 2⁶⁴.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Mean 0, variance 1: the sum of four 16-bit uniforms (Irwin-Hall), within ±3.46 deviations.
    pub(crate) fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u32 = (0..4).map(|i| (bits >> (16 * i)) as u16 as u32).sum();
        (sum as f32 / 65536.0 - 2.0 + 2.0 / 65536.0) * 3f32.sqrt()
    }
}
