//! Random numbers by counting: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
//!
//! A number is a function of a key and a counter, so that it is the same whichever thread computes it, in whichever
//! order, and after a stop and resume. The key is the seed; the counter is made of the step, of which layer asks, and
//! of the element's place.

/// What the words of a counter are multiplied by.
pub(crate) const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What is added to the key after each round: the golden ratio and √3 − 1.
pub(crate) const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Random numbers of a counter, which those of neighbouring elements are.
pub(crate) const NUMBERS: usize = 4;
pub(crate) const ROUNDS: usize = 10;

/// Ten rounds.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let products = [0, 2].map(|i| u64::from(counter[i]) * u64::from(MULTIPLIERS[i / 2]));
        let [(high0, low0), (high1, low1)] = products.map(|product| ((product >> 32) as u32, product as u32));
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [0, 1].map(|i| key[i].wrapping_add(WEYL[i]));
    }
    counter
}

/// A number in 0 … 1, 1 excluded, of 24 bits: that of an element at a step.
pub fn uniform(seed: u64, stream: u32, step: u64, element: u64) -> f64 {
    // Four numbers a block. Streams of values with more than 2³⁴ elements, or of more than 2³² steps, would meet.
    let counter = [(element / 4) as u32, (element >> 34) as u32 ^ (step >> 32) as u32, step as u32, stream];
    let words = philox4x32(counter, [seed as u32, (seed >> 32) as u32]);
    f64::from(words[(element % 4) as usize] >> 8) / f64::from(1 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

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
