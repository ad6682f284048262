//! Statements to text. What comes out is laid out by the formatter; here is decided only what stands
//! on one line.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::about;
use super::modules::{Lifted, Module, strip};
use super::naming;
use super::parts::{self, Part, Slot, nodes, references};
use super::structure::Join;
use super::words;
use crate::ir::{Graph, Kind, NodeId};
use crate::ops;
use crate::ops::layer::{Arity, Layer, Preset, Value};

/// A run of calls is written as a loop from this length on.
const LOOP_LENGTH: usize = 6;
/// A branch longer than this gets lines of its own.
const LINE: usize = 96;

pub(crate) struct Printer<'p> {
    graph: &'p Graph,
    /// Inputs whose first size is open.
    open: &'p [NodeId],
    modules: &'p [Module],
    text: String,
    /// The full labels of layers with weights.
    weights: HashMap<NodeId, String>,
    /// Labels by which the body at hand names values.
    labels: HashMap<NodeId, String>,
}

/// The whole text: header, modules, model.
pub(crate) fn file(lifted: &Lifted, graph: &Graph, about: &str, budgets: &[(&str, u64)], open: &[NodeId]) -> String {
    let text = "netc 1\n\n".into();
    let mut weights = HashMap::new();
    parts::weight_labels(&lifted.body, "", &mut weights);
    let mut printer = Printer { graph, open, modules: &lifted.modules, text, weights, labels: HashMap::new() };
    for module in &lifted.modules {
        printer.module(module);
    }
    printer.model(&lifted.body, about, budgets);
    printer.text
}

