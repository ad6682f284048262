//! Checks that need no values, on all text of a program, whether it is called or not: names,
//! arguments, where statements may stand, recursion.

use super::arithmetic::FUNCTIONS;
use super::bindings::Bindings;
use super::call::assign;
use super::expression::{dotted_name, some_of};
use super::program::{Callee, FileId, Program};
use super::recursion::recursion;
use super::report::Report;
use crate::diagnostic::{Diagnostic, Severity, Span, nearest};
use crate::ops::layer::{Arity, Layer, Preset};
use crate::syntax::ast::*;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;

/// What `expect` can state.
pub const METRICS: &[&str] = &["params", "macs", "activations", "receptive_field", "layers"];
/// The joins of `branches`.
const JOINS: &[&str] = &["concat", "add", "mul", "max"];
const PHASES: &[&str] = &["train", "infer"];
/// The steps of `preprocess`.
pub const SETTINGS: &[&str] = &["resize", "center_crop", "scale", "mean", "std", "color", "invert"];
/// The words after `color`.
pub const COLORS: &[&str] = &["rgb", "bgr", "gray"];

/// Checks all files of a program.
pub fn check(program: &Program, report: &mut Report) {
    for file in program.files() {
        duplicate_definitions(program, file, report);
        let mut checker = Checker {
            program,
            report,
            file,
            bindings: Bindings::default(),
            scopes: vec![],
            labels: LabelHeads::default(),
            place: Place::File,
            called: HashSet::new(),
        };
        checker.file();
    }
    recursion(program, report);
}

/// What surrounds a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    File,
    Module,
    Model,
    Aux,
}

struct Binding {
    span: Span,
    /// What it is called in a warning; `None` for what may stay unused.
    kind: Option<&'static str>,
    used: bool,
}

/// Bytes of a label that are told apart before it is evaluated.
const MAX_HEAD: usize = 64;

/// Labels as far as their text tells.
#[derive(Default)]
struct LabelHeads {
    exact: HashSet<String>,
    /// What stands before the first expression of those that hold one, up to [`MAX_HEAD`] bytes.
    begun: BTreeSet<String>,
}

impl LabelHeads {
    /// Whether one of them may be `name`, or begin with it.
    fn may_be(&self, name: &str) -> bool {
        let behind = (Bound::Included(name), Bound::Unbounded);
        let longer = || self.begun.range::<str, _>(behind).next().is_some_and(|text| text.starts_with(name));
        let mut ends = (0..=name.len().min(MAX_HEAD)).filter(|&end| name.is_char_boundary(end));
        self.exact.contains(name) || longer() || ends.any(|end| self.begun.contains(&name[..end]))
    }

    fn add(&mut self, label: &Label) {
        let text = match label.parts.first() {
            Some(TemplatePart::Text(text)) => text.as_str(),
            _ => "",
        };
        let literal = label.parts.len() == 1;
        // Up to the first dot the text is complete even where an expression follows.
        match text.split_once('.') {
            Some((head, _)) => drop(self.exact.insert(head.to_string())),
            None if literal => drop(self.exact.insert(text.to_string())),
            None => drop(self.begun.insert(text[..text.floor_char_boundary(MAX_HEAD)].to_string())),
        }
    }

    /// Gathers the labels and inputs of a block and those inside it.
    fn gather(&mut self, block: &Block) {
        for statement in &block.statements {
            statement.label.iter().for_each(|l| self.add(l));
            match &statement.kind {
                StatementKind::Aux(Aux { label: Some(label), .. }) => self.add(label),
                StatementKind::Input { name, .. } => drop(self.exact.insert(name.name.clone())),
                _ => {}
            }
            inner_blocks(&statement.kind).into_iter().for_each(|b| self.gather(b));
        }
    }
}

struct Checker<'a> {
    program: &'a Program,
    report: &'a mut Report,
    file: FileId,
    bindings: Bindings<Binding>,
    /// How many bindings there were when each block around began.
    scopes: Vec<usize>,
    /// The labels of the definition at hand.
    labels: LabelHeads,
    place: Place,
    called: HashSet<String>,
}

