//! Calls: whether there is such a layer or module, and whether it takes these arguments.

use super::Checker;
use crate::diagnostic::{Diagnostic, Severity, Span, nearest};
use crate::elaborate::call::{assign, is_plain, may_be_number, missing_argument, parameters};
use crate::elaborate::expression::dotted_name;
use crate::elaborate::program::Callee;
use crate::ops::layer::{Arity, FOREIGN_PARAMETERS, LEFT_OUT, Layer, Param, Preset, written_out};
use crate::syntax::{self, ast::*};

impl Checker<'_> {
    pub(super) fn call(&mut self, call: &Call) {
        self.called.insert(call.name.name.clone());
        call.shares.iter().for_each(|label| self.template(&label.parts));
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
        if let Some(help) = written_out(name) {
            let diagnostic = Diagnostic::error("unknown-layer", format!("no layer or module is named `{name}`"));
            self.report.add(diagnostic.primary(call.name.span, "unknown").help(help));
            return None;
        }
        if let Some(diagnostic) = syntax::foreign_word(name, call.name.span) {
            self.report.add(diagnostic);
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
        self.arguments(&call.name, &call.args.iter().collect::<Vec<_>>(), &names, &required, Some(module.name.span));
    }

    fn layer_call(&mut self, call: &Call, layer: &Layer) {
        let joins = layer.arity.takes_labels();
        // Numbers that stand where labels do are for the first parameters; of a name only its value tells.
        let is_label = |a: &Arg| joins && a.name.is_none() && (layer.params.is_empty() || !is_plain(&a.value));
        let (labels, args): (Vec<&Arg>, Vec<&Arg>) = call.args.iter().partition(|a| is_label(a));
        labels.iter().for_each(|a| self.label_reference(&a.value));
        let is_open = labels.iter().any(|a| match &a.value.kind {
            ExprKind::Name(name) => self.use_name(name),
            _ => may_be_number(&a.value),
        });
        args.iter().for_each(|a| self.expr(&a.value));
        if joins && labels.is_empty() && layer.arity != Arity::Operands {
            let message = format!("`{}` joins the flow with other values; name them", layer.name);
            let diagnostic = Diagnostic::error("missing-argument", message).primary(call.name.span, "joins with what?");
            self.report.add(diagnostic.help(format!("give labels: `{}(stem)`", layer.name)));
        }
        let names: Vec<&str> = layer.params.iter().map(|p| p.name).collect();
        let is_required = |p: &Param| !is_open && matches!(p.preset, Preset::Required);
        let required: Vec<bool> = layer.params.iter().map(is_required).collect();
        self.arguments(&call.name, &args, &names, &required, None);
    }

    pub(super) fn arguments(
        &mut self,
        callee: &Ident,
        args: &[&Arg],
        names: &[&str],
        required: &[bool],
        defined: Option<Span>,
    ) {
        let called = callee;
        let callee = &callee.name;
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
            let is_module = defined.is_some() && names.is_empty();
            let diagnostic = match dotted_name(&extra.1.value).filter(|_| is_module) {
                Some(label) => diagnostic.help(format!("a call works on the value at hand: `from({label})` before it")),
                None => diagnostic,
            };
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
        let missing: Vec<&str> = names
            .iter()
            .zip(slots.iter().zip(required))
            .filter(|(_, (slot, required))| slot.is_none() && **required)
            .map(|(name, _)| *name)
            .collect();
        if !missing.is_empty() {
            self.report.add(with_definition(missing_argument(called, &missing, names)));
        }
    }

    pub(super) fn unknown_parameter(&mut self, callee: &str, name: &Ident, names: &[&str], defined: Option<Span>) {
        let message = format!("`{callee}` has no parameter `{}`", name.name);
        let mut diagnostic = Diagnostic::error("unknown-parameter", message).primary(name.span, "unknown");
        if let Some(span) = defined {
            diagnostic = diagnostic.secondary(span, "defined here");
        }
        let known = |table: &[(&'static str, &'static str)]| {
            table.iter().filter(|(other, _)| *other == name.name).map(|&(_, here)| here).collect::<Vec<_>>()
        };
        let renamed = known(FOREIGN_PARAMETERS).into_iter().find(|own| names.contains(own));
        let left_out = known(LEFT_OUT).first().copied();
        let of_layer = defined.is_none();
        self.report.add(match renamed.or_else(|| nearest(&name.name, names.iter().copied())) {
            _ if of_layer && left_out.is_some() => {
                diagnostic.help(format!("leave it out: {}", left_out.unwrap_or_default()))
            }
            None if matches!(name.name.as_str(), "activation" | "act" | "act_layer") => {
                diagnostic.help("an activation is a layer of its own: write `relu` behind this one")
            }
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
}
