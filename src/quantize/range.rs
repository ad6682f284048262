//! From what was seen of a value to the range that its grid covers.

use super::histogram::Histogram;
use crate::ops::quantized::{Grid, Levels};

/// How the range of a value is chosen from what was seen of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Method {
    /// All that was seen.
    MinMax,
    /// All but one number in 10,000 at each end.
    Percentile,
    /// So that the numbers on the grid are distributed most like those that were seen: the least Kullback-Leibler
    /// divergence, as Migacz describes in "8-bit Inference with TensorRT" (GTC 2017).
    Entropy,
    /// So that the expected square of the error is the least: of rounding within the range, and of what lies beyond it.
    #[default]
    Mse,
}

/// The real numbers from `low` to `high`, 0 among them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    pub low: f64,
    pub high: f64,
}

/// The share of numbers that [`Method::Percentile`] cuts off at an end.
const CUT: f64 = 1e-4;
/// The finest scale: finer ones have reciprocals that are no finite number.
const FINEST: f64 = 1e-30;

impl Range {
    /// Of nothing but 0.
    pub(crate) const NONE: Range = Range { low: 0.0, high: 0.0 };

    fn new(low: f64, high: f64) -> Range {
        Range { low: low.min(0.0), high: high.max(0.0) }
    }

    /// The range of a value by a method.
    pub(crate) fn of(seen: &Histogram, method: Method) -> Range {
        if seen.total == 0 {
            return Range::NONE;
        }
        let all = Range::new(f64::from(seen.least), f64::from(seen.largest));
        match method {
            _ if seen.width == 0.0 => all,
            Method::MinMax => all,
            Method::Percentile => percentile(seen, all),
            Method::Entropy => entropy(seen, all),
            Method::Mse => mse(seen, all),
        }
    }

