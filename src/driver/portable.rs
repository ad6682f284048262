//! Portable models: the optimized graph and its weights in a file, compiled where it is opened.
//!
//! ```text
//! Network ─write_portable─▶ file ─read─▶ parse, verify, check ─▶ Network ─compile─▶ Model
//! ```
//!
//! Such a file may come from anybody. It is trusted no further than the text of a network: sizes are
//! compared before memory is taken, the graph's shapes are inferred anew, and weights are those that
//! the graph declares, no others.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::hash::MadeOf;
use super::network::Settled;
use super::ports::{input_ports, output_ports};
use super::{Compiled, Compiler, Error, Network, Stage, WeightsReport};
use crate::artifact::{
    About, Cause, Container, OpenError, Portable, StoredTensor, TensorRecord, Texts, WriteError, Writer,
};
use crate::diagnostic::Sources;
use crate::elaborate::MAX_NODES;
use crate::ir::stats::stats;
use crate::ir::{self, Graph, Kind, NodeId, Phase};
use crate::ops::Op;
use crate::output::keep;
use crate::runtime::Model;
use crate::weights::load::Loaded;
use crate::weights::{Values, WeightId};

/// The text of a graph may have no more bytes than this.
const MAX_IR: usize = 16 << 20;

impl Compiler {
    /// Compiles the spec at `path` into a portable model: as far as the optimized graph, which is
    /// compiled where it is opened.
    ///
    /// # Errors
    /// The first stage's that fails; then nothing is written.
    pub fn compile_portable(&self, path: impl AsRef<Path>, output: impl AsRef<Path>) -> Result<Compiled, Error> {
        let network = self.optimized(path.as_ref())?;
        self.write_portable(&network, output.as_ref())
    }

    /// Writes an optimized network as a portable model.
    ///
    /// # Errors
    /// Where the network is larger than a portable model may be, or writing fails; then nothing is
    /// written.
    pub fn write_portable(&self, network: &Network, output: &Path) -> Result<Compiled, Error> {
        let malformed = |message| Error::Portable { path: output.into(), message };
        let read = network.graph.weights.files.iter();
        keep(output, read).map_err(|cause| WriteError { path: output.into(), cause })?;
        self.begin(Stage::Write);
        let texts = network.texts();
        // What is written is read here once, by the eyes of whoever opens it.
        let graph = parse(&texts.ir).map_err(malformed)?;
        if graph.to_string() != texts.ir {
            return Err(malformed("its graph is not what its text says".into()));
        }
        let writer = Writer::create(output)?;
        let weights: Vec<WeightId> = graph.weights.iter().map(|(id, _)| id).collect();
        let own = |id: &WeightId| network.graph.weights.find(&graph.weights.get(*id).name).expect("printed just now");
        let own: Vec<WeightId> = weights.iter().map(own).collect();
        let bytes = weights.iter().map(|&id| 4 * graph.weights.get(id).shape.elements()).sum();
        let region = writer.destination()?.region(bytes);
        let cannot_write = |cause| WriteError { path: output.into(), cause };
        let mut region = region.map_err(cannot_write)?;
        let mut rest: &mut [u8] = &mut region;
        for &id in &own {
            let values = network.graph.weights.values(id);
            let bytes: &[u8] = bytemuck::cast_slice((*values).as_ref());
            let (here, after) = rest.split_at_mut(bytes.len());
            here.copy_from_slice(bytes);
            rest = after;
        }
        network.made_of.files.check()?;
        let record = |&id: &WeightId| {
            let weight = graph.weights.get(id);
            TensorRecord { name: weight.name.clone(), shape: weight.shape.dims().to_vec() }
        };
        let records = weights.iter().map(record).collect();
        // Preprocessing and class names are in the graph's text.
        let about = About { preprocess: vec![], labels: vec![], ..self.about(network) };
        writer.finish_portable(&region, records, &network.open, &about, &texts)?;
        Ok(Compiled {
            name: graph.name.clone(),
            inputs: input_ports(&graph),
            outputs: output_ports(&graph),
            code: None,
            sizes: vec![],
            weight_bytes: bytes as u64,
        })
    }

    /// Opens a portable model (`netc compile --portable`): checks it and compiles it for this machine.
    /// Unlike [`Model::open`], this is safe with files of anybody. The file is not needed any more
    /// once this returns. Results are bit by bit those of the network that it was made of, compiled
    /// on this machine.
    ///
    /// # Errors
    /// Where the file is no undamaged portable model, asks for more than [`crate::ModelOptions::memory`],
    /// or cannot be compiled.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Model, Error> {
        self.open_container(&Container::open(path.as_ref())?)
    }

    pub(crate) fn open_container(&self, container: &Container) -> Result<Model, Error> {
        let network = self.read_container(container)?;
        self.compile(&network)
    }

    /// The network in a portable model: optimized, with its weights.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn read_portable(&self, path: &Path) -> Result<Network, Error> {
        self.read_container(&Container::open(path)?)
    }

    pub(crate) fn read_container(&self, container: &Container) -> Result<Network, Error> {
        self.begin(Stage::Front);
        let path = container.path();
        let cannot_open = |cause| Error::Open(OpenError { path: path.into(), cause });
        if !container.is_portable() {
            let message = "this is no portable model: its code runs as it is, and is opened as such".to_string();
            return Err(cannot_open(Cause::Malformed { message }));
        }
        let limit = self.options.memory_limit();
        let Portable { about, texts, tensors, open_inputs, values } =
            Portable::read(container, limit).map_err(cannot_open)?;
        let malformed = |message| Error::Portable { path: path.into(), message };
        let mut graph = parse(&texts.ir).map_err(malformed)?;
        give_weights(&mut graph, tensors, &values).map_err(malformed)?;
        Ok(network(path, graph, open_inputs, about, texts))
    }
}

