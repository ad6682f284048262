//! From a path to a training: the `train` block of a text, elaborated.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::import::is_onnx;
use super::{Compiler, Error, Stage, channels_last, read_spec};
use crate::diagnostic::{Diagnostic, SourceId, Sources};
use crate::elaborate;
use crate::recipe::{RESERVED, TrainedModel, Training};
use crate::weights::WeightId;

/// Which `train` block of a text is meant, and what is asked for in place of what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockChoice {
    /// The block's name; may be left out where the file has one only.
    pub name: Option<String>,
    /// Samples of a step.
    pub batch: Option<usize>,
    /// Passes over the data.
    pub epochs: Option<usize>,
    /// Bytes that a step may take: where it would take more, values are computed again rather than kept, and where that
    /// is not enough, the batch is taken in parts.
    pub memory: Option<u64>,
    /// Parts of equal size in which a step takes its batch, one after the other; their gradients are added up. Batch
    /// normalisations then take the statistics of a part.
    pub accumulate: Option<usize>,
}

/// A training on its way.
#[derive(Clone, Debug)]
pub struct TrainingSpec {
    /// All texts that took part, for locations and diagnostics.
    pub sources: Sources,
    /// The file that was given, among [`Self::sources`].
    pub root: SourceId,
    /// What the block says.
    pub training: Training,
    /// What the front end warned of.
    pub warnings: Vec<Diagnostic>,
}

impl Compiler {
    /// Parses the spec at `path` and elaborates one of its `train` blocks, with the compiler's seed and settings of
    /// models' parameters.
    ///
    /// # Errors
    /// Where files cannot be read, or the block or its models have mistakes.
    pub fn front_training(&self, path: &Path, choice: &BlockChoice) -> Result<TrainingSpec, Error> {
        let unreadable = |cause| Error::Read { path: path.into(), cause };
        if is_onnx(path).map_err(unreadable)? {
            let message = "an ONNX model does not say how to train: `netc import` makes a text of it";
            return Err(unreadable(io::Error::other(message)));
        }
        if let Some(parts) = choice.accumulate.filter(|&parts| parts > 1) {
            return self.front_in_parts(path, choice, parts);
        }
        self.begin(Stage::Front);
        let mut sources = Sources::default();
        let root = sources.add(path.display().to_string(), read_spec(path).map_err(unreadable)?);
        let files = RefCell::new(vec![path.to_path_buf()]);
        let loader = |path: &Path| read_spec(path).inspect(|_| files.borrow_mut().push(path.into()));
        let options = elaborate::TrainingOptions {
            name: choice.name.clone(),
            set: self.set.clone(),
            batch: choice.batch,
            epochs: choice.epochs,
            seed: self.seed,
            loader: &loader,
        };
        match elaborate::training(&mut sources, root, &options) {
            Ok(made) => {
                let mut training = made.training;
                training.graph.weights.files = files.into_inner();
                Ok(TrainingSpec { sources, root, training, warnings: made.warnings })
            }
            Err(diagnostics) => Err(Error::Spec { sources: Box::new(sources), diagnostics }),
        }
    }
}

impl Compiler {
    /// As [`Self::front_training`], with batches in parts: the block is elaborated for the samples of one.
    fn front_in_parts(&self, path: &Path, choice: &BlockChoice, parts: usize) -> Result<TrainingSpec, Error> {
        let whole = self.front_training(path, &BlockChoice { accumulate: None, ..choice.clone() })?;
        let batch = whole.training.batch;
        let refused = |message: String| Error::Parts { path: path.into(), message };
        if !batch.is_multiple_of(parts) {
            let divisors: Vec<String> =
                (2..=batch).filter(|k| batch.is_multiple_of(*k)).take(8).map(|k| k.to_string()).collect();
            return Err(refused(format!(
                "a batch of {batch} has no {parts} parts of equal size, but {}",
                divisors.join(", ")
            )));
        }
        if whole.training.steps.len() > 1 || whole.training.rounds() > 1 {
            let message = "the batch of a training with several steps is not taken in parts: a later step reads what the steps before have made of their weights";
            return Err(refused(message.into()));
        }
        let of_part = BlockChoice { accumulate: None, batch: Some(batch / parts), ..choice.clone() };
        let mut spec = self.front_training(path, &of_part)?;
        (spec.training.batch, spec.training.parts) = (batch, parts);
        Ok(spec)
    }
}

