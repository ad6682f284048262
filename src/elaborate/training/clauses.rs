//! Clauses: which may stand where, how often, and the values of those that hold a number or a word with arguments.

use std::collections::HashMap;

use super::words::{self, CLAUSES};
use super::{Elaborator, Frame};
use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::elaborate::check::TRAINING_METRIC;
use crate::elaborate::value::Val;
use crate::recipe::{MemoryBudget, Optimizer, Schedule, ScheduleKind};
use crate::syntax::ast::*;

/// A number of samples or epochs may be no larger than this.
const MAX_COUNT: i64 = 1 << 24;

/// The clauses of a block or a step.
#[derive(Default)]
pub(super) struct Clauses<'t> {
    /// Those that stand once: their values, and the word.
    pub single: HashMap<&'t str, (&'t [Expr], Span)>,
    /// Those that may be repeated.
    several: Vec<(&'t str, &'t [Expr])>,
    pub inits: Vec<(Option<&'t Label>, &'t Expr)>,
    /// Whose learning rate is multiplied, and by what.
    pub scales: Vec<(&'t [Label], &'t Expr)>,
    /// Clauses that unknown words most likely mean.
    meant: Vec<String>,
}

impl<'t> Clauses<'t> {
    /// The value of a clause that takes a word.
    fn word(&self, name: &str) -> Option<&'t Expr> {
        self.single.get(name).and_then(|(values, _)| values.first())
    }

    /// All values of a clause that may be repeated.
    pub(super) fn of(&self, name: &'t str) -> impl Iterator<Item = &'t Expr> + '_ {
        self.several.iter().filter(move |(n, _)| *n == name).flat_map(|(_, values)| values.iter())
    }
}

/// Clauses of a whole block, and those that steps may have too.
const OF_BLOCK: &[&str] = &["batch", "epochs", "ema"];
const OF_STEPS: &[&str] = &["loss", "optimizer", "schedule", "clip", "clamp"];
const SEVERAL: &[&str] = &["no_decay", "freeze", "metric"];

