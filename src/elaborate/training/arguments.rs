//! Words with arguments, `sgd(lr = 0.1)`, and names in the expressions of a block.

use super::words::{LOSSES, METRICS, Table, Word};
use super::{Elaborator, Frame};
use crate::diagnostic::{Diagnostic, Severity, Span, nearest};
use crate::elaborate::arithmetic::FUNCTIONS;
use crate::elaborate::call::{assign, convert, describe, holds_unknown};
use crate::elaborate::check::named_argument;
use crate::elaborate::expression::{dotted_name, some_of};
use crate::ops::layer::{Args, LayerError, ParamType, Preset};
use crate::syntax::ast::*;

/// A word whose arguments are of the right types.
pub(super) struct Called {
    pub word: &'static Word,
    pub args: Args,
    /// The values that it takes, in the order of its row.
    pub values: Vec<Option<Arg>>,
    /// The text of each parameter that was given.
    given: Vec<(&'static str, Span)>,
    pub span: Span,
}

impl Called {
    /// Where a parameter stands; the word itself, where it is not given.
    pub(super) fn span_of(&self, param: &str) -> Span {
        self.given.iter().find(|(name, _)| *name == param).map_or(self.span, |(_, span)| *span)
    }
}

impl Elaborator<'_> {
    /// A word of a table, with or without arguments.
    pub(super) fn called(&mut self, frame: &Frame, table: &Table, e: &Expr) -> Option<Called> {
        let (name, args, span) = match &e.kind {
            ExprKind::Name(name) => (name.as_str(), &[][..], e.span),
            ExprKind::Function(name, args) => (name.name.as_str(), args.as_slice(), name.span),
            // A word of the language may be one of a table as well.
            ExprKind::Label(Label { parts, .. }) if let [TemplatePart::Text(text)] = parts.as_slice() => {
                (text.as_str(), &[][..], e.span)
            }
            ExprKind::Error => {
                self.report.unknown(e.span);
                return None;
            }
            _ => {
                let example = table.words[0].example;
                let diagnostic = Diagnostic::error("wrong-clause", format!("this is no {}", table.what));
                self.report.add(diagnostic.primary(e.span, "a value").help(format!("it is written `{example}`")));
                return None;
            }
        };
        let Some(word) = table.find(name) else {
            self.no_such(table, name, span);
            return None;
        };
        let args = self.spelt_out(frame, word, args);
        let known: Vec<bool> = args.iter().map(|a| self.known(frame, &a.value)).collect();
        if known.contains(&false) {
            return None;
        }
        self.arguments_of(frame, word, &args, span)
    }

    /// The arguments with what is said by a word alone: `nesterov` for `nesterov = true`, and `he(fan = out)` for
    /// `he(fan = "out")`. A word that names something in the text is that.
    pub(super) fn spelt_out(&mut self, frame: &Frame, word: &Word, args: &[Arg]) -> Vec<Arg> {
        let of = |name: &str| word.params.iter().find(|param| param.name == name);
        let (mut all, mut flags) = (vec![], vec![]);
        for arg in args {
            let alone = match &arg.value.kind {
                ExprKind::Name(name) if !self.is_name(frame, name) => name.as_str(),
                ExprKind::In => "in",
                _ => {
                    all.push(arg.clone());
                    continue;
                }
            };
            let span = arg.value.span;
            let param = match &arg.name {
                Some(name) => of(&name.name),
                None => word.params.get(all.len().wrapping_sub(word.values.len())),
            };
            match param {
                _ if arg.name.is_none() && of(alone).is_some_and(|param| param.ty == ParamType::Bool) => {
                    let name = Some(Ident { name: alone.to_string(), span });
                    flags.push(Arg { name, value: Expr { kind: ExprKind::Bool(true), span }, span: arg.span });
                }
                Some(param) if param.ty == ParamType::Str => {
                    let kind = ExprKind::Template(vec![TemplatePart::Text(alone.to_string())]);
                    all.push(Arg { value: Expr { kind, span }, ..arg.clone() });
                }
                _ => all.push(arg.clone()),
            }
        }
        all.append(&mut flags);
        all
    }

