//! The labels of a network: which value each of them names, and who may see it.
//!
//! A label is looked up from the inside out: first in the scope where it is used, then in those
//! around it, up to the body of the module. A body sees its own labels, and by dotted names those
//! of the modules that it calls; it does not see its caller's.

use super::Flow;
use crate::diagnostic::Span;
use crate::ir::NodeId;
use std::collections::{HashMap, HashSet};

/// Numbers the evaluations of bodies: one a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FrameId(usize);

#[derive(Clone, Copy, Debug)]
pub(crate) struct LabelId(usize);

struct Entry {
    name: String,
    span: Span,
    frame: FrameId,
    value: Flow,
    /// Read by another statement, or the name of weights.
    useful: bool,
}

#[derive(Default)]
pub(crate) struct Labels {
    entries: Vec<Entry>,
    by_name: HashMap<String, Vec<usize>>,
    by_frame: HashMap<(FrameId, String), usize>,
    /// The caller of each frame.
    frames: Vec<Option<FrameId>>,
}

impl Labels {
    pub(crate) fn new_frame(&mut self, caller: Option<FrameId>) -> FrameId {
        self.frames.push(caller);
        FrameId(self.frames.len() - 1)
    }

    /// Defines a label whose value is not known yet.
    ///
    /// # Errors
    /// Where the body has the label already: that one's span.
    pub(crate) fn define(&mut self, name: &str, span: Span, frame: FrameId) -> Result<LabelId, Span> {
        let index = self.entries.len();
        let first = *self.by_frame.entry((frame, name.to_string())).or_insert(index);
        if first != index {
            return Err(self.entries[first].span);
        }
        self.by_name.entry(name.to_string()).or_default().push(index);
        self.entries.push(Entry { name: name.to_string(), span, frame, value: Flow::Unknown, useful: false });
        Ok(LabelId(self.entries.len() - 1))
    }

    /// A label that its body has already names the later value from now on. Only behind an error.
    pub(crate) fn define_again(&mut self, name: &str, span: Span, frame: FrameId) -> LabelId {
        self.by_name.entry(name.to_string()).or_default().push(self.entries.len());
        self.entries.push(Entry { name: name.to_string(), span, frame, value: Flow::Unknown, useful: true });
        LabelId(self.entries.len() - 1)
    }

    pub(crate) fn set(&mut self, id: LabelId, value: Flow, useful: bool) {
        let entry = &mut self.entries[id.0];
        entry.value = value;
        entry.useful |= useful;
    }

    /// The value that `name` has in a body with the given scopes, of which the first `base` are its
    /// caller's. Marks the label as read.
    pub(crate) fn find(&mut self, name: &str, scopes: &[String], base: usize, frame: FrameId) -> Option<Flow> {
        let index = self.index(name, scopes, base, frame)?;
        self.read(index, name);
        Some(self.entries[index].value)
    }

    /// The full name of what [`Self::find`] finds.
    pub(crate) fn full_name(&mut self, name: &str, scopes: &[String], base: usize, frame: FrameId) -> Option<String> {
        let index = self.index(name, scopes, base, frame)?;
        self.read(index, name);
        Some(self.entries[index].name.clone())
    }

    /// Marks a label as read, and those that lead to it where it is written: `stats` of `stats.mean`.
    fn read(&mut self, index: usize, written: &str) {
        self.entries[index].useful = true;
        if !written.contains('.') {
            return;
        }
        let full = self.entries[index].name.clone();
        for (dot, _) in written.match_indices('.') {
            let leading = &full[..full.len() - (written.len() - dot)];
            let entries = self.by_name.get(leading).into_iter().flatten();
            entries.for_each(|&entry| self.entries[entry].useful = true);
        }
    }

    fn index(&self, name: &str, scopes: &[String], base: usize, frame: FrameId) -> Option<usize> {
        (base..=scopes.len()).rev().find_map(|depth| {
            let full = join(&scopes[..depth], name);
            let visible = |&&e: &&usize| self.is_within(self.entries[e].frame, frame);
            self.by_name.get(&full)?.iter().rev().find(visible).copied()
        })
    }

    /// Whether any body has the label.
    pub(crate) fn exists(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    fn is_within(&self, inner: FrameId, outer: FrameId) -> bool {
        std::iter::successors(Some(inner), |f| self.frames[f.0]).any(|f| f == outer)
    }

    /// The labels that a body has defined itself, as it would write them.
    pub(crate) fn names(&self, scopes: &[String], base: usize, frame: FrameId) -> Vec<String> {
        let prefix = if base == 0 { String::new() } else { scopes[..base].join(".") + "." };
        let own = self.entries.iter().filter(|e| e.frame == frame);
        own.map(|e| e.name.strip_prefix(&prefix).unwrap_or(&e.name).to_string()).collect()
    }

    /// The values of all labels, by full names.
    pub(crate) fn values(&self) -> HashMap<String, NodeId> {
        let node = |entry: &Entry| if let Flow::Node(node) = entry.value { Some(node) } else { None };
        self.entries.iter().filter_map(|entry| Some((entry.name.clone(), node(entry)?))).collect()
    }

    /// The labels that nothing reads and that name no weights, wherever their text was evaluated.
    pub(crate) fn useless(&self) -> Vec<(String, Span)> {
        let mut useful: HashMap<Span, bool> = HashMap::new();
        for entry in &self.entries {
            *useful.entry(entry.span).or_default() |= entry.useful;
        }
        let mut seen = HashSet::new();
        let useless = self.entries.iter().filter(|e| !useful[&e.span] && seen.insert(e.span));
        useless.map(|e| (e.name.clone(), e.span)).collect()
    }
}

/// A full name: scopes and a label, with dots.
pub(crate) fn join(scopes: &[String], name: &str) -> String {
    if scopes.is_empty() { name.to_string() } else { scopes.join(".") + "." + name }
}
