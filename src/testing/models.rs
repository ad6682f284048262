//! Graphs as models, without the driver: plan, code and runtime are tested by themselves.

use std::path::Path;

use crate::artifact::{Bundle, Destination, Image, Texts, WriteError, Writer};
use crate::codegen;
use crate::ir::Graph;
use crate::plan;
use crate::runtime::{Model, ModelOptions};
use crate::target::Target;

/// Compiles a graph for a CPU that is here, without trying its kernels first.
///
/// # Errors
/// As for compiling.
pub fn compiled(graph: &Graph, cpu: &Target, plan: &plan::Options, options: ModelOptions) -> Result<Model, String> {
    let image = codegen::compile(graph, cpu, plan, &Destination::Memory).map_err(|e| e.to_string())?;
    let texts = Texts { sources: vec![], ir: graph.to_string() };
    let preprocess = vec![None; graph.inputs().len()];
    let about = crate::artifact::About { preprocess, ..Default::default() };
    Model::from_image(image, about, texts, options).map_err(|e| e.to_string())
}

/// Writes a model as if it had been compiled for a CPU that nobody has; it has no weights.
///
/// # Errors
/// As for writing a file.
///
/// # Panics
/// Where there is no memory.
pub fn write_foreign(model: &Model, path: &Path) -> Result<(), WriteError> {
    let mut manifest = model.manifest().clone();
    manifest.features.push("avx1024f".into());
    manifest.steps.iter_mut().for_each(|s| s.weights = None);
    let weights = Destination::Memory.region(4096).expect("memory");
    let image = Image { manifest, code: model.code().to_vec(), weights };
    let texts = model.texts().expect("what was written");
    Writer::create(path)?.finish(&Bundle::new(image, model.about().clone(), texts))
}
