//! Computes values again where they are needed, instead of keeping them.
//!
//! What the backward part reads of the forward part is most of a step's memory. Where it is too much, some values are
//! dropped and computed again before their next reader, from what is still there; what is not there any more is
//! computed again, too, so that a chain of dropped values begins at a kept one (checkpointing: Chen et al. 2016,
//! arXiv:1604.06174).
//!
//! ```text
//! a = conv(x); b = relu(a); … ; gradient(b)      a, b = …; … ; b' = relu(conv(x)); gradient(b')
//! ```
//!
//! Which are dropped is told by running the step's order with so much memory: whenever a value finds no place,
//! that one goes which is the cheapest to have again for the bytes and the time that it gives (after Kirisame et al.
//! 2021, arXiv:2006.09616, who do so while a network runs; here it is done once, and the next reader is known).
//!
//! The numbers stay the same to the last bit: a node that runs again is the same op on the same values, and random
//! masks are functions of their place. Weights and running statistics are updated once: those nodes are never copied.

use std::collections::{HashMap, HashSet};

use crate::ir::{Graph, NodeId};
use crate::ops::Op;

/// Work beyond this multiple of the step's own is no price that anybody would pay.
const MOST_WORK: f64 = 3.0;

/// Values smaller than this share of the memory are kept.
const SMALLEST: u64 = 4096;

/// The bytes that a step's values take at most, each by its size, with what nodes want for themselves while they run.
pub(crate) fn peak(graph: &Graph, own: &HashMap<NodeId, u64>) -> u64 {
    let mut run = Run::new(graph, own, u64::MAX);
    run.all().map_or(0, |()| run.most)
}

/// The step with values that take at most so many bytes at any time; `None` where it cannot be had, or only with far
/// more work. `own` is what nodes want for themselves while they run.
pub(crate) fn within(graph: &Graph, own: &HashMap<NodeId, u64>, bytes: u64) -> Option<Graph> {
    let mut run = Run::new(graph, own, bytes);
    run.all()?;
    Some(run.finish())
}

/// A node of the order, with all that the run asks of it. Nodes are called by their place in the order.
struct Item {
    id: NodeId,
    bytes: u64,
    own: u64,
    /// Of computing it, in multiply-adds.
    work: f64,
    /// What it reads, but for names: those are what they name.
    reads: Vec<usize>,
    /// Who reads it, in order.
    readers: Vec<usize>,
    is_name: bool,
    /// Stays where it is: inputs, weights, outputs, what is written over a weight.
    stays: bool,
}

struct Run<'g> {
    items: Vec<Item>,
    budget: u64,
    smallest: u64,
    /// Whether the value is there.
    here: Vec<bool>,
    /// How many nodes that are about to run want it there.
    locks: Vec<u32>,
    /// How many of its readers have run.
    read: Vec<usize>,
    taken: u64,
    most: u64,
    work: f64,
    most_work: f64,
    /// When a value was last looked at by a search, by number of the search.
    seen: Vec<u32>,
    search: u32,
    made: Made<'g>,
}

