//! Networks of 8 bits: from a network of f32 and samples of its input to a text with `quantize` layers in it.
//!
//! ```text
//! Network ─fold─▶ Graph ─sites─▶ which layers, which values ─rewrite─▶ Graph ─text─▶ Network of the new text
//!                   │                                         ▲   │
//!                   └─calibrate─▶ histograms ─range─▶ grids ──┘   └─calibrate─▶ report: signal to noise
//!                      samples     means of inputs ─▶ biases      └─accuracy──▶ layers that go back to f32
//! ```
//!
//! Batch norms are folded first, by the pipeline's own passes, and the folded graph is what is rewritten and written: a
//! layer's rounded weights are then those that it multiplies by. Values that layers read are rounded to 8 bits without a
//! sign, one scale for all of a value; weights to ±127, a scale for each output channel. What a rounded network means
//! is `ops::quantized`'s, how it is computed in whole numbers `passes::lower_quantized`'s. Nothing here prints or writes.

mod accuracy;
mod calibrate;
mod histogram;
mod pixels;
mod range;
mod report;
mod rewrite;
mod sites;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeSet, HashMap};

pub(crate) use range::Method;
pub(crate) use report::{LayerReport, Report, ValueReport};

use crate::data::{DataError, Dataset, Input, Loader, Mode, OnBroken, Settings};
use crate::driver::{self, Compiler, Network};
use crate::ir::{Graph, Kind, NodeId};
use crate::ops::Op;
use crate::ops::quantized::{Grid, Levels};
use crate::passes::{self, Selection};
use crate::preprocess::Preprocess;
use calibrate::Noise;
use histogram::Histogram;
use pixels::Pixels;
use range::Range;
use rewrite::Rewritten;
use sites::Sites;

/// Why no network of 8 bits was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Driver(#[from] driver::Error),
    #[error(transparent)]
    Data(#[from] DataError),
    /// Too few samples, or samples that are of no use.
    #[error("{0}")]
    Samples(String),
    /// A value of the network for a sample.
    #[error("{value} is not finite: {message}; ranges are those of finite numbers")]
    NotFinite { value: String, message: String },
    /// The network cannot be quantized.
    #[error("{0}")]
    Network(String),
}

/// Samples of a network's input.
pub(crate) struct Samples<'a> {
    pub dataset: &'a Dataset,
    pub on_broken: OnBroken,
    /// Threads that read samples beside the runs.
    pub threads: usize,
}

impl Samples<'_> {
    /// The samples from the first to the last, in batches.
    pub(crate) fn batches(&self, network: &Network, batch: usize, memory: u64) -> Result<Loader, DataError> {
        let graph = &network.graph;
        let input = |&id: &NodeId| {
            let node = graph.node(id);
            let (name, shape) =
                (node.name.as_deref().unwrap_or_default(), node.shape.dims().get(1..).unwrap_or_default());
            Input { name, shape, preprocess: preprocess(graph, id), augment: &[] }
        };
        let feeds = self.dataset.feeds(&graph.inputs().iter().map(input).collect::<Vec<_>>())?;
        let settings = Settings {
            batch,
            mode: Mode::Evaluation,
            threads: self.threads,
            on_broken: self.on_broken,
            memory: Some(memory),
            ..Settings::default()
        };
        Loader::new(self.dataset, feeds, settings)
    }
}

fn preprocess(graph: &Graph, input: NodeId) -> Option<&Preprocess> {
    match &graph.node(input).kind {
        Kind::Input(preprocess) => preprocess.as_ref(),
        _ => None,
    }
}

/// The accuracy that is to be kept.
pub(crate) struct Goal<'a> {
    /// With the class of each.
    pub labelled: Samples<'a>,
    /// The share of the samples that may be lost; without it, the accuracy is only told.
    pub loss: Option<f64>,
}

/// What is to be done.
pub(crate) struct Job<'a> {
    pub compiler: &'a Compiler,
    /// As it is written, with its weights.
    pub network: &'a Network,
    pub samples: Samples<'a>,
    pub method: Method,
    /// The network that is made takes pixels as they are, as u8.
    pub takes_pixels: bool,
    /// Labels of layers that stay f32.
    pub keep: &'a [String],
    /// Biases take the mean error of the weights' rounding.
    pub correct_biases: bool,
    pub goal: Option<Goal<'a>>,
    /// Told what is done, and how many of how many samples.
    pub told: &'a dyn Fn(&str, usize, usize),
}

