//! `netc info`: what a file of any kind that netc knows is.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::args::ShapeArgs;
use super::console::{Console, bytes, grouped, table};
use super::engine::{is_compiled, open_model};
use super::failure::{Failure, Result};
use super::inputs::shape_text;
use super::network::{of_inputs, options, refuse, settings};
use crate::artifact::{Container, Port, is_portable};
use crate::driver::{Compiler, Network, input_ports, model_names, output_ports};
use crate::interop::text;
use crate::ir::Graph;
use crate::opened;
use crate::preprocess::Preprocess;
use crate::runtime::{Model, ModelSize};

/// Show what a network takes and gives: inputs, outputs, preprocessing, classes, sizes, and what it was made for
#[derive(Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc info resnet34.net
  netc info detector.onnx --shape image=1,3,640,640
  netc info resnet34.netc --json")]
pub(crate) struct InfoArgs {
    /// A spec (.net), an ONNX model (.onnx) or a compiled model (.netc)
    pub file: PathBuf,
    /// Which model of a file that holds several; all of them without it
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Set a parameter of the model; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub shapes: ShapeArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What there is to say of a network.
struct Info {
    kind: &'static str,
    name: String,
    inputs: Vec<Input>,
    outputs: Vec<Port>,
    /// Images along the first axis may be any number.
    is_batched: bool,
    labels: Vec<String>,
    /// Of a compiled model the sizes that it is compiled for, where there are several programs: the inputs, and images at once.
    sizes: Vec<SizeInfo>,
    /// What else there is, by name.
    facts: Vec<(&'static str, Fact)>,
}

/// A size that a compiled model takes.
struct SizeInfo {
    text: String,
    inputs: Vec<Port>,
    batches: Vec<usize>,
}

struct Input {
    port: Port,
    preprocess: Option<Preprocess>,
}

/// A figure or a text, as people read it and as programs do.
struct Fact {
    text: String,
    value: Value,
}

impl Fact {
    fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { value: json!(text), text }
    }

    fn count(count: u64) -> Self {
        Self { text: grouped(count), value: json!(count) }
    }

    fn bytes(count: u64) -> Self {
        Self { text: bytes(count), value: json!(count) }
    }
}

pub(crate) fn run(args: &InfoArgs, console: Console) -> Result<()> {
    let infos = if is_compiled(&args.file) {
        let flags = [("--model", args.model.is_some()), ("--set", !args.set.is_empty())];
        refuse(flags.into_iter().chain(args.shapes.given()), "takes a spec; a compiled model has settled it")?;
        vec![compiled(&args.file, console)?]
    } else {
        networks(args, console)?
    };
    let text = match (args.json, &infos[..]) {
        (true, [info]) => format!("{:#}\n", info.as_json(&args.file)),
        (true, infos) => {
            format!("{:#}\n", infos.iter().map(|info| info.as_json(&args.file)).collect::<Value>())
        }
        (false, infos) => infos.iter().map(|info| info.as_text(&args.file)).collect::<Vec<_>>().join("\n"),
    };
    Ok(console.out().write_all(text.as_bytes())?)
}

/// Of a compiled model: nothing of it is run, so that one for another CPU tells of itself, too.
fn compiled(file: &Path, console: Console) -> Result<Info> {
    let size = std::fs::metadata(file).map_or(0, |m| m.len());
    let (about, _) = Container::open(file).and_then(|c| c.describe()).map_err(Failure::message)?.swap_remove(0);
    let model = open_model(file, options(console).threads(1), console)?;
    let mut info = of_model(&model);
    let cpu = if model.features().is_empty() { "any".into() } else { model.features().join(", ") };
    info.facts = vec![
        ("netc", Fact::text(about.netc.clone())),
        ("CPU", Fact::text(cpu)),
        ("size", Fact::bytes(size)),
        ("weights", Fact::bytes(model.weights_bytes())),
        ("memory of a run", Fact::bytes(model.run_memory())),
        ("steps", Fact::count(model.steps().len() as u64)),
        ("operations of a run", Fact::count(model.steps().iter().map(|step| step.flops()).sum())),
    ];
    if let Some(recipe) = &about.recipe {
        let sources: Vec<&str> = recipe.sources.iter().map(|source| source.name.as_str()).collect();
        info.facts.push(("made of", Fact::text(sources.join(", "))));
    }
    Ok(info)
}

fn of_model(model: &Model) -> Info {
    let about = model.about();
    let preprocess = about.preprocess.iter().cloned().chain(std::iter::repeat(None));
    let input = |(port, preprocess): (&Port, _)| Input { port: port.clone(), preprocess };
    Info {
        kind: "compiled model",
        name: model.name().into(),
        inputs: model.inputs().iter().zip(preprocess).map(input).collect(),
        outputs: model.outputs().to_vec(),
        is_batched: model.batched().is_some(),
        labels: about.labels.clone(),
        sizes: match model.sizes().map(|size| size.batches().count()).sum::<usize>() {
            1 => vec![],
            _ => model.sizes().map(|size| size_info(&size)).collect(),
        },
        facts: vec![],
    }
}

fn size_info(size: &ModelSize) -> SizeInfo {
    SizeInfo { text: size.to_string(), inputs: size.inputs().to_vec(), batches: size.batches().collect() }
}

/// Of all models of a spec, or the one that is named; of an ONNX or a portable model.
fn networks(args: &InfoArgs, console: Console) -> Result<Vec<Info>> {
    let file = &args.file;
    let is_spec = file.extension().is_some_and(|e| e == "net");
    let names = match &args.model {
        None if is_spec => model_names(file).map_err(|e| Failure::message(format!("{}: {e}", file.display())))?,
        _ => vec![],
    };
    let models: Vec<Option<String>> = match names.len() {
        0 | 1 => vec![args.model.clone()],
        _ => names.into_iter().map(Some).collect(),
    };
    models.into_iter().map(|model| network(args, model, console)).collect()
}

fn network(args: &InfoArgs, model: Option<String>, console: Console) -> Result<Info> {
    let set = settings(&args.set)?;
    let compiler = Compiler { model, set, options: options(console), ..of_inputs(&args.shapes)? };
    let network = compiler.front(&args.file)?;
    console.diagnostics(&network.warnings, &network.sources)?;
    Ok(of_network(&network, &args.file))
}

fn of_network(network: &Network, file: &Path) -> Info {
    let mut graph = network.graph.clone();
    graph.count_rows();
    let graph = &graph;
    let input = |(port, &id)| Input { port, preprocess: preprocess(graph, id) };
    let outputs = output_ports(graph).into_iter().zip(graph.outputs());
    let totals = &network.stats.totals;
    let mut facts = vec![
        ("parameters", Fact::count(totals.params)),
        ("multiply-adds", Fact::count(totals.macs)),
        ("layers", Fact::count(totals.layers)),
    ];
    let used: Vec<String> = network.sources.iter().skip(1).map(|(_, source)| source.name.to_string()).collect();
    if !used.is_empty() {
        facts.push(("uses", Fact::text(used.join(", "))));
    }
    if let Ok(metadata) = opened::open(file).and_then(|file| file.metadata()) {
        facts.push(("size", Fact::bytes(metadata.len())));
    }
    Info {
        kind: match &network.imported {
            Some(_) => "ONNX model",
            None if is_portable(file) => "portable model",
            None => "network",
        },
        name: graph.name.clone(),
        inputs: input_ports(graph).into_iter().zip(graph.inputs()).map(input).collect(),
        outputs: outputs.filter(|(_, output)| output.aux.is_none()).map(|(port, _)| port).collect(),
        is_batched: !network.open.is_empty() && network.images == crate::ir::Images::Independent,
        labels: graph.labels.clone(),
        sizes: vec![],
        facts,
    }
}

fn preprocess(graph: &Graph, id: crate::ir::NodeId) -> Option<Preprocess> {
    match &graph.node(id).kind {
        crate::ir::Kind::Input(steps) => steps.clone(),
        _ => None,
    }
}

/// The steps as a text has them.
fn steps(preprocess: &Preprocess) -> String {
    text::steps(preprocess).join("  ")
}

impl Info {
    fn sizes(&self, port: &Port) -> String {
        let sizes = shape_text(&port.shape);
        let sizes = match (self.is_batched, sizes.split_once(|c| [',', ']'].contains(&c))) {
            (true, Some((first, _))) => format!("[N{}", &sizes[first.len()..]),
            _ => sizes,
        };
        // There is room for as many.
        let counted = port.rows.as_ref().map(|rows| format!(", of axis {} as many as {}", rows.axis, rows.counted_by));
        format!("{}{sizes}{}", port.element, counted.unwrap_or_default())
    }

