//! Who is told how far a compilation is, and in which words. The driver itself shows nothing.

use std::sync::Arc;

use super::{Compiler, Warning};
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
    /// Something that is likely not meant, once the weights are read.
    Warning(&'a Warning),
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
    /// Calls `tell` with each [`Warning`] of a network that this compiles, in place of whoever was told before.
    ///
    /// ```
    /// # #[cfg(not(feature = "compile"))] fn main() {}
    /// # #[cfg(feature = "compile")] fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::{Arc, Mutex};
    ///
    /// use netc::{Compiler, NetworkSource};
    ///
    /// let text = "netc 1  model m(spare = 1) { input x: f32[N, 1, 4, 4]  relu  output y }".to_string();
    /// let told = Arc::new(Mutex::new(vec![]));
    /// let list = told.clone();
    /// let compiler = Compiler::new().on_warning(move |warning| list.lock().unwrap().push(warning.code()));
    /// NetworkSource::Text { name: "m.net".into(), text }.compile(&compiler)?;
    /// assert_eq!(*told.lock().unwrap(), ["unused-name"]);
    /// # Ok(()) }
    /// ```
    pub fn on_warning(mut self, tell: impl Fn(&Warning) + Send + Sync + 'static) -> Self {
        let observe = move |event: Event| {
            if let Event::Warning(warning) = event {
                tell(warning);
            }
        };
        self.observer = Some(Observer(Arc::new(observe)));
        self
    }

    pub(super) fn begin(&self, stage: Stage) {
        self.tell(Event::Begin(stage));
    }

    pub(super) fn tell(&self, event: Event) {
        if let Some(Observer(observer)) = &self.observer {
            observer(event);
        }
    }
}
