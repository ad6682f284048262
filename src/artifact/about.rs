//! What a compiled model tells of itself beyond what running it takes.

use serde::{Deserialize, Serialize};

use super::Port;
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

impl About {
    /// The seed that all weights were made of, where no file gave any.
    pub fn random_seed(&self) -> Option<u64> {
        match self.recipe.as_ref()?.weights {
            Origin::Seed(seed) => Some(seed),
            Origin::File { .. } => None,
        }
    }

    /// Whether the preprocessing fits the model's inputs: as strict as with that of a spec.
    ///
    /// # Errors
    /// Names the input and the step that is wrong.
    pub(crate) fn check(&self, inputs: &[Port]) -> Result<(), String> {
        if self.preprocess.len() != inputs.len() {
            return Err(format!("preprocessing of {} inputs, where there are {}", self.preprocess.len(), inputs.len()));
        }
        for (port, steps) in inputs.iter().zip(&self.preprocess) {
            let Some(steps) = steps else { continue };
            let &[_, channels, height, width] = port.shape.as_slice() else {
                return Err(format!("preprocessing of {}, which is no image", port.name));
            };
            let right = steps.check([channels, height, width]);
            right.map_err(|wrong| format!("the preprocessing of {}: {wrong}", port.name))?;
        }
        Ok(())
    }
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
    /// Numbers that were given for inputs of an ONNX model, which the network does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<(String, Vec<f64>)>,
    /// Values that are inputs, values that are the outputs, and outputs beside the network's own: the part that was
    /// compiled, as three lists of labels.
    #[serde(default, skip_serializing_if = "is_whole")]
    pub part: [Vec<String>; 3],
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
    /// Whether packed weights had to be as small as the weights.
    #[serde(default)]
    pub small: bool,
    /// In what values are stored and multiplied, as the command line names it; f32 without.
    #[serde(default)]
    pub precision: String,
    /// Bytes of the first, second and third level of cache that the plan counted with.
    #[serde(default)]
    pub caches: [u64; 3],
}

fn is_whole(part: &[Vec<String>; 3]) -> bool {
    part.iter().all(Vec::is_empty)
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
    /// They were made from this seed: no file gave any.
    Seed(u64),
    /// They were read from a file.
    File {
        /// As it was given; the first of several.
        path: String,
        /// Files beside it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<String>,
        /// Of the names and values in the file.
        hash: u64,
        /// Of the weights that they may lack.
        #[serde(default)]
        seed: u64,
        /// Whether they may lack weights, and whether they may hold others.
        #[serde(default)]
        partial: [bool; 2],
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Resize;

    #[test]
    fn steps_are_checked_against_the_inputs() {
        let image =
            Port { name: "x".into(), shape: vec![1, 3, 8, 8], element: Default::default(), raw: false, rows: None };
        let vector = Port { name: "v".into(), shape: vec![1, 3], element: Default::default(), raw: false, rows: None };
        let about = |steps: Option<Preprocess>| About { preprocess: vec![steps], ..About::default() };
        let crop = |side| Some(Preprocess { center_crop: Some([side; 2]), ..Preprocess::default() });
        let resize = |side| Some(Preprocess { resize: Some(Resize::ShorterSide(side)), ..Preprocess::default() });
        for steps in [None, crop(8), resize(9)] {
            assert_eq!(about(steps).check(std::slice::from_ref(&image)), Ok(()));
        }
        for steps in [crop(0), crop(9), resize(0), resize(usize::MAX)] {
            let error = about(steps.clone()).check(std::slice::from_ref(&image)).unwrap_err();
            assert!(error.starts_with("the preprocessing of x: "), "{error}");
            assert!(about(steps).check(std::slice::from_ref(&vector)).unwrap_err().contains("no image"));
        }
        assert!(about(crop(8)).check(&[image.clone(), vector]).is_err(), "for one of two inputs");
        assert!(About::default().check(&[image]).is_err(), "for none of one");
    }
}
