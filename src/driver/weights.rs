//! Weights on the road: which file has them, and what of it fits the network.
//!
//! In go a network as written and the compiler's settings; the network leaves with values, or the
//! answer is everything that does not fit. Formats and comparing are `crate::weights`'.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::import::is_onnx;
use super::network::read_spec;
use super::{Compiler, Error, Network, Stage, channels_last};
use crate::diagnostic::Diagnostic;
use crate::elaborate::{elaborate, integer_parameters};
use crate::ir::{CutError, Graph, NodeId, Phase};
use crate::ops::Op;
use crate::ops::layer::Value;
use crate::parallel;
use crate::tensor::NotFinite;
use crate::weights::entries::Entry;
use crate::weights::load::{Loaded, Misfit, Tolerance, compare, load, not_finite};
use crate::weights::rename::RenameError;
use crate::weights::{Choice, FileError, Trained, WeightFile, WeightId};

/// Parameters that are tried where a file's sizes are not a network's.
const MOST_SETTINGS: usize = 4;

/// Where the values of the weights are to come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WeightsFrom {
    /// The file beside the spec that has its name and ends in `.MODEL.safetensors`, as a training of several models
    /// writes it, or else in `.safetensors`; without one, the seed. An ONNX model's are its own.
    #[default]
    Beside,
    /// These files, which hold the weights together: safetensors, a PyTorch checkpoint, a Keras file or a NumPy archive, and maybe
    /// `FILE:KEY` for a part of it.
    Files(Vec<PathBuf>),
    /// He or Xavier initialisation, by layer.
    Seed,
}

impl WeightsFrom {
    /// The files that are named.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        match self {
            WeightsFrom::Files(paths) => paths,
            WeightsFrom::Beside | WeightsFrom::Seed => &[],
        }
    }

    /// Whether an ONNX model is among them: shapes and numbers of inputs are its own then.
    pub(super) fn is_onnx(&self) -> bool {
        self.paths().iter().any(|path| is_onnx(path).unwrap_or(false))
    }
}

/// Where the values of a network's weights came from.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightsReport {
    /// Initialisation by this seed.
    Seed(u64),
    /// `choice` tells where the file holds several sets of weights.
    File {
        /// The file, as it was given; the first of several.
        path: PathBuf,
        /// Files beside it.
        others: Vec<PathBuf>,
        /// Of the names and values in the file.
        hash: u64,
        /// What was taken from the file, and what was left.
        loaded: Box<Loaded>,
        /// Which of the file's sets of weights was taken, where it holds several.
        choice: Option<Choice>,
        /// What netc wrote of the training that they are of.
        trained: Option<Box<Trained>>,
    },
}

/// The file of weights that belongs to a spec: that of the model, where it is there, else that of the whole text.
pub(crate) fn weights_beside(spec: &Path, model: Option<&str>) -> PathBuf {
    let own = model.map(|model| weights_of_model(&spec.with_extension("safetensors"), model));
    own.filter(|path| path.is_file()).unwrap_or_else(|| spec.with_extension("safetensors"))
}

/// Where the weights of one of several models are: `X.MODEL.safetensors` in place of `X.safetensors`.
pub(crate) fn weights_of_model(weights: &Path, model: &str) -> PathBuf {
    // What is given for a model's name may be anything, which an extension may not.
    let mut path = weights.with_extension("").into_os_string();
    path.push(format!(".{model}.safetensors"));
    path.into()
}

impl Compiler {
    /// Gives the network's weights their values, where a file has them. A portable model has its own. Of the network then
    /// stays the part that is asked for, since files hold the weights of the whole.
    ///
    /// # Errors
    /// Where the file cannot be read or does not fit the network, or the network has no such part.
    pub fn load_weights(&self, network: &mut Network) -> Result<(), Error> {
        if network.settled.is_some() {
            let refused = Error::Part { network: network.graph.name.clone(), cause: CutError::Settled };
            return if self.part.is_whole() { Ok(()) } else { Err(refused) };
        }
        self.read_weights(network)?;
        self.cut(network)?;
        if self.phase == Phase::Infer {
            let outputs = network.graph.outputs().len();
            network.graph.count_rows();
            // A count is of all images together.
            if network.graph.outputs().len() > outputs {
                let open: Vec<_> = network.open.iter().map(|&input| network.graph.inputs()[input]).collect();
                network.images = network.graph.images(&open);
            }
        }
        Ok(())
    }