/// What came of it.
pub(crate) struct Quantized {
    /// The network of the new text, with its weights.
    pub network: Network,
    pub report: Report,
}

/// Passes that bring a network to the form in which it is rewritten.
const FOLDING: &[&str] = &[
    "remove_aux_heads",
    "remove_dropout",
    "dead_code",
    "constant_folding",
    "cse",
    "recognise_gelu",
    "recognise_hard_sigmoid",
    "recognise_gate",
    "compose_scales",
    "recognise_channel_scales",
    "recognise_layer_norm",
    "recognise_shuffle",
    "simplify_concat",
    "simplify_pool",
    "fold_batch_norm",
];

/// Quantizes a network.
///
/// # Errors
/// Where there is nothing to quantize, samples do not fit, a value is not finite for one, or the accuracy cannot be kept.
pub(crate) fn quantize(job: &Job<'_>) -> Result<Quantized, Error> {
    let mut graph = job.network.graph.clone();
    let folding = Selection::only(FOLDING.iter().copied()).expect("passes of these names");
    passes::run(&mut graph, &folding);
    let pixels = job.takes_pixels.then(|| Pixels::of(&mut graph)).transpose().map_err(Error::Network)?;
    let run = Rounding::new(job, &graph, pixels)?;
    let (kept, accuracy) = match &job.goal {
        None => (BTreeSet::new(), None),
        Some(goal) => {
            let (kept, accuracy) = accuracy::keep(&run, goal)?;
            (kept, Some(accuracy))
        }
    };
    let made = run.made(&kept)?;
    let noise = run.noise(&made)?;
    let report = report::report(&run, &made, &noise, &kept, accuracy);
    let name = job.network.graph.name.clone();
    let about = format!("{name} with weights and values of 8 bits.");
    let open: Vec<NodeId> = job.network.open.iter().map(|&i| graph.inputs()[i]).collect();
    let mut rewritten = made.rewritten.graph.clone();
    if let Some(pixels) = &run.pixels {
        let Some(&rounded) = made.rewritten.rounded.get(&pixels.root) else {
            let message = format!("{name} cannot take pixels as u8: the layer that reads them stays f32");
            return Err(Error::Network(message));
        };
        pixels.take_levels(&mut rewritten, rounded);
    }
    let network = job.compiler.as_text(job.network, &rewritten, &about, &open);
    Ok(Quantized { network: network.map_err(Error::Network)?, report })
}

/// Gives a network's linear layers weights of 8 bits, and nothing else: values stay f32, so that no samples are needed.
/// Linear layers of a few images do little but read their weights, which then are a quarter as large.
///
/// # Errors
/// Where there is no such layer, or no layer of a label in `keep`.
pub(crate) fn of_weights(compiler: &Compiler, network: &Network, keep: &[String]) -> Result<Quantized, Error> {
    let mut graph = network.graph.clone();
    let folding = Selection::only(FOLDING.iter().copied()).expect("passes of these names");
    passes::run(&mut graph, &folding);
    let name = &network.graph.name;
    let (candidates, asked) = chosen(&graph, name, keep)?;
    let is_linear = |id: NodeId| matches!(graph.node(id).op(), Some(Op::Linear(_)));
    let has_eight = |candidate: &&sites::Candidate| {
        candidate.refused.is_none() && is_linear(candidate.node) && !asked.contains(&candidate.node)
    };
    let layers: Vec<NodeId> = candidates.iter().filter(has_eight).map(|candidate| candidate.node).collect();
    if layers.is_empty() {
        return Err(Error::Network(format!("{name} has no linear layer whose weights could have 8 bits")));
    }
    let made = rewrite::of_weights(&graph, &layers);
    let report = report::of_weights(&graph, &made, &candidates, &layers, &asked);
    let about = format!("{name} with weights of 8 bits in its linear layers.");
    let open: Vec<NodeId> = network.open.iter().map(|&i| graph.inputs()[i]).collect();
    let network = compiler.as_text(network, &made, &about, &open);
    Ok(Quantized { network: network.map_err(Error::Network)?, report })
}

