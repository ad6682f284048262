//! What is computed and then dropped.
//!
//! A statement of a module computes a value at each call, and one caller may read what another leaves. So a statement drops
//! its values where none of them is read. Where one is, a call may be what is dropped: nothing that is computed in it is read
//! outside of it, however often it is made.

use std::collections::HashSet;

use super::Elaborator;
use crate::diagnostic::{Diagnostic, Span};
use crate::ir::NodeId;

/// What is read, by what wrote it.
#[derive(Default)]
struct Read {
    statements: HashSet<Span>,
    /// Calls by the calls that led to them, outermost first.
    paths: HashSet<Vec<Span>>,
    calls: HashSet<Span>,
}

impl Elaborator<'_> {
    /// Warns of what is computed and then dropped.
    pub(super) fn unread_values(&mut self) {
        let order = self.graph.order();
        let unread: Vec<NodeId> = order.iter().copied().filter(|&id| self.is_unread(id)).collect();
        if unread.is_empty() {
            return;
        }
        let read = self.read_values(&order);
        for id in unread {
            let what = if self.graph.node(id).op().is_some() { "value" } else { "input" };
            if let Some(span) = self.dropped(id, &read) {
                let diagnostic = Diagnostic::warning("unread-value", format!("nothing reads this {what}"));
                self.report.add(diagnostic.primary(span, "computed for nothing"));
            }
        }
    }

    fn is_unread(&self, id: NodeId) -> bool {
        self.graph.users(id).is_empty() && !self.graph.is_output(id)
    }

    /// The statement or the call that computes an unread value for nothing.
    fn dropped(&self, id: NodeId, read: &Read) -> Option<Span> {
        let statement = self.graph.node(id).location.as_ref()?.span;
        if !read.statements.contains(&statement) {
            return Some(statement);
        }
        let path = self.path(id);
        let depths = (1..=path.len()).rev();
        let mut dropped = depths.take_while(|&depth| !read.paths.contains(&path[..depth]));
        dropped.find(|depth| !read.calls.contains(&path[depth - 1])).map(|depth| path[depth - 1])
    }

    /// The calls that an op was added in, outermost first.
    fn path(&self, id: NodeId) -> Vec<Span> {
        self.node_calls.get(&id).map_or(vec![], |calls| calls.iter().map(|(span, _)| *span).collect())
    }

    fn read_values(&self, order: &[NodeId]) -> Read {
        let mut read = Read::default();
        for &id in order.iter().filter(|&&id| !self.is_unread(id)) {
            read.statements.extend(self.graph.node(id).location.as_ref().map(|location| location.span));
            let path = self.path(id);
            if path.is_empty() {
                continue;
            }
            // How many calls everything that reads it is in, too.
            let common =
                |user: NodeId| self.path(user).iter().zip(&path).take_while(|(theirs, own)| theirs == own).count();
            let users = self.graph.users(id).into_iter().map(|(user, _)| common(user));
            let within = if self.graph.is_output(id) { 0 } else { users.min().unwrap_or(0) };
            for depth in within + 1..=path.len() {
                read.calls.insert(path[depth - 1]);
                read.paths.insert(path[..depth].to_vec());
            }
        }
        read
    }
}
