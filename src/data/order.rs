//! In which order the samples of an epoch come.

use crate::random::Draws;

/// What numbers are drawn for, beside those of a step's graph.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Order = 1,
    Augmentation = 2,
    Mixing = 3,
    Split = 4,
    Choice = 5,
}

impl Purpose {
    pub(super) fn draws(self, seed: u64, place: [u32; 3]) -> Draws {
        Draws::new(seed, self as u32, place)
    }
}

/// The numbers below `count` in an order that seed and epoch tell (Fisher and Yates; Durstenfeld 1964).
pub(super) fn shuffled(count: u32, seed: u64, epoch: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    shuffle(&mut order, &mut Purpose::Order.draws(seed, [epoch as u32, (epoch >> 32) as u32, 0]));
    order
}

pub(super) fn shuffle(items: &mut [u32], draws: &mut Draws) {
    for last in (1..items.len()).rev() {
        items.swap(last, draws.below(last as u32 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_permutations_by_seed_and_epoch() {
        let order = shuffled(1000, 1, 2);
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        assert_eq!(order, shuffled(1000, 1, 2));
        for other in [shuffled(1000, 2, 2), shuffled(1000, 1, 3), shuffled(1000, 1, 2 | 1 << 32)] {
            let same = order.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < 10, "{same} of 1000 stay in their place");
        }
        assert!(shuffled(0, 1, 1).is_empty() && shuffled(1, 1, 1) == [0]);
    }

    /// Each of the six orders of three is as likely as the others.
    #[test]
    fn no_order_is_more_likely() {
        let mut counts = std::collections::BTreeMap::<Vec<u32>, usize>::new();
        (0..6000).for_each(|epoch| *counts.entry(shuffled(3, 5, epoch)).or_default() += 1);
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (880..1120).contains(count)), "{counts:?}");
    }
}