impl Printer<'_> {
    fn line(&mut self, text: impl AsRef<str>) {
        self.text += text.as_ref();
        self.text.push('\n');
    }

    fn module(&mut self, module: &Module) {
        let params: Vec<String> = module
            .params
            .iter()
            .map(|(name, default)| default.as_ref().map_or(name.clone(), |d| format!("{name} = {}", value(d))))
            .collect();
        let params = if params.is_empty() { String::new() } else { format!("({})", params.join(", ")) };
        self.line(format!("/// {}", module.doc));
        self.line(format!("module {}{params} {{", module.name));
        let body = self.with_labels(module.body.clone(), HashMap::new());
        self.block(&body);
        self.line("}\n");
    }

    fn model(&mut self, body: &[Part], about: &str, budgets: &[(&str, u64)]) {
        about.lines().for_each(|l| self.line(format!("/// {l}").trim_end()));
        self.line(format!("model {} {{", words::identifier(&self.graph.name)));
        let mut inputs = HashMap::new();
        for &id in self.graph.inputs() {
            let node = self.graph.node(id);
            let name = node.name.clone().unwrap_or_else(|| "x".into());
            let port = words::port(&name);
            let mut sizes: Vec<String> = node.shape.dims().iter().map(usize::to_string).collect();
            if self.open.contains(&id) {
                sizes[0] = "N".into();
            }
            self.line(format!("input {port}: {}[{}]", node.shape.element(), sizes.join(", ")));
            if let Kind::Input(Some(steps)) = &node.kind {
                self.line(about::preprocess(&port, steps));
            }
            inputs.insert(id, name);
        }
        self.line("");
        let body = self.with_labels(body.to_vec(), inputs);
        self.block(&body);
        self.line("");
        if !self.graph.labels.is_empty() {
            self.line(about::labels(&self.graph.labels));
            self.line("");
        }
        for (metric, figure) in budgets {
            self.line(format!("expect {metric} == {}", grouped(*figure)));
        }
        self.line("}");
    }

    /// The body with a label before everything that is named somewhere; notes the labels.
    fn with_labels(&mut self, mut body: Vec<Part>, inputs: HashMap<NodeId, String>) -> Vec<Part> {
        let mut read = HashMap::new();
        references(&body, &mut read);
        let mut taken: HashSet<String> = inputs.values().cloned().collect();
        taken_labels(&body, &mut taken);
        self.labels = inputs;
        label_joins(&mut body, &read, &mut taken);
        self.name_values(&mut body, &read, &mut taken);
        body
    }

    fn name_values(&mut self, parts: &mut Vec<Part>, read: &HashMap<NodeId, usize>, taken: &mut HashSet<String>) {
        let mut index = 0;
        while index < parts.len() {
            for block in parts[index].blocks_mut() {
                self.name_values(block, read, taken);
            }
            let node = match &parts[index] {
                Part::From(_) | Part::Output { .. } => None,
                part => part.node().filter(|n| read.contains_key(n)),
            };
            if let Some(node) = node {
                let kind = match &parts[index] {
                    Part::Layer { layer, .. } => layer,
                    _ => "joined",
                };
                let fresh = |taken: &mut HashSet<String>| naming::unique(kind, taken);
                let name = match &mut parts[index] {
                    Part::Layer { label, .. } | Part::Call { label, .. } if !label.is_empty() => label.join("."),
                    Part::Layer { label, .. } => {
                        *label = vec![fresh(taken)];
                        label[0].clone()
                    }
                    _ => {
                        // A label before a join would be a scope of the weights in it.
                        let name = fresh(taken);
                        let (label, args, operands) = (vec![name.clone()], vec![], vec![]);
                        parts.insert(
                            index + 1,
                            Part::Layer { label, layer: "identity", args, operands, shares: None, node },
                        );
                        index += 1;
                        name
                    }
                };
                self.labels.insert(node, name);
            }
            index += 1;
        }
    }

    // ---- Statements --------------------------------------------------------------------------

    fn block(&mut self, parts: &[Part]) {
        let mut index = 0;
        while index < parts.len() {
            let run = self.run_length(&parts[index..]);
            if run >= LOOP_LENGTH {
                self.run(&parts[index..index + run]);
                index += run;
            } else {
                self.part(&parts[index]);
                index += 1;
            }
        }
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::Join { label, kind: Join::Residual, branches, skip_if, .. } => {
                self.line(format!("{}residual {{", labelled(label)));
                self.block(&branches[0]);
                if !branches[1].is_empty() {
                    self.line("} skip {");
                    match skip_if {
                        Some(condition) => {
                            self.line(format!("if {condition} {{"));
                            self.block(&branches[1]);
                            self.line("}");
                        }
                        None => self.block(&branches[1]),
                    }
                }
                self.line("}");
            }
            Part::Join { label, kind: Join::Branches(word), branches, .. } => {
                self.line(format!("{}branches {word} {{", labelled(label)));
                branches.iter().for_each(|b| self.branch(b));
                self.line("}");
            }
            Part::Scope { parts, .. } => self.block(parts),
            other => {
                let text = self.statement(other);
                self.line(text);
            }
        }
    }

    /// A branch is a line; a long one is a block.
    fn branch(&mut self, parts: &[Part]) {
        let is_flat = parts.iter().all(|p| p.blocks().is_empty());
        let flat = || parts.iter().map(|p| self.statement(p)).collect::<Vec<_>>().join("  ");
        match (parts.len(), is_flat) {
            (0, _) => self.line("identity"),
            (1, true) => {
                let text = flat();
                self.line(text);
            }
            (_, true) if flat().len() <= LINE => {
                let text = flat();
                self.line(format!("{{ {text} }}"));
            }
            _ => {
                self.line("{");
                self.block(parts);
                self.line("}");
            }
        }
    }

    fn statement(&self, part: &Part) -> String {
        match part {
            Part::Layer { label, layer, args, operands, shares, .. } => {
                let shares =
                    shares.map_or(String::new(), |other| format!(" shares {}", words::shared(&self.weights[&other])));
                format!("{}{}{shares}", labelled(label), self.layer(row(layer), args, operands))
            }
            Part::Call { label, module, args, .. } => {
                let label = if self.is_needed(part) { labelled(label) } else { String::new() };
                format!("{label}{}", self.call(*module, args))
            }
            Part::From(slot) => format!("from({})", self.slot(slot)),
            Part::Output { name, from: None } => format!("output {}", words::port(name)),
            Part::Output { name, from: Some(from) } => {
                format!("output {} from {}", words::port(name), self.slot(from))
            }
            Part::Join { .. } | Part::Scope { .. } => unreachable!("blocks are no single statements"),
        }
    }

    /// Whether a call's label names weights, or a value that is read.
    fn is_needed(&self, part: &Part) -> bool {
        matches!(part, Part::Call { node, inner, .. } if !inner.is_empty() || self.labels.contains_key(node))
    }

    fn layer(&self, layer: &Layer, args: &[(String, Slot)], operands: &[Slot]) -> String {
        let mut texts: Vec<String> = operands.iter().map(|o| self.slot(o)).collect();
        // Joins take only labels by position.
        let mut positional = layer.arity == Arity::Unary || layer.arity == Arity::Source;
        for param in layer.params {
            let Some((_, slot)) = args.iter().find(|(name, _)| name == param.name) else {
                positional = false;
                continue;
            };
            let is_kernels_stride = param.name == "stride" && matches!(param.preset, Preset::Absent);
            let kernel = || args.iter().find(|(name, _)| name == "kernel").map(|(_, s)| s);
            let left_out = is_default(slot, param.preset) || (is_kernels_stride && kernel() == Some(slot));
            match (left_out, positional && may_be_positional(layer, param.name, param.preset)) {
                (true, _) => positional = false,
                (false, true) => texts.push(self.slot(slot)),
                (false, false) => texts.push(format!("{} = {}", param.name, self.slot(slot))),
            }
        }
        if texts.is_empty() { layer.name.into() } else { format!("{}({})", layer.name, texts.join(", ")) }
    }

    fn call(&self, module: usize, args: &[(String, Slot)]) -> String {
        let module = &self.modules[module];
        let mut texts = vec![];
        for (name, default) in &module.params {
            let slot = args.iter().find(|(n, _)| n == name).map(|(_, s)| s).expect("calls give every parameter");
            match default {
                None => texts.push(self.slot(slot)),
                Some(default) if *slot == Slot::Value(default.clone()) => {}
                Some(_) => texts.push(format!("{name} = {}", self.slot(slot))),
            }
        }
        if texts.is_empty() { module.name.clone() } else { format!("{}({})", module.name, texts.join(", ")) }
    }

    fn slot(&self, slot: &Slot) -> String {
        match slot {
            Slot::Value(v) => value(v),
            Slot::Text(text) => text.clone(),
            Slot::Node(node) => words::reference(self.labels.get(node).map_or("", String::as_str)),
        }
    }

    // ---- Loops -------------------------------------------------------------------------------

    /// How many calls at the start are equal but for a number in their labels that counts up.
    fn run_length(&self, parts: &[Part]) -> usize {
        let Some(Part::Call { label, module, args, .. }) = parts.first() else { return 0 };
        let Some((scope, first)) = counted(label) else { return 0 };
        // Within the loop, `in` would be the value before each turn.
        if args.iter().any(|(_, slot)| matches!(slot, Slot::Text(text) if text.contains("in."))) {
            return 0;
        }
        let follows = |(i, part): &(usize, &Part)| {
            matches!(part, Part::Call { label, module: m, args: a, .. }
                if m == module && a == args && counted(label) == Some((scope.clone(), first + *i as u64)))
        };
        parts.iter().enumerate().take_while(|p| follows(p)).count()
    }

    fn run(&mut self, parts: &[Part]) {
        let Part::Call { label, module, args, .. } = &parts[0] else { unreachable!("runs are of calls") };
        let (scope, first) = counted(label).expect("runs are counted");
        let call = self.call(*module, args);
        let has_labels = parts.iter().any(|p| self.is_needed(p));
        let first = if has_labels { first } else { 0 };
        let pattern = format!("{scope}{{i}}");
        self.line(format!("for i in {first}..{} {{", first + parts.len() as u64));
        match has_labels {
            true => self.line(format!("{}: {call}", words::quoted(&pattern, &pattern.replace("{i}", "0")))),
            false => self.line(call),
        }
        self.line("}");
    }
}