/// What a file's weights had to do with a training that begins with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Weights that have the file's values.
    pub loaded: usize,
    /// Weights that the file lacks: they keep their initialisation.
    pub missing: Vec<String>,
    /// Weights that have another shape in the file, with both: they keep their initialisation.
    pub other_shape: Vec<String>,
    /// Tensors of the file that the network does not have.
    pub unused: Vec<String>,
}

impl Compiler {
    /// Gives the weights of a training the values of a file, where it has them: a network is tuned whose trunk somebody
    /// else has trained. The file is that of one of the training's models, or has all weights by their names in the
    /// training.
    ///
    /// # Errors
    /// Where the file cannot be read or has nothing for the network.
    pub(crate) fn begin_with(
        &self,
        spec: &mut TrainingSpec,
        path: &Path,
        model: Option<&TrainedModel>,
    ) -> Result<Begun, Error> {
        self.begin(Stage::Weights);
        let mut file = self.open_weights(path)?;
        let renamed = self.renames.apply(&mut file.entries);
        renamed.map_err(|cause| Error::Rename { path: path.into(), cause })?;
        let weights = &mut spec.training.graph.weights;
        let prefix = model.map_or("", |model| model.prefix.as_str());
        let own = weights.iter().filter(|(_, weight)| !weight.name.starts_with(RESERVED));
        let all: Vec<_> =
            own.filter_map(|(id, w)| Some((id, w.name.strip_prefix(prefix)?.to_string(), w.shape.clone()))).collect();
        let (mut begun, mut taken) = (Begun::default(), vec![]);
        for (id, name, shape) in &all {
            match file.entries.iter().find(|entry| entry.name == *name) {
                None => begun.missing.push(name.clone()),
                Some(entry) if entry.shape != *shape => {
                    begun.other_shape.push(format!("{name} ({} there, {shape} here)", entry.shape));
                }
                Some(entry) => match entry.values() {
                    Some(values) => {
                        weights.set(*id, values);
                        taken.push(*id);
                        begun.loaded += 1;
                    }
                    None => begun.missing.push(name.clone()),
                },
            }
        }
        if file.channels_last {
            let taken: HashSet<WeightId> = taken.into_iter().collect();
            channels_last::reorder(&mut spec.training.graph, |_, id| taken.contains(&id));
        }
        let known = |name: &str| all.iter().any(|(_, known, _)| known == name);
        begun.unused =
            file.entries.iter().filter(|entry| !known(&entry.name)).map(|entry| entry.name.clone()).collect();
        spec.training.graph.weights.files.append(&mut file.paths);
        if begun.loaded == 0 {
            let several = model.is_none() && spec.training.models.len() > 1;
            let cause = io::Error::other(match several {
                true => "it has no weight of the networks, by name and shape: `MODEL=FILE` says whose file it is",
                false => "it has no weight of the network, by name and shape",
            });
            return Err(Error::Read { path: path.into(), cause });
        }
        Ok(begun)
    }
}

/// The names of the `train` blocks of a file, without elaborating any.
///
/// # Errors
/// Where the file cannot be read or is no text.
pub fn training_names(path: &Path) -> io::Result<Vec<String>> {
    if is_onnx(path)? {
        return Ok(vec![]);
    }
    let mut sources = Sources::default();
    let root = sources.add(path.display().to_string(), read_spec(path)?);
    Ok(elaborate::training_names(&sources, root))
}