/// The layers of a network that is not quantized yet, and those of them that a user lets stay f32.
fn chosen(graph: &Graph, name: &str, keep: &[String]) -> Result<(Vec<sites::Candidate>, BTreeSet<NodeId>), Error> {
    let is_quantized = |&id: &NodeId| graph.node(id).op().is_some_and(|op| Op::QUANTIZED_NAMES.contains(&op.name()));
    if graph.order().iter().any(is_quantized) {
        return Err(Error::Network(format!("{name} is quantized already")));
    }
    let candidates = sites::candidates(graph);
    let mut asked = BTreeSet::new();
    for label in keep {
        let named = |candidate: &&sites::Candidate| graph.node(candidate.node).name.as_ref() == Some(label);
        match candidates.iter().find(named) {
            Some(candidate) => drop(asked.insert(candidate.node)),
            None => {
                let message = format!("{name} has no convolution or linear layer called `{label}`");
                return Err(Error::Network(message));
            }
        }
    }
    Ok((candidates, asked))
}

/// A folded network and what was seen of its values.
struct Rounding<'a> {
    job: &'a Job<'a>,
    graph: &'a Graph,
    candidates: Vec<sites::Candidate>,
    /// Of these, those that a user lets stay.
    asked: BTreeSet<NodeId>,
    seen: HashMap<NodeId, Histogram>,
    /// What the input is made of, where the network that is made takes that.
    pixels: Option<Pixels>,
}

/// A network of 8 bits in which some layers stay f32.
struct Made {
    sites: Sites,
    grids: HashMap<NodeId, Grid>,
    rewritten: Rewritten,
}

impl<'a> Rounding<'a> {
    fn new(job: &'a Job<'a>, graph: &'a Graph, pixels: Option<Pixels>) -> Result<Self, Error> {
        let name = &job.network.graph.name;
        let (candidates, asked) = chosen(graph, name, job.keep)?;
        let mut run = Rounding { job, graph, candidates, asked, seen: HashMap::new(), pixels };
        let layers = run.layers(&BTreeSet::new());
        if layers.is_empty() {
            let message = match run.candidates.iter().find_map(|candidate| candidate.refused) {
                _ if !run.asked.is_empty() => {
                    format!("{name} has nothing to quantize: all of its layers are to stay f32")
                }
                Some(refused) => format!("{name} has nothing to quantize: {refused}"),
                None => format!("{name} has nothing to quantize: no convolution and no linear layer"),
            };
            return Err(Error::Network(message));
        }
        let values = Sites::possible(graph, &layers);
        run.seen = calibrate::histograms(job, graph, &values)?;
        if let Some(pixels) = &run.pixels
            && let Some(seen) = run.seen.get(&pixels.root)
        {
            let ends = |zero: i64| [-zero, 255 - zero].map(|steps| steps as f32 * pixels.scale);
            let held = pixels.zeros.iter().map(|&zero| ends(zero));
            let [low, high] = held.fold([0.0f32; 2], |all, [low, high]| [all[0].min(low), all[1].max(high)]);
            if seen.least < low - pixels.scale || seen.largest > high + pixels.scale {
                let message = format!("the samples of {name} are no pixels: some lie beyond the levels from 0 to 255");
                return Err(Error::Samples(message));
            }
        }
        Ok(run)
    }

    /// The layers that have 8 bits, where these stay f32.
    fn layers(&self, kept: &BTreeSet<NodeId>) -> Vec<NodeId> {
        let has_eight = |candidate: &&sites::Candidate| {
            candidate.refused.is_none() && !kept.contains(&candidate.node) && !self.asked.contains(&candidate.node)
        };
        self.candidates.iter().filter(has_eight).map(|candidate| candidate.node).collect()
    }

    /// The network in which these layers stay f32.
    fn made(&self, kept: &BTreeSet<NodeId>) -> Result<Made, Error> {
        let sites = Sites::of(self.graph, &self.layers(kept));
        let grids = self.grids(&sites);
        let of_layer = |(layer, roots): &(NodeId, Vec<NodeId>)| {
            let root = roots.first()?;
            let grid = grids[root];
            // Of each channel, where they differ.
            let channels = match &self.pixels {
                Some(pixels) if pixels.root == *root => {
                    pixels.zeros.iter().map(|&zero| Grid { zero, ..grid }).collect()
                }
                _ => vec![grid],
            };
            Some((*layer, channels))
        };
        let layers: Vec<(NodeId, Vec<Grid>)> = sites.layers.iter().filter_map(of_layer).collect();
        let means = match self.job.correct_biases {
            true => calibrate::means(self.job, self.graph, &layers)?,
            false => HashMap::new(),
        };
        let rewritten = rewrite::rewrite(self.graph, &sites, &grids, self.pixels.as_ref(), &means);
        Ok(Made { sites, grids, rewritten })
    }