/// What a label begins with, and the number that it ends in.
fn counted(label: &[String]) -> Option<(String, u64)> {
    let text = label.join(".");
    let start = text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[start..].parse().ok()?;
    (number.to_string() == text[start..]).then(|| (text[..start].to_string(), number))
}

/// Arguments that stand without their name: those that must be given, the only one, a resize's factor.
fn may_be_positional(layer: &Layer, name: &str, preset: Preset) -> bool {
    matches!(preset, Preset::Required) || layer.params.len() == 1 || (layer.name == "upsample" && name == "scale")
}

fn is_default(slot: &Slot, preset: Preset) -> bool {
    match (slot, preset) {
        (Slot::Value(Value::Int(v)), Preset::Int(p)) => *v == p,
        (Slot::Value(Value::Int(v)), Preset::Float(p)) => *v as f32 == p as f32,
        (Slot::Value(Value::Float(v)), Preset::Float(p)) => *v as f32 == p as f32,
        (Slot::Value(Value::Bool(v)), Preset::Bool(p)) => *v == p,
        (Slot::Value(Value::Str(v)), Preset::Str(p)) => v == p,
        _ => false,
    }
}

/// The layer's row in the table of the language.
fn row(layer: &str) -> &'static Layer {
    ops::layers().find(|l| l.name == layer).expect("calls are of layers")
}

