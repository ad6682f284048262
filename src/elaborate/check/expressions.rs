//! Expressions: whether names and functions exist. A name that a label may have is left to the elaborator.

use super::Checker;
use crate::diagnostic::{Diagnostic, Severity, Span, nearest};
use crate::elaborate::arithmetic::FUNCTIONS;
use crate::elaborate::expression::dotted_name;
use crate::syntax::ast::*;

impl Checker<'_> {
    /// A position where only labels and values of the network make sense. Which labels there are
    /// shows when the model is evaluated.
    pub(super) fn label_reference(&mut self, e: &Expr) {
        match dotted_name(e) {
            Some(name) => drop(self.use_name(name.split('.').next().unwrap_or(&name))),
            None => self.expr(e),
        }
    }

    pub(super) fn template(&mut self, parts: &[TemplatePart]) {
        for part in parts {
            if let TemplatePart::Expr(e) = part {
                self.expr(e);
            }
        }
    }

    pub(super) fn expr(&mut self, e: &Expr) {
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

    fn function(&mut self, name: &Ident, args: &[Arg]) {
        args.iter().for_each(|a| self.expr(&a.value));
        if let Some(named) = args.iter().find_map(|a| a.name.as_ref()) {
            self.report.add(named_argument(name, named));
        }
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
    pub(super) fn use_name(&mut self, name: &str) -> bool {
        self.bindings.find_mut(name).map(|b| b.used = true).is_some()
    }
}

/// A function is given the name of a parameter, and has none.
pub(crate) fn named_argument(function: &Ident, named: &Ident) -> Diagnostic {
    let message = format!("`{}` takes its arguments by their places, not by names", function.name);
    let diagnostic = Diagnostic::error("named-argument", message).primary(named.span, "a name");
    diagnostic.help(format!("leave `{} =` out", named.name))
}

fn count(n: usize) -> String {
    count_of(n, "argument")
}

pub(super) fn count_of(n: usize, what: &str) -> String {
    if n == 1 { format!("one {what}") } else { format!("{n} {what}s") }
}