impl<'g> Run<'g> {
    fn new(graph: &'g Graph, own: &HashMap<NodeId, u64>, budget: u64) -> Run<'g> {
        let order = graph.order();
        let place: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let mut items: Vec<Item> = vec![];
        for (i, &id) in order.iter().enumerate() {
            let node = graph.node(id);
            let is_name = is_name(graph, id);
            let mut reads = vec![];
            for read in graph.computed_reads(id) {
                let item = &items[place[&read]];
                if item.is_name { reads.extend(item.reads.iter().copied()) } else { reads.push(place[&read]) }
            }
            reads.sort_unstable();
            reads.dedup();
            if !is_name {
                reads.iter().for_each(|&read| items[read].readers.push(i));
            }
            let is_state = matches!(node.op(), None | Some(Op::OptimizerUpdate(_) | Op::Constant(_)));
            let size = node.shape.bytes() as u64;
            let moved: u64 = size + graph.operand_shapes(id).iter().map(|shape| shape.bytes() as u64).sum::<u64>();
            items.push(Item {
                id,
                bytes: if is_state || is_name { 0 } else { size },
                own: own.get(&id).copied().unwrap_or(0),
                work: graph.macs(id) as f64 + 2.0 * moved as f64,
                reads,
                readers: vec![],
                is_name,
                stays: is_state || graph.is_output(id),
            });
        }
        // An output by another name stays as well.
        for i in 0..items.len() {
            if items[i].is_name && items[i].stays {
                for read in items[i].reads.clone() {
                    items[read].stays = true;
                }
            }
        }
        let count = items.len();
        let work: f64 = items.iter().map(|item| item.work).sum();
        Run {
            items,
            budget,
            smallest: budget / SMALLEST,
            here: vec![false; count],
            locks: vec![0; count],
            read: vec![0; count],
            taken: 0,
            most: 0,
            work: 0.0,
            most_work: MOST_WORK * work,
            seen: vec![0; count],
            search: 0,
            made: Made::new(graph),
        }
    }

    fn all(&mut self) -> Option<()> {
        for i in 0..self.items.len() {
            if self.items[i].is_name {
                self.made.run(self.items[i].id, false);
                continue;
            }
            let again = self.missing(i);
            let nodes = || again.iter().copied().chain([i]);
            for node in nodes() {
                self.items[node].reads.iter().for_each(|&read| self.locks[read] += 1);
            }
            for node in nodes() {
                self.one(node, node != i, i)?;
            }
        }
        Some(())
    }

    /// What has to be computed again before a node can run, in order.
    fn missing(&mut self, node: usize) -> Vec<usize> {
        self.search += 1;
        let (mut missing, mut pending) = (vec![], self.items[node].reads.clone());
        while let Some(value) = pending.pop() {
            if !self.here[value] && self.seen[value] != self.search {
                self.seen[value] = self.search;
                missing.push(value);
                pending.extend(self.items[value].reads.iter().copied());
            }
        }
        missing.sort_unstable();
        missing
    }

    /// Runs a node, at the time of node `now`.
    fn one(&mut self, node: usize, again: bool, now: usize) -> Option<()> {
        let Item { id, bytes, own, work, .. } = self.items[node];
        while self.taken + bytes + own > self.budget {
            let value = self.cheapest(now)?;
            self.drop(value);
        }
        self.made.run(id, again);
        self.here[node] = true;
        self.taken += bytes;
        self.most = self.most.max(self.taken + own);
        self.work += work;
        if self.work > self.most_work {
            return None;
        }
        for read in self.items[node].reads.clone() {
            self.locks[read] -= 1;
            if !again {
                self.read[read] += 1;
            }
            self.drop_unneeded(read);
        }
        self.drop_unneeded(node);
        Some(())
    }

    fn drop_unneeded(&mut self, value: usize) {
        let item = &self.items[value];
        let done = self.read[value] == item.readers.len();
        if done && self.locks[value] == 0 && !item.stays && self.here[value] {
            self.drop(value);
        }
    }

    fn drop(&mut self, value: usize) {
        self.here[value] = false;
        self.taken -= self.items[value].bytes;
    }

    /// The value that is to go.
    fn cheapest(&mut self, now: usize) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for value in 0..now {
            let item = &self.items[value];
            if !self.here[value] || self.locks[value] > 0 || item.stays || item.bytes <= self.smallest {
                continue;
            }
            // A value that only others are computed of again waits for nobody.
            let next = item.readers.get(self.read[value]).copied().unwrap_or(self.items.len());
            let gain = item.bytes as f64 * (1 + next.saturating_sub(now)) as f64;
            let cost = self.work_without(value) / gain;
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, value));
            }
        }
        best.map(|(_, value)| value)
    }

    /// The work of having a value again, and of what is dropped already and would be computed with it.
    fn work_without(&mut self, value: usize) -> f64 {
        let mut work = 0.0;
        for forward in [false, true] {
            self.search += 1;
            let mut pending = vec![value];
            while let Some(node) = pending.pop() {
                if self.seen[node] == self.search {
                    continue;
                }
                self.seen[node] = self.search;
                let item = &self.items[node];
                if node != value || !forward {
                    work += item.work;
                }
                let next = if forward { &item.readers } else { &item.reads };
                let is_dropped = |&&n: &&usize| {
                    let waits = self.read[n] < self.items[n].readers.len();
                    !self.here[n] && !self.items[n].stays && self.made.has_run(self.items[n].id) && (waits || !forward)
                };
                pending.extend(next.iter().filter(is_dropped));
            }
        }
        work
    }

    fn finish(self) -> Graph {
        let Made { mut graph, order, .. } = self.made;
        graph.renumber(&order);
        graph
    }
}

