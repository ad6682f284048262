//! The order of nodes: the standard asks for one in which values come before their readers, and some writers give
//! another.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::interop::onnx::proto;

/// The nodes, values before their readers and otherwise in the order of the file. `None` where they stand so already.
///
/// # Errors
/// The first node of a circle, by its place: each of its nodes waits for another.
pub(super) fn sorted(nodes: &[proto::Node]) -> Result<Option<Vec<usize>>, usize> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        // A name that two nodes give is a mistake of its own: the first has it.
        node.output.iter().filter(|name| !name.is_empty()).for_each(|name| {
            makers.entry(name).or_insert(i);
        });
    }
    let waits_for: Vec<HashSet<usize>> = nodes
        .iter()
        .map(|node| {
            let mut names = vec![];
            reads(node, &mut names);
            names.iter().filter_map(|name| makers.get(name).copied()).collect()
        })
        .collect();
    if waits_for.iter().enumerate().all(|(i, before)| before.iter().all(|&b| b < i)) {
        return Ok(None);
    }
    let mut readers: Vec<Vec<usize>> = vec![vec![]; nodes.len()];
    waits_for.iter().enumerate().for_each(|(i, before)| before.iter().for_each(|&b| readers[b].push(i)));
    let mut missing: Vec<usize> = waits_for.iter().map(HashSet::len).collect();
    let mut ready: BinaryHeap<Reverse<usize>> = (0..nodes.len()).filter(|&i| missing[i] == 0).map(Reverse).collect();
    let mut order = vec![];
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &reader in &readers[i] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    match order.len() == nodes.len() {
        true => Ok(Some(order)),
        false => Err(in_circle(&waits_for, &missing)),
    }
}

/// A node that waits for itself, found by going back from one that waits.
fn in_circle(waits_for: &[HashSet<usize>], missing: &[usize]) -> usize {
    let waits = |i: &usize| missing[*i] > 0;
    let mut at = (0..missing.len()).find(waits).expect("some wait");
    let mut seen = HashSet::new();
    while seen.insert(at) {
        at = waits_for[at].iter().copied().filter(waits).min().expect("who waits does so for one that waits");
    }
    at
}

/// The names that a node reads, those of graphs within it included.
fn reads<'n>(node: &'n proto::Node, names: &mut Vec<&'n str>) {
    names.extend(node.input.iter().map(String::as_str).filter(|name| !name.is_empty()));
    for graph in node.attribute.iter().filter_map(|a| a.g.as_deref()) {
        let mut within = vec![];
        graph.node.iter().for_each(|inner| reads(inner, &mut within));
        within.extend(graph.output.iter().map(|o| o.name.as_str()));
        let made = graph.node.iter().flat_map(|inner| &inner.output).map(String::as_str);
        let given = graph.input.iter().map(|i| i.name.as_str());
        let own: HashSet<&str> = made.chain(given).chain(graph.initializer.iter().map(|t| t.name.as_str())).collect();
        names.extend(within.into_iter().filter(|name| !own.contains(name)));
    }
}