    fn read_weights(&self, network: &mut Network) -> Result<(), Error> {
        self.begin(Stage::Weights);
        let Some((path, mut file)) = self.weights_of(network)? else { return Ok(()) };
        let given = file.entries.clone();
        network.made_of.files.join(&file.files);
        // An ONNX model's own weights have the right names.
        let mut idle_renames = vec![];
        if self.weights != WeightsFrom::Beside || network.imported.is_none() {
            let renamed = self.renames.apply(&mut file.entries);
            idle_renames = renamed.map_err(|cause| Error::Rename { path: path.clone(), cause })?;
        }
        let tolerance = self.tolerance(network);
        match load(&mut network.graph.weights, &file.entries, &tolerance) {
            Ok(mut loaded) => {
                if file.channels_last {
                    let given = |graph: &Graph, id| !graph.weights.is_seeded(id);
                    network.warnings.extend(channels_last::reorder(&mut network.graph, given));
                }
                check_values(&network.graph).map_err(|message| Error::Values { path: path.clone(), message })?;
                // Both read all that the file holds. The fingerprint is that of the names that the file has,
                // since a recipe is followed by reading it again.
                let weights = &network.graph.weights;
                let (hash, odd) = parallel::join(|| fingerprint(&given), || not_finite(weights, &tolerance));
                loaded.not_finite = odd;
                loaded.idle_renames = idle_renames;
                network.graph.weights.files.append(&mut file.paths);
                network.warnings.extend(odd_weights(&network.graph, &path, &loaded));
                // A text that names no classes has those that the network was trained with.
                if let Some(trained) = file.trained.as_ref().filter(|_| network.graph.labels.is_empty())
                    && Some(trained.classes.len()) == scores(&network.graph)
                {
                    network.graph.labels = trained.classes.clone();
                }
                let (choice, trained, loaded) = (file.choice, file.trained.map(Box::new), Box::new(loaded));
                let others = self.weights.paths().get(1..).unwrap_or_default().to_vec();
                network.weights = WeightsReport::File { path, others, hash, loaded, choice, trained };
                Ok(())
            }
            Err(mut misfit) => {
                misfit.setting = self.fitting_setting(network, &file.entries, &misfit);
                Err(Error::Misfit { path, misfit })
            }
        }
    }

    /// A parameter of the text with which weights would fit of which only sizes differ.
    fn fitting_setting(&self, network: &Network, entries: &[Entry], misfit: &Misfit) -> Option<String> {
        let only_sizes = misfit.missing.is_empty() && misfit.unexpected.is_empty() && misfit.wrong_type.is_empty();
        let first = misfit.wrong_shape.first().filter(|_| only_sizes && network.imported.is_none())?;
        let pairs = first.expected.dims().iter().zip(first.found.dims());
        let (expected, found) = pairs.filter(|(a, b)| a != b).map(|(a, b)| (*a as i64, *b as i64)).next()?;
        let root = network.sources.get(network.root);
        let params = integer_parameters(&network.sources, network.root, Some(&network.graph.name));
        let of_size = params.into_iter().filter(|(_, v)| *v == expected).map(|(name, _)| name);
        of_size.take(MOST_SETTINGS).find_map(|name| {
            let mut set = self.set.clone();
            set.push((name.clone(), Value::Int(found)));
            let trial = Compiler { set, shapes: Default::default(), ..self.clone() };
            let path = Path::new(&*root.name);
            let other = trial.front_loaded(path, root.text.to_string(), &read_spec).ok()?;
            let fits = compare(&other.graph.weights, entries, &trial.tolerance(&other)).1.is_empty();
            fits.then(|| format!("{name}={found}"))
        })
    }

    /// Looks at the file of weights that [`Self::load_weights`] would load, for the content's hash only.
    #[cfg(feature = "cli")]
    pub(crate) fn take_weights(&self, network: &mut Network) -> Result<(), Error> {
        if let Some((_, file)) = self.weights_of(network)? {
            network.made_of.files.join(&file.files);
        }
        Ok(())
    }