/// Whether a node is only another name or shape of what it reads, which takes no memory.
fn is_name(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).op(), Some(Op::Flatten(_) | Op::Reshape(_) | Op::Identity(_) | Op::Dropout(_)))
}

/// The graph with nodes that run again, as copies.
struct Made<'g> {
    written: &'g Graph,
    graph: Graph,
    order: Vec<NodeId>,
    /// What stands for a node by now.
    latest: HashMap<NodeId, NodeId>,
    /// How often nodes were copied, and all names: a copy has one of its own.
    copies: HashMap<NodeId, usize>,
    names: HashSet<String>,
}

impl<'g> Made<'g> {
    fn new(graph: &'g Graph) -> Made<'g> {
        let names = graph.order().into_iter().filter_map(|id| graph.node(id).name.clone()).collect();
        let (order, latest, copies) = (vec![], HashMap::new(), HashMap::new());
        Made { written: graph, graph: graph.clone(), order, latest, copies, names }
    }

    fn has_run(&self, id: NodeId) -> bool {
        self.latest.contains_key(&id)
    }

    /// Runs a node on what its operands are by now.
    fn run(&mut self, id: NodeId, again: bool) {
        let operands: Vec<NodeId> = self.written.operands(id).into_iter().map(|read| self.value(read)).collect();
        let parameters: Vec<NodeId> = self.written.parameters(id).into_iter().map(|read| self.value(read)).collect();
        let node = if again { self.copy(id, &operands, &parameters) } else { id };
        if !again && (operands != self.written.operands(id) || parameters != self.written.parameters(id)) {
            self.graph.set_reads(id, &operands, &parameters);
        }
        self.order.push(node);
        self.latest.insert(id, node);
    }

    fn copy(&mut self, id: NodeId, operands: &[NodeId], parameters: &[NodeId]) -> NodeId {
        let node = self.written.node(id);
        let number = self.copies.entry(id).or_default();
        *number += 1;
        let mut name = node.name.as_ref().map(|name| format!("{name}{}", "'".repeat(*number)));
        while let Some(taken) = name.as_mut().filter(|name| !self.names.insert(name.to_string())) {
            taken.push('\'');
        }
        let op = node.op().expect("inputs stay").clone();
        let copy = self.graph.add(op, operands, vec![], name, node.location.clone());
        let copy = copy.expect("the operands have the shapes of the first time");
        self.graph.set_parameters(copy, parameters);
        copy
    }

    /// What a read value is by now; names of a value that was computed again are written again.
    fn value(&mut self, read: NodeId) -> NodeId {
        let mut names = vec![];
        let mut source = read;
        while is_name(self.written, source) {
            names.push(source);
            source = self.written.operands(source)[0];
        }
        let mut value = self.latest.get(&source).copied().unwrap_or(source);
        for name in names.into_iter().rev() {
            let known = self.latest.get(&name).copied().unwrap_or(name);
            value = match self.graph.operands(known)[0] == value {
                true => known,
                false => {
                    let copy = self.copy(name, &[value], &[]);
                    self.order.push(copy);
                    self.latest.insert(name, copy);
                    copy
                }
            };
        }
        value
    }
}
