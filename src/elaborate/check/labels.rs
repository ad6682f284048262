//! The labels of a definition, as far as their text tells: which names a later stage may find.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;

use super::inner_blocks;
use crate::syntax::ast::*;

/// Bytes of a label that are told apart before it is evaluated.
const MAX_HEAD: usize = 64;

/// Labels as far as their text tells.
#[derive(Default)]
pub(super) struct LabelHeads {
    exact: HashSet<String>,
    /// What stands before the first expression of those that hold one, up to [`MAX_HEAD`] bytes.
    begun: BTreeSet<String>,
}

impl LabelHeads {
    /// Whether one of them may be `name`, or begin with it.
    pub(super) fn may_be(&self, name: &str) -> bool {
        let behind = (Bound::Included(name), Bound::Unbounded);
        let longer = || self.begun.range::<str, _>(behind).next().is_some_and(|text| text.starts_with(name));
        let mut ends = (0..=name.len().min(MAX_HEAD)).filter(|&end| name.is_char_boundary(end));
        self.exact.contains(name) || longer() || ends.any(|end| self.begun.contains(&name[..end]))
    }

    fn add(&mut self, label: &Label) {
        let text = match label.parts.first() {
            Some(TemplatePart::Text(text)) => text.as_str(),
            _ => "",
        };
        let literal = label.parts.len() == 1;
        // Up to the first dot the text is complete even where an expression follows.
        match text.split_once('.') {
            Some((head, _)) => drop(self.exact.insert(head.to_string())),
            None if literal => drop(self.exact.insert(text.to_string())),
            None => drop(self.begun.insert(text[..text.floor_char_boundary(MAX_HEAD)].to_string())),
        }
    }

    /// Gathers the labels and inputs of a block and those inside it.
    pub(super) fn gather(&mut self, block: &Block) {
        for statement in &block.statements {
            statement.label.iter().for_each(|l| self.add(l));
            match &statement.kind {
                StatementKind::Aux(Aux { label: Some(label), .. }) => self.add(label),
                StatementKind::Input { name, .. } => drop(self.exact.insert(name.name.clone())),
                _ => {}
            }
            inner_blocks(&statement.kind).into_iter().for_each(|b| self.gather(b));
        }
    }
}
