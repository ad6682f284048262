//! What the road is walked with: the settings of a compilation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::observer::Observer;
use super::part::Part;
use super::weights::WeightsFrom;
use crate::elaborate;
use crate::ir::Phase;
use crate::ops::layer::Value;
use crate::passes::Selection;
use crate::plan;
use crate::runtime::ModelOptions;
use crate::target::Target;
use crate::weights::rename::{RenameError, Renames};

/// Compiles networks. See [`Self::compile_file`].
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = netc::Compiler::new().weights("resnet34.safetensors").batch(4).compile_file("resnet34.net")?;
/// # let _ = model; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The model of a file that holds several; without a name, the file's only one.
    pub model: Option<String>,
    /// Values of the model's parameters, by name.
    pub set: Vec<(String, Value)>,
    /// Whether auxiliary heads, dropout and `when train` are part of the graph before the passes.
    pub phase: Phase,
    /// Which part of the network is compiled.
    pub part: Part,
    /// Images that are computed at once, see [`Self::batch`].
    pub batch: usize,
    /// Whole shapes of inputs, by name: where an ONNX model leaves sizes open, or in place of those that a text states. Of an
    /// ONNX model also sizes that it names and leaves open, as one number.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Height and width of the pictures, whatever the network states: of its only input with four axes.
    pub pictures: Option<[usize; 2]>,
    /// Numbers of inputs of an ONNX model, by name, see [`Self::fix`].
    pub fixed: BTreeMap<String, Vec<f64>>,
    /// What weights without values of their own are initialised by.
    pub seed: u64,
    /// Where the weights' values come from.
    pub weights: WeightsFrom,
    /// Weights that files lack keep their initial values, which are the seed's.
    pub allow_missing: bool,
    /// Files may hold tensors that the network does not have.
    pub allow_extra: bool,
    /// Brings the names of the file's weights to the network's.
    pub renames: Renames,
    /// The passes that run, in the order of the pipeline.
    pub passes: Selection,
    /// The CPU that code is made for. A model in memory runs on this machine only where that has the target's
    /// features.
    pub target: Target,
    /// Algorithms that are forced, strictness, and the memory that compiling may take.
    pub plan: plan::Options,
    /// How the compiled model runs: threads, memory.
    pub options: ModelOptions,
    /// Measure kernels on this machine, and choose by the times. They are remembered in this file.
    pub tuning: Option<PathBuf>,
    /// Told what goes on.
    pub observer: Option<Observer>,
}

impl Default for Compiler {
    /// One image, for this machine, with all standard passes.
    fn default() -> Self {
        Self {
            model: None,
            set: vec![],
            phase: Phase::Infer,
            part: Part::default(),
            batch: 1,
            shapes: BTreeMap::new(),
            pictures: None,
            fixed: BTreeMap::new(),
            seed: 0,
            weights: WeightsFrom::Beside,
            allow_missing: false,
            allow_extra: false,
            renames: Renames::default(),
            passes: Selection::default(),
            target: Target::host(),
            plan: plan::Options::default(),
            options: ModelOptions::default(),
            tuning: None,
            observer: None,
        }
    }
}

impl Compiler {
    /// The default settings: one image, this machine, all standard passes, weights from the file beside the spec.
    pub fn new() -> Self {
        Self::default()
    }

    /// The model of a file that holds several.
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.model = Some(name.into());
        self
    }

    /// The value of a parameter of the model.
    pub fn set(mut self, name: impl Into<String>, value: Value) -> Self {
        self.set.push((name.into(), value));
        self
    }

    /// The value of a parameter of the model, as a text: `10`, `0.5`, `true`, `[1, 2]`. What is no constant of the language is a
    /// string.
    pub fn set_text(self, name: impl Into<String>, text: &str) -> Self {
        self.set(name, elaborate::setting_value(text))
    }

    /// Compiles the network up to this value only, which becomes an output of that name; may be said several times.
    pub fn until(mut self, label: impl Into<String>) -> Self {
        self.part.until.push(label.into());
        self
    }

    /// Compiles the network from this value on, which becomes an input of that name; may be said several times.
    pub fn from(mut self, label: impl Into<String>) -> Self {
        self.part.from.push(label.into());
        self
    }

    /// The shape of an input, which an ONNX model leaves open or a text states otherwise.
    pub fn shape(mut self, input: impl Into<String>, dims: impl Into<Vec<usize>>) -> Self {
        self.shapes.insert(input.into(), dims.into());
        self
    }

    /// Numbers that an input of an ONNX model always has: one for each of its elements, or one for all. It is a constant of
    /// the network then and no input, so that what it decides (a rate, a mode, an `If`) is decided.
    pub fn fix(mut self, input: impl Into<String>, values: impl Into<Vec<f64>>) -> Self {
        self.fixed.insert(input.into(), values.into());
        self
    }

    /// Height and width of the pictures that the network takes, whatever it states.
    pub fn pictures(mut self, height: usize, width: usize) -> Self {
        self.pictures = Some([height, width]);
        self
    }

    /// Images that are computed at once. A model runs any number, in such batches, where the network treats
    /// images one by one ([`super::Network::images`]).
    pub fn batch(mut self, images: usize) -> Self {
        self.batch = images;
        self
    }

    /// Takes the weights from a file: safetensors, a PyTorch checkpoint, Keras's files or a NumPy archive. Said several times, the files
    /// hold them together.
    pub fn weights(mut self, path: impl Into<PathBuf>) -> Self {
        self.weights = WeightsFrom::Files([self.weights.paths(), &[path.into()]].concat());
        self
    }

    /// Renames what a file of weights holds: what the regular expression matches in a name becomes `replacement`, in which `$1`
    /// and `${name}` are its groups. Said several times, the rules are followed in their order.
    ///
    /// # Errors
    /// Where the regular expression is none.
    pub fn rename(mut self, pattern: &str, replacement: &str) -> Result<Self, RenameError> {
        self.renames.pair(pattern, replacement)?;
        Ok(self)
    }

    /// Initialises the weights by this seed, whatever files there are.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.weights = WeightsFrom::Seed;
        self
    }

    /// Which passes run; all standard ones otherwise.
    pub fn passes(mut self, passes: Selection) -> Self {
        self.passes = passes;
        self
    }

    /// The CPU that code is made for; this machine's otherwise.
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Forces algorithms, or names a tuning file.
    pub fn plan(mut self, options: plan::Options) -> Self {
        self.plan = options;
        self
    }

    /// How the model is to run: threads.
    pub fn options(mut self, options: ModelOptions) -> Self {
        self.options = options;
        self
    }
}
