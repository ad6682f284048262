//! How often a value takes which numbers, counted while they come: nothing is known of them before.

/// Intervals that numbers are counted in.
pub(crate) const BINS: usize = 4096;

/// Numbers, counted in intervals of equal width that together grow as wide as is needed.
///
/// Where a number lies outside, the intervals become twice as wide: each two neighbours are added up, so that no count is
/// ever divided. Zeros are counted apart. They are on every grid, and where a relu comes before they are half of all.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    pub least: f32,
    pub largest: f32,
    /// Numbers that are 0.
    pub zeros: u64,
    /// All numbers.
    pub total: u64,
    pub counts: Vec<u64>,
    /// Where the first interval begins.
    pub origin: f64,
    /// Of an interval; 0 until a number other than 0 was seen.
    pub width: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        let (least, largest) = (f32::INFINITY, f32::NEG_INFINITY);
        Self { least, largest, zeros: 0, total: 0, counts: vec![0; BINS], origin: 0.0, width: 0.0 }
    }
}

impl Histogram {
    /// Counts numbers, which are finite.
    pub(crate) fn add(&mut self, values: &[f32]) {
        if values.is_empty() {
            return;
        }
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        self.least = self.least.min(least);
        self.largest = self.largest.max(largest);
        self.total += values.len() as u64;
        self.reach(f64::from(least), f64::from(largest));
        if self.width == 0.0 {
            self.zeros += values.len() as u64;
            return;
        }
        let (origin, per_width) = (self.origin, 1.0 / self.width);
        for &v in values {
            if v == 0.0 {
                self.zeros += 1;
            } else {
                let at = (f64::from(v) - origin) * per_width;
                self.counts[(at as usize).min(BINS - 1)] += 1;
            }
        }
    }

    /// Makes the intervals hold two numbers.
    fn reach(&mut self, least: f64, largest: f64) {
        if self.width == 0.0 {
            if least == 0.0 && largest == 0.0 {
                return;
            }
            // Of one number only, the interval that it begins.
            let span = if least == largest { least.abs() } else { largest - least };
            (self.origin, self.width) = (least, span / BINS as f64);
        }
        while self.end() < largest {
            self.double(0);
        }
        while self.origin > least {
            self.origin -= BINS as f64 * self.width;
            self.double(BINS / 2);
        }
    }

    fn end(&self) -> f64 {
        self.origin + BINS as f64 * self.width
    }

    /// Makes intervals twice as wide; what they hold stands in one half from then on.
    fn double(&mut self, to: usize) {
        let pairs: Vec<u64> = self.counts.chunks(2).map(|pair| pair.iter().sum()).collect();
        self.counts.fill(0);
        self.counts[to..][..BINS / 2].copy_from_slice(&pairs);
        self.width *= 2.0;
    }

    /// The middle of each interval that holds numbers, and how many.
    pub(crate) fn filled(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let middle = |(i, &count): (usize, &u64)| (self.origin + (i as f64 + 0.5) * self.width, count);
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(middle)
    }

    /// The share of numbers in intervals that lie wholly below `low` or above `high`.
    pub(crate) fn outside(&self, low: f64, high: f64) -> f64 {
        let half = 0.5 * self.width;
        let is_beyond = |v: f64| v + half < low || v - half > high;
        let beyond: u64 = self.filled().filter(|(v, _)| is_beyond(*v)).map(|(_, count)| count).sum();
        beyond as f64 / self.total.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However numbers come, each is in an interval around it, and none is lost.
    #[test]
    fn intervals_double_to_both_sides() {
        let mut histogram = Histogram::default();
        let rounds: [&[f32]; 5] = [&[0.0, 0.0], &[1.0, 1.5], &[-3.0], &[0.0, 100.0], &[-1e6, 1e-3]];
        rounds.iter().for_each(|values| histogram.add(values));
        assert_eq!((histogram.least, histogram.largest), (-1e6, 100.0));
        assert_eq!((histogram.zeros, histogram.total), (3, 9));
        let counted: u64 = histogram.filled().map(|(_, count)| count).sum();
        assert_eq!(counted, 6);
        for &v in rounds.concat().iter().filter(|v| **v != 0.0) {
            let near = |(middle, _): (f64, u64)| (middle - f64::from(v)).abs() <= 0.5 * histogram.width + 1e-6;
            assert!(histogram.filled().any(near), "{v}");
        }
        // The three near 0 share an interval by now.
        assert!(histogram.width > 100.0 && histogram.width < 1000.0);
    }

    #[test]
    fn one_number_is_an_interval() {
        let mut histogram = Histogram::default();
        histogram.add(&[-2.0; 7]);
        assert_eq!(histogram.filled().map(|(_, count)| count).collect::<Vec<_>>(), [7]);
        assert_eq!(histogram.outside(-3.0, 0.0), 0.0);
        assert_eq!(histogram.outside(-1.0, 0.0), 1.0);
    }
}
