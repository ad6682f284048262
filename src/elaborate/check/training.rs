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
            ExprKind::Comprehension { value, each } => self.comprehension(value, each, Self::uses),
            ExprKind::Function(name, args) => {
                self.functions.insert(name.name.clone());
                args.iter().for_each(|a| self.uses(&a.value));
            }
            _ => e.parts().into_iter().for_each(|part| self.uses(part)),
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
