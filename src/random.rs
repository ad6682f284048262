//! Random numbers by counting: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
//!
//! A number is a function of a key and a counter, so that it is the same whichever thread computes it, in whichever
//! order, and after a stop and resume. In a step's graph, the key is the seed and the counter is made of the step, of
//! which layer asks, and of the element's place ([`uniform`]). What is drawn for data has keys and counters of its own
//! ([`Draws`]).

/// What the first and third word of a counter are multiplied by.
pub(crate) const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What is added to the key after each round: the golden ratio and √3 − 1.
pub(crate) const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

pub(crate) const ROUNDS: usize = 10;
/// Random words of a counter.
pub(crate) const WORDS: usize = 4;

/// Ten rounds.
pub(crate) fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let products = [0, 2].map(|i| u64::from(counter[i]) * u64::from(MULTIPLIERS[i / 2]));
        let [(high0, low0), (high1, low1)] = products.map(|product| ((product >> 32) as u32, product as u32));
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [0, 1].map(|i| key[i].wrapping_add(WEYL[i]));
    }
    counter
}

/// A number in 0 … 1, 1 excluded, of 24 bits: that of an element at a step.
pub(crate) fn uniform(seed: u64, stream: u32, step: u64, element: u64) -> f64 {
    // Four numbers a block. Streams of values with more than 2³⁴ elements, or of more than 2³² steps, would meet.
    let counter = [(element / 4) as u32, (element >> 34) as u32 ^ (step >> 32) as u32, step as u32, stream];
    let words = philox4x32(counter, [seed as u32, (seed >> 32) as u32]);
    f64::from(words[(element % 4) as usize] >> 8) / f64::from(1 << 24)
}

/// Numbers drawn one after the other at one place: the same for the same seed, purpose and place, whatever is drawn
/// elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    key: [u32; 2],
    place: [u32; 3],
    /// How many words were drawn.
    drawn: u32,
    block: [u32; 4],
}

impl Draws {
    /// `purpose` sets apart what is drawn with one seed; no two purposes have a key in common with each other or with
    /// [`uniform`], but by chance.
    pub(crate) fn new(seed: u64, purpose: u32, place: [u32; 3]) -> Self {
        let [high, low, ..] = philox4x32([purpose, !0, !0, !0], [seed as u32, (seed >> 32) as u32]);
        Self { key: [high, low], place, drawn: 0, block: [0; 4] }
    }

    fn word(&mut self) -> u32 {
        let within = (self.drawn % 4) as usize;
        if within == 0 {
            let [a, b, c] = self.place;
            self.block = philox4x32([self.drawn / 4, a, b, c], self.key);
        }
        self.drawn = self.drawn.wrapping_add(1);
        self.block[within]
    }

    /// In 0 … 1, 1 excluded.
    pub(crate) fn uniform(&mut self) -> f64 {
        let bits = u64::from(self.word()) << 32 | u64::from(self.word());
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In `low` … `high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// One of `0..n`, each as likely as the others (Lemire 2019, arXiv:1805.10941).
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        let unfair = n.wrapping_neg().checked_rem(n).unwrap_or(0);
        loop {
            let product = u64::from(self.word()) * u64::from(n);
            if product as u32 >= unfair {
                return (product >> 32) as u32;
            }
        }
    }

    /// Of mean 0 and deviation 1 (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// The logarithm of a number of the gamma distribution of this shape and scale 1 (Marsaglia and Tsang 2000). Small
    /// shapes give numbers that no f64 holds, hence the logarithm.
    fn log_gamma(&mut self, shape: f64) -> f64 {
        let boost = if shape < 1.0 { (1.0 - self.uniform()).ln() / shape } else { 0.0 };
        let d = if shape < 1.0 { shape + 1.0 } else { shape } - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let (x, u) = (self.normal(), 1.0 - self.uniform());
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d.ln() + v.ln() + boost;
            }
        }
    }

    /// Of Beta(α, α), α above 0.
    pub(crate) fn beta(&mut self, alpha: f64) -> f64 {
        let (a, b) = (self.log_gamma(alpha), self.log_gamma(alpha));
        1.0 / (1.0 + (b - a).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Purposes, seeds and each number of a place give other numbers; one place gives the same again.
    #[test]
    fn draws_are_told_by_their_place() {
        let drawn = |seed, purpose, place| {
            let mut draws = Draws::new(seed, purpose, place);
            [0; 9].map(|_| draws.word())
        };
        let base = drawn(1, 2, [3, 4, 5]);
        assert_eq!(base, drawn(1, 2, [3, 4, 5]));
        for other in [
            drawn(2, 2, [3, 4, 5]),
            drawn(1, 3, [3, 4, 5]),
            drawn(1, 2, [4, 4, 5]),
            drawn(1, 2, [3, 5, 5]),
            drawn(1, 2, [3, 4, 6]),
        ] {
            assert!(base.iter().zip(other).all(|(&a, b)| a != b));
        }
    }

    #[test]
    fn draws_have_their_distributions() {
        let mut draws = Draws::new(7, 0, [0; 3]);
        let mut bins = [0; 7];
        (0..70_000).for_each(|_| bins[draws.below(7) as usize] += 1);
        assert!(bins.iter().all(|&count| (9_600..10_400).contains(&count)), "{bins:?}");
        assert_eq!(draws.below(1), 0);
        let mut moments = |draw: &dyn Fn(&mut Draws) -> f64| {
            let values: Vec<f64> = (0..100_000).map(|_| draw(&mut draws)).collect();
            let mean = values.iter().sum::<f64>() / 1e5;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1e5)
        };
        let near = |(mean, variance): (f64, f64), expected: (f64, f64)| {
            assert!((mean - expected.0).abs() < 0.02 && (variance - expected.1).abs() < 0.02, "{mean} {variance}");
        };
        near(moments(&Draws::uniform), (0.5, 1.0 / 12.0));
        near(moments(&|d| d.between(-1.0, 3.0) / 2.0), (0.5, 1.0 / 3.0));
        near(moments(&Draws::normal), (0.0, 1.0));
        // Beta(α, α) has the variance 1 / (4 (2α + 1)).
        for alpha in [0.001, 0.2, 1.0, 5.0] {
            near(moments(&|d| d.beta(alpha)), (0.5, 0.25 / (2.0 * alpha + 1.0)));
        }
    }

    /// The vectors that come with the authors' implementation, Random123 (`kat_vectors`, philox4x32 10).
    #[test]
    fn known_answers() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([!0; 4], [!0; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32(counter, key), expected);
        }
    }

    /// Seed, stream, step and place each give other numbers, spread evenly.
    #[test]
    fn numbers_differ_and_are_uniform() {
        let base = |i| uniform(1, 2, 3, i);
        let others: [&dyn Fn(u64) -> f64; 4] =
            [&|i| uniform(1 << 32 | 1, 2, 3, i), &|i| uniform(1, 3, 3, i), &|i| uniform(1, 2, 4, i), &|i| {
                uniform(1, 2, 3, i + 1)
            }];
        for other in others {
            assert!((0..100).filter(|&i| base(i) == other(i)).count() < 3);
        }
        let mut bins = [0; 10];
        (0..100_000).for_each(|i| bins[(base(i) * 10.0) as usize] += 1);
        assert!(bins.iter().all(|&count| (9_500..10_500).contains(&count)), "{bins:?}");
    }
}