    /// Checks the arguments of a word, and converts those of its parameters.
    pub(super) fn arguments_of(
        &mut self,
        frame: &Frame,
        word: &'static Word,
        args: &[Arg],
        span: Span,
    ) -> Option<Called> {
        let args = &self.spelt_out(frame, word, args)[..];
        let names: Vec<&str> =
            word.values.iter().map(|(name, _)| *name).chain(word.params.iter().map(|p| p.name)).collect();
        let mut complete = self.fitting(word, args, &names, span);
        let slots = assign(args, &names);
        let (values, slots) = slots.split_at(word.values.len());
        let values = values.iter().map(|arg| arg.cloned()).collect();
        let mut called = Called { word, args: Args::default(), values, given: vec![], span };
        for (param, slot) in word.params.iter().zip(slots) {
            if let Some(value) = param.preset.value() {
                called.args.set(param.name, value);
            }
            let Some(arg) = slot else { continue };
            called.given.push((param.name, arg.value.span));
            let value = self.eval(frame, &arg.value);
            match convert(&value, param.ty) {
                Ok(value) => called.args.set(param.name, value),
                Err(wanted) => {
                    complete = false;
                    if !holds_unknown(&value) {
                        let message =
                            format!("`{}` of `{}` is {wanted}, not {}", param.name, word.name, describe(&value));
                        let diagnostic = Diagnostic::error("wrong-argument", message);
                        self.error(frame, diagnostic.primary(arg.value.span, param.doc));
                    }
                }
            }
        }
        complete.then_some(called)
    }

    /// Whether there are neither too many arguments nor too few, each once.
    fn fitting(&mut self, word: &Word, args: &[Arg], names: &[&str], span: Span) -> bool {
        let before = self.report.count();
        let with_form = |d: Diagnostic| d.help(format!("it is written `{}`", word.example));
        if let Some(extra) = args.iter().enumerate().find(|(i, a)| a.name.is_none() && *i >= names.len()) {
            let message = format!("`{}` takes no more than {} arguments", word.name, names.len());
            let diagnostic = Diagnostic::error("too-many-arguments", message).primary(extra.1.span, "one too many");
            self.report.add(with_form(diagnostic));
        }
        for (i, arg) in args.iter().enumerate() {
            let Some(name) = &arg.name else { continue };
            if !names.contains(&name.name.as_str()) {
                let message = format!("`{}` has no parameter `{}`", word.name, name.name);
                let diagnostic = Diagnostic::error("unknown-parameter", message).primary(name.span, "unknown");
                self.report.add(match nearest(&name.name, names.iter().copied()) {
                    Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
                    None if names.is_empty() => diagnostic.help(format!("`{}` takes no arguments", word.name)),
                    None => diagnostic.help(format!("its parameters: {}", names.join(", "))),
                });
            }
            let place = names.iter().position(|n| *n == name.name);
            let same = |(k, other): &(usize, &Arg)| match &other.name {
                Some(other) => other.name == name.name,
                None => Some(*k) == place,
            };
            if let Some((_, first)) = args.iter().enumerate().take(i).find(same) {
                let message = format!("`{}` is given twice", name.name);
                let diagnostic = Diagnostic::error("duplicate-argument", message).primary(arg.span, "again");
                self.report.add(diagnostic.secondary(first.span, "first"));
            }
        }
        let slots = assign(args, names);
        let required = word.values.iter().map(|(_, required)| *required);
        let required = required.chain(word.params.iter().map(|p| matches!(p.preset, Preset::Required)));
        let missing: Vec<String> = names
            .iter()
            .zip(slots.iter().zip(required))
            .filter(|(_, (slot, required))| slot.is_none() && *required)
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        if !missing.is_empty() {
            let message = format!("`{}` needs {}", word.name, missing.join(" and "));
            let diagnostic = Diagnostic::error("missing-argument", message).primary(span, "not given");
            self.report.add(with_form(diagnostic));
        }
        self.report.count() == before
    }

    /// What a word makes of its arguments, which may be out of range.
    pub(super) fn made<T>(&mut self, called: &Called, made: Result<T, LayerError>) -> Option<T> {
        made.map_err(|LayerError { param, message }| {
            let diagnostic = Diagnostic::error("wrong-argument", format!("`{}`: {message}", called.word.name));
            self.report.add(diagnostic.primary(called.span_of(param), format!("parameter `{param}`")));
        })
        .ok()
    }

    // ---- Names ---------------------------------------------------------------------------------

    /// Whether all names of an expression mean something; reports those that do not.
    pub(super) fn known(&mut self, frame: &Frame, e: &Expr) -> bool {
        let mut unknown = vec![];
        self.unknown_names(frame, e, &mut unknown);
        for (name, span, is_function) in &unknown {
            self.unknown_name(frame, name, *span, *is_function);
        }
        unknown.is_empty()
    }

    /// Whether an expression has a value without any model.
    pub(super) fn is_plain(&mut self, frame: &Frame, e: &Expr) -> bool {
        let mut unknown = vec![];
        self.unknown_names(frame, e, &mut unknown);
        unknown.is_empty() && !self.calls_training(e)
    }

    /// Whether an expression calls a model or a loss, or names what only a label can spell.
    fn calls_training(&self, e: &Expr) -> bool {
        let mut found = false;
        each_part(e, &mut |part| match &part.kind {
            ExprKind::Function(name, _) => found |= self.is_training_function(&name.name),
            ExprKind::Label(_) => found = true,
            _ => {}
        });
        found
    }