impl Checker<'_> {
    fn file(&mut self) {
        self.enter();
        let program = self.program;
        for item in &program.file(self.file).tree.items {
            match item {
                Item::Let(l) => self.let_statement(l, None),
                Item::Table(t) => self.table(t, None),
                Item::Definition(d) => self.definition(d),
                Item::Use(_) | Item::Error(_) => {}
            }
        }
        // What a file binds at its top may be there for others.
        self.scopes.clear();
        self.unused_modules();
    }

    fn unused_modules(&mut self) {
        let is_program = self.program.definitions(self.file, DefinitionKind::Model).next().is_some();
        if !is_program || self.file != Program::ROOT {
            return;
        }
        for (_, module) in self.program.definitions(self.file, DefinitionKind::Module) {
            let name = &module.name.name;
            if !self.called.contains(name) {
                let diagnostic = Diagnostic::warning("unused-module", format!("nothing calls the module `{name}`"));
                self.report.add(diagnostic.primary(module.name.span, "never called"));
            }
        }
    }

    /// Only a warning: a text stays right when a later netc has another layer.
    fn hidden_layer(&mut self, module: &Ident) {
        if self.program.layer(&module.name).is_none() {
            return;
        }
        let message = format!("the module `{0}` hides the layer `{0}`", module.name);
        let diagnostic = Diagnostic::warning("hidden-layer", message).primary(module.span, "the name of a layer");
        let help = format!("where this module is seen, `{}` means it; give it a name of its own", module.name);
        self.report.add(diagnostic.help(help));
    }

    fn definition(&mut self, definition: &Definition) {
        self.place = if definition.kind == DefinitionKind::Model { Place::Model } else { Place::Module };
        if definition.kind == DefinitionKind::Module {
            self.hidden_layer(&definition.name);
        }
        self.labels = LabelHeads::default();
        self.labels.gather(&definition.body);
        self.enter();
        for param in &definition.params {
            if let Some(default) = &param.default {
                self.expr(default);
            }
            let outer = self.scopes.last().copied().unwrap_or(0);
            let known = self.bindings.find_inner(&param.name.name, outer).map(|b| b.span);
            if let Some(first) = known {
                let message = format!("two parameters are named `{}`", param.name.name);
                self.report.add(
                    Diagnostic::error("duplicate-parameter", message)
                        .primary(param.name.span, "again")
                        .secondary(first, "first"),
                );
            }
            self.bind(&param.name, if known.is_none() { Some("parameter") } else { None });
        }
        self.block(&definition.body);
        self.leave();
        self.place = Place::File;
    }

    fn bind(&mut self, name: &Ident, kind: Option<&'static str>) {
        let kind = kind.filter(|_| !name.name.starts_with('_'));
        self.bindings.bind(&name.name, Binding { span: name.span, kind, used: false });
    }

    fn enter(&mut self) {
        self.scopes.push(self.bindings.len());
    }

    /// Ends a scope, with a warning for what nothing has used.
    fn leave(&mut self) {
        let outer = self.scopes.pop().unwrap_or(0);
        for (name, binding) in self.bindings.leave(outer) {
            if let (Some(kind), false) = (binding.kind, binding.used) {
                let message = format!("nothing uses the {kind} `{name}`");
                let diagnostic = Diagnostic::warning("unused-name", message).primary(binding.span, "never used");
                self.report.add(diagnostic);
            }
        }
    }

    // ---- Statements --------------------------------------------------------------------------

    fn block(&mut self, block: &Block) {
        self.enter();
        for (i, statement) in block.statements.iter().enumerate() {
            match &statement.kind {
                StatementKind::Call(call) if is_bare_label(self.program, self.file, &block.statements, i) => {
                    self.bare_label(call);
                }
                _ => self.statement(statement),
            }
        }
        self.leave();
    }

    fn bare_label(&mut self, call: &Call) {
        let name = &call.name.name;
        let diagnostic = Diagnostic::error("unknown-layer", format!("no layer or module is named `{name}`"));
        let diagnostic = diagnostic.primary(call.name.span, "unknown");
        self.report.add(diagnostic.help(format!("if it is a label, write `{name}:`")));
    }

    fn statement(&mut self, statement: &Statement) {
        if let Some(label) = &statement.label {
            self.template(&label.parts);
        }
        match &statement.kind {
            StatementKind::Call(call) => self.call(call),
            StatementKind::Block(block) => self.block(block),
            StatementKind::Branches(branches) => {
                self.word(&branches.join, JOINS, "unknown-join", "join of branches");
                self.block(&branches.body);
            }
            StatementKind::Residual { body, skip } => {
                self.block(body);
                skip.iter().for_each(|s| self.block(s));
            }
            StatementKind::Aux(aux) => self.aux(aux, statement.span),
            StatementKind::For { pattern, items, body } => {
                self.expr(items);
                self.enter();
                pattern.names().into_iter().for_each(|n| self.bind(n, None));
                self.block(body);
                self.leave();
            }
            StatementKind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    self.expr(condition);
                    self.block(body);
                }
                otherwise.iter().for_each(|b| self.block(b));
            }
            StatementKind::When { phase, body } => {
                self.word(phase, PHASES, "unknown-phase", "phase");
                self.block(body);
            }
            StatementKind::Let(l) => self.let_statement(l, Some("name")),
            StatementKind::Table(table) => self.table(table, Some("table")),
            StatementKind::Require { condition, message } => {
                self.expr(condition);
                message.iter().for_each(|m| self.expr(m));
            }
            StatementKind::Expect { metric, value, .. } => {
                self.only_in(statement, "expect", &[Place::Model]);
                self.word(metric, METRICS, "unknown-metric", "figure");
                self.expr(value);
            }
            StatementKind::Input { dtype, dims, .. } => self.input(statement, dtype, dims),
            StatementKind::Output { .. } => self.only_in(statement, "output", &[Place::Model, Place::Aux]),
            StatementKind::Preprocess { settings, .. } => self.preprocess(statement, settings),
            StatementKind::ClassLabels(names) => {
                self.only_in(statement, "labels", &[Place::Model]);
                self.expr(names);
            }
            StatementKind::From(value) => self.label_reference(value),
            StatementKind::Error(block) => block.iter().for_each(|b| self.block(b)),
        }
    }

    fn only_in(&mut self, statement: &Statement, word: &str, places: &[Place]) {
        if places.contains(&self.place) {
            return;
        }
        let message = match self.place {
            Place::Aux => format!("`{word}` inside an auxiliary head"),
            _ => format!("`{word}` inside a module"),
        };
        let span = Span { end: statement.span.start + word.len() as u32, ..statement.span };
        let diagnostic = Diagnostic::error("misplaced-statement", message).primary(span, "belongs into a model");
        self.report.add(match word {
            "output" => diagnostic.help("the value of a module is that of its last statement"),
            _ => diagnostic,
        });
    }

    fn input(&mut self, statement: &Statement, dtype: &Ident, dims: &[Expr]) {
        self.only_in(statement, "input", &[Place::Model]);
        if dtype.name != "f32" {
            let diagnostic = Diagnostic::error("unknown-type", format!("there is no element type `{}`", dtype.name));
            self.report.add(diagnostic.primary(dtype.span, "unknown").help("values are of type `f32`"));
        }
        match dims.split_first() {
            Some((first, rest)) => {
                if !super::model::is_batch(first) {
                    self.size(first);
                }
                rest.iter().for_each(|d| self.size(d));
            }
            None => self.report.unknown(statement.span),
        }
    }

    /// A size of an input other than `N`.
    fn size(&mut self, dim: &Expr) {
        match &dim.kind {
            ExprKind::Name(name) if !self.use_name(name) && !self.report.lost_words.contains(name) => {
                let diagnostic = Diagnostic::error("free-size", format!("the size `{name}` has no value"));
                let diagnostic = diagnostic.primary(dim.span, "unknown");
                self.report.add(diagnostic.help("only the batch `N` is free: give a number, or make it a parameter"));
            }
            _ => self.expr(dim),
        }
    }

    fn preprocess(&mut self, statement: &Statement, settings: &[Setting]) {
        self.only_in(statement, "preprocess", &[Place::Model]);
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for setting in settings {
            let name = &setting.name;
            self.word(name, SETTINGS, "unknown-step", "preprocessing step");
            if let Some(first) = seen.insert(&name.name, name.span) {
                let diagnostic = Diagnostic::error("duplicate-step", format!("`{}` is given twice", name.name));
                self.report.add(diagnostic.primary(name.span, "again").secondary(first, "first"));
            }
            match &setting.value.kind {
                ExprKind::Name(color) if name.name == "color" => {
                    let color = Ident { name: color.clone(), span: setting.value.span };
                    self.word(&color, COLORS, "unknown-color", "order of colours");
                }
                _ => self.expr(&setting.value),
            }
        }
    }

    fn aux(&mut self, aux: &Aux, span: Span) {
        if self.place != Place::Model {
            let span = Span { end: span.start + 3, ..span };
            let diagnostic =
                Diagnostic::error("misplaced-statement", "an auxiliary head outside of a model's own text");
            self.report.add(diagnostic.primary(span, "belongs into a model"));
        }
        aux.label.iter().for_each(|l| self.template(&l.parts));
        for arg in &aux.args {
            if let Some(name) = arg.name.as_ref().filter(|n| n.name != "weight") {
                self.unknown_parameter("aux", name, &["weight"], None);
            }
            self.expr(&arg.value);
        }
        let place = std::mem::replace(&mut self.place, Place::Aux);
        self.block(&aux.body);
        self.place = place;
    }

    /// Reports a word that is none of those that can stand here.
    fn word(&mut self, word: &Ident, words: &[&str], code: &'static str, what: &str) {
        if words.contains(&word.name.as_str()) {
            return;
        }
        let diagnostic =
            Diagnostic::error(code, format!("there is no {what} `{}`", word.name)).primary(word.span, "unknown");
        self.report.add(match nearest(&word.name, words.iter().copied()) {
            Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
            None => diagnostic.help(format!("there is {}", alternatives(words))),
        });
    }

    fn let_statement(&mut self, l: &Let, kind: Option<&'static str>) {
        self.expr(&l.value);
        l.pattern.names().into_iter().for_each(|n| self.bind(n, kind));
    }

    fn table(&mut self, table: &Table, kind: Option<&'static str>) {
        for row in &table.rows {
            row.iter().for_each(|cell| self.expr(cell));
            if row.len() != table.columns.len() {
                let span = row.iter().map(|c| c.span).reduce(Span::to).unwrap_or(table.span);
                let message = format!("a row of {} in a table of {} columns", cells(row.len()), table.columns.len());
                self.report.add(
                    Diagnostic::error("row-length", message)
                        .primary(span, cells(row.len()))
                        .secondary(table.name.span, format!("{} columns", table.columns.len())),
                );
            }
        }
        self.bind(&table.name, kind);
    }

    // ---- Calls -------------------------------------------------------------------------------

    fn call(&mut self, call: &Call) {
        self.called.insert(call.name.name.clone());
        let callee = self.program.callee(self.file, &call.name.name).or_else(|| {
            let similar = self.unknown_callee(call)?;
            self.called.insert(similar.clone());
            self.program.callee(self.file, &similar)
        });
        match callee {
            Some(Callee::Module(id)) => self.module_call(call, self.program.definition(id)),
            Some(Callee::Layer(layer)) => self.layer_call(call, layer),
            None => call.args.iter().for_each(|a| self.label_reference(&a.value)),
        }
    }

    /// Reports an unknown layer; its likely name, where there is one.
    fn unknown_callee(&mut self, call: &Call) -> Option<String> {
        let name = &call.name.name;
        if self.report.lost_words.contains(name) || self.report.is_full(Severity::Error) {
            return None;
        }
        let mut models = self.program.definitions(self.file, DefinitionKind::Model);
        if models.any(|(_, d)| d.name.name == *name) {
            let message = format!("`{name}` is a model; only layers and modules can be called");
            let diagnostic = Diagnostic::error("call-of-model", message).primary(call.name.span, "a model");
            self.report.add(diagnostic.help("make what both need a `module`"));
            return None;
        }
        let similar = self.program.similar_callee(self.file, name);
        if similar.is_none() && self.program.file(self.file).lacks_imports {
            return None;
        }
        let diagnostic = Diagnostic::error("unknown-layer", format!("no layer or module is named `{name}`"));
        let diagnostic = diagnostic.primary(call.name.span, "unknown");
        self.report.add(match &similar {
            Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
            None if call.args.is_empty() => diagnostic.help(format!("if it is a label, write `{name}:`")),
            None => diagnostic.help("define it with `module`, or bring it in with `use`"),
        });
        similar
    }

    fn module_call(&mut self, call: &Call, module: &Definition) {
        call.args.iter().for_each(|a| self.expr(&a.value));
        let names: Vec<&str> = module.params.iter().map(|p| p.name.name.as_str()).collect();
        let required: Vec<bool> = module.params.iter().map(|p| p.default.is_none()).collect();
        self.arguments(call, &call.args.iter().collect::<Vec<_>>(), &names, &required, Some(module.name.span));
    }

    fn layer_call(&mut self, call: &Call, layer: &Layer) {
        let joins = layer.arity.takes_labels();
        let (labels, args): (Vec<&Arg>, Vec<&Arg>) = call.args.iter().partition(|a| joins && a.name.is_none());
        labels.iter().for_each(|a| self.label_reference(&a.value));
        args.iter().for_each(|a| self.expr(&a.value));
        if joins && labels.is_empty() {
            let message = format!("`{}` joins the flow with other values; name them", layer.name);
            let diagnostic = Diagnostic::error("missing-argument", message).primary(call.name.span, "joins with what?");
            self.report.add(diagnostic.help(format!("give labels: `{}(stem)`", layer.name)));
        }
        let names: Vec<&str> = layer.params.iter().map(|p| p.name).collect();
        let required: Vec<bool> = layer.params.iter().map(|p| matches!(p.preset, Preset::Required)).collect();
        self.arguments(call, &args, &names, &required, None);
    }

    fn arguments(&mut self, call: &Call, args: &[&Arg], names: &[&str], required: &[bool], defined: Option<Span>) {
        let callee = &call.name.name;
        let with_definition = |d: Diagnostic| match defined {
            Some(span) => d.secondary(span, "defined here"),
            None => d,
        };
        if let Some(extra) = args.iter().enumerate().find(|(i, a)| a.name.is_none() && *i >= names.len()) {
            let takes = match names.len() {
                0 => "no arguments".to_string(),
                1 => "one argument".to_string(),
                n => format!("{n} arguments"),
            };
            let message = format!("`{callee}` takes {takes}");
            let diagnostic = Diagnostic::error("too-many-arguments", message).primary(extra.1.span, "one too many");
            let diagnostic = if names.is_empty() { diagnostic } else { diagnostic.note(parameters(names)) };
            self.report.add(with_definition(diagnostic));
        }
        for arg in args {
            if let Some(name) = arg.name.as_ref().filter(|n| !names.contains(&n.name.as_str())) {
                self.unknown_parameter(callee, name, names, defined);
            }
        }
        let owned: Vec<Arg> = args.iter().map(|a| (*a).clone()).collect();
        let slots = assign(&owned, names);
        self.given_twice(&owned, names, &slots);
        let missing: Vec<String> = names
            .iter()
            .zip(slots.iter().zip(required))
            .filter(|(_, (slot, required))| slot.is_none() && **required)
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        if !missing.is_empty() {
            let message = format!("`{callee}` needs {}", missing.join(" and "));
            let diagnostic = Diagnostic::error("missing-argument", message).primary(call.name.span, "not given");
            self.report.add(with_definition(diagnostic.note(parameters(names))));
        }
    }

    fn unknown_parameter(&mut self, callee: &str, name: &Ident, names: &[&str], defined: Option<Span>) {
        let message = format!("`{callee}` has no parameter `{}`", name.name);
        let mut diagnostic = Diagnostic::error("unknown-parameter", message).primary(name.span, "unknown");
        if let Some(span) = defined {
            diagnostic = diagnostic.secondary(span, "defined here");
        }
        self.report.add(match nearest(&name.name, names.iter().copied()) {
            Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
            None if names.is_empty() => diagnostic.help(format!("`{callee}` takes no arguments")),
            None => diagnostic.help(parameters(names)),
        });
    }

    fn given_twice(&mut self, args: &[Arg], names: &[&str], slots: &[Option<&Arg>]) {
        for arg in args {
            let Some(name) = &arg.name else { continue };
            let Some(slot) = names.iter().position(|n| *n == name.name) else { continue };
            if let Some(other) = slots[slot].filter(|other| other.span != arg.span) {
                let message = format!("`{}` is given twice", name.name);
                let diagnostic = Diagnostic::error("duplicate-argument", message);
                self.report.add(diagnostic.primary(arg.span, "again").secondary(other.span, "first"));
            }
        }
    }

    // ---- Expressions -------------------------------------------------------------------------

    /// A position where only labels and values of the network make sense. Which labels there are
    /// shows when the model is evaluated.
    fn label_reference(&mut self, e: &Expr) {
        match dotted_name(e) {
            Some(name) => drop(self.use_name(name.split('.').next().unwrap_or(&name))),
            None => self.expr(e),
        }
    }

    fn template(&mut self, parts: &[TemplatePart]) {
        for part in parts {
            if let TemplatePart::Expr(e) = part {
                self.expr(e);
            }
        }
    }

    fn expr(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Bool(_) | ExprKind::In | ExprKind::Error => {}
            ExprKind::Template(parts) => self.template(parts),
            ExprKind::Label(label) => self.template(&label.parts),
            ExprKind::Name(name) => self.name(name, e.span),
            ExprKind::List(items) | ExprKind::Tuple(items) => items.iter().for_each(|e| self.expr(e)),
            ExprKind::Range { start, end, .. } => [start, end].into_iter().for_each(|e| self.expr(e)),
            ExprKind::Unary(_, operand) => self.expr(operand),
            ExprKind::Binary(_, _, left, right) => [left, right].into_iter().for_each(|e| self.expr(e)),
            ExprKind::If { condition, then, otherwise } => {
                [condition, then, otherwise].into_iter().for_each(|e| self.expr(e));
            }
            ExprKind::Field(operand, _) => self.expr(operand),
            ExprKind::Index(operand, index) => [operand, index].into_iter().for_each(|e| self.expr(e)),
            ExprKind::Function(name, args) => self.function(name, args),
        }
    }

    fn function(&mut self, name: &Ident, args: &[Expr]) {
        args.iter().for_each(|a| self.expr(a));
        let names: Vec<&str> = FUNCTIONS.iter().map(|f| f.0).collect();
        let Some((_, least, most)) = FUNCTIONS.iter().find(|(n, ..)| *n == name.name) else {
            let diagnostic = Diagnostic::error("unknown-function", format!("there is no function `{}`", name.name));
            let diagnostic = diagnostic.primary(name.span, "unknown");
            self.report.add(match (name.name.as_str(), nearest(&name.name, names.iter().copied())) {
                ("range", _) => diagnostic.help("a range is written `start..end`"),
                ("int", _) => diagnostic.help("`floor`, `ceil` and `round` make integers"),
                (_, Some(similar)) => diagnostic.help(format!("did you mean `{similar}`?")),
                _ => diagnostic.help(format!("there are {}", names.join(", "))),
            });
            return;
        };
        if args.len() < *least || args.len() > *most {
            let message = format!("`{}` takes {}, not {}", name.name, count(*least), args.len());
            self.report.add(Diagnostic::error("wrong-argument-count", message).primary(name.span, "this function"));
        }
    }

    fn name(&mut self, name: &str, span: Span) {
        if self.use_name(name) || self.labels.may_be(name) || self.report.lost_words.contains(name) {
            return;
        }
        if self.report.is_full(Severity::Error) {
            return;
        }
        let diagnostic =
            Diagnostic::error("unknown-name", format!("nothing is named `{name}`")).primary(span, "unknown");
        let similar = nearest(name, self.bindings.names()).map(str::to_string);
        if let Some(similar) = &similar {
            self.use_name(similar);
        }
        self.report.add(match similar {
            Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
            None if name == "True" || name == "False" => diagnostic.help("write it in small letters"),
            None => diagnostic,
        });
    }

    /// Marks a binding as used; false where there is none.
    fn use_name(&mut self, name: &str) -> bool {
        self.bindings.find_mut(name).map(|b| b.used = true).is_some()
    }
}

