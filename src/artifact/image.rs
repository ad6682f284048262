//! The image of a compiled model and the calling convention of its code.
//!
//! # Calling convention
//!
//! Every step of a model is one function in the image's code,
//!
//! ```text
//! extern "C" fn step(frame: *const *mut u8, scratch: *mut u8, begin: i64, end: i64)
//! ```
//!
//! (in the System V convention on every x86-64 system), which computes the tasks `begin..end` of
//! the step's grid. Tasks of one step are independent and may run on any thread in any split; steps
//! run in order, with a barrier between them.
//! `frame` is an array of base pointers indexed by [`Slot`]; `scratch` is the calling thread's own
//! memory of [`Manifest::scratch_bytes`]. All bases are 64-byte aligned except inputs and outputs,
//! which are 4-byte aligned. Code is position independent and calls nothing outside itself. Whoever calls it flushes
//! denormals meanwhile ([`flush_denormals`]).

use crate::balance::TaskCost;
use crate::preprocess::Preprocess;
use crate::tensor::{Element, Rows, Shape};
use serde::{Deserialize, Serialize};

#[cfg(feature = "compile")]
use super::{About, Program, Texts, Weights};

/// What a thread's control register of the floating-point unit has set while it runs steps, by Rust's name of the
/// architecture: of MXCSR flush-to-zero and denormals-are-zero, of FPCR FZ.
pub(crate) const fn flush_denormals(architecture: &str) -> u64 {
    match architecture.as_bytes() {
        b"x86_64" => 0x8040,
        b"aarch64" => 1 << 24,
        _ => 0,
    }
}

/// Index into the frame of base pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Slot {
    Arena,
    Weights,
    /// The nth graph input, plain row-major f32.
    Input(u32),
    /// The nth graph output, plain row-major f32.
    Output(u32),
    /// What runs leave for the next: weights that are trained, plain row-major f32.
    States,
}

impl Slot {
    /// Position in the frame of a model with so many inputs and outputs.
    pub(crate) fn index(self, [inputs, outputs]: [usize; 2]) -> usize {
        match self {
            Slot::Arena => 0,
            Slot::Weights => 1,
            Slot::Input(i) => 2 + i as usize,
            Slot::Output(i) => 2 + inputs + i as usize,
            Slot::States => 2 + inputs + outputs,
        }
    }
}

/// An input or output: its name, and what it is, row-major.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    #[serde(default, skip_serializing_if = "Element::is_f32")]
    pub(crate) element: Element,
    /// Code reads the elements themselves. Others lie in its memory as f32, whatever the element is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) raw: bool,
    /// Which of the rows that there is room for exist after a run, where that depends on the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<Rows>,
}

impl Port {
    /// Of values that lie in memory as f32, whatever the shape's element is, and all of which exist.
    #[cfg_attr(not(feature = "compile"), allow(dead_code))]
    pub(crate) fn new(name: &str, shape: &Shape) -> Self {
        Self { name: name.into(), shape: shape.dims().to_vec(), element: shape.element(), raw: false, rows: None }
    }

    /// How a picture becomes it where the network's text does not say: by [`Preprocess::usual`], but with levels as they are where
    /// it takes whole numbers. None of what is no image of one or three channels.
    pub fn usual_preprocess(&self) -> Option<Preprocess> {
        let &[_, channels @ (1 | 3), height, width] = &self.shape[..] else { return None };
        let usual = Preprocess::usual([channels, height, width]);
        Some(Preprocess { scale: usual.scale.filter(|_| self.element == Element::F32), ..usual })
    }

    /// As the spec names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sizes, outermost first: `[N, C, H, W]` for images. `N` is the number of images that the code computes at once.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// What each of the values is.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Of an output: which of the entries of an axis exist after a run, where that depends on the data. [`Self::shape`] is
    /// what there is room for.
    pub fn rows(&self) -> Option<&Rows> {
        self.rows.as_ref()
    }

    /// The sizes of so many values, of which only some rows may exist.
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    pub(crate) fn dims_of(&self, values: usize) -> Vec<usize> {
        let mut dims = self.shape.clone();
        if let Some(rows) = &self.rows {
            let others = self.elements() / dims[rows.axis];
            dims[rows.axis] = values / others;
        }
        dims
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How a step computes, by name: `direct`, `winograd4`, … with its tile, for people.
pub(crate) type Algorithm = String;

/// Bytes of the weights section that a step reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WeightRange {
    pub offset: u64,
    pub bytes: u64,
}

/// One kernel call of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    pub(crate) name: String,
    pub(crate) op: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) location: Option<String>,
    /// Offset of the function in the code.
    pub(crate) entry: u64,
    /// Number of tasks.
    pub(crate) grid: u32,
    /// What the tasks cost, in their order; empty where they are alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) task_costs: Vec<TaskCost>,
    pub(crate) flops: u64,
    pub(crate) bytes: u64,
    pub(crate) estimate_ns: f64,
    pub(crate) weights: Option<WeightRange>,
    /// The step's code adds some of these numbers to addresses: they are no file's to change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) addresses: bool,
}

