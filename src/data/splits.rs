//! Parts of a data set, and what makes up for classes of different sizes.

use super::dataset::Dataset;
use super::error::DataError;
use super::order::{Purpose, shuffle};

impl Dataset {
    /// What is trained on, and a share of the samples that is held out of it. Each class gives its share, chosen by the
    /// seed; both parts keep the order of the set. A class of two samples or more has some in both parts.
    ///
    /// # Errors
    /// Where the share is not between 0 and 1, or one of the parts would be empty.
    pub fn hold_out(&self, share: f64, seed: u64) -> Result<(Dataset, Dataset), DataError> {
        if !(share > 0.0 && share < 1.0) {
            return Err(DataError::Fit(format!(
                "a share of {share} cannot be held out: it is more than 0, less than 1"
            )));
        }
        let classes = if self.label_shape() == Some(&[]) { self.classes().len() } else { 1 };
        let mut by_class = vec![vec![]; classes];
        (0..self.len()).for_each(|i| by_class[self.class(i).unwrap_or(0)].push(i as u32));
        let (mut kept, mut held) = (vec![], vec![]);
        for (class, mut samples) in by_class.into_iter().enumerate() {
            shuffle(&mut samples, &mut Purpose::Split.draws(seed, [class as u32, 0, 0]));
            let count = match samples.len() {
                0 | 1 => 0,
                n => ((n as f64 * share).round() as usize).clamp(1, n - 1),
            };
            held.extend(samples.drain(..count));
            kept.extend(samples);
        }
        if held.is_empty() {
            let set = self.path().display();
            return Err(DataError::Fit(format!("nothing of {set} can be held out: no class has two samples")));
        }
        kept.sort_unstable();
        held.sort_unstable();
        Ok((self.subset(&kept), self.subset(&held)))
    }

    /// So many samples of the set, chosen by the seed, in the set's order.
    ///
    /// # Errors
    /// Where the set has fewer, or none are asked for.
    pub fn choose(&self, count: usize, seed: u64) -> Result<Dataset, DataError> {
        let (set, all) = (self.path().display(), self.len());
        if count == 0 || count > all {
            return Err(DataError::Fit(format!("{count} samples cannot be chosen from the {all} of {set}")));
        }
        let mut samples: Vec<u32> = (0..all as u32).collect();
        shuffle(&mut samples, &mut Purpose::Choice.draws(seed, [0; 3]));
        samples.truncate(count);
        samples.sort_unstable();
        Ok(self.subset(&samples))
    }

    /// Weights of the classes for a loss, the rarer the heavier: N / (C · n) for a class with n of the N samples. Their
    /// mean over the samples is 1. `None` where samples have no class each.
    ///
    /// # Errors
    /// Where a class has no sample.
    pub fn class_weights(&self, classes: usize) -> Result<Option<Vec<f32>>, DataError> {
        self.check_labels(classes, None)?;
        self.check_classes(classes)?;
        let Some(counts) = self.counts(classes) else { return Ok(None) };
        let weight = |&count: &usize| (self.len() as f64 / (counts.len() as f64 * count as f64)) as f32;
        Ok(Some(counts.iter().map(weight).collect()))
    }
}
