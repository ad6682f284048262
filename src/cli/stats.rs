//! `netc stats`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::args::{MemorySize, PhaseName, ShapeArgs, whole};
use super::console::{Console, bytes, counted, grouped, table};
use super::failure::{Failure, Result};
use super::network::{of_inputs, options, settings};
use crate::driver::{BlockChoice, Compiler, Network, training_names};
use crate::ir::Phase;
use crate::ir::stats::Row;
use crate::trainer::{self, MemoryPrice, StepMemory, TrainError};

/// Show what each layer costs: shapes, parameters, multiply-accumulates, receptive field
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc stats resnet34.net
  netc stats googlenet.net --phase train
  netc stats dcgan.net --model generator --json")]
pub(crate) struct StatsArgs {
    /// A spec (.net) or ONNX model (.onnx)
    pub file: PathBuf,
    /// Which model of a file that holds several
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Set a parameter of the model; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// The size of N; MACs are those of all images
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u32>(1..=65536))]
    pub batch: u32,
    /// Which life of the network; `infer` does not count auxiliary heads
    #[arg(long, value_enum, default_value_t, value_name = "PHASE")]
    pub phase: PhaseName,
    /// Show steps of training that take at most so much memory, such as 512MiB: which values are computed again, and
    /// what that costs
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<MemorySize>,
    #[command(flatten)]
    pub shapes: ShapeArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub(crate) fn run(args: &StatsArgs, console: Console) -> Result<()> {
    let compiler = Compiler {
        model: args.model.clone(),
        set: settings(&args.set)?,
        phase: args.phase.into(),
        batch: args.batch as usize,
        options: options(console),
        ..of_inputs(&args.shapes)?
    };
    if args.memory.is_some() && args.phase != PhaseName::Train {
        return Err(Failure::Usage("--memory is of steps of training: --phase train shows them".into()));
    }
    let network = compiler.front(&args.file)?;
    console.diagnostics(&network.warnings, &network.sources)?;
    let steps = if args.phase == PhaseName::Train { steps(args, &compiler, &network)? } else { vec![] };
    let text = match args.json {
        true => format!("{:#}\n", as_json(&network, &steps)),
        false => as_text(&network) + &steps.iter().map(Step::text).collect::<String>(),
    };
    Ok(console.out().write_all(text.as_bytes())?)
}

/// What a step of a `train` block takes.
struct Step {
    name: String,
    batch: usize,
    memory: StepMemory,
    price: Option<MemoryPrice>,
}

/// The steps of the blocks that train the model.
fn steps(args: &StatsArgs, compiler: &Compiler, network: &Network) -> Result<Vec<Step>> {
    let names = training_names(&args.file).map_err(|e| Failure::message(format!("{}: {e}", args.file.display())))?;
    let mut steps = vec![];
    for name in names {
        let memory = args.memory.map(|size| size.0);
        let choice = BlockChoice { name: Some(name), memory, ..BlockChoice::default() };
        let (spec, fit) = compiler.fit_training(&args.file, &choice).map_err(failure)?;
        let training = spec.training;
        if !training.models.iter().any(|model| model.name == network.graph.name) {
            continue;
        }
        let memory = match fit {
            Some(fit) => fit.memory,
            None => trainer::planned(&training, &compiler.target, &compiler.plan).map_err(Failure::message)?.2,
        };
        steps.push(Step { name: training.name, batch: training.batch, memory, price: fit.map(|fit| fit.price) });
    }
    Ok(steps)
}

fn failure(error: TrainError) -> Failure {
    match error {
        TrainError::Text(error) => Failure::from(error),
        error => Failure::message(error),
    }
}

impl Step {
    fn text(&self) -> String {
        let StepMemory { activations, states, inputs, scratch } = self.memory;
        let price = self.price.map(|price| format!("train {}: a step takes {price}\n", self.name)).unwrap_or_default();
        let text = format!(
            "train {}: a step of {} samples takes {} of memory: activations {}, weights and what is remembered of them {}, inputs {}, a thread {}\n",
            self.name,
            self.batch,
            bytes(self.memory.total()),
            bytes(activations),
            bytes(states),
            bytes(inputs),
            bytes(scratch),
        );
        text + &price
    }

    fn json(&self) -> Value {
        let StepMemory { activations, states, inputs, scratch } = self.memory;
        let mut json = json!({
            "train": self.name,
            "batch": self.batch,
            "bytes": self.memory.total(),
            "activations": activations,
            "states": states,
            "inputs": inputs,
            "thread": scratch,
        });
        if let Some(price) = &self.price {
            json["price"] = json!({
                "before": price.before,
                "after": price.after,
                "recomputed": price.recomputed,
                "extra_macs": price.macs[1],
                "passes": price.passes,
            });
        }
        json
    }
}

fn as_text(network: &Network) -> String {
    let head = ["layer", "label", "output", "parameters", "MACs", "receptive field"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(network.stats.rows.iter().map(row_text));
    let totals = &network.stats.totals;
    let batch = network.stats.batch;
    let images = if batch == 1 { String::new() } else { format!(" for {batch} images") };
    format!(
        "{}\n{}: {}, {}, {}{images}, {} activations{images}, receptive field {}\n",
        table(&rows, &[3, 4, 5]),
        network.graph.name,
        counted(totals.layers, "layer"),
        counted(totals.params, "parameter"),
        counted(totals.macs, "MAC"),
        grouped(totals.activations),
        field(totals.receptive_field),
    )
}

fn row_text(row: &Row) -> Vec<String> {
    let number = |n: u64| if n == 0 { String::new() } else { grouped(n) };
    vec![
        row.layer.to_string(),
        row.label.clone().unwrap_or_default(),
        row.shape.to_string().trim_start_matches("f32").to_string(),
        number(row.params),
        number(row.macs),
        field(row.receptive_field),
    ]
}

/// `7`, or `7×3` where height and width differ.
fn field([height, width]: [u64; 2]) -> String {
    if height == width { height.to_string() } else { format!("{height}×{width}") }
}

/// Totals under the names that `expect` has for them, then outputs and rows.
fn as_json(network: &Network, steps: &[Step]) -> Value {
    let graph = &network.graph;
    let totals = &network.stats.totals;
    let outputs = graph.outputs().iter().filter(|o| graph.phase == Phase::Train || o.aux.is_none());
    let output = |o: &crate::ir::Output| json!({ "name": o.name, "shape": graph.node(o.node).shape.dims() });
    let inputs = graph.inputs().iter().map(|&id| graph.node(id));
    json!({
        "model": graph.name,
        "phase": if graph.phase == Phase::Train { "train" } else { "infer" },
        "batch": network.stats.batch,
        "params": totals.params,
        "macs": totals.macs,
        "activations": totals.activations,
        "layers": totals.layers,
        "receptive_field": totals.receptive_field,
        "inputs": inputs.map(|n| json!({ "name": n.name, "shape": n.shape.dims() })).collect::<Vec<_>>(),
        "outputs": outputs.map(output).collect::<Vec<_>>(),
        "steps": steps.iter().map(Step::json).collect::<Vec<_>>(),
        "rows": network.stats.rows.iter().map(row_json).collect::<Vec<_>>(),
    })
}

fn row_json(row: &Row) -> Value {
    json!({
        "layer": row.layer,
        "label": row.label,
        "shape": row.shape.dims(),
        "params": row.params,
        "macs": row.macs,
        "receptive_field": row.receptive_field,
    })
}