impl StepRecord {
    /// Label path of the node, or its op's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The op that the step ends with, by its name in the IR text: `conv2d`.
    pub fn op(&self) -> &str {
        &self.op
    }

    /// How the step computes, by name and tile, for people: `direct`, `winograd4`.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// `resnet34.net:25`, where known.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// Floating-point operations of the algorithm's plain definition (2 per multiply-add).
    pub fn flops(&self) -> u64 {
        self.flops
    }

    /// Bytes that must cross memory at least: inputs, outputs, weights.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The planner's estimate for one thread, in nanoseconds.
    pub fn estimate_ns(&self) -> f64 {
        self.estimate_ns
    }
}

/// How many images a run takes. Batch, as everywhere, is the number that the code computes at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Images {
    /// Any number: each image's results depend on that image only. All inputs and outputs have the images
    /// side by side.
    Independent {
        /// Images that are computed at once. Runs take other numbers in such batches.
        batch: usize,
    },
    /// One batch, whole: the first size of this input is part of the network.
    Fixed {
        /// The input's name.
        input: String,
        /// Where the spec declares it: `resnet34.net:25`.
        location: Option<String>,
    },
    /// One batch, whole: a step mixes images.
    Mixed {
        /// The label of what mixes them, or its op's name.
        step: String,
        /// Where the spec has it: `resnet34.net:25`.
        location: Option<String>,
        /// Why it does, as a sentence about "it".
        reason: String,
    },
}

impl std::fmt::Display for Images {
    /// Why there is one number only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |location: &Option<String>| location.as_ref().map(|l| format!(" ({l})")).unwrap_or_default();
        match self {
            Images::Independent { .. } => f.write_str("images are treated one by one"),
            Images::Fixed { input, location } => write!(f, "the first size of {input}{} is a number", at(location)),
            Images::Mixed { step, location, reason } => {
                write!(f, "{step}{} does not treat images one by one: {reason}", at(location))
            }
        }
    }
}

/// A weight that runs change, in the memory of the states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StateRecord {
    /// The weight's name.
    pub name: String,
    pub shape: Vec<usize>,
    /// Of its first byte.
    pub offset: u64,
}

/// What the runtime must know of a compiled model besides its code and weights. What it says is
/// acted on by machine code, so nobody outside the crate can make one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub name: String,
    /// CPU features that the code needs, by their Rust target-feature names: `avx512f`, `fma`.
    pub features: Vec<String>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// `None` in files of older versions, whose images were taken to be independent where all inputs and
    /// outputs have the same first size.
    #[serde(default)]
    pub images: Option<Images>,
    pub steps: Vec<StepRecord>,
    /// What runs leave for the next; empty of models for inference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateRecord>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub state_bytes: u64,
    pub arena_bytes: u64,
    /// Sum over time's worst moment of live buffers: no plan can do with less.
    pub arena_lower_bound: u64,
    /// Per thread.
    pub scratch_bytes: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A compiled model. `code` and `weights` are separate sections so that a file can map them with
/// their own protection.
#[cfg(feature = "compile")]
pub(crate) struct Image {
    pub manifest: Manifest,
    pub code: Vec<u8>,
    /// Packed weights, 64-byte aligned within the section.
    pub weights: Weights,
}

/// Programs of one network for several sizes of its inputs, which share code and weights: what becomes one file, or a model
/// in memory.
#[cfg(feature = "compile")]
pub(crate) struct Bundle {
    pub programs: Vec<Program>,
    /// Of each program.
    pub texts: Vec<Texts>,
    pub code: Vec<u8>,
    pub weights: Weights,
}

/// What the code of each program begins at multiples of: more than its constants and functions ask for.
#[cfg(feature = "compile")]
const CODE_ALIGNMENT: usize = 4096;

#[cfg(feature = "compile")]
impl Bundle {
    pub(crate) fn new(image: Image, about: About, texts: Texts) -> Self {
        let Image { manifest, code, weights } = image;
        Self { programs: vec![Program { manifest, about }], texts: vec![texts], code, weights }
    }

    /// Adds a program. The image's weights begin with those of the programs before, in whose place they come.
    pub(crate) fn add(&mut self, image: Image, about: About, texts: Texts) {
        let Image { mut manifest, code, weights } = image;
        self.code.resize(self.code.len().next_multiple_of(CODE_ALIGNMENT), 0);
        let begin = self.code.len() as u64;
        manifest.steps.iter_mut().for_each(|step| step.entry += begin);
        self.code.extend(code);
        self.weights = weights;
        self.programs.push(Program { manifest, about });
        self.texts.push(texts);
    }
}

#[cfg(feature = "compile")]
impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}