    /// The file whose values the network is to have, or what several hold together, under the first one's name.
    fn weights_of(&self, network: &Network) -> Result<Option<(PathBuf, WeightFile)>, Error> {
        let path = match (&self.weights, &network.imported) {
            (WeightsFrom::Seed, _) => return Ok(None),
            (WeightsFrom::Files(paths), _) => {
                let Some(first) = paths.first() else { return Ok(None) };
                return Ok(Some((first.clone(), self.open_together(paths)?)));
            }
            (WeightsFrom::Beside, Some(imported)) => return Ok(Some((network.path(), imported.weights.clone()))),
            (WeightsFrom::Beside, None) => weights_beside(&network.path(), Some(&network.graph.name)),
        };
        if self.weights == WeightsFrom::Beside && !path.is_file() {
            return Ok(None);
        }
        let file = self.open_weights(&path)?;
        Ok(Some((path, file)))
    }

    /// Files that hold the weights of one network together.
    ///
    /// # Errors
    /// Where one cannot be read, or two have a tensor of the same name.
    pub(crate) fn open_together(&self, paths: &[PathBuf]) -> Result<WeightFile, Error> {
        let (first, others) = paths.split_first().expect("there is a file");
        let mut all = self.open_weights(first)?;
        let mut owners: HashMap<String, &PathBuf> = all.entries.iter().map(|e| (e.name.clone(), first)).collect();
        for path in others {
            let mut file = self.open_weights(path)?;
            for entry in &file.entries {
                if let Some(owner) = owners.insert(entry.name.clone(), path) {
                    let message = match owner == path {
                        true => "the file is given twice".into(),
                        false => format!("it has {}, and so has {}", entry.name, owner.display()),
                    };
                    return Err(FileError::new(path, message).into());
                }
            }
            all.entries.append(&mut file.entries);
            all.paths.append(&mut file.paths);
            all.files.join(&file.files);
            all.trained = all.trained.or(file.trained);
        }
        Ok(all)
    }

    /// What of a file's tensors fits the network, and what does not. Their names are those that
    /// [`Self::renames`] give.
    ///
    /// # Errors
    /// Where two tensors would have the same name.
    pub fn compare_weights(&self, network: &Network, file: &mut WeightFile) -> Result<(Loaded, Misfit), RenameError> {
        let idle_renames = self.renames.apply(&mut file.entries)?;
        let (loaded, misfit) = compare(&network.graph.weights, &file.entries, &self.tolerance(network));
        Ok((Loaded { idle_renames, ..loaded }, misfit))
    }

    /// In the infer phase, what only training needs may be missing on either side.
    pub(super) fn tolerance(&self, network: &Network) -> Tolerance {
        let (missing, extra) = (self.allow_missing, self.allow_extra);
        if self.phase == Phase::Train {
            return Tolerance { missing, extra, ..Tolerance::default() };
        }
        let graph = &network.graph;
        let needed: BTreeSet<_> = network.stats.rows.iter().flat_map(|r| graph.weights_read(r.node)).collect();
        // What the text says itself need not be in a file.
        let given = given_numbers(graph);
        let may_lack = |id: &WeightId| !needed.contains(id) || given.contains(id);
        let optional = graph.weights.iter().map(|(id, _)| id).filter(may_lack).collect();
        // The text of an imported model has no parts for training only: no name is missing here.
        let elsewhere = if network.imported.is_some() { BTreeSet::new() } else { self.names_in_training(network) };
        Tolerance { optional, elsewhere, missing, extra }
    }

    /// The weights of the network that is trained. `when train` may declare what the network at hand, whose phase
    /// is another, never saw; so its text is elaborated once more.
    fn names_in_training(&self, network: &Network) -> BTreeSet<String> {
        let mut sources = network.sources.clone();
        let training = elaborate(&mut sources, network.root, &self.front_options(Phase::Train, &read_spec));
        let names = |graph: Graph| graph.weights.iter().map(|(_, w)| w.name.clone()).collect();
        training.map(|made| names(made.graph)).unwrap_or_default()
    }
}

