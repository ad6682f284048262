//! Measuring a run: times, memory, and inputs to run on.

use std::time::Duration;

use super::console::Console;
use crate::artifact::Port;
use crate::runtime::Model;
use crate::weights::SplitMix;

/// Sorted times of runs.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// # Panics
    /// Where there are none.
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "no run was measured");
        times.sort();
        Self(times)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds that a share of the runs did not exceed.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        millis(self.0[rank.clamp(1, self.0.len()) - 1])
    }

    pub(crate) fn min(&self) -> f64 {
        millis(self.0[0])
    }
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Seeded values between −1 and 1, of whole numbers between the least and the largest, for an input of `images` images.
pub(crate) fn random_input(port: &Port, batch: usize, images: usize) -> Vec<f32> {
    let elements = port.shape.iter().product::<usize>() / batch * images;
    let mut random = SplitMix(7);
    match port.element.integer_range() {
        None => (0..elements).map(|_| 2.0 * random.uniform() - 1.0).collect(),
        Some((low, high)) => {
            (0..elements).map(|_| (low as f32 + random.uniform() * (high - low) as f32).round()).collect()
        }
    }
}

/// Says which of a model's sizes is measured, where there are several: the first.
pub(crate) fn tell_size(model: &Model, console: Console) {
    let mut sizes = model.sizes();
    if let (count @ 2.., Some(first)) = (sizes.len(), sizes.next()) {
        console.note(format_args!("of the model's {count} sizes, this is {first}"));
    }
}

/// The most memory that this process has had resident, in bytes, where the system tells.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Forgets the peak so far, so that the next reading tells of what came after.
pub(crate) fn reset_peak_memory() {
    // Where the system does not offer it, the peak includes what came before.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let times = Times::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!([times.min(), times.percentile(0.5), times.percentile(0.99)], [1.0, 100.0, 198.0]);
        assert_eq!(Times::new(vec![Duration::from_millis(3)]).percentile(0.99), 3.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_told() {
        assert!(peak_memory().unwrap() > 1 << 20);
    }
}
