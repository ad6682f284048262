//! A network compiled for certain sizes of its inputs: what of a model is not shared with its other sizes.

use super::arena::Arenas;
use super::code::{Code, StepFunction};
use super::steps::Division;
use crate::artifact::{self, About, Manifest, Port};

/// A program of a model, ready to run.
pub(crate) struct Program {
    pub manifest: Manifest,
    pub about: About,
    pub functions: Vec<StepFunction>,
    pub arenas: Arenas,
    pub division: Division,
}

impl Program {
    /// A program whose manifest was checked, for a pool of so many threads.
    pub(super) fn new(program: artifact::Program, code: &Code, threads: usize) -> Self {
        let artifact::Program { manifest, about } = program;
        let functions = manifest.steps.iter().map(|s| code.function(s.entry).expect("the manifest was checked"));
        Self {
            functions: functions.collect(),
            arenas: Arenas::new(),
            division: Division::new(&manifest.steps, threads),
            manifest,
            about,
        }
    }

    /// As a file has it.
    #[cfg(feature = "compile")]
    pub(super) fn record(&self) -> artifact::Program {
        artifact::Program { manifest: self.manifest.clone(), about: self.about.clone() }
    }

    /// Images that are computed at once; 1 where one batch is everything.
    pub(super) fn batch(&self) -> usize {
        self.manifest.batched().unwrap_or(1)
    }

    /// Bytes that a run of so many threads takes besides the weights.
    pub(super) fn run_memory(&self, threads: usize) -> u64 {
        let manifest = &self.manifest;
        let bytes = |port: &Port| port.shape.iter().fold(4u64, |bytes, &d| bytes.saturating_mul(d as u64));
        let scratch = manifest.scratch_bytes.saturating_mul(threads as u64);
        let ports = manifest.ports().map(bytes).fold(0, u64::saturating_add);
        let arena = manifest.arena_bytes.saturating_add(manifest.state_bytes);
        arena.saturating_add(scratch).saturating_add(ports)
    }

    /// The planner's estimate of a run of one batch, in nanoseconds.
    pub(super) fn estimate_ns(&self) -> f64 {
        self.manifest.steps.iter().map(|step| step.estimate_ns).sum()
    }
}
