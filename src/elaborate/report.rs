//! The diagnostics of one elaboration, each mistake once.
//!
//! A module is evaluated at every call, so that one mistake in its text would be found many times.

use crate::diagnostic::{Diagnostic, Severity, Span};
use std::collections::{BTreeSet, HashSet};

/// No more errors are kept than this, and as many others: warnings leave no error out.
const MAX_DIAGNOSTICS: usize = 200;

#[derive(Default)]
pub(crate) struct Report {
    diagnostics: Vec<Diagnostic>,
    errors: usize,
    seen: HashSet<(&'static str, Option<Span>)>,
    /// Words of text that could not be parsed. What has one of these names may be defined there.
    pub lost_words: BTreeSet<String>,
}

impl Report {
    /// Adds a diagnostic unless one of its kind points at the same cause.
    pub(crate) fn add(&mut self, diagnostic: Diagnostic) {
        let cause = diagnostic.labels.iter().find(|l| l.primary).map(|l| l.span);
        if !self.is_full(diagnostic.severity) && self.seen.insert((diagnostic.code, cause)) {
            self.errors += usize::from(diagnostic.severity == Severity::Error);
            self.diagnostics.push(diagnostic);
        }
    }

    /// Whether nothing of this kind is kept any more.
    pub(crate) fn is_full(&self, severity: Severity) -> bool {
        let others = self.diagnostics.len() - self.errors;
        (if severity == Severity::Error { self.errors } else { others }) >= MAX_DIAGNOSTICS
    }

    /// How many errors there are.
    pub(crate) fn count(&self) -> usize {
        self.errors
    }

    /// Whether there is a diagnostic of this kind.
    pub(crate) fn has(&self, code: &str) -> bool {
        self.diagnostics.iter().any(|d| d.code == code)
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// A value turned out unknown. Somebody has said why; where nobody has, this does, so that no
    /// unknown value ever ends in a graph without an error.
    pub(crate) fn unknown(&mut self, span: Span) {
        if !self.has_errors() {
            self.add(Diagnostic::error("unknown-value", "this cannot be evaluated").primary(span, "no value"));
        }
    }

    /// All diagnostics: errors in the order of the text, then warnings.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        let place = |d: &Diagnostic| d.labels.iter().find(|l| l.primary).map(|l| (l.span.source, l.span.start));
        self.diagnostics.sort_by_key(|d| (d.severity, place(d)));
        self.diagnostics
    }
}