fn network(path: &Path, graph: Graph, open_inputs: Vec<usize>, about: About, texts: Texts) -> Network {
    let mut sources = Sources::default();
    let named = about.recipe.iter().flat_map(|r| &r.sources).zip(texts.sources);
    let added: Vec<_> = named.map(|(source, text)| sources.add(source.name.clone(), text)).collect();
    let root = added.first().copied().unwrap_or_else(|| sources.add(path.display().to_string(), ""));
    // An index that there is not counts for nothing; what the rest says is proved of the graph.
    let open: Vec<usize> = open_inputs
        .into_iter()
        .filter(|&i| graph.inputs().get(i).is_some_and(|&id| graph.node(id).shape.rank() > 0))
        .collect();
    let open_ids: Vec<NodeId> = open.iter().map(|&i| graph.inputs()[i]).collect();
    let weights = Loaded { weights: graph.weights.iter().count(), ..Loaded::default() };
    Network {
        sources,
        root,
        stats: stats(&graph),
        images: graph.images(&open_ids),
        open,
        graph,
        labels: HashMap::new(),
        warnings: vec![],
        weights: WeightsReport::File {
            path: path.into(),
            others: vec![],
            hash: 0,
            loaded: Box::new(weights),
            choice: None,
            trained: None,
        },
        remarks: vec![],
        imported: None,
        made_of: MadeOf::default(),
        settled: Some(Settled { recipe: about.recipe }),
    }
}

/// The graph of a text by anybody.
fn parse(text: &str) -> Result<Graph, String> {
    if text.len() > MAX_IR {
        return Err(format!("its graph has a text of {} bytes, more than {MAX_IR}", text.len()));
    }
    let graph = ir::parse(text).map_err(|e| format!("its graph cannot be read: {e}"))?;
    if graph.len() > MAX_NODES {
        return Err(format!("its graph has {} nodes, more than {MAX_NODES}", graph.len()));
    }
    ir::verify(&graph).map_err(|errors| format!("its graph makes no sense: {}", errors[0]))?;
    // Passes pad volumes with what training fills weights with.
    let trains = |id: &NodeId| graph.node(*id).op().is_some_and(|op| op.is_training() && !matches!(op, Op::Fill(_)));
    if graph.phase != Phase::Infer || !graph.updates().is_empty() || graph.order().iter().any(trains) {
        return Err("its graph is one for training".into());
    }
    check_names(&graph)?;
    check_preprocess(&graph)?;
    Ok(graph)
}

/// Names and places go to terminals and into files.
fn check_names(graph: &Graph) -> Result<(), String> {
    let is_plain = |name: &&str| name.chars().all(|c| !c.is_control() || c == '\t');
    let nodes = graph.order();
    let of_nodes = nodes.iter().flat_map(|&id| {
        let node = graph.node(id);
        let place = node.location.as_ref().map(|l| &*l.file);
        node.name.as_deref().into_iter().chain(place)
    });
    let weights = graph.weights.iter().map(|(_, w)| w.name.as_str());
    let others = graph.outputs().iter().map(|o| &o.name).chain(&graph.labels).map(String::as_str);
    let mut names = of_nodes.chain(weights).chain(others).chain([graph.name.as_str()]);
    match names.find(|name| !is_plain(name)) {
        Some(name) => Err(format!("the name `{}` has control characters", name.escape_default())),
        None => Ok(()),
    }
}

fn check_preprocess(graph: &Graph) -> Result<(), String> {
    graph.inputs().iter().try_for_each(|&id| {
        let node = graph.node(id);
        let Kind::Input(Some(steps)) = &node.kind else { return Ok(()) };
        let checked = match node.shape.nchw() {
            Some([_, channels, height, width]) => {
                steps.check([channels, height, width]).map_err(|wrong| wrong.to_string())
            }
            None => Err("only images have preprocessing".into()),
        };
        checked.map_err(|message| format!("input {}: {message}", node.name.as_deref().unwrap_or("")))
    })
}

/// Gives the graph's weights the file's numbers: all of them, and of exactly their shapes.
fn give_weights(graph: &mut Graph, tensors: Vec<StoredTensor>, values: &Arc<Vec<f32>>) -> Result<(), String> {
    let declared = graph.weights.iter().count();
    if tensors.len() != declared {
        return Err(format!("it has {} tensors, its graph {declared} weights", tensors.len()));
    }
    for tensor in tensors {
        let found = graph.weights.find(&tensor.name).filter(|&id| graph.weights.is_seeded(id));
        let id = found.ok_or_else(|| format!("its graph has no weight `{}`, or it is given twice", tensor.name))?;
        let shape = &graph.weights.get(id).shape;
        if shape.dims() != tensor.shape {
            return Err(format!("{} is {shape}, not {:?}", tensor.name, tensor.shape));
        }
        let part: Values = Arc::new(Part { all: values.clone(), range: tensor.range });
        graph.weights.set(id, part);
    }
    Ok(())
}

/// One tensor's numbers among those of all.
struct Part {
    all: Arc<Vec<f32>>,
    range: std::ops::Range<usize>,
}

impl AsRef<[f32]> for Part {
    fn as_ref(&self) -> &[f32] {
        &self.all[self.range.clone()]
    }
}
