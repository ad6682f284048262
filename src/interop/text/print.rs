//! Statements to text. What comes out is laid out by the formatter; here is decided only what stands
//! on one line.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::about;
use super::modules::{Lifted, Module, strip};
use super::naming;
use super::parts::{self, Part, Slot, nodes, references};
use super::repeats::gets_names;
use super::structure::Join;
use super::words;
use crate::ir::{Graph, Kind, NodeId};
use crate::ops;
use crate::ops::layer::{Arity, Layer, Preset, Value};

/// A run of calls is written as a loop from this length on.
const LOOP_LENGTH: usize = 4;
/// So many integers at one distance are written as their formula.
const SHORTEST_PROGRESSION: usize = 9;
/// A branch longer than this gets lines of its own.
const LINE: usize = 96;

pub(crate) struct Printer<'p> {
    graph: &'p Graph,
    /// Inputs whose first size is open.
    open: &'p [NodeId],
    modules: &'p [Module],
    text: String,
    /// The labels of layers with weights in the body at hand, in full.
    weights: HashMap<NodeId, String>,
    /// Labels by which the body at hand names values.
    labels: HashMap<NodeId, String>,
    /// The value that the block at hand begins with, which is called `in` there.
    entry: Option<NodeId>,
    /// How many parts of a long label are that of a block around its statement.
    heads: HashMap<NodeId, usize>,
}

