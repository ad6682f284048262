//! `netc check`.

use std::io::Write;
use std::path::Path;

use super::args::Check;
use super::console::{Console, bytes, grouped};
use super::engine::is_compiled;
use super::failure::{Failure, Result};
use super::network::{options, settings, shapes};
use crate::diagnostic::Diagnostic;
use crate::driver::{Compiler, Error, model_names};
use crate::ir::Phase;
use crate::plan;
use crate::runtime::{Model, Verify};
use crate::syntax::MAX_MODELS;

pub fn run(args: &Check, console: Console) -> Result<()> {
    let mut failed = false;
    for file in &args.files {
        if is_compiled(file) {
            whole(file, console)?;
            continue;
        }
        for model in models(args, file)? {
            failed |= !check(args, file, model, console)?;
        }
    }
    if failed { Err(Failure::Silent) } else { Ok(()) }
}

/// Compares all checksums of a compiled model.
fn whole(file: &Path, console: Console) -> Result<()> {
    let options = options(console).threads(1).verify(Verify::Eager);
    let model = Model::open_with(file, options).map_err(Failure::message)?;
    let manifest = model.manifest();
    writeln!(
        console.out(),
        "{}: {} is whole: {} steps, {} of weights, for {}",
        file.display(),
        manifest.name,
        manifest.steps.len(),
        bytes(model.weights_bytes()),
        if manifest.features.is_empty() { "any CPU".into() } else { manifest.features.join(", ") },
    )?;
    Ok(())
}

/// What to check in a file: each model by its name; where none can be read, the file as such.
fn models(args: &Check, file: &Path) -> Result<Vec<Option<String>>> {
    if args.model.is_some() {
        return Ok(vec![args.model.clone()]);
    }
    let names = model_names(file).map_err(|e| Failure::message(format!("{}: {e}", file.display())))?;
    // Of too many, it is the file that is wrong.
    let each = (2..=MAX_MODELS).contains(&names.len());
    Ok(if each { names.into_iter().map(Some).collect() } else { vec![None] })
}

/// Whether the model is right.
fn check(args: &Check, file: &Path, model: Option<String>, console: Console) -> Result<bool> {
    let (set, shapes) = (settings(&args.set)?, shapes(&args.shapes)?);
    let phase = args.phase.into();
    let compiler = Compiler { model, set, shapes, phase, options: options(console), ..Compiler::default() };
    match compiler.front(file) {
        Ok(network) => {
            console.diagnostics(&network.warnings, &network.sources)?;
            // What is compiled is the network of this phase; what no code can be made for is no network.
            if phase == Phase::Infer
                && let Err(error) = plan::limits::check(&network.graph)
            {
                let error = Diagnostic::error("beyond-code", error.to_string());
                console.diagnostics(&[error], &network.sources)?;
                return Ok(false);
            }
            let totals = network.stats.totals;
            if !console.json_messages() {
                writeln!(
                    console.out(),
                    "{}: {} is right: {} layers, {} parameters, {} MACs",
                    file.display(),
                    network.graph.name,
                    totals.layers,
                    grouped(totals.params),
                    grouped(totals.macs),
                )?;
            }
            Ok(true)
        }
        Err(Error::Spec { sources, diagnostics }) => {
            console.diagnostics(&diagnostics, &sources)?;
            Ok(false)
        }
        Err(other) => Err(other.into()),
    }
}