    /// A grid for each root, the same for those that are joined.
    fn grids(&self, sites: &Sites) -> HashMap<NodeId, Grid> {
        let mut ranges: HashMap<NodeId, Range> = HashMap::new();
        for &root in &sites.roots {
            let range = Range::of(&self.seen[&root], self.job.method);
            let joined = ranges.entry(sites.group(root)).or_insert(Range::NONE);
            *joined = joined.hull(range);
        }
        let is_alone =
            |root: NodeId| sites.roots.iter().filter(|&&other| sites.group(other) == sites.group(root)).count() == 1;
        let grid = |&root: &NodeId| {
            if let Some(Pixels { scale, zeros, .. }) = self.pixels.as_ref().filter(|pixels| pixels.root == root) {
                return (root, Grid { levels: Levels::U8, scale: *scale, zero: zeros[0] });
            }
            let of_pixels = preprocess(self.graph, root)
                .and_then(grid_of_pixels)
                .filter(|grid| is_alone(root) && holds(grid, &self.seen[&root]));
            (root, of_pixels.unwrap_or_else(|| ranges[&sites.group(root)].grid(Levels::U8)))
        };
        sites.roots.iter().map(grid).collect()
    }

    /// How far each layer's result and each rounded value lies from what the network of f32 has.
    fn noise(&self, made: &Made) -> Result<Noises, Error> {
        let mut pairs: Vec<(NodeId, NodeId)> = made.sites.layers.iter().map(|&(layer, _)| (layer, layer)).collect();
        for &root in &made.sites.roots {
            pairs.push((root, root));
            pairs.push((root, made.rewritten.rounded[&root]));
        }
        let outputs = self.graph.outputs().iter().zip(made.rewritten.graph.outputs());
        let (first, layers) = (pairs.len(), made.sites.layers.len());
        pairs.extend(outputs.map(|(real, rounded)| (real.node, rounded.node)));
        let noise = calibrate::compare(self.job, [self.graph, &made.rewritten.graph], &pairs)?;
        let of_layers = made.sites.layers.iter().zip(&noise).map(|(&(layer, _), &noise)| (layer, noise)).collect();
        let of_roots = made.sites.roots.iter().zip(noise[layers..first].chunks(2));
        let of_roots = of_roots.map(|(&root, both)| (root, [both[0], both[1]])).collect();
        Ok(Noises { of_layers, of_roots, of_outputs: noise[first..].to_vec() })
    }
}

/// How far values lie from those of the network of f32.
struct Noises {
    of_layers: HashMap<NodeId, Noise>,
    /// Before and behind its rounding.
    of_roots: HashMap<NodeId, [Noise; 2]>,
    of_outputs: Vec<Noise>,
}

/// The grid on which the levels of pictures lie behind the preprocessing, where that treats all channels alike.
///
/// A level l becomes `(l · scale − mean) / std`. Where `mean / scale` is no whole number, all pixels lie beside the grid by
/// the same part of a step, below half of one, and still each on a level of its own.
fn grid_of_pixels(preprocess: &Preprocess) -> Option<Grid> {
    let alike = |values: &[f32], absent: f32| match values.split_first() {
        None => Some(absent),
        Some((first, rest)) => rest.iter().all(|v| v == first).then_some(*first),
    };
    let (mean, std) = (alike(&preprocess.mean, 0.0)?, alike(&preprocess.std, 1.0)?);
    let factor = preprocess.scale.unwrap_or(1.0);
    let (scale, zero) = (factor / std, f64::from(mean) / f64::from(factor));
    let is_grid = scale > 0.0 && scale.is_finite() && factor > 0.0 && (0.0..=255.0).contains(&zero.round_ties_even());
    let tells_apart = (zero - zero.round_ties_even()).abs() < 0.49;
    (is_grid && tells_apart).then(|| Grid { levels: Levels::U8, scale, zero: zero.round_ties_even() as i64 })
}

/// Whether all numbers that were seen are within half a step of a grid.
fn holds(grid: &Grid, seen: &Histogram) -> bool {
    let (low, high) = (grid.real(grid.levels.low() as f64), grid.real(grid.levels.high() as f64));
    seen.least >= low - 0.5 * grid.scale && seen.largest <= high + 0.5 * grid.scale
}

impl Job<'_> {
    /// Bytes that batches may take.
    fn memory(&self) -> u64 {
        self.compiler.options.memory_limit()
    }
}