    pub(super) fn is_training_function(&self, name: &str) -> bool {
        let models = self.training.as_ref().map_or(&[][..], |state| &state.models);
        LOSSES.find(name).is_some() || models.iter().any(|m| m.name == name)
    }

    fn unknown_names(&mut self, frame: &Frame, e: &Expr, unknown: &mut Vec<(String, Span, bool)>) {
        match &e.kind {
            ExprKind::Name(name) => {
                if !self.is_name(frame, name) {
                    unknown.push((name.clone(), e.span, false));
                }
            }
            ExprKind::Field(operand, field) => {
                let dotted = dotted_name(operand).map(|head| format!("{head}.{}", field.name));
                let is_label =
                    dotted.is_some_and(|name| self.labels.find(&name, &frame.scopes, frame.base, frame.id).is_some());
                if !is_label {
                    self.unknown_names(frame, operand, unknown);
                }
            }
            ExprKind::Function(name, args) => {
                let word = METRICS.find(&name.name).or(LOSSES.find(&name.name));
                let function = FUNCTIONS.iter().find(|(n, ..)| *n == name.name);
                match function {
                    _ if word.is_some() || self.is_training_function(&name.name) => {}
                    _ if self.program.function(frame.file, &name.name).is_some() => {}
                    Some(_) if let Some(named) = args.iter().find_map(|a| a.name.as_ref()) => {
                        self.report.add(named_argument(name, named));
                        unknown.push((String::new(), name.span, true));
                    }
                    Some((_, least, most)) => {
                        if args.len() < *least || args.len() > *most {
                            let message = format!("`{}` takes {least} arguments, not {}", name.name, args.len());
                            let diagnostic = Diagnostic::error("wrong-argument-count", message);
                            self.report.add(diagnostic.primary(name.span, "this function"));
                            unknown.push((String::new(), name.span, true));
                        }
                    }
                    None => unknown.push((name.name.clone(), name.span, true)),
                }
                let args = word.map_or_else(|| args.clone(), |word| self.spelt_out(frame, word, args));
                args.iter().for_each(|a| self.unknown_names(frame, &a.value, unknown));
            }
            ExprKind::Comprehension { each, .. } => {
                let bound: Vec<&str> =
                    each.iter().flat_map(|each| each.pattern.names()).map(|ident| ident.name.as_str()).collect();
                let mut inner = vec![];
                e.parts().into_iter().for_each(|part| self.unknown_names(frame, part, &mut inner));
                unknown.extend(inner.into_iter().filter(|(name, ..)| !bound.contains(&name.as_str())));
            }
            _ => e.parts().into_iter().for_each(|part| self.unknown_names(frame, part, unknown)),
        }
    }

    fn is_name(&mut self, frame: &Frame, name: &str) -> bool {
        let global = || self.globals.get(&frame.file).is_some_and(|g| g.find(name).is_some());
        frame.variables.find(name).is_some()
            || global()
            || self.labels.find(name, &frame.scopes, frame.base, frame.id).is_some()
    }

    fn unknown_name(&mut self, frame: &Frame, name: &str, span: Span, is_function: bool) {
        if name.is_empty() || self.report.is_full(Severity::Error) {
            // Another mistake, which has been reported.
            return;
        }
        if self.report.lost_words.contains(name) {
            return self.report.unknown(span);
        }
        let (code, message) = match is_function {
            true => ("unknown-function", format!("there is no function or model `{name}`")),
            false => ("unknown-name", format!("nothing is named `{name}`")),
        };
        let names: Vec<String> = match is_function {
            true => {
                let models = self.state().models.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
                let functions = FUNCTIONS.iter().map(|f| f.0.to_string());
                models.into_iter().chain(LOSSES.names().map(String::from)).chain(functions).collect()
            }
            false => {
                let own = frame.variables.names().map(String::from).collect::<Vec<_>>();
                own.into_iter().chain(self.labels.names(&frame.scopes, frame.base, frame.id)).collect()
            }
        };
        let diagnostic = Diagnostic::error(code, message).primary(span, "unknown");
        self.report.add(match nearest(name, names.iter().map(String::as_str)) {
            Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
            None if is_function && self.program.layer(name).is_some() => {
                diagnostic.help("layers stand in a `model`; the expressions of a block call models and losses")
            }
            None if names.is_empty() => diagnostic,
            None => diagnostic.help(format!("there are {}", some_of(&names))),
        });
    }
}

/// Visits an expression and all within it.
pub(super) fn each_part<'e>(e: &'e Expr, visit: &mut dyn FnMut(&'e Expr)) {
    visit(e);
    if let ExprKind::Function(_, args) = &e.kind {
        args.iter().for_each(|a| each_part(&a.value, visit));
    }
    e.parts().into_iter().for_each(|part| each_part(part, visit));
}
