//! Statements: where each may stand, which words it takes, and what it binds.

use std::collections::HashMap;

use super::expressions::count_of;
use super::{COLORS, Checker, JOINS, METRICS, PHASES, Place, SETTINGS, TRAINING_METRIC};
use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::elaborate::expression::some_of;
use crate::elaborate::model::{input_element, is_batch};
use crate::elaborate::program::{Callee, FileId, Program};
use crate::ops::element::OF_INPUTS;
use crate::ops::layer::{Arity, Preset};
use crate::syntax::{self, ast::*};

/// What other programs call types of elements.
const FOREIGN_TYPES: &[(&str, &str)] = &[
    ("float", "f32"),
    ("float32", "f32"),
    ("half", "f16"),
    ("float16", "f16"),
    ("uint8", "u8"),
    ("byte", "u8"),
    ("int8", "i8"),
    ("int16", "i16"),
    ("int", "i32"),
    ("int32", "i32"),
    ("long", "i64"),
    ("int64", "i64"),
    ("boolean", "bool"),
];

/// Steps of other programs, and how they are said here.
const FOREIGN_STEPS: &[(&str, &str)] = &[
    ("normalize", "`mean [r, g, b]` is subtracted, and `std [r, g, b]` divides"),
    ("normalise", "`mean [r, g, b]` is subtracted, and `std [r, g, b]` divides"),
    ("to_tensor", "`scale 1/255` makes numbers from 0 to 1 of pixels"),
    ("rescale", "`scale 1/255` makes numbers from 0 to 1 of pixels"),
    ("crop", "`center_crop 224` takes the middle"),
    ("grayscale", "`color gray`"),
    ("bgr", "`color bgr`"),
    (
        "random_crop",
        "what changes pictures while training stands in a `train` block: `augment image { random_crop 28 }`",
    ),
    ("flip", "what changes pictures while training stands in a `train` block: `augment image { flip }`"),
];

impl Checker<'_> {
    pub(super) fn block(&mut self, block: &Block) {
        self.enter();
        let mut foreign = false;
        for (i, statement) in block.statements.iter().enumerate() {
            // What follows a word of another language on its line belongs to it.
            if foreign && !statement.new_line {
                continue;
            }
            foreign = self.is_foreign(statement);
            match &statement.kind {
                StatementKind::Call(call) if is_bare_label(self.program, self.file, &block.statements, i) => {
                    self.bare_label(call);
                }
                _ => self.statement(statement),
            }
        }
        self.leave();
    }

    /// A call of nothing that there is, by a word of another language.
    fn is_foreign(&self, statement: &Statement) -> bool {
        let StatementKind::Call(call) = &statement.kind else { return false };
        let name = &call.name;
        call.args.is_empty()
            && syntax::foreign_word(&name.name, name.span).is_some()
            && self.program.callee(self.file, &name.name).is_none()
    }

    fn bare_label(&mut self, call: &Call) {
        let name = &call.name.name;
        if let Some(diagnostic) = syntax::foreign_word(name, call.name.span) {
            return self.report.add(diagnostic);
        }
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
            StatementKind::Residual { condition, body, skip } => {
                condition.iter().for_each(|e| self.expr(e));
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
            StatementKind::Expect(expect) => {
                self.only_in(statement, "expect", &[Place::Model]);
                self.expect(expect);
            }
            StatementKind::Input { dtype, dims, .. } => self.input(statement, dtype, dims),
            StatementKind::Output { name, .. } => {
                self.only_in(statement, "output", &[Place::Model, Place::Aux]);
                self.template(&name.parts);
            }
            StatementKind::Preprocess { settings, .. } => self.preprocess(statement, settings),
            StatementKind::ClassLabels(names) => {
                self.only_in(statement, "labels", &[Place::Model]);
                self.expr(names);
            }
            StatementKind::From(value) => self.label_reference(value),
            StatementKind::Error(block) => block.iter().for_each(|b| self.block(b)),
        }
    }

    /// What a model states of itself.
    fn expect(&mut self, expect: &Expect) {
        if expect.metric.name == TRAINING_METRIC {
            let message = format!("`{TRAINING_METRIC}` is no figure of a model");
            let diagnostic = Diagnostic::error("misplaced-statement", message).primary(expect.metric.span, "of what?");
            self.report.add(diagnostic.help("state it in a `train` block"));
            return;
        }
        self.word(&expect.metric, METRICS, "unknown-metric", "figure");
        expect.args.iter().for_each(|a| self.expr(&a.value));
        self.expr(&expect.value);
        let surplus = expect.args.first().map(|a| a.span).or(expect.unit.as_ref().map(|u| u.span));
        if let Some(span) = surplus {
            let message = format!("`{}` is a plain number", expect.metric.name);
            let diagnostic = Diagnostic::error("wrong-budget", message).primary(span, "too much");
            self.report.add(diagnostic.help(format!("write `expect {} <= 1_000_000`", expect.metric.name)));
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
        if input_element(dtype).is_none() {
            let diagnostic = Diagnostic::error("unknown-type", format!("there is no element type `{}`", dtype.name));
            let known = OF_INPUTS.map(|element| format!("`{element}`")).join(", ");
            let diagnostic = diagnostic.primary(dtype.span, "unknown");
            let own = FOREIGN_TYPES.iter().find(|(foreign, _)| dtype.name.eq_ignore_ascii_case(foreign));
            self.report.add(match own {
                Some((_, own)) => diagnostic.help(format!("did you mean `{own}`?")),
                None => diagnostic.help(format!("inputs are of type {known}")),
            });
        }
        match dims.split_first() {
            Some((first, rest)) => {
                if !is_batch(first) {
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
            if let Some((_, help)) = FOREIGN_STEPS.iter().find(|(foreign, _)| *foreign == name.name) {
                let message = format!("there is no preprocessing step `{}`", name.name);
                self.report.add(Diagnostic::error("unknown-step", message).primary(name.span, "unknown").help(*help));
            } else {
                self.word(name, SETTINGS, "unknown-step", "preprocessing step");
            }
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

    pub(super) fn let_statement(&mut self, l: &Let, kind: Option<&'static str>) {
        self.expr(&l.value);
        l.pattern.names().into_iter().for_each(|n| self.bind(n, kind));
    }

    pub(super) fn table(&mut self, table: &Table, kind: Option<&'static str>) {
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
}

/// Whether a statement is an unknown word before another statement on its line: a label whose colon
/// was forgotten, unless the word is nearly that of something that is called without arguments.
pub(crate) fn is_bare_label(program: &Program, file: FileId, statements: &[Statement], index: usize) -> bool {
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
pub(crate) fn inner_blocks(kind: &StatementKind) -> Vec<&Block> {
    match kind {
        StatementKind::Block(b) => vec![b],
        StatementKind::Branches(b) => vec![&b.body],
        StatementKind::Residual { body, skip, .. } => [body].into_iter().chain(skip).collect(),
        StatementKind::Aux(a) => vec![&a.body],
        StatementKind::For { body, .. } | StatementKind::When { body, .. } => vec![body],
        StatementKind::If { arms, otherwise } => arms.iter().map(|(_, b)| b).chain(otherwise).collect(),
        StatementKind::Error(b) => b.iter().collect(),
        _ => vec![],
    }
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
