//! A door for this crate's own program, tests, benchmarks and fuzzers: what they reach beside the façade. Nobody else may
//! rely on it; it changes with every version.

pub mod artifact {
    pub use crate::artifact::{Cause, Images, OpenError, Origin, Port, StepRecord, describe};
}

#[cfg(feature = "images")]
pub mod image {
    pub use crate::image::{Exif, ImageError, Picture, decode, default_preprocess, prepare, read, ten_crop};
}

pub mod npy {
    pub use crate::npy::{NpyError, read, read_from, write};
}

pub mod preprocess {
    pub use crate::preprocess::{Color, Preprocess, Resize};
}

pub mod runtime {
    pub use crate::runtime::{Model, ModelOptions, RunError, Timings, Verify};
}

pub mod tensor {
    pub use crate::tensor::{Element, Shape, Tensor};
}

#[cfg(feature = "cli")]
pub mod cli {
    pub use crate::cli::main;
}

#[cfg(feature = "compile")]
pub use compiler::*;

#[cfg(feature = "compile")]
mod compiler {
    pub mod diagnostic {
        pub use crate::diagnostic::Sources;
    }

    pub mod driver {
        pub use crate::driver::{
            Compiler, Error, Event, Network, Observer, WeightsFrom, WeightsReport, model_names, recompile,
        };
    }

    pub mod elaborate {
        pub use crate::elaborate::{Options, elaborate};
    }

    pub mod interop {
        pub mod export {
            pub use crate::interop::export::{ExportError, Options, export, to_bytes};
        }
        pub mod onnx {
            pub use crate::interop::onnx::{ImportError, ModelFile, Options, import, import_file, proto};
        }
        pub mod text {
            pub use crate::interop::text::{compare, write};
        }
    }

    pub mod interpreter {
        pub use crate::interpreter::{run, run_observed};
    }

    pub mod ir {
        pub use crate::ir::{Graph, Kind, NodeId, Phase, Remark, parse, stats, verify};
    }

    pub mod ops {
        pub use crate::ops::*;
    }

    pub mod passes {
        pub use crate::passes::{PIPELINE, Selection, run};
    }

    pub mod plan {
        pub use crate::plan::Options;
    }

    pub mod syntax {
        pub use crate::syntax::format;
    }

    pub mod target {
        pub use crate::target::Target;
    }

    pub mod testing {
        pub use crate::testing::{
            Builder, compiled, conv, random_graph, random_inputs, randomize_weights, tiny, write_foreign,
        };
    }

    pub mod train {
        pub use crate::train::{Loss, Options, Step, add_losses, differentiate};
    }

    pub mod trial {
        pub use crate::trial::roofline;
    }

    pub mod weights {
        pub use crate::weights::{Weights, entries, file, load, open, safetensors};
    }
}