/// The whole text: header, modules, model.
pub(crate) fn file(lifted: &Lifted, graph: &Graph, about: &str, budgets: &[(&str, u64)], open: &[NodeId]) -> String {
    let text = "netc 1\n\n".into();
    let (modules, weights, labels) = (&lifted.modules, HashMap::new(), HashMap::new());
    let mut printer = Printer { graph, open, modules, text, weights, labels, entry: None, heads: HashMap::new() };
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
        let body = self.with_labels(module.body.clone(), Some(module.entry), HashMap::new());
        self.block(&body, Some(module.entry));
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
        let body = self.with_labels(body.to_vec(), None, inputs);
        self.block(&body, None);
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
    fn with_labels(
        &mut self,
        mut body: Vec<Part>,
        entry: Option<NodeId>,
        inputs: HashMap<NodeId, String>,
    ) -> Vec<Part> {
        self.weights.clear();
        parts::weight_labels(&body, "", &mut self.weights);
        let mut read = HashMap::new();
        references(&body, entry, &mut read);
        let mut taken: HashSet<String> = inputs.values().cloned().collect();
        taken_labels(&body, &mut taken);
        self.labels = inputs;
        label_joins(&mut body, &read, &mut taken);
        self.name_values(&mut body, &read, &mut taken);
        self.find_heads(&body, &mut taken);
        body
    }

    /// Splits labels that are too long, where the first part is that of no other statement.
    fn find_heads(&mut self, parts: &[Part], taken: &mut HashSet<String>) {
        let length = |label: &[String]| label.join(".").chars().count();
        for part in parts {
            if let Part::Layer { label, node, .. } | Part::Call { label, node, .. } = part
                && length(label) > words::LONGEST
            {
                let is_short =
                    |&n: &usize| length(&label[..n]) <= words::LONGEST && length(&label[n..]) <= words::LONGEST;
                let mut heads = (1..label.len()).rev().filter(is_short);
                if let Some(head) = heads.find(|&n| taken.insert(label[..n].join("."))) {
                    self.heads.insert(*node, head);
                }
            }
            part.blocks().into_iter().for_each(|b| self.find_heads(b, taken));
        }
    }

    /// A statement behind its label.
    fn within_label(&self, label: &[String], node: NodeId, statement: &str) -> String {
        match self.heads.get(&node) {
            Some(&head) => format!("{}{{ {}{statement} }}", labelled(&label[..head]), labelled(&label[head..])),
            None => format!("{}{statement}", labelled(label)),
        }
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

    /// The statements of a block that begins with the value `entry`.
    fn block(&mut self, parts: &[Part], entry: Option<NodeId>) {
        let outer = std::mem::replace(&mut self.entry, entry);
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
        self.entry = outer;
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::Join { label, kind: Join::Residual, branches, skip_if, entry, .. } => {
                self.line(format!("{}residual {{", labelled(label)));
                self.block(&branches[0], Some(*entry));
                if !branches[1].is_empty() {
                    self.line("} skip {");
                    match skip_if {
                        Some(condition) => {
                            self.line(format!("if {condition} {{"));
                            self.block(&branches[1], Some(*entry));
                            self.line("}");
                        }
                        None => self.block(&branches[1], Some(*entry)),
                    }
                }
                self.line("}");
            }
            Part::Join { label, kind: Join::Branches(word), branches, entry, .. } => {
                self.line(format!("{}branches {word} {{", labelled(label)));
                branches.iter().for_each(|b| self.branch(b, *entry));
                self.line("}");
            }
            Part::Scope { parts, .. } => self.block(parts, self.entry),
            other => {
                let text = self.statement(other);
                self.line(text);
            }
        }
    }

    /// A branch is a line; a long one is a block.
    fn branch(&mut self, parts: &[Part], entry: NodeId) {
        let outer = self.entry.replace(entry);
        let is_flat = parts.iter().all(|p| p.blocks().is_empty());
        let flat = || parts.iter().map(|p| self.statement(p)).collect::<Vec<_>>().join("  ");
        // Of a single statement, `in` would be what the whole join stands in.
        let needs_braces = parts.iter().flat_map(Part::slots).any(|slot| *slot == Slot::Node(entry));
        match (parts.len(), is_flat) {
            (0, _) => self.line("identity"),
            (1, true) if !needs_braces => {
                let text = flat();
                self.line(text);
            }
            (_, true) if flat().len() <= LINE => {
                let text = flat();
                self.line(format!("{{ {text} }}"));
            }
            _ => {
                self.line("{");
                self.block(parts, Some(entry));
                self.line("}");
            }
        }
        self.entry = outer;
    }

    fn statement(&self, part: &Part) -> String {
        match part {
            Part::Layer { label, layer, args, operands, shares, node } => {
                let statement = self.layer(row(layer), args, operands) + &self.shares(*shares, &[]);
                self.within_label(label, *node, &statement)
            }
            Part::Call { label, module, args, node, inner, shares } => {
                let call = self.call(*module, args) + &self.shares(*shares, inner);
                if self.is_needed(part) { self.within_label(label, *node, &call) } else { call }
            }
            Part::From(slot) => format!("from({})", self.slot(slot)),
            Part::Output { name, from: None } => format!("output {}", words::port(name)),
            Part::Output { name, from: Some(from) } => {
                format!("output {} from {}", words::port(name), self.slot(from))
            }
            Part::Join { .. } | Part::Scope { .. } => unreachable!("blocks are no single statements"),
        }
    }

    /// Whose weights a statement has. Those of a call are called as the same in the other, below that one's label. What the
    /// body at hand does not hold, each use of a module says for itself.
    fn shares(&self, other: Option<NodeId>, inner: &[(NodeId, String)]) -> String {
        let Some(label) = other.and_then(|other| self.weights.get(&other)) else { return String::new() };
        let below = inner.first().map_or("", |(_, label)| label);
        let around = label.strip_suffix(below).map_or(label.as_str(), |around| around.trim_end_matches('.'));
        format!(" shares {}", words::shared(around))
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
            Slot::Here => "here".into(),
            Slot::Node(node) if Some(*node) == self.entry => "in".into(),
            Slot::Node(node) => words::reference(self.labels.get(node).map_or("", String::as_str)),
        }
    }

    // ---- Loops -------------------------------------------------------------------------------

    /// How many calls at the start are equal but for a number in their labels that counts up, or but for labels that they
    /// get.
    fn run_length(&self, parts: &[Part]) -> usize {
        let Some(Part::Call { label, module, args, shares, .. }) = parts.first() else { return 0 };
        // Within the loop, `in` would be the value before each turn.
        let names_entry = |slot: &Slot| match slot {
            Slot::Text(text) => text.contains("in."),
            Slot::Node(node) => Some(*node) == self.entry,
            _ => false,
        };
        if args.iter().any(|(_, slot)| names_entry(slot)) {
            return 0;
        }
        let first = counted(label);
        if first.is_none() && !(label.is_empty() && given_names(args).is_some()) {
            return 0;
        }
        let follows = |(i, part): &(usize, &Part)| {
            let Part::Call { label: l, module: m, args: a, node, shares: s, .. } = part else { return false };
            let continues = match (&first, counted(l)) {
                (Some((scope, first)), Some((other, number))) => other == *scope && number == first + *i as u64,
                // A value that is named needs a label of its own.
                (None, None) => l.is_empty() && !self.labels.contains_key(node),
                _ => false,
            };
            let same = |(a, b): (&(String, Slot), &(String, Slot))| a == b || parts::NAMES.contains(&a.0.as_str());
            m == module && s == shares && args.iter().zip(a).all(same) && continues
        };
        parts.iter().enumerate().take_while(|p| follows(p)).count()
    }

    fn run(&mut self, parts: &[Part]) {
        let Part::Call { label, module, args, inner, shares, .. } = &parts[0] else {
            unreachable!("runs are of calls")
        };
        let Some((scope, first)) = counted(label) else { return self.run_of_names(parts) };
        let call = self.call(*module, args) + &self.shares(*shares, inner);
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

    /// A run of calls that get labels: by a number, where that is all that differs.
    fn run_of_names(&mut self, parts: &[Part]) {
        let calls = parts.iter().filter_map(|p| if let Part::Call { args, .. } = p { given_names(args) } else { None });
        let given: Vec<&(String, Slot)> = calls.collect();
        let Part::Call { module, args, .. } = &parts[0] else { unreachable!("runs are of calls") };
        let (name, _) = given[0];
        let numbers: Option<Vec<(String, u64)>> = given.iter().map(|(_, slot)| counted_name(slot)).collect();
        let counts_up = numbers.as_ref().is_some_and(|numbers| {
            numbers.iter().enumerate().all(|(i, n)| n.0 == numbers[0].0 && n.1 == numbers[0].1 + i as u64)
        });
        let mut args = args.clone();
        let given_slot = args.iter_mut().find(|(n, _)| n == name).map(|(_, slot)| slot).expect("looked at above");
        match numbers.filter(|_| counts_up) {
            Some(numbers) => {
                let (scope, first) = &numbers[0];
                *given_slot = Slot::Text(words::in_quotes(&format!("{scope}{{i}}")));
                self.line(format!("for i in {first}..{} {{", first + numbers.len() as u64));
            }
            None => {
                let all: Vec<String> = given.iter().map(|(_, slot)| self.slot(slot)).collect();
                self.line(format!("for {name} in [{}] {{", all.join(", ")));
                *given_slot = Slot::Text(name.clone());
            }
        }
        let call = self.call(*module, &args);
        self.line(call);
        self.line("}");
    }
}

