//! A hidden door for this crate's own program, tests, benchmarks and fuzzers: what they reach beside the façade. Nobody else
//! may rely on it: it changes with every version, and documentation does not show it.
//!
//! The modules are private where they are declared; each one here has the name of its folder and of its contents only what
//! somebody behind the door uses.

/// Files of compiled models: what they tell of themselves, and why one cannot be opened.
pub mod artifact {
    pub use crate::artifact::{Cause, Images, OpenError, Origin, Port, StepRecord, describe};
}

/// Pictures from streams as well as files, with a choice about their EXIF orientation.
#[cfg(feature = "images")]
pub mod image {
    pub use crate::image::{Exif, ImageError, Picture, decode};
}

/// NumPy arrays in files, for inputs and expected outputs.
pub mod npy {
    pub use crate::npy::{NpyError, read, read_from, write};
}

/// How pictures become inputs.
pub mod preprocess {
    pub use crate::preprocess::{Color, Preprocess, Resize};
}

/// Models, and the times of their steps.
pub mod runtime {
    pub use crate::runtime::{Model, ModelOptions, RunError, Timings, Verify};
}

/// The values that tests compare.
pub mod tensor {
    pub use crate::tensor::{Element, Shape, Tensor};
}

/// The command line, which `src/main.rs` calls.
#[cfg(feature = "cli")]
pub mod cli {
    pub use crate::cli::{main, run};
}

#[cfg(feature = "compile")]
pub use compiler::*;

#[cfg(feature = "compile")]
mod compiler {
    /// The texts of a compilation, which the front end is given.
    pub mod diagnostic {
        pub use crate::diagnostic::Sources;
    }

    /// The stages one by one, and who is told of them.
    pub mod driver {
        pub use crate::driver::{
            BlockChoice, Compiler, Error, Event, Network, Observer, Stage, TrainingSpec, WeightsFrom, WeightsReport,
            model_names, recompile, training_names,
        };
    }

    /// From a text in memory to a graph.
    pub mod elaborate {
        pub use crate::elaborate::{ElaboratedTraining, Options, TrainingOptions, elaborate, training};
    }

    /// ONNX, to and from, and graphs as text.
    pub mod interop {
        /// From a graph to an ONNX model.
        pub mod export {
            pub use crate::interop::export::{ExportError, Options, export, to_bytes};
        }
        /// From an ONNX model to a graph, and the messages of its file.
        pub mod onnx {
            pub use crate::interop::onnx::{ImportError, ModelFile, Options, import, import_file, proto};
        }
        /// From a graph to a text of the language.
        pub mod text {
            pub use crate::interop::text::{compare, write};
        }
    }

    /// The definition of right: graphs evaluated op by op.
    pub mod interpreter {
        pub use crate::interpreter::{run, run_observed, run_step};
    }

    /// Graphs: made, read from IR text, verified and counted.
    pub mod ir {
        pub use crate::ir::{Graph, Kind, NodeId, Phase, Remark, parse, stats, verify};
    }

    /// All operations, for graphs that tests make and evaluate.
    pub mod ops {
        pub use crate::ops::*;
    }

    /// The passes, each by itself or all in their order.
    pub mod passes {
        pub use crate::passes::{PIPELINE, Selection, run};
    }

    /// What may be asked of a plan.
    pub mod plan {
        pub use crate::plan::{Options, Precision};
    }

    /// The formatter of texts.
    pub mod syntax {
        pub use crate::syntax::format;
    }

    /// CPUs by name, and this machine's.
    pub mod target {
        pub use crate::target::Target;
    }

    /// Graphs made by hand or at random, and a model without a compiler.
    pub mod testing {
        pub use crate::testing::{
            GraphBuilder, compiled, conv, random_graph, random_inputs, randomize_weights, tiny, write_foreign,
        };
    }

    /// What a `train` block says.
    pub mod recipe {
        pub use crate::recipe::{
            Augmentation, Loss, MemoryBudget, Metric, Optimizer, Schedule, ScheduleKind, Source, TrainedModel,
            Training, TrainingStep,
        };
    }

    /// Gradients as graphs.
    pub mod train {
        pub use crate::train::{Loss, Options, Rates, Step, StepGraph, StepInput, add_losses, differentiate, step};
    }

    /// What this machine reaches at most: multiply-adds and bytes from memory.
    pub mod trial {
        pub use crate::trial::roofline;
    }

    /// Weights: readers of each format, and their store.
    pub mod weights {
        pub use crate::weights::{Weights, entries, file, load, open, safetensors};
    }
}