    /// The smallest range that holds both.
    pub(crate) fn hull(self, other: Range) -> Range {
        Range { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// The grid of these levels that covers the range; 0 is one of its numbers.
    pub(crate) fn grid(self, levels: Levels) -> Grid {
        let steps = (levels.high() - levels.low()) as f64;
        let scale = match (self.high - self.low) / steps {
            // Nothing but 0 was seen: any grid has it.
            0.0 => 1.0,
            scale => scale.clamp(FINEST, f64::from(f32::MAX)),
        };
        let scale = scale as f32;
        let zero = levels.low() as f64 - self.low / f64::from(scale);
        let zero = zero.round_ties_even().clamp(levels.low() as f64, levels.high() as f64);
        Grid { levels, scale, zero: zero as i64 }
    }
}

fn percentile(seen: &Histogram, all: Range) -> Range {
    let cut = CUT * seen.total as f64;
    // The place at which as many numbers have been passed as are cut off, within its interval by proportion.
    let end = |bins: &mut dyn Iterator<Item = (f64, u64)>, outward: f64| {
        let mut passed = 0.0;
        for (middle, count) in bins {
            if passed + count as f64 > cut {
                let share = (cut - passed) / count as f64;
                return middle + outward * seen.width * (0.5 - share);
            }
            passed += count as f64;
        }
        // So few numbers differ from 0 that none is needed.
        0.0
    };
    let filled: Vec<(f64, u64)> = seen.filled().collect();
    let low = end(&mut filled.iter().copied(), -1.0);
    let high = end(&mut filled.iter().rev().copied(), 1.0);
    Range::new(low.max(all.low), high.min(all.high))
}

/// Intervals of the distances from 0 among which [`entropy`] looks for an end.
const DISTANCES: usize = 2048;

fn entropy(seen: &Histogram, all: Range) -> Range {
    // With numbers of both signs, each has half of the levels.
    let two_sided = all.low < 0.0 && all.high > 0.0;
    let levels = if two_sided { 128 } else { 256 };
    let largest = all.high.max(-all.low);
    let width = largest / DISTANCES as f64;
    let mut distances = vec![0.0; DISTANCES];
    for (middle, count) in seen.filled() {
        distances[((middle.abs() / width) as usize).min(DISTANCES - 1)] += count as f64;
    }
    let divergences = (levels..=DISTANCES).map(|kept| (kept, divergence(&distances, kept, levels)));
    let best = divergences.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(DISTANCES, |(kept, _)| kept);
    let end = best as f64 * width;
    Range::new(all.low.max(-end), all.high.min(end))
}

/// The divergence of the first `kept` intervals, with all that lies beyond in the last of them, from the same rounded
/// to so many levels.
pub(crate) fn divergence(distances: &[f64], kept: usize, levels: usize) -> f64 {
    let mut reference = distances[..kept].to_vec();
    reference[kept - 1] += distances[kept..].iter().sum::<f64>();
    let total: f64 = reference.iter().sum();
    // What a level stands for is spread over those of its intervals that hold numbers.
    let mut rounded = vec![0.0; kept];
    for level in 0..levels {
        let part = level * kept / levels..(level + 1) * kept / levels;
        let (inside, holding) = (&distances[part.clone()], &reference[part.clone()]);
        let places = holding.iter().filter(|count| **count > 0.0).count();
        let share = inside.iter().sum::<f64>() / places.max(1) as f64;
        for (to, count) in rounded[part].iter_mut().zip(holding) {
            *to = if *count > 0.0 { share } else { 0.0 };
        }
    }
    let sum: f64 = rounded.iter().sum();
    if total == 0.0 || sum == 0.0 {
        return f64::INFINITY;
    }
    // A place where the reference has numbers and the rounded one has none differs without bound; it counts as one with
    // hardly any.
    const HARDLY: f64 = 1e-9;
    let pairs = reference.iter().zip(&rounded).filter(|(p, _)| **p > 0.0);
    pairs.map(|(p, q)| (p / total) * ((p / total) / (q / sum).max(HARDLY)).ln()).sum()
}

/// Ends that [`mse`] tries, as parts of the whole.
const TRIED: usize = 100;

fn mse(seen: &Histogram, all: Range) -> Range {
    let filled: Vec<(f64, u64)> = seen.filled().collect();
    let mut best = all;
    // Each end by itself, twice: the best place of one depends on the other.
    for _ in 0..2 {
        let of_low = |part: f64| Range { low: all.low * part, ..best };
        best = least_error(&filled, best, all.low < 0.0, of_low);
        let of_high = |part: f64| Range { high: all.high * part, ..best };
        best = least_error(&filled, best, all.high > 0.0, of_high);
    }
    best
}

fn least_error(filled: &[(f64, u64)], now: Range, is_there: bool, of: impl Fn(f64) -> Range) -> Range {
    if !is_there {
        return now;
    }
    let tried = (1..=TRIED).map(|part| of(part as f64 / TRIED as f64));
    let errors = tried.map(|range| (range, squared_error(filled, range)));
    errors.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(now, |(range, _)| range)
}

/// The sum of squares of the errors on the 8-bit grid of a range: those of rounding as if numbers lay anywhere between two
/// levels, and for numbers beyond an end, how far they are from it.
pub(crate) fn squared_error(filled: &[(f64, u64)], range: Range) -> f64 {
    let step = (range.high - range.low) / 255.0;
    let rounding = step * step / 12.0;
    let error = |v: f64| {
        let beyond = (range.low - v).max(v - range.high);
        if beyond > 0.0 { beyond * beyond } else { rounding }
    };
    filled.iter().map(|&(v, count)| count as f64 * error(v)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.add(values);
        histogram
    }

    #[test]
    fn all_that_was_seen_and_zero() {
        let range = |values| Range::of(&seen(values), Method::MinMax);
        assert_eq!(range(&[-1.0, 3.0]), Range { low: -1.0, high: 3.0 });
        assert_eq!(range(&[2.0, 3.0]), Range { low: 0.0, high: 3.0 });
        assert_eq!(range(&[-2.0, -1.0]), Range { low: -2.0, high: 0.0 });
        assert_eq!(range(&[0.0, 0.0]), Range::NONE);
    }

    #[test]
    fn grids_have_zero() {
        // 255 steps from −1 to 4.1 are of 0.02, and 50 of them lie below 0.
        let grid = Range { low: -1.0, high: 4.1 }.grid(Levels::U8);
        assert_eq!((grid.scale, grid.zero), (0.02, 50));
        let grid = Range { low: 0.0, high: 2.55 }.grid(Levels::U8);
        assert_eq!((grid.scale, grid.zero), (0.01, 0));
        let grid = Range { low: -5.1, high: 0.0 }.grid(Levels::U8);
        assert_eq!((grid.scale, grid.zero), (0.02, 255));
        assert_eq!(Range::NONE.grid(Levels::U8), Grid { levels: Levels::U8, scale: 1.0, zero: 0 });
        let huge = Range { low: -3.4e38, high: 3.4e38 }.grid(Levels::U8);
        assert!(huge.scale.is_finite());
        let tiny = Range { low: 0.0, high: 1e-45 }.grid(Levels::U8);
        assert!((1.0 / tiny.scale).is_finite());
    }

    /// Of 100,000 numbers, the ten largest go.
    #[test]
    fn a_ten_thousandth_is_cut_off() {
        let mut values: Vec<f32> = (0..99_990).map(|i| (i % 1000) as f32 / 1000.0).collect();
        values.extend([50.0; 10]);
        let range = Range::of(&seen(&values), Method::Percentile);
        assert!(range.low == 0.0 && (0.98..1.02).contains(&range.high), "{range:?}");
        // One more stays.
        values.extend([50.0; 2]);
        let range = Range::of(&seen(&values), Method::Percentile);
        assert!(range.high > 49.9, "{range:?}");
    }

    /// By hand: [4, 0, 2 | 1, 1 and beyond it 2] at two levels. The reference is [4, 0, 2, 1, 3] of 10; the levels hold
    /// (4 + 0)/1 in the first two, and (2 + 1 + 1)/3 in the last three, of 8.
    #[test]
    fn divergence_by_hand() {
        let distances = [4.0, 0.0, 2.0, 1.0, 1.0, 2.0];
        let found = divergence(&distances, 5, 2);
        let term = |p: f64, q: f64| p * (p / q).ln();
        let third = 4.0 / 3.0 / 8.0;
        let expected = term(0.4, 0.5) + term(0.2, third) + term(0.1, third) + term(0.3, third);
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        // What the levels hold exactly has no divergence.
        assert!(divergence(&[2.0, 2.0, 5.0, 5.0], 4, 2).abs() < 1e-12);
    }

    /// Two numbers in a hundred thousand are far away: everything finer pays for them.
    #[test]
    fn outliers_are_clipped() {
        let mut values: Vec<f32> = (0..100_000u64).map(|i| ((i * 7919) % 100_003) as f32 / 100_003.0).collect();
        values.extend([-40.0, 60.0]);
        for method in [Method::Entropy, Method::Percentile] {
            let range = Range::of(&seen(&values), method);
            assert!(range.high < 6.0 && range.low > -6.0, "{method:?} {range:?}");
        }
        // By the square of the error, 60 costs too much to be clipped; 6 among a million does not.
        let by_square = Range::of(&seen(&values), Method::Mse);
        assert!(by_square.high > 40.0, "{by_square:?}");
        let mut values: Vec<f32> = (0..1_000_000u64).map(|i| ((i * 7919) % 1_000_003) as f32 / 1_000_003.0).collect();
        values.push(6.0);
        let by_square = Range::of(&seen(&values), Method::Mse);
        assert!((1.0..3.0).contains(&by_square.high), "{by_square:?}");
    }

    /// Four numbers at 1, one at 10, the range to 5.1: steps of 0.02 within it, 4.9 beyond.
    #[test]
    fn errors_by_hand() {
        let found = squared_error(&[(1.0, 4), (10.0, 1)], Range { low: 0.0, high: 5.1 });
        assert!((found - (4.0 * 0.02 * 0.02 / 12.0 + 4.9 * 4.9)).abs() < 1e-12);
    }
}
