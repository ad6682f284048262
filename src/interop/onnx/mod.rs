//! ONNX models: import to a graph.
//!
//! ```text
//! file ─wire─▶ limits hold ─decode─▶ proto::Model ─import─▶ ir::Graph
//!                                                  │ values are known arrays, or views of nodes
//!                                  fold: what is known is computed    operators: the rest, one by one
//! ```
//!
//! Nodes are read as they stand, one by one: a GELU that a model spells in primitives is primitives in the graph.
//! What recognises it are passes, which this folder does not know.
//!
//! Arrows point one way. A module may name those that its row lists, which stand above it; a test reads this.
//!
//! | module | may know | for |
//! |---|---|---|
//! | `proto` | | the file's messages, as prost decodes them |
//! | `wire` | | limits of a file, before it is decoded |
//! | `error` | | what stood in the way |
//! | `view` | | a value as a node with its axes moved |
//! | `array` | | numbers that are known |
//! | `types` | `proto` `array` | which types values have |
//! | `names` | `proto` | what layers and values are called |
//! | `file` | `proto` `wire` `array` | the file, and the data beside it |
//! | `call` | `proto` `array` `types` `view` | a node with what its inputs are |
//! | `geometry` | `call` | sizes, axes and cuts that a node asks for |
//! | `draft` | `array` `types` `view` `names` `file` `call` | the graph under import, and what may be computed for it |
//! | `fold` | `proto` `array` `types` `call` `geometry` `draft` | what is known is computed |
//! | `operators` | `proto` `array` `types` `view` `call` `geometry` `draft` | the rest becomes operations, a node each |
//! | `import` | `proto` `error` `array` `types` `view` `names` `file` `call` `draft` `fold` `operators` | the walk over the nodes |
//!
//! The graph has the model's semantics for the chosen sizes; names come from the model. Everything
//! that stands in the way is reported at once.

mod array;
mod call;
mod draft;
mod error;
mod file;
mod fold;
mod geometry;
mod import;
mod names;
mod operators;
pub mod proto;
#[cfg(test)]
mod tests;
mod types;
mod view;
mod wire;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

pub use error::ImportError;
pub(crate) use error::Problem;
pub use file::ModelFile;
use proto::data_type;

use crate::ir::Graph;

/// Sizes that a model may leave open.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first size of an input, where the model leaves it open.
    pub batch: usize,
    /// Whole shapes of inputs by name; they override the model's. A name that is none of an input's but of a size that the
    /// model leaves open has one number, which is that size wherever it stands but first.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Whether `batch` divides no size of the model but those that count images: then values that are alike for all images
    /// are made for as many as there are, and the graph fits other numbers of them, too.
    pub any_images: bool,
    /// Height and width of the pictures: of the only input with four axes, whatever the model states.
    pub pictures: Option<[usize; 2]>,
    /// Inputs that always have these numbers, see [`ModelFile::fix`].
    pub fixed: BTreeMap<String, Vec<f64>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch: 1, shapes: BTreeMap::new(), any_images: false, pictures: None, fixed: BTreeMap::new() }
    }
}

/// As [`import`], of a model beside a network whose inputs have these sizes, in order: those that the model leaves open and
/// nobody gives are these. Shapes of inputs that the model does not have are the network's.
///
/// # Errors
/// As [`import`]'s.
pub(crate) fn import_beside(path: &Path, options: &Options, inputs: &[Vec<usize>]) -> Result<Graph, ImportError> {
    let file = fixed(ModelFile::open(path)?, &options.fixed)?;
    let mut options = options.clone();
    let own = file.model.graph.iter().flat_map(|graph| &graph.input);
    let own: HashSet<&str> = own.map(|input| input.name.as_str()).collect();
    options.shapes.retain(|name, _| own.contains(name.as_str()));
    for (i, name) in import::of_open_sizes(&file) {
        if let Some(sizes) = inputs.get(i) {
            options.shapes.entry(name).or_insert_with(|| sizes.clone());
        }
    }
    import_file(&file, &options)
}

/// Reads a model as a graph for inference. Weights stay in the mapped file where they are f32.
///
/// # Errors
/// Where the file is damaged or takes what netc does not have; all such nodes are listed.
pub fn import(path: &Path, options: &Options) -> Result<Graph, ImportError> {
    import_file(&fixed(ModelFile::open(path)?, &options.fixed)?, options)
}

/// The model with constants in place of inputs.
///
/// # Errors
/// Where there is no such input, or the numbers do not fit.
pub(crate) fn fixed(mut file: ModelFile, fixed: &BTreeMap<String, Vec<f64>>) -> Result<ModelFile, ImportError> {
    let path = file.path.clone();
    for (input, values) in fixed {
        file.fix(input, values).map_err(|message| ImportError::Model { path: path.clone(), message })?;
    }
    Ok(file)
}

/// As `import`, of a file that is open.
///
/// # Errors
/// Where the model is damaged or takes what netc does not have; all such nodes are listed.
pub fn import_file(file: &ModelFile, options: &Options) -> Result<Graph, ImportError> {
    import::import(file, options)
}

/// The inputs of an imported graph, by their place, whose first size the model leaves open: those that
/// [`Options::batch`] gives.
pub(crate) fn open_inputs(file: &ModelFile, options: &Options) -> Vec<usize> {
    import::open_inputs(file, options)
}

/// What shapes by name say of a model: those of inputs, and the number of images, where the size that the model leaves open
/// first is named.
pub(crate) fn named_shapes(file: &ModelFile, shapes: &BTreeMap<String, Vec<usize>>) -> NamedShapes {
    import::named_shapes(file, shapes)
}

pub(crate) struct NamedShapes {
    pub inputs: BTreeMap<String, Vec<usize>>,
    pub batch: Option<usize>,
}

/// The type of floating-point numbers, other than f32, that a model's inputs or weights are of.
pub(crate) fn other_floats(file: &ModelFile) -> Option<&'static str> {
    let graph = file.model.graph.as_ref()?;
    // Single numbers of other types are in models of f32, too.
    let weights = graph.initializer.iter().filter(|tensor| tensor.dims.len() > 1).map(|tensor| tensor.data_type);
    let inputs = graph.input.iter().filter_map(|input| Some(input.ty.as_ref()?.tensor_type.as_ref()?.elem_type));
    let is_other = |ty: &i32| matches!(*ty, data_type::FLOAT16 | data_type::BFLOAT16 | data_type::DOUBLE);
    weights.chain(inputs).find(is_other).map(data_type::name)
}

/// Whether bytes begin as ONNX models do: with the field of the IR version, then another of a model's.
pub(crate) fn is_onnx(bytes: &[u8]) -> bool {
    // A safetensors file begins with the length of its header, which can be any number.
    let is_safetensors = matches!(bytes, [_, _, _, _, _, _, 0, 0, b'{', ..]);
    let fields = [2, 3, 4, 6, 7, 8, 14].map(|field| field << 3 | 2).into_iter().chain([5 << 3, 0xa2, 0xca]);
    matches!(bytes, [0x08, 1..=20, next, _, ..] if !is_safetensors && fields.clone().any(|tag| tag == *next))
}
