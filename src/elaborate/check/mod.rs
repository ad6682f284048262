//! Checks that need no values, on all text of a program, whether it is called or not: names,
//! arguments, where statements may stand, recursion.
//!
//! In goes a program of which every file is parsed; out come diagnostics. Nothing is evaluated here: what
//! depends on a value is reported where the elaborator meets it.

mod calls;
mod expressions;
mod labels;
mod statements;
mod training;

pub(crate) use expressions::named_argument;
pub(crate) use statements::{inner_blocks, is_bare_label};

use std::collections::{HashMap, HashSet};

use super::arithmetic::FUNCTIONS;
use super::bindings::Bindings;
use super::program::{FileId, Program};
use super::recursion::recursion;
use super::report::Report;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::*;
use labels::LabelHeads;

/// What `expect` can state.
pub(crate) const METRICS: &[&str] = &["params", "macs", "activations", "receptive_field", "layers"];
/// What `expect` states in a `train` block.
pub(crate) const TRAINING_METRIC: &str = "train_memory";
/// The joins of `branches`.
const JOINS: &[&str] = &["concat", "add", "mul", "max"];
const PHASES: &[&str] = &["train", "infer"];
/// The steps of `preprocess`.
pub(crate) const SETTINGS: &[&str] = &["resize", "center_crop", "scale", "mean", "std", "color", "invert"];
/// The words after `color`.
pub(crate) const COLORS: &[&str] = &["rgb", "bgr", "gray"];

/// Checks all files of a program.
pub(crate) fn check(program: &Program, report: &mut Report) {
    for file in program.files() {
        duplicate_definitions(program, file, report);
        training::duplicate_trainings(&program.trainings(file).collect::<Vec<_>>(), report);
        let mut checker = Checker {
            program,
            report,
            file,
            bindings: Bindings::default(),
            scopes: vec![],
            labels: LabelHeads::default(),
            place: Place::File,
            called: HashSet::new(),
            functions: HashSet::new(),
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
    Function,
}

struct Binding {
    span: Span,
    /// What it is called in a warning; `None` for what may stay unused.
    kind: Option<&'static str>,
    used: bool,
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
    /// The names of functions that are called.
    functions: HashSet<String>,
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
                Item::Train(t) => self.train(t),
                Item::Function(f) => self.function_item(f),
                Item::Use(_) | Item::Error => {}
            }
        }
        // What a file binds at its top may be there for others.
        self.scopes.clear();
        self.unused_modules();
    }

    fn function_item(&mut self, function: &Function) {
        if FUNCTIONS.iter().any(|(name, ..)| *name == function.name.name) {
            let message = format!("the function `{0}` hides the language's own `{0}`", function.name.name);
            let diagnostic = Diagnostic::warning("hidden-function", message);
            self.report
                .add(diagnostic.primary(function.name.span, "the name of a function").help("give it another name"));
        }
        self.place = Place::Function;
        self.labels = LabelHeads::default();
        self.enter();
        self.params(&function.params);
        self.expr(&function.body);
        self.leave();
        self.place = Place::File;
    }

    fn unused_modules(&mut self) {
        let is_program = self.program.definitions(self.file, DefinitionKind::Model).next().is_some();
        if !is_program || self.file != Program::ROOT {
            return;
        }
        for (_, function) in self.program.functions_of(self.file) {
            let Ident { name, span } = &function.name;
            if !self.functions.contains(name) && !self.report.lost_words.contains(name) {
                let diagnostic = Diagnostic::warning("unused-function", format!("nothing calls the function `{name}`"));
                self.report.add(diagnostic.primary(*span, "never called"));
            }
        }
        for (_, module) in self.program.definitions(self.file, DefinitionKind::Module) {
            let name = &module.name.name;
            if !self.called.contains(name) && !self.report.lost_words.contains(name) {
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
        self.params(&definition.params);
        self.block(&definition.body);
        self.leave();
        self.place = Place::File;
    }

    fn params(&mut self, params: &[Param]) {
        for param in params {
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
            let is_used = binding.used || self.report.lost_words.contains(&name);
            if let (Some(kind), false) = (binding.kind, is_used) {
                let message = format!("nothing uses the {kind} `{name}`");
                let diagnostic = Diagnostic::warning("unused-name", message).primary(binding.span, "never used");
                self.report.add(diagnostic);
            }
        }
    }
}

fn duplicate_definitions(program: &Program, file: FileId, report: &mut Report) {
    for kind in [DefinitionKind::Module, DefinitionKind::Model] {
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for (_, definition) in program.definitions(file, kind) {
            let Ident { name, span } = &definition.name;
            match seen.get(name.as_str()) {
                None => drop(seen.insert(name, *span)),
                Some(first) => report.add(named_twice(kind.word(), name, *span, *first)),
            }
        }
    }
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for (_, function) in program.functions_of(file) {
        let Ident { name, span } = &function.name;
        match seen.get(name.as_str()) {
            None => drop(seen.insert(name, *span)),
            Some(first) => report.add(named_twice("function", name, *span, *first)),
        }
    }
}

fn named_twice(what: &str, name: &str, again: Span, first: Span) -> Diagnostic {
    let diagnostic = Diagnostic::error("duplicate-definition", format!("two {what}s are named `{name}`"));
    diagnostic.primary(again, "again").secondary(first, "first")
}
