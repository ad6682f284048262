//! What is changed in a graph so that it can be written more plainly; the values stay the same.
//!
//! What only training needs, and what nothing needs, goes. A concatenation of values that fork late is one of concatenations: then each is a join of its own.
//!
//! ```text
//!   concat(a, f(x), g(x), b)   ⟶   concat(a, concat(f(x), g(x)), b)
//! ```

use std::collections::{HashMap, HashSet};

use super::structure::dominators;
use crate::ir::{Editor, Graph, NodeId};
use crate::ops::{Concat, Identity, Op};

/// Rewrites `graph` in place.
pub(crate) fn prepare(graph: &mut Graph) {
    let e = &mut Editor::new(graph, "prepare");
    e.remove_outputs(|o| o.aux.is_some());
    remove_identities(e);
    remove_unread(e);
    let dominators = dominators(e);
    let depths = depths(e, &dominators);
    let concats: Vec<NodeId> =
        e.order().into_iter().filter(|&id| matches!(e.node(id).op(), Some(Op::Concat(_)))).collect();
    for id in concats {
        match e.operands(id).as_slice() {
            &[only] => e.rewrite(id, Identity {}, &[only], vec![]),
            _ => nest(e, id, &dominators, &depths),
        }
    }
}

/// An output that is an input keeps its identity.
fn remove_identities(e: &mut Editor) {
    for id in e.order() {
        let is_identity = matches!(e.node(id).op(), Some(Op::Identity(_)));
        if is_identity && (!e.is_output(id) || e.node(e.operands(id)[0]).op().is_some()) {
            let value = e.operands(id)[0];
            e.bypass(id, value);
        }
    }
}

fn remove_unread(e: &mut Editor) {
    e.order().into_iter().for_each(|id| e.remove_unread(id));
}

fn depths(graph: &Graph, dominators: &HashMap<NodeId, Option<NodeId>>) -> HashMap<NodeId, usize> {
    let mut depths = HashMap::new();
    for id in graph.order() {
        let depth = dominators[&id].map_or(0, |d| depths[&d] + 1);
        depths.insert(id, depth);
    }
    depths
}

/// Joins neighbouring operands first that come from a value behind the one that all come from.
fn nest(graph: &mut Editor, id: NodeId, dominators: &HashMap<NodeId, Option<NodeId>>, depths: &HashMap<NodeId, usize>) {
    let operands = graph.operands(id);
    let common = |a: NodeId, b: NodeId| super::structure::common(a, b, dominators, depths);
    let Some(entry) = dominators[&id] else { return };
    let Some(&Op::Concat(Concat { axis })) = graph.node(id).op() else { return };
    let mut groups: Vec<Vec<NodeId>> = vec![];
    let mut shared: Option<NodeId> = None;
    for &operand in &operands {
        let with_last = groups.last().and_then(|g| common(*g.last().expect("groups have members"), operand));
        let goes_on =
            with_last.is_some_and(|c| c != entry && depths[&c] > depths[&entry] && shared.is_none_or(|s| s == c));
        match groups.last_mut() {
            Some(group) if goes_on && !group.contains(&operand) => {
                group.push(operand);
                shared = with_last;
            }
            _ => {
                groups.push(vec![operand]);
                shared = None;
            }
        }
    }
    let groups: Vec<Vec<NodeId>> = groups
        .into_iter()
        .flat_map(|group| match is_closed(graph, id, &group, dominators) {
            true => vec![group],
            false => group.into_iter().map(|operand| vec![operand]).collect(),
        })
        .collect();
    if groups.len() < 2 || groups.len() == operands.len() {
        return;
    }
    let mut nested = vec![];
    for group in groups {
        nested.push(match group.as_slice() {
            [only] => *only,
            several => graph.insert_at(Concat { axis }, several, vec![], None),
        });
    }
    graph.rewrite(id, Concat { axis }, &nested, vec![]);
}

/// Whether nothing but the concatenation reads what lies between a group and the value that it comes
/// from: then the group can be a join of its own.
fn is_closed(graph: &Graph, id: NodeId, group: &[NodeId], dominators: &HashMap<NodeId, Option<NodeId>>) -> bool {
    let [first, .., last] = group else { return true };
    let chain = |of: NodeId| std::iter::successors(Some(of), |n| dominators[n]);
    let others: HashSet<NodeId> = chain(*last).collect();
    let Some(entry) = chain(*first).find(|n| others.contains(n)) else { return false };
    let mut between = HashSet::new();
    let mut stack: Vec<NodeId> = group.iter().copied().filter(|&n| n != entry).collect();
    while let Some(node) = stack.pop() {
        if between.insert(node) {
            stack.extend(graph.operands(node).into_iter().filter(|&o| o != entry && graph.node(o).op().is_some()));
        }
    }
    between.iter().all(|&n| graph.users(n).iter().all(|(user, _)| *user == id || between.contains(user)))
}