fn parameters(names: &[&str]) -> String {
    format!("its parameters: {}", names.join(", "))
}

fn alternatives(words: &[&str]) -> String {
    match words {
        [one] => format!("`{one}`"),
        _ => some_of(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>()),
    }
}

fn cells(n: usize) -> String {
    count_of(n, "cell")
}

fn count(n: usize) -> String {
    count_of(n, "argument")
}

fn count_of(n: usize, what: &str) -> String {
    if n == 1 { format!("one {what}") } else { format!("{n} {what}s") }
}

/// Whether a statement is an unknown word before another statement on its line: a label whose colon
/// was forgotten, unless the word is nearly that of something that is called without arguments.
pub fn is_bare_label(program: &Program, file: FileId, statements: &[Statement], index: usize) -> bool {
    let StatementKind::Call(call) = &statements[index].kind else { return false };
    let followed = statements.get(index + 1).is_some_and(|next| !next.new_line && next.label.is_none());
    let bare = followed && call.args.is_empty() && statements[index].label.is_none();
    if !bare || program.callee(file, &call.name.name).is_some() {
        return false;
    }
    let similar = program.similar_callee(file, &call.name.name).and_then(|name| program.callee(file, &name));
    !similar.is_some_and(|callee| match callee {
        Callee::Layer(layer) => {
            layer.arity == Arity::Unary && layer.params.iter().all(|p| !matches!(p.preset, Preset::Required))
        }
        Callee::Module(id) => program.definition(id).params.iter().all(|p| p.default.is_some()),
    })
}

