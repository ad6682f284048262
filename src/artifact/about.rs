//! What a compiled model tells of itself beyond what running it takes.

use serde::{Deserialize, Serialize};

use crate::preprocess::Preprocess;

/// Small facts, read whenever a model is opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Version of the netc that compiled the model.
    pub netc: String,
    /// How images become each input, where the spec says so.
    pub preprocess: Vec<Option<Preprocess>>,
    /// Names of the classes, where known.
    pub labels: Vec<String>,
    /// How the model was made.
    pub recipe: Option<Recipe>,
}

/// What made a model of its texts: enough to make it again for another CPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The files of the spec, the main one first.
    pub sources: Vec<SourceHash>,
    /// Which model of the main file.
    pub model: String,
    /// Parameters that were set, as `name`, `value` in the language's notation.
    pub settings: Vec<(String, String)>,
    pub batch: usize,
    /// Shapes that were given for an ONNX model's inputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<(String, Vec<usize>)>,
    pub weights: Origin,
    /// How names of the file's weights become the network's: rules, in order, then a table.
    #[serde(default)]
    pub renames: Vec<String>,
    #[serde(default)]
    pub weight_map: Vec<(String, String)>,
    /// Passes that ran.
    pub passes: Vec<String>,
    /// Algorithms that were forced: label, name.
    pub algorithms: Vec<(String, String)>,
    /// Whether the bits are the same for every vector unit and batch.
    #[serde(default)]
    pub strict: bool,
    /// Bytes of the first, second and third level of cache that the plan counted with.
    #[serde(default)]
    pub caches: [u64; 3],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceHash {
    pub name: String,
    /// xxh3-64 of the text.
    pub hash: u64,
}

/// Where the values of the weights came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Origin {
    Seed(u64),
    File {
        /// As it was given.
        path: String,
        /// Of the names and values in the file.
        hash: u64,
    },
}

/// The texts that a model was made of: for people, and for compiling it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Texts {
    /// In the order of [`Recipe::sources`].
    pub sources: Vec<String>,
    /// The optimized graph.
    pub ir: String,
}