/// The labels that a call gets.
fn given_names(args: &[(String, Slot)]) -> Option<&(String, Slot)> {
    args.iter().find(|(name, _)| parts::NAMES.contains(&name.as_str()))
}

fn counted_name(slot: &Slot) -> Option<(String, u64)> {
    match slot {
        Slot::Value(Value::Str(name)) => counted(std::slice::from_ref(name)),
        _ => None,
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
    matches!(preset, Preset::Required)
        || layer.params.len() == 1
        || matches!((layer.name, name), ("upsample", "scale") | ("slice", "end"))
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
            // Labels that a use gets are whole ones.
            Part::Join { label, branches, .. }
                if !is_named && labels.len() > 1 && !gets_names(branches.concat().as_slice()) =>
            {
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
        Value::Str(v) => words::in_quotes(v),
        Value::List(items) => progression(items).unwrap_or_else(|| format!("[{}]", list(items))),
        Value::Tuple(items) => format!("({})", list(items)),
        Value::Int(_) | Value::Bool(_) => value.to_string(),
    }
}

/// Many integers at one distance, as their formula: a flip's places are `[255 - i for i in 0..256]`.
fn progression(items: &[Value]) -> Option<String> {
    let numbers: Vec<i64> =
        items.iter().map(|item| if let Value::Int(v) = item { Some(*v) } else { None }).collect::<Option<_>>()?;
    let (&first, count) = (numbers.first()?, numbers.len());
    let step = numbers.get(1)?.checked_sub(first)?;
    let is_even = numbers.windows(2).all(|pair| pair[1].checked_sub(pair[0]) == Some(step));
    if count < SHORTEST_PROGRESSION || !is_even || step == 0 {
        return None;
    }
    let sign = if step < 0 { '-' } else { '+' };
    let term = if step.abs() == 1 { "i".into() } else { format!("{} * i", step.unsigned_abs()) };
    let formula = if first == 0 && step > 0 { term } else { format!("{first} {sign} {term}") };
    Some(format!("[{formula} for i in 0..{count}]"))
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