impl<'a> Elaborator<'a> {
    /// Sorts the statements of a block, or of a step.
    pub(super) fn clauses(&mut self, body: &'a TrainBlock, is_block: bool) -> Clauses<'a> {
        let mut clauses = Clauses::default();
        for statement in &body.statements {
            match &statement.kind {
                TrainStatementKind::Clause { name, values } => self.clause(&mut clauses, name, values, is_block),
                TrainStatementKind::Init { kind, value } if is_block => {
                    clauses.inits.push((kind.as_ref(), value));
                }
                TrainStatementKind::LrScale { of, by } => clauses.scales.push((of, by)),
                TrainStatementKind::Let(_) | TrainStatementKind::Error(_) => {}
                _ if is_block => {}
                other => {
                    let word = match other {
                        TrainStatementKind::Step { .. } => "step",
                        TrainStatementKind::Source { kind, .. } => kind.word(),
                        TrainStatementKind::Augment { .. } => "augment",
                        TrainStatementKind::Init { .. } => "init",
                        _ => "expect",
                    };
                    let span = Span { end: statement.span.start + word.len() as u32, ..statement.span };
                    self.misplaced(word, span);
                }
            }
        }
        clauses
    }

    fn misplaced(&mut self, word: &str, span: Span) {
        let diagnostic = Diagnostic::error("misplaced-clause", format!("`{word}` inside a step"));
        self.report.add(diagnostic.primary(span, "belongs beside the steps"));
    }

    fn clause(&mut self, clauses: &mut Clauses<'a>, name: &'a Ident, values: &'a [Expr], is_block: bool) {
        let word = name.name.as_str();
        if SEVERAL.contains(&word) {
            if word == "metric" && !is_block {
                return self.misplaced(word, name.span);
            }
            clauses.several.push((word, values));
            return;
        }
        if !OF_BLOCK.contains(&word) && !OF_STEPS.contains(&word) {
            clauses.meant.extend(self.unknown_clause(name));
            return;
        }
        if OF_BLOCK.contains(&word) && !is_block {
            return self.misplaced(word, name.span);
        }
        if let Some((_, first)) = clauses.single.get(word) {
            let diagnostic = Diagnostic::error("duplicate-clause", format!("`{word}` is given twice"));
            let diagnostic = diagnostic.primary(name.span, "again").secondary(*first, "first");
            self.report.add(match word {
                "loss" => diagnostic.help("join both with `+`"),
                "optimizer" => diagnostic.help("weights of one step change by one rule"),
                _ => diagnostic,
            });
            return;
        }
        if let Some(second) = values.get(1) {
            let message = format!("`{word}` takes one value");
            self.report.add(Diagnostic::error("too-many-values", message).primary(second.span, "one too many"));
        }
        clauses.single.insert(word, (values, name.span));
    }

    /// Reports a word that begins no clause, and gives the one that it most likely means.
    fn unknown_clause(&mut self, name: &Ident) -> Option<String> {
        let words: Vec<&str> = CLAUSES.iter().map(|(word, ..)| *word).collect();
        let foreign = || FOREIGN.iter().find(|(other, _)| *other == name.name).map(|(_, own)| *own);
        let message = format!("a `train` block has no clause `{}`", name.name);
        let diagnostic = Diagnostic::error("unknown-clause", message).primary(name.span, "unknown");
        let is_layer = self.program.callee(super::Program::ROOT, &name.name).is_some();
        let similar = foreign().or_else(|| nearest(&name.name, words.iter().copied())).map(str::to_string);
        self.report.add(match &similar {
            Some(word) => diagnostic.help(format!("did you mean `{word}`?")),
            None if is_layer => diagnostic.help("layers stand in a `model` or a `module`"),
            None => diagnostic.help(format!("there are {}", words.join(", "))),
        });
        similar
    }

    /// The one value of a clause, whose names are known.
    fn only(&mut self, frame: &Frame, clauses: &Clauses<'a>, name: &str) -> Option<&'a Expr> {
        let (values, _) = clauses.single.get(name)?;
        let value = values.first()?;
        self.known(frame, value).then_some(value)
    }

    /// Whether a clause may stand in text that could not be parsed, or under another word.
    pub(super) fn is_lost(&mut self, clauses: &Clauses, name: &str, span: Span) -> bool {
        let is_lost = self.report.lost_words.contains(name) || clauses.meant.iter().any(|meant| meant == name);
        if is_lost {
            self.report.unknown(span);
        }
        is_lost
    }

    /// `batch` or `epochs`: what was asked for, or what the block says.
    pub(super) fn count(
        &mut self,
        frame: &Frame,
        clauses: &Clauses<'a>,
        name: &'static str,
        asked: Option<usize>,
        block: &Train,
    ) -> Option<usize> {
        if !clauses.single.contains_key(name) && asked.is_none() && !self.is_lost(clauses, name, block.name.span) {
            let message = format!("`train {}` does not say its `{name}`", block.name.name);
            let diagnostic = Diagnostic::error("missing-clause", message).primary(block.name.span, "this block");
            self.report.add(diagnostic.help(format!("add `{name} {}`", if name == "batch" { 32 } else { 10 })));
        }
        let said = self.only(frame, clauses, name).map(|value| (self.eval(frame, value), value.span));
        let mut count = None;
        if let Some((value, span)) = said.filter(|(value, _)| !value.is_unknown()) {
            count = value.integer().filter(|v| (1..=MAX_COUNT).contains(v)).map(|v| v as usize);
            if count.is_none() {
                let message = format!("`{name}` is an integer from 1 to {MAX_COUNT}, not {}", value.quoted());
                self.report.add(Diagnostic::error("wrong-clause", message).primary(span, "not such a number"));
            }
        }
        asked.map(|asked| asked.max(1)).or(count)
    }

    /// The number of a clause that is more than 0, and where it stands.
    pub(super) fn positive(&mut self, frame: &Frame, clauses: &Clauses<'a>, name: &str) -> Option<(f64, Span)> {
        let value = self.only(frame, clauses, name)?;
        self.positive_number(frame, name, value)
    }

    /// A number of single precision that is more than 0, whose names are known.
    pub(super) fn positive_number(&mut self, frame: &Frame, name: &str, value: &Expr) -> Option<(f64, Span)> {
        match self.eval(frame, value) {
            Val::Unknown => None,
            found => match found.number().filter(|v| *v > 0.0 && (*v as f32).is_finite() && *v as f32 > 0.0) {
                Some(number) => Some((number, value.span)),
                None => {
                    let message = format!("`{name}` is a number more than 0, not {}", found.quoted());
                    self.report.add(Diagnostic::error("wrong-clause", message).primary(value.span, ""));
                    None
                }
            },
        }
    }

    pub(super) fn is_share(&mut self, frame: &Frame, name: &str, value: f64, span: Span) -> bool {
        if value < 1.0 {
            return true;
        }
        let message = format!("`{name}` is a share, more than 0 and less than 1, not {value:?}");
        self.error(frame, Diagnostic::error("wrong-clause", message).primary(span, ""));
        false
    }

    pub(super) fn optimizer(&mut self, frame: &Frame, clauses: &Clauses<'a>, step: Span) -> Option<Optimizer> {
        if !clauses.single.contains_key("optimizer") && self.is_lost(clauses, "optimizer", step) {
            return None;
        }
        if !clauses.single.contains_key("optimizer") {
            let diagnostic = Diagnostic::error("missing-clause", "nothing says how the weights are to change");
            self.report.add(diagnostic.primary(step, "without an optimizer").help("add `optimizer sgd(lr = 0.1)`"));
            return None;
        }
        let value = clauses.word("optimizer")?;
        let called = self.called(frame, &words::OPTIMIZERS, value)?;
        let made = words::optimizer(called.word.name, &called.args);
        self.made(&called, made)
    }

    pub(super) fn schedule(&mut self, frame: &Frame, clauses: &Clauses<'a>, epochs: usize, is_set: bool) -> Schedule {
        let constant = Schedule { kind: ScheduleKind::Constant, warmup: 0.0 };
        let Some(value) = clauses.word("schedule") else { return constant };
        let Some(called) = self.called(frame, &words::SCHEDULES, value) else { return constant };
        let made = words::schedule(called.word.name, &called.args);
        let Some(schedule) = self.made(&called, made) else { return constant };
        if let Some((param, time)) = words::beyond(&schedule, epochs as f64) {
            let message = format!("the schedule's `{param}` is at epoch {time}, and the run ends with epoch {epochs}");
            // A shorter run than the text's is somebody's wish.
            let diagnostic = match is_set {
                true => Diagnostic::warning("schedule-beyond-run", message),
                false => Diagnostic::error("schedule-beyond-run", message),
            };
            let diagnostic = diagnostic.primary(called.span_of(param), "never comes");
            let run = clauses.single.get("epochs").map(|(_, span)| *span).filter(|_| !is_set);
            let diagnostic = run.into_iter().fold(diagnostic, |d, span| d.secondary(span, "the run"));
            self.report.add(diagnostic.help("times of schedules are in epochs"));
        }
        schedule
    }

    pub(super) fn memory_budgets(&mut self, frame: &Frame, body: &TrainBlock) -> Vec<MemoryBudget> {
        let mut budgets = vec![];
        for statement in &body.statements {
            if let TrainStatementKind::Expect(expect) = &statement.kind {
                budgets.extend(self.memory_budget(frame, expect, statement.span));
            }
        }
        budgets
    }

    fn memory_budget(&mut self, frame: &Frame, expect: &Expect, span: Span) -> Option<MemoryBudget> {
        let wrong = |this: &mut Self, message: String, span, help: &str| {
            this.report.add(Diagnostic::error("wrong-budget", message).primary(span, "").help(help));
            None
        };
        const FORM: &str = "it is written `expect train_memory(N = 32) <= 400 MiB`";
        if expect.metric.name != TRAINING_METRIC {
            let message = format!("a `train` block states no `{}`", expect.metric.name);
            let diagnostic = Diagnostic::error("unknown-metric", message).primary(expect.metric.span, "unknown");
            self.report.add(match nearest(&expect.metric.name, [TRAINING_METRIC]) {
                Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
                None => diagnostic.help(FORM),
            });
            return None;
        }
        if !matches!(expect.comparison, BinaryOp::Le | BinaryOp::Lt) {
            return wrong(self, "memory is bounded from above".into(), expect.value.span, FORM);
        }
        let mut batch = self.batch;
        for arg in &expect.args {
            if arg.name.as_ref().is_some_and(|name| name.name != "N") || expect.args.len() > 1 {
                return wrong(self, "the memory of a step depends on `N` alone".into(), arg.span, FORM);
            }
            if !self.known(frame, &arg.value) {
                return None;
            }
            match self.eval(frame, &arg.value) {
                Val::Unknown => return None,
                value => match value.integer().filter(|v| (1..=MAX_COUNT).contains(v)) {
                    Some(n) => batch = n as usize,
                    None => return wrong(self, format!("`N` is a number of samples, not {value}"), arg.span, FORM),
                },
            }
        }
        if !self.known(frame, &expect.value) {
            return None;
        }
        let unit = match expect.unit.as_ref().map(|unit| unit.name.as_str()) {
            None | Some("B") => 1.0,
            Some("KB") => 1e3,
            Some("MB") => 1e6,
            Some("GB") => 1e9,
            Some("KiB") => f64::from(1 << 10),
            Some("MiB") => f64::from(1 << 20),
            _ => f64::from(1 << 30),
        };
        match self.eval(frame, &expect.value) {
            Val::Unknown => None,
            value => match value.number().filter(|v| *v > 0.0) {
                Some(number) => {
                    let strictly = u64::from(expect.comparison == BinaryOp::Lt);
                    let bytes = ((number * unit) as u64).saturating_sub(strictly);
                    Some(MemoryBudget { batch, bytes, location: Some(self.location(span)) })
                }
                None => wrong(self, format!("memory is a number of bytes, not {value}"), expect.value.span, FORM),
            },
        }
    }
}

/// What other frameworks call clauses.
const FOREIGN: &[(&str, &str)] = &[
    ("batch_size", "batch"),
    ("epoch", "epochs"),
    ("num_epochs", "epochs"),
    ("max_epochs", "epochs"),
    ("criterion", "loss"),
    ("objective", "loss"),
    ("solver", "optimizer"),
    ("optim", "optimizer"),
    ("lr_policy", "schedule"),
    ("scheduler", "schedule"),
    ("lr_scheduler", "schedule"),
    ("grad_clip", "clip"),
    ("clip_grad", "clip"),
    ("gradient_clip", "clip"),
    ("metrics", "metric"),
    ("lr_mult", "lr_scale"),
    ("param_groups", "lr_scale"),
    ("frozen", "freeze"),
    ("initializer", "init"),
];
