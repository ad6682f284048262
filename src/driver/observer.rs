//! Who is told how far a compilation is, and in which words. The driver itself shows nothing.

use std::sync::Arc;

use super::Compiler;
use crate::ir::Remark;

/// What is being done, for whoever shows progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The text is read, or the model.
    Front,
    /// Weights get their values.
    Weights,
    /// The passes run.
    Optimize,
    /// Kernels are measured.
    Tune,
    /// Code is made, and weights are packed.
    Generate,
    /// The compiled file gets its place.
    Write,
}

/// What an observer is told.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A stage begins.
    Begin(Stage),
    /// Part of the stage is done.
    Progress {
        /// Rounds of measurements that are done.
        done: usize,
        /// Rounds in all.
        of: usize,
    },
    /// What code generation found out.
    Remark(&'a Remark),
}

/// Somebody who is told what goes on.
#[derive(Clone)]
pub struct Observer(pub Arc<dyn Fn(Event) + Send + Sync>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

impl Compiler {
    pub(super) fn begin(&self, stage: Stage) {
        self.tell(Event::Begin(stage));
    }

    pub(super) fn tell(&self, event: Event) {
        if let Some(Observer(observer)) = &self.observer {
            observer(event);
        }
    }
}
