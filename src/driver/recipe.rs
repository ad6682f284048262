//! How a model was made, and making it again from that.
//!
//! ```text
//! Network, Compiler ─about─▶ recipe in the file ─remake─▶ Compiler, Network
//! ```
//!
//! A recipe names the texts, the weights and the settings of a compilation, and no target: by it a
//! compiled model is compiled again, for another CPU.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::programs::Programs;
use super::weights::fingerprint;
use super::{Compiler, Error, Network, Part, WeightsFrom, WeightsReport};
use crate::artifact::{About, Container, Destination, OpenError, Origin, Recipe, SourceHash, Texts};
use crate::diagnostic::Source;
use crate::elaborate;
use crate::ir::Kind;
use crate::ops::layer::Value;
use crate::passes::{self, Selection};
use crate::plan::{self, Precision};
use crate::runtime::{Model, ModelOptions};
use crate::target::Target;
use crate::weights::file::split_key;
use crate::weights::rename::Renames;

impl Compiler {
    pub(super) fn about(&self, network: &Network) -> About {
        let graph = &network.graph;
        let preprocess = |&id| match &graph.node(id).kind {
            Kind::Input(preprocess) => preprocess.clone(),
            Kind::Parameter(_) | Kind::Op(_) => None,
        };
        About {
            netc: env!("CARGO_PKG_VERSION").into(),
            preprocess: graph.inputs().iter().map(preprocess).collect(),
            labels: graph.labels.clone(),
            recipe: match &network.settled {
                Some(settled) => settled.recipe.clone(),
                None => Some(self.recipe(network)),
            },
        }
    }

    fn recipe(&self, network: &Network) -> Recipe {
        let hash = |s: &Source| xxh3_64(s.text.as_bytes());
        let setting = |(name, value): &(String, Value)| (name.clone(), literal(value));
        let selected = passes::PIPELINE.iter().map(|p| p.name).filter(|n| self.passes.contains(n));
        let (renames, weight_map) = self.renames.parts();
        Recipe {
            sources: network.spec_files().map(|s| SourceHash { name: s.name.to_string(), hash: hash(s) }).collect(),
            model: network.graph.name.clone(),
            settings: self.set.iter().map(setting).collect(),
            batch: network.imported.as_ref().map_or(self.batch, |i| i.batch),
            shapes: self.shapes_of(network),
            fixed: self.fixed.clone().into_iter().collect(),
            part: [self.part.from.clone(), self.part.until.clone(), self.part.also.clone()],
            weights: match &network.weights {
                WeightsReport::Seed(seed) => Origin::Seed(*seed),
                WeightsReport::File { path, others, hash, .. } => Origin::File {
                    path: path.display().to_string(),
                    others: others.iter().map(|other| other.display().to_string()).collect(),
                    hash: *hash,
                    // What the files lack is made of this seed.
                    seed: self.seed,
                    partial: [self.allow_missing, self.allow_extra],
                },
            },
            renames,
            weight_map,
            passes: selected.map(String::from).collect(),
            algorithms: self.plan.algorithms.clone(),
            strict: self.plan.strict,
            small: self.plan.small,
            precision: self.plan.precision.to_string(),
            caches: [self.target.caches.l1, self.target.caches.l2, self.target.caches.l3].map(|bytes| bytes as u64),
        }
    }
}

impl Compiler {
    /// The shapes that were asked for of a network's inputs, so that its text, and an ONNX model that has its weights, are
    /// read for them again.
    fn shapes_of(&self, network: &Network) -> Vec<(String, Vec<usize>)> {
        let inputs: Vec<_> = network.graph.inputs().iter().map(|&id| network.graph.node(id)).collect();
        let is_input = |name: &String| inputs.iter().any(|node| node.name.as_ref() == Some(name));
        // Sizes by name decide about any input.
        let by_name = !self.shapes.keys().all(is_input);
        let asked = inputs.iter().filter_map(|node| {
            let (name, own) = (node.name.clone()?, node.shape.dims());
            let decided = by_name || (self.pictures.is_some() && own.len() == 4);
            let shape = self.shapes.get(&name).cloned().or_else(|| decided.then(|| own.to_vec()))?;
            Some((name, shape))
        });
        asked.collect()
    }
}

