//! `netc weights`.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::args::{Weights, WeightsCommand};
use super::console::{Console, bytes, grouped, table};
use super::failure::{Failure, Result};
use super::network::settings;
use crate::driver::{Compiler, WeightsFrom};
use crate::ir::Phase;
use crate::weights::entries::Entry;
use crate::weights::safetensors;

pub fn run(args: &Weights, console: Console) -> Result<()> {
    match &args.command {
        WeightsCommand::List { file, json } => list(file, *json, console),
        WeightsCommand::Init { file, output, model, set, seed } => {
            let compiler = Compiler {
                model: model.clone(),
                set: settings(set)?,
                phase: Phase::Train,
                seed: *seed,
                weights: WeightsFrom::Seed,
                ..Compiler::default()
            };
            let network = compiler.front(file)?;
            console.diagnostics(&network.warnings, &network.sources)?;
            let output = output.clone().unwrap_or_else(|| file.with_extension("safetensors"));
            let bar = console.progress(None, format!("writing {}", output.display()));
            let written = safetensors::write(&output, &network.graph.weights);
            bar.finish_and_clear();
            written.map_err(Failure::message)?;
            let size = std::fs::metadata(&output).map_or(0, |m| m.len());
            console.detail(format_args!("{}: {}", output.display(), bytes(size)));
            Ok(())
        }
    }
}

/// What one looks for in a tensor: how large its values are.
struct Summary {
    least: f32,
    mean: f64,
    most: f32,
}

fn list(path: &Path, as_json: bool, console: Console) -> Result<()> {
    let file = Compiler::default().open_weights(path)?;
    let bar = console.progress(Some(file.entries.len() as u64), "reading");
    let summaries: Vec<Option<Summary>> = bar.wrap_iter(file.entries.iter()).map(summary).collect();
    bar.finish_and_clear();
    let rows = file.entries.iter().zip(&summaries);
    let text = if as_json {
        format!("{:#}\n", Value::Array(rows.map(|(e, s)| row_json(e, s.as_ref())).collect()))
    } else {
        let head = ["name", "shape", "type", "min", "mean", "max"].map(String::from).to_vec();
        let rows: Vec<_> = [head].into_iter().chain(rows.map(|(e, s)| row_text(e, s.as_ref()))).collect();
        let total: u64 = file.entries.iter().map(|e| e.shape.elements() as u64).sum();
        let count = file.entries.len();
        format!("{}\n{}: {count} tensors, {} values\n", table(&rows, &[3, 4, 5]), file.format, grouped(total))
    };
    Ok(console.out().write_all(text.as_bytes())?)
}

fn summary(entry: &Entry) -> Option<Summary> {
    let values = entry.values()?;
    let values = (*values).as_ref();
    if values.is_empty() {
        return None;
    }
    let (least, most) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, m), &v| (l.min(v), m.max(v)));
    let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
    Some(Summary { least, mean: sum / values.len() as f64, most })
}

fn row_text(entry: &Entry, summary: Option<&Summary>) -> Vec<String> {
    let mut row = vec![
        entry.name.clone(),
        entry.shape.to_string().trim_start_matches("f32").to_string(),
        entry.encoding.to_string(),
    ];
    if let Some(s) = summary {
        row.extend([format!("{:.4}", s.least), format!("{:.4}", s.mean), format!("{:.4}", s.most)]);
    }
    row
}

fn row_json(entry: &Entry, summary: Option<&Summary>) -> Value {
    json!({
        "name": entry.name,
        "shape": entry.shape.dims(),
        "type": entry.encoding.to_string(),
        "min": summary.map(|s| s.least),
        "mean": summary.map(|s| s.mean),
        "max": summary.map(|s| s.most),
    })
}