fn taken_labels(parts: &[Part], taken: &mut HashSet<String>) {
    for part in parts {
        match part {
            Part::Layer { label, .. } | Part::Call { label, .. } if !label.is_empty() => {
                taken.insert(label.join("."));
            }
            _ => part.blocks().into_iter().for_each(|b| taken_labels(b, taken)),
        }
    }
}

/// Says once, before a join, what the labels of all layers within begin with. Where labels name values
/// there, they stay as they are.
fn label_joins(parts: &mut [Part], read: &HashMap<NodeId, usize>, taken: &mut HashSet<String>) {
    for part in parts {
        let mut labels = vec![];
        naming::labels_of(std::slice::from_ref(part), &mut labels);
        let is_named = nodes(std::slice::from_ref(part)).iter().any(|n| read.contains_key(n));
        match part {
            Part::Join { label, branches, .. } if !is_named && labels.len() > 1 => {
                let shared = naming::shared_beginning(&labels);
                if !shared.is_empty() && taken.insert(shared.join(".")) {
                    branches.iter_mut().for_each(|b| strip(b, shared.len()));
                    *label = shared;
                    continue;
                }
                branches.iter_mut().for_each(|b| label_joins(b, read, taken));
            }
            _ => part.blocks_mut().into_iter().for_each(|b| label_joins(b, read, taken)),
        }
    }
}

fn labelled(parts: &[String]) -> String {
    if parts.is_empty() { String::new() } else { format!("{}: ", words::label(&parts.join("."))) }
}

fn value(value: &Value) -> String {
    let list = |items: &[Value]| items.iter().map(self::value).collect::<Vec<_>>().join(", ");
    match value {
        // As a string, which a number's parameter takes.
        Value::Float(v) if v.is_infinite() => format!("\"{v}\""),
        Value::Float(v) => number(*v),
        Value::Str(v) => format!("{v:?}"),
        Value::List(items) => format!("[{}]", list(items)),
        Value::Tuple(items) => format!("({})", list(items)),
        Value::Int(_) | Value::Bool(_) => value.to_string(),
    }
}

/// Without an exponent, unless that takes many zeros.
fn number(v: f64) -> String {
    let plain = v == 0.0 || (1e-6..1e9).contains(&v.abs());
    if plain { format!("{v}") } else { format!("{v:?}") }
}

/// `1_234_567`
fn grouped(figure: u64) -> String {
    let digits = figure.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push('_');
        }
        let _ = write!(text, "{digit}");
    }
    text
}
