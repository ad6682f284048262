//! `train` blocks, as far as they are right without being evaluated: names given twice, names that nothing uses. What
//! their words mean, the elaborator of the block says.

use std::collections::HashMap;

use super::Checker;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::*;

impl Checker<'_> {
    pub(super) fn train(&mut self, train: &Train) {
        self.enter();
        self.train_block(&train.body);
        self.leave();
    }

    fn train_block(&mut self, block: &TrainBlock) {
        for statement in &block.statements {
            match &statement.kind {
                TrainStatementKind::Clause { values, .. } => values.iter().for_each(|e| self.uses(e)),
                TrainStatementKind::Init { value, .. } => self.uses(value),
                TrainStatementKind::Augment { changes, .. } => {
                    changes.iter().flat_map(|c| &c.args).for_each(|a| self.uses(&a.value));
                }
                TrainStatementKind::Source { dims, .. } => dims.iter().for_each(|e| self.uses(e)),
                TrainStatementKind::LrScale { by, .. } => self.uses(by),
                TrainStatementKind::Step { args, body, .. } => {
                    args.iter().for_each(|a| self.uses(&a.value));
                    self.enter();
                    self.train_block(body);
                    self.leave();
                }
                TrainStatementKind::Let(l) => {
                    self.uses(&l.value);
                    for name in l.pattern.names() {
                        self.bind(name, Some("name"));
                    }
                }
                TrainStatementKind::Expect(expect) => {
                    expect.args.iter().for_each(|a| self.uses(&a.value));
                    self.uses(&expect.value);
                }
                TrainStatementKind::Error(block) => block.iter().for_each(|b| self.train_block(b)),
            }
        }
    }

    /// Marks the names in an expression as used.
    fn uses(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Name(name) => drop(self.use_name(name)),
            ExprKind::Template(parts) | ExprKind::Label(Label { parts, .. }) => {
                for part in parts {
                    if let TemplatePart::Expr(e) = part {
                        self.uses(e);
                    }
                }
            }
            ExprKind::List(items) | ExprKind::Tuple(items) => items.iter().for_each(|e| self.uses(e)),
            ExprKind::Range { start, end, .. } => [start, end].into_iter().for_each(|e| self.uses(e)),
            ExprKind::Unary(_, operand) | ExprKind::Field(operand, _) => self.uses(operand),
            ExprKind::Binary(_, _, left, right) => [left, right].into_iter().for_each(|e| self.uses(e)),
            ExprKind::Index(operand, index) => [operand, index].into_iter().for_each(|e| self.uses(e)),
            ExprKind::If { condition, then, otherwise } => {
                [condition, then, otherwise].into_iter().for_each(|e| self.uses(e));
            }
            ExprKind::Function(_, args) => args.iter().for_each(|a| self.uses(&a.value)),
            ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Bool(_) | ExprKind::In | ExprKind::Error => {}
        }
    }
}

/// Two blocks of one name cannot be told apart.
pub(super) fn duplicate_trainings(trainings: &[&Train], report: &mut crate::elaborate::report::Report) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for Train { name: Ident { name, span }, .. } in trainings {
        match seen.get(name.as_str()) {
            None => drop(seen.insert(name, *span)),
            Some(first) => {
                let diagnostic = Diagnostic::error("duplicate-definition", format!("two blocks are `train {name}`"));
                let diagnostic = diagnostic.primary(*span, "again").secondary(*first, "first");
                report.add(diagnostic.help("write `train name(model) { … }` for a block with a name of its own"));
            }
        }
    }
}