/// Scales and zero points that the network's text gives.
fn given_numbers(graph: &Graph) -> BTreeSet<WeightId> {
    let of_node = |id| match graph.node(id).op() {
        Some(Op::FakeQuantize(op)) => {
            let given = [op.scale.is_some(), op.zero_point.is_some()];
            graph
                .weights_read(id)
                .into_iter()
                .zip(given)
                .filter(|(_, given)| *given)
                .map(|(weight, _)| weight)
                .collect()
        }
        _ => vec![],
    };
    graph.order().into_iter().flat_map(of_node).collect()
}

/// Requires scales, zero points and whole weights of quantized layers to be such.
fn check_values(graph: &Graph) -> Result<(), String> {
    const LISTED: usize = 8;
    let mut odd = vec![];
    for id in graph.order() {
        let Some(op) = graph.node(id).op().filter(|op| Op::QUANTIZED_NAMES.contains(&op.name())) else { continue };
        let declared = op.weights(&graph.operand_shapes(id));
        for (declared, weight) in declared.iter().zip(graph.weights_of(id).unwrap_or_default()) {
            let checked = op.check_values(declared, (*graph.weights.values(weight)).as_ref());
            odd.extend(checked.err().map(|message| format!("{}: {message}", graph.weights.get(weight).name)));
        }
    }
    match odd.len() {
        0 => Ok(()),
        count if count > LISTED => Err(format!("{}; and {} more", odd[..LISTED].join("; "), count - LISTED)),
        _ => Err(odd.join("; ")),
    }
}

/// How many scores the first output has of an image.
fn scores(graph: &Graph) -> Option<usize> {
    let shape = &graph.node(graph.outputs().first()?.node).shape;
    Some(shape.dims().get(1..)?.iter().product())
}

/// The code of what [`odd_weights`] tells.
pub(crate) const NOT_FINITE: &str = "not-finite";

/// A warning where weights are no finite numbers: nothing that is computed with them means anything. Infinities of
/// constants are meant: minus infinity is what a mask of attention adds, and bounds that do not bind are infinite.
fn odd_weights(graph: &Graph, path: &Path, loaded: &Loaded) -> Option<Diagnostic> {
    const LISTED: usize = 8;
    let constants: HashSet<WeightId> = graph.order().into_iter().filter_map(|id| constant_weight(graph, id)).collect();
    let is_meant = |(id, odd): &&(WeightId, NotFinite)| odd.nan == 0 && constants.contains(id);
    let odd: Vec<&(WeightId, NotFinite)> = loaded.not_finite.iter().filter(|odd| !is_meant(odd)).collect();
    let told: Vec<String> = odd
        .iter()
        .map(|(id, odd)| {
            let weight = graph.weights.get(*id);
            let (count, first) = (weight.shape.elements(), weight.shape.position(odd.first));
            format!("{} has {odd} of {count} values, the first at {first:?}", weight.name)
        })
        .collect();
    let (first, rest) = told.split_first()?;
    let message = format!("{}: {first}", path.display());
    let warning = rest.iter().take(LISTED).fold(Diagnostic::warning(NOT_FINITE, message), Diagnostic::note);
    let warning = match rest.len().saturating_sub(LISTED) {
        0 => warning,
        more => warning.note(format!("and so have {more} more")),
    };
    let layer = graph.order().into_iter().find(|&id| graph.weights_read(id).contains(&odd[0].0));
    let location = layer.and_then(|id| graph.node(id).location.clone());
    Some(location.into_iter().fold(warning, |w, place| w.primary(place.span, "computes with it")))
}

/// The weight that is a constant's value, which a file gives and training leaves.
fn constant_weight(graph: &Graph, id: NodeId) -> Option<WeightId> {
    match graph.node(id).op() {
        Some(Op::Constant(constant)) if !constant.learned => graph.weights_read(id).first().copied(),
        _ => None,
    }
}

/// Tells files of weights apart by what they hold, whatever their format.
pub(super) fn fingerprint(entries: &[Entry]) -> u64 {
    let mix = |hash: u64, bytes: &[u8]| xxh3_64_with_seed(bytes, hash);
    entries.iter().fold(0, |hash, entry| {
        let (buffer, range) = &entry.bytes;
        mix(mix(hash, entry.name.as_bytes()), &(**buffer).as_ref()[range.clone()])
    })
}
