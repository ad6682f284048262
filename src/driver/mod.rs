//! The road of a model from its text to something that runs: the stages in their order, once.
//!
//! ```text
//! path ─front─▶ Network ─load_weights─▶ ─optimize─▶ Network ─compile─▶ Model | .netc file | object
//!      network           weights, part                      generation
//!      import                                               portable
//!                                                           bare
//! ```
//!
//! The driver knows every stage and decides nothing that a stage could: it reads files, hands
//! values on, and keeps what the stages said for whoever shows it. It prints nothing.
//!
//! Each stretch is a file here, named below its arrows. Beside the road stand [`recipe`], which walks it
//! again for a compiled model, and [`hash`], which says what a network was made of.

mod bare;
mod cache;
mod channels_last;
mod compiler;
mod error;
mod findings;
mod generation;
mod hash;
mod import;
mod network;
mod observer;
mod part;
mod portable;
mod ports;
mod programs;
mod recipe;
mod sizes;
mod training;
mod weights;

pub use bare::{ObjectForm, ObjectOptions};
pub use cache::Cache;
pub use compiler::Compiler;
pub use error::Error;
pub use findings::{Warning, Warnings};
#[cfg(feature = "cli")]
pub(crate) use findings::{of_choice, of_renames, of_weights, shortened};
pub(crate) use generation::Compiled;
pub(crate) use hash::ContentHash;
pub(crate) use hash::hash_file;
pub use import::model_names;
pub(crate) use import::{is_onnx, stem};
pub use network::Network;
pub(crate) use network::{preprocess, read_spec};
pub use observer::{Event, Observer, Stage};
pub use part::Part;
pub(crate) use ports::{input_ports, output_ports};
pub use programs::ModelFile;
pub use recipe::recompile;
pub(crate) use recipe::remake;
pub(crate) use sizes::{MAX_SIDE, asked};
pub use sizes::{ModelsBySize, NetworkSource, SizesError};
pub(crate) use training::Begun;
pub use training::{BlockChoice, TrainingSpec, training_names};
pub use weights::{WeightsFrom, WeightsReport};

#[cfg(feature = "cli")]
pub(crate) use recipe::recompile_container;
#[cfg(feature = "cli")]
pub(crate) use weights::{NOT_FINITE, weights_beside, weights_of_model};

use std::path::Path;

use crate::passes;
use crate::runtime::Model;

impl Compiler {
    /// Compiles the spec at `path` into memory.
    ///
    /// # Errors
    /// The first stage's that fails.
    pub fn compile_file(&self, path: impl AsRef<Path>) -> Result<Model, Error> {
        let network = self.optimized(path.as_ref())?;
        self.compile(&network)
    }

    /// Compiles the spec at `path` into the file `output`, which appears when it is complete. The
    /// weights are packed in place, so that they are never in memory twice.
    ///
    /// # Errors
    /// The first stage's that fails; then nothing is written.
    pub fn compile_file_to(&self, path: impl AsRef<Path>, output: impl AsRef<Path>) -> Result<Compiled, Error> {
        let network = self.optimized(path.as_ref())?;
        self.compile_to(&network, output.as_ref())
    }

    /// Everything before code generation.
    ///
    /// # Errors
    /// Those of [`Self::front`] and [`Self::load_weights`].
    pub fn optimized(&self, path: &Path) -> Result<Network, Error> {
        let mut network = self.front(path)?;
        self.load_weights(&mut network)?;
        self.tell_findings(&network);
        self.optimize(&mut network);
        Ok(network)
    }

    /// Runs the selected passes. On a portable model they have run.
    pub fn optimize(&self, network: &mut Network) {
        if network.settled.is_some() {
            return;
        }
        self.begin(Stage::Optimize);
        network.remarks.extend(passes::run(&mut network.graph, &self.passes));
    }
}