/// A value as the language writes it.
fn literal(value: &Value) -> String {
    match value {
        Value::Str(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

/// Compiles a `.netc` file again, for this machine: from the texts within, with the weights that it
/// was made with, for all of its sizes.
///
/// # Errors
/// Where the file is damaged, or its weights are not to be had.
pub fn recompile(path: &Path, options: ModelOptions) -> Result<Model, Error> {
    recompile_container(&Container::open(path)?, options)
}

pub(crate) fn recompile_container(container: &Container, options: ModelOptions) -> Result<Model, Error> {
    let mut programs = Programs::new(Destination::Memory);
    for made in container.describe()? {
        let (compiler, mut network) = remade_network(container.path(), made, &BTreeMap::new(), options)?;
        compiler.optimize(&mut network);
        programs.add(&compiler, &network)?;
    }
    Model::from_bundle(programs.finish(), options).map_err(Error::Run)
}

/// The network that a `.netc` file was made of, as written, with its weights, and how its first program was compiled.
///
/// # Errors
/// As [`recompile`].
pub(crate) fn remake(path: &Path, options: ModelOptions) -> Result<(Compiler, Network), Error> {
    remake_for(path, &BTreeMap::new(), options)
}

/// As [`remake`], for inputs of other shapes, by name. The first size of an input whose images are free is the number of
/// images that the program computes at once, whatever is given.
///
/// # Errors
/// As [`recompile`], and where the text has mistakes for these shapes.
pub(crate) fn remake_for(
    path: &Path,
    shapes: &BTreeMap<String, Vec<usize>>,
    options: ModelOptions,
) -> Result<(Compiler, Network), Error> {
    let made = Container::open(path)?.describe()?.swap_remove(0);
    remade_network(path, made, shapes, options)
}

/// As [`remake_for`], of a model that is open.
pub(super) fn remake_open(
    model: &Model,
    shapes: &BTreeMap<String, Vec<usize>>,
    options: ModelOptions,
) -> Result<(Compiler, Network), Error> {
    let path = Path::new(IN_MEMORY);
    let texts = model.texts().map_err(|cause| OpenError { path: path.into(), cause })?;
    remade_network(path, (model.about().clone(), texts), shapes, options)
}

/// What messages call a model of which there is no file.
pub(super) const IN_MEMORY: &str = "<bytes>";

/// What a program was made of, for inputs of other `shapes` where they are given.
fn remade_network(
    path: &Path,
    (about, texts): (About, Texts),
    shapes: &BTreeMap<String, Vec<usize>>,
    options: ModelOptions,
) -> Result<(Compiler, Network), Error> {
    let fail = |reason: &str| Error::Recompile { path: path.into(), reason: reason.into() };
    let recipe = about.recipe.ok_or_else(|| fail("the file does not say how it was made"))?;
    let names = recipe.sources.iter().map(|s| PathBuf::from(&s.name));
    let files: Vec<(PathBuf, String)> = names.zip(texts.sources).collect();
    let (root, text) = files.first().cloned().ok_or_else(|| fail("the file holds no spec"))?;
    let loader = |wanted: &Path| {
        let found = files.iter().find(|(name, _)| name == wanted);
        found.map(|(_, text)| text.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    let mut compiler = remade(&recipe, path, options).map_err(|reason| fail(&reason))?;
    for (name, sizes) in shapes {
        // One number is a size by its name, of a model that is read again.
        let sizes = match sizes.as_slice() {
            [_] => sizes.clone(),
            _ => [&[recipe.batch], sizes.get(1..).unwrap_or_default()].concat(),
        };
        compiler.shapes.insert(name.clone(), sizes);
    }
    let mut network = match imported_from(&compiler, &recipe).filter(|_| !shapes.is_empty()) {
        // The text has the sizes that the model was read with in more places than its inputs.
        Some(model) => {
            compiler = Compiler { model: None, weights: WeightsFrom::Beside, ..compiler };
            compiler.front(&model)?
        }
        None => compiler.front_loaded(&root, text, &loader)?,
    };
    compiler.load_weights(&mut network)?;
    Ok((compiler, network))
}

/// The ONNX model that a network was imported from, where it is found with the weights that it had; its nodes are not compared.
fn imported_from(compiler: &Compiler, recipe: &Recipe) -> Option<PathBuf> {
    let Origin::File { path, .. } = &recipe.weights else { return None };
    let is_own = recipe.sources.first().is_some_and(|source| source.name == *path);
    compiler.weights.paths().first().filter(|_| is_own && compiler.weights.is_onnx()).cloned()
}

/// The compiler that a recipe describes.
fn remade(recipe: &Recipe, file: &Path, options: ModelOptions) -> Result<Compiler, String> {
    let shapes = recipe.shapes.iter().cloned().collect();
    let fixed = recipe.fixed.iter().cloned().collect();
    let opener = Compiler { batch: recipe.batch, shapes, fixed, ..Compiler::default() };
    let (weights, seed) = match &recipe.weights {
        Origin::Seed(seed) => (WeightsFrom::Seed, *seed),
        Origin::File { path, others, hash, seed, .. } => {
            (WeightsFrom::Files(find_weights(path, others, *hash, file, &opener)?), *seed)
        }
    };
    let [allow_missing, allow_extra] = match &recipe.weights {
        Origin::File { partial, .. } => *partial,
        Origin::Seed(_) => [false; 2],
    };
    let [from, until, also] = recipe.part.clone();
    let set = recipe.settings.iter().map(|(name, value)| elaborate::parse_setting(&format!("{name}={value}")));
    Ok(Compiler {
        model: Some(recipe.model.clone()),
        set: set.collect::<Result<_, _>>()?,
        part: Part { from, until, also },
        seed,
        weights,
        allow_missing,
        allow_extra,
        renames: Renames::from_parts(&recipe.renames, &recipe.weight_map).map_err(|e| e.to_string())?,
        passes: Selection::only(recipe.passes.iter().map(String::as_str)).map_err(|e| e.to_string())?,
        plan: plan::Options {
            algorithms: recipe.algorithms.clone(),
            strict: recipe.strict,
            small: recipe.small,
            precision: precision_of(recipe, &opener.target),
            ..Default::default()
        },
        options,
        ..opener
    })
}

/// The precision that a recipe asks for, where the target has it: a model is made again on any CPU.
pub(super) fn precision_of(recipe: &Recipe, target: &Target) -> Precision {
    match recipe.precision.parse() {
        Ok(Precision::Bf16) if !target.unit.dot_bf16 => Precision::F32,
        Ok(precision) => precision,
        Err(_) => Precision::F32,
    }
}

/// The weights files of a recipe: where they were, or beside the compiled model.
fn find_weights(
    path: &str,
    others: &[String],
    hash: u64,
    file: &Path,
    opener: &Compiler,
) -> Result<Vec<PathBuf>, String> {
    let lost = |path: &str| format!("its weights {path} are not to be found, or have changed");
    let is_whole = |paths: &[PathBuf]| {
        let file = opener.open_together(paths);
        file.is_ok_and(|file| fingerprint(&file.entries) == hash)
    };
    let candidates = |path: &str| {
        let named = PathBuf::from(path);
        let beside = named.file_name().map(|name| file.with_file_name(name));
        let found = [Some(named), beside].into_iter().flatten().filter(|p| split_key(p).0.is_file());
        found.collect::<Vec<PathBuf>>()
    };
    if others.is_empty() {
        return candidates(path).into_iter().map(|p| vec![p]).find(|p| is_whole(p)).ok_or_else(|| lost(path));
    }
    // Of several, the first that is there: what they hold together tells whether they are the ones.
    let first = |path: &str| candidates(path).into_iter().next().ok_or_else(|| lost(path));
    let paths = std::iter::once(path).chain(others.iter().map(String::as_str));
    let paths = paths.map(first).collect::<Result<Vec<_>, _>>()?;
    if is_whole(&paths) { Ok(paths) } else { Err(lost(path)) }
}