    fn as_text(&self, file: &Path) -> String {
        const NAMED: usize = 8;
        let mut rows = vec![];
        for input in &self.inputs {
            rows.push(vec!["  input".to_string(), format!("{}: {}", input.port.name, self.sizes(&input.port))]);
            if let Some(preprocess) = &input.preprocess {
                rows.push(vec!["  preprocess".into(), steps(preprocess)]);
            }
        }
        let output = |port: &Port| vec!["  output".to_string(), format!("{}: {}", port.name, self.sizes(port))];
        rows.extend(self.outputs.iter().map(output));
        for size in &self.sizes {
            let batches = size.batches.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            let at_once = if self.is_batched { format!(", {batches} at once") } else { String::new() };
            rows.push(vec!["  compiled for".into(), format!("{}{at_once}", size.text)]);
        }
        if !self.labels.is_empty() {
            let more = if self.labels.len() > NAMED { ", …" } else { "" };
            let named = self.labels.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            rows.push(vec!["  classes".into(), format!("{}: {named}{more}", self.labels.len())]);
        }
        rows.extend(self.facts.iter().map(|(name, fact)| vec![format!("  {name}"), fact.text.clone()]));
        format!("{}: {} {}\n{}", file.display(), self.kind, self.name, table(&rows, &[]))
    }

    fn as_json(&self, file: &Path) -> Value {
        let port = |port: &Port| {
            let mut value = json!({ "name": port.name, "shape": port.shape, "element": port.element.to_string() });
            if let Some(rows) = &port.rows {
                value["rows"] = json!({ "axis": rows.axis, "each": rows.each, "counted_by": rows.counted_by });
            }
            value
        };
        let input = |input: &Input| {
            let mut value = port(&input.port);
            if let Some(preprocess) = &input.preprocess {
                value["preprocess"] = json!(steps(preprocess));
            }
            value
        };
        let facts =
            self.facts.iter().map(|(name, fact)| (name.replace([' ', '-'], "_").to_lowercase(), fact.value.clone()));
        let mut value = json!({
            "file": file,
            "kind": self.kind,
            "name": self.name,
            "any_number_of_images": self.is_batched,
            "inputs": self.inputs.iter().map(input).collect::<Vec<_>>(),
            "outputs": self.outputs.iter().map(port).collect::<Vec<_>>(),
            "labels": self.labels,
        });
        facts.for_each(|(name, fact)| value[name] = fact);
        if !self.sizes.is_empty() {
            let size = |size: &SizeInfo| json!({ "inputs": size.inputs.iter().map(port).collect::<Vec<_>>(), "batches": size.batches });
            value["sizes"] = self.sizes.iter().map(size).collect();
        }
        value
    }
}