/// The blocks directly inside a statement.
pub fn inner_blocks(kind: &StatementKind) -> Vec<&Block> {
    match kind {
        StatementKind::Block(b) => vec![b],
        StatementKind::Branches(b) => vec![&b.body],
        StatementKind::Residual { body, skip } => [body].into_iter().chain(skip).collect(),
        StatementKind::Aux(a) => vec![&a.body],
        StatementKind::For { body, .. } | StatementKind::When { body, .. } => vec![body],
        StatementKind::If { arms, otherwise } => arms.iter().map(|(_, b)| b).chain(otherwise).collect(),
        StatementKind::Error(b) => b.iter().collect(),
        _ => vec![],
    }
}

fn duplicate_definitions(program: &Program, file: FileId, report: &mut Report) {
    for kind in [DefinitionKind::Module, DefinitionKind::Model] {
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for (_, definition) in program.definitions(file, kind) {
            let Ident { name, span } = &definition.name;
            match seen.get(name.as_str()) {
                None => drop(seen.insert(name, *span)),
                Some(first) => {
                    let message = format!("two {}s are named `{name}`", kind.word());
                    let diagnostic = Diagnostic::error("duplicate-definition", message);
                    report.add(diagnostic.primary(*span, "again").secondary(*first, "first"));
                }
            }
        }
    }
}
