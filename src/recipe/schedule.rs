//! Learning rates by time.

/// The learning rate as a factor of the optimizer's, by the share of the run that is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The curve.
    pub kind: ScheduleKind,
    /// Epochs in which the rate rises in a line from nearly 0 to what the curve says.
    pub warmup: f64,
}

/// The curve of a schedule. Times are in epochs.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleKind {
    /// 1.
    Constant,
    /// `gamma` to the power of the number of whole `every`.
    Step {
        /// Epochs.
        every: f64,
        /// Factor.
        gamma: f64,
    },
    /// `gamma` to the power of the number of milestones that have passed.
    MultiStep {
        /// Epochs, rising.
        milestones: Vec<f64>,
        /// Factor.
        gamma: f64,
    },
    /// `gamma` to the power of the number of whole epochs.
    Exponential {
        /// Factor.
        gamma: f64,
    },
    /// `(1 − t / T)^power`, by steps (Caffe's).
    Poly {
        /// Exponent.
        power: f64,
    },
    /// `floor + (1 − floor) · (1 + cos(π t / T)) / 2`, by steps, t and T without the warm-up.
    Cosine {
        /// Where it ends, as a share of the rate.
        floor: f64,
    },
    /// PyTorch's `OneCycleLR` with cosines: from `1 / div` to 1 within the share `rise` of the steps, then to
    /// `1 / (div · final_div)`. Smith and Topin 2017, arXiv:1708.07120.
    OneCycle {
        /// Share of the run in which the rate rises.
        rise: f64,
        /// The rate begins at this part of the highest.
        div: f64,
        /// The rate ends at this part of what it began at.
        final_div: f64,
    },
}

impl Schedule {
    /// The factor of the learning rate in step `step`, from 0, of a run of `steps` with `per_epoch` each epoch.
    pub fn rate(&self, step: u64, steps: u64, per_epoch: u64) -> f64 {
        let warmup = (self.warmup * per_epoch as f64).round();
        let at = step as f64;
        let after = match at < warmup {
            // PyTorch's LinearLR from a factor of 1 / (steps + 1) on.
            true => (at + 1.0) / (warmup + 1.0),
            false => 1.0,
        };
        after * self.kind.rate(at, steps as f64, per_epoch as f64, warmup)
    }
}

impl ScheduleKind {
    fn rate(&self, at: f64, steps: f64, per_epoch: f64, warmup: f64) -> f64 {
        let epoch = (at / per_epoch).floor();
        let cosine = |share: f64| (1.0 + (std::f64::consts::PI * share.clamp(0.0, 1.0)).cos()) / 2.0;
        match self {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Step { every, gamma } => gamma.powf((epoch / every).floor()),
            ScheduleKind::MultiStep { milestones, gamma } => {
                gamma.powi(milestones.iter().filter(|&&milestone| milestone <= epoch).count() as i32)
            }
            ScheduleKind::Exponential { gamma } => gamma.powf(epoch),
            ScheduleKind::Poly { power } => (1.0 - at / steps).max(0.0).powf(*power),
            ScheduleKind::Cosine { floor } => {
                let share = (at - warmup).max(0.0) / (steps - warmup).max(1.0);
                floor + (1.0 - floor) * cosine(share)
            }
            ScheduleKind::OneCycle { rise, div, final_div } => {
                let (top, last) = (rise * steps - 1.0, steps - 1.0);
                let between = |from: f64, to: f64, share: f64| to + (from - to) * cosine(share);
                match at <= top {
                    true => between(1.0 / div, 1.0, at / top.max(1.0)),
                    false => between(1.0, 1.0 / (div * final_div), (at - top) / (last - top).max(1.0)),
                }
            }
        }
    }
}
