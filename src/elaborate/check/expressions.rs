//! Expressions: whether names and functions exist. A name that a label may have is left to the elaborator.

use super::{Checker, Place};
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
            ExprKind::In | ExprKind::Here if self.place == Place::Function => {
                let word = if matches!(e.kind, ExprKind::In) { "in" } else { "here" };
                let message = format!("`{word}` inside a function, which works on no value of the network");
                let diagnostic = Diagnostic::error("misplaced-value", message).primary(e.span, "no value");
                self.report.add(diagnostic.help("give the function what it needs: `f(in.channels)`"));
            }
            ExprKind::Name(name) => self.name(name, e.span),
            ExprKind::Range { start, end, .. } => {
                if let (ExprKind::Int(first), ExprKind::Int(last)) = (&start.kind, &end.kind)
                    && first > last
                {
                    let message = format!("nothing is between {first} and {last}: a range counts upwards");
                    let diagnostic = Diagnostic::warning("empty-range", message).primary(e.span, "holds nothing");
                    self.report
                        .add(diagnostic.help(format!("`{first} - i for i in 0..{}` counts downwards", first - last)));
                }
                [start, end].into_iter().for_each(|part| self.expr(part));
            }
            ExprKind::Comprehension { value, each } => self.comprehension(value, each, Self::expr),
            ExprKind::Function(name, args) => self.function(name, args),
            _ => e.parts().into_iter().for_each(|part| self.expr(part)),
        }
    }

    /// Visits the expressions of a comprehension where the names that it binds are bound.
    pub(super) fn comprehension(&mut self, value: &Expr, each: &[Each], visit: fn(&mut Self, &Expr)) {
        self.enter();
        for Each { pattern, items, condition } in each {
            visit(self, items);
            pattern.names().into_iter().for_each(|n| self.bind(n, None));
            condition.iter().for_each(|e| visit(self, e));
        }
        visit(self, value);
        self.leave();
    }

    fn function(&mut self, name: &Ident, args: &[Arg]) {
        args.iter().for_each(|a| self.expr(&a.value));
        self.functions.insert(name.name.clone());
        if let Some((_, function)) = self.program.function(self.file, &name.name) {
            let names: Vec<&str> = function.params.iter().map(|p| p.name.name.as_str()).collect();
            let required: Vec<bool> = function.params.iter().map(|p| p.default.is_none()).collect();
            let args: Vec<&Arg> = args.iter().collect();
            return self.arguments(name, &args, &names, &required, Some(function.name.span));
        }
        if let Some(named) = args.iter().find_map(|a| a.name.as_ref()) {
            self.report.add(named_argument(name, named));
        }
        let own = self.program.function_names(self.file);
        let names: Vec<&str> = FUNCTIONS.iter().map(|f| f.0).chain(own).collect();
        let Some((_, least, most)) = FUNCTIONS.iter().find(|(n, ..)| *n == name.name) else {
            let diagnostic = Diagnostic::error("unknown-function", format!("there is no function `{}`", name.name));
            let diagnostic = diagnostic.primary(name.span, "unknown");
            self.report.add(match (name.name.as_str(), nearest(&name.name, names.iter().copied())) {
                ("range", _) => diagnostic.help("a range is written `start..end`"),
                ("int", _) => diagnostic.help("`floor`, `ceil` and `round` make integers"),
                (_, Some(similar)) => diagnostic.help(format!("did you mean `{similar}`?")),
                _ => diagnostic
                    .help(format!("there are {}", names.join(", ")))
                    .help(format!("define it at the top of the file: `fn {}(x) = …`", name.name)),
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
            None if name == "None" || name == "null" => diagnostic.help("leave the argument out"),
            None => match pad_in_numbers(name) {
                Some(help) => diagnostic.help(help),
                None => diagnostic,
            },
        });
    }

    /// Marks a binding as used; false where there is none.
    pub(super) fn use_name(&mut self, name: &str) -> bool {
        self.bindings.find_mut(name).map(|b| b.used = true).is_some()
    }
}

/// How a pad is written that other frameworks have a word for.
pub(crate) fn pad_in_numbers(word: &str) -> Option<&'static str> {
    match word {
        "same" => Some("a pad is a number: at stride 1, `(kernel - 1) / 2` keeps the size"),
        "valid" => Some("a pad is a number: without one, it is 0"),
        _ => None,
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
