//! From a graph to blocks of statements: chains, and joins whose operands come from one value.
//!
//! ```text
//!        d                       d is the join's dominator: every way to j leads through it.
//!      ┌─┴─┐                     Where nothing between d and j is read elsewhere and no two ways
//!      a   b      ⟶  branches    share a value, the join is a `branches` or a `residual`;
//!      └─┬─┘                     any other is a layer that names its operands by label.
//!        j
//! ```

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::ir::{Graph, NodeId};
use crate::ops::binary::BinaryKind;
use crate::ops::{Binary, Op};

/// Statements, each on the value of the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    pub items: Vec<Item>,
}

#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A layer on the flow, the other values that it takes, and the place of the flow among them.
    Layer {
        node: NodeId,
        operands: Vec<NodeId>,
        place: usize,
    },
    /// The flow goes on from this value.
    From(NodeId),
    Join {
        node: NodeId,
        kind: Join,
        branches: Vec<Block>,
    },
    /// The flow is an output of the graph, or the value that is named.
    Output {
        name: String,
        from: Option<NodeId>,
    },
    /// Statements that names set apart, and the parts of their common label.
    Scope {
        label: Vec<String>,
        block: Block,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// Body and skip; a skip without statements is the input itself.
    Residual,
    Branches(&'static str),
}

impl Item {
    /// The node whose value the flow is after the item.
    pub(crate) fn node(&self) -> Option<NodeId> {
        match self {
            Item::Layer { node, .. } | Item::Join { node, .. } | Item::From(node) => Some(*node),
            Item::Scope { block, .. } => block.items.iter().rev().find_map(Item::node),
            Item::Output { .. } => None,
        }
    }
}

/// Layers that a branch beside an unchanged value may have.
const LONG_WAY: usize = 12;
/// Branches of a join. Sums of more values are written one after the other.
const MAX_WAYS: usize = 256;
/// Joins within joins; what lies deeper is written with labels.
const MAX_DEPTH: usize = 8;
/// Nodes visited while looking for the ways into a join: a bound for graphs made to be slow.
const MAX_VISITS: usize = 1 << 19;

pub(crate) struct Structure<'g> {
    graph: &'g Graph,
    /// Place of each node in topological order.
    place: HashMap<NodeId, usize>,
    order: Vec<NodeId>,
    joins: HashMap<NodeId, Composite>,
    visits: usize,
}

/// A join that can be written as one statement.
#[derive(Clone, Debug)]
struct Composite {
    kind: Join,
    entry: NodeId,
    /// Nodes of each way, without entry and join, in topological order, and its last value.
    ways: Vec<(Vec<NodeId>, NodeId)>,
    /// Joins that are part of this one: `a + b` in `a + b + c`.
    inner: Vec<NodeId>,
    /// Joins within one another, this one included.
    depth: usize,
}

/// The graph as one block, from its inputs to its outputs.
pub(crate) fn block(graph: &Graph) -> Block {
    let order = graph.order();
    let place = order.iter().enumerate().map(|(i, &id)| (id, i)).collect();
    let mut structure = Structure { graph, place, order, joins: HashMap::new(), visits: 0 };
    structure.find_joins();
    let nodes: Vec<NodeId> = structure.order.iter().copied().filter(|&id| graph.node(id).op().is_some()).collect();
    let mut block = structure.list(&nodes, graph.inputs().last().copied());
    put_outputs_in_order(graph, &mut block);
    block
}

/// Where values are computed in another order than that of the outputs, these come at the end.
fn put_outputs_in_order(graph: &Graph, block: &mut Block) {
    let found = block.items.iter().filter_map(|i| if let Item::Output { name, .. } = i { Some(name) } else { None });
    if found.eq(graph.outputs().iter().map(|o| &o.name)) {
        return;
    }
    block.items.retain(|i| !matches!(i, Item::Output { .. }));
    let outputs = graph.outputs().iter().map(|o| Item::Output { name: o.name.clone(), from: Some(o.node) });
    block.items.extend(outputs);
}

fn is_constant(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.node(id).op(), Some(Op::Constant(_)))
}

/// The nearest value that every way to a node leads through; none where ways begin at several inputs.
/// Constants are no ways.
pub(crate) fn dominators(graph: &Graph) -> HashMap<NodeId, Option<NodeId>> {
    let mut dominators: HashMap<NodeId, Option<NodeId>> = HashMap::new();
    let mut depths: HashMap<NodeId, usize> = HashMap::new();
    for id in graph.order() {
        let flows: Vec<NodeId> = graph.operands(id).into_iter().filter(|&o| !is_constant(graph, o)).collect();
        let nearest = flows
            .split_first()
            .and_then(|(&first, rest)| rest.iter().try_fold(first, |a, &b| common(a, b, &dominators, &depths)));
        depths.insert(id, nearest.map_or(0, |d| depths[&d] + 1));
        dominators.insert(id, nearest);
    }
    dominators
}

/// The nearest value that every way to either node leads through, which may be one of them.
pub(crate) fn common(
    mut a: NodeId,
    mut b: NodeId,
    dominators: &HashMap<NodeId, Option<NodeId>>,
    depths: &HashMap<NodeId, usize>,
) -> Option<NodeId> {
    while a != b {
        let deeper = if depths[&a] >= depths[&b] { &mut a } else { &mut b };
        *deeper = dominators[deeper]?;
    }
    Some(a)
}

impl Structure<'_> {
    fn is_constant(&self, id: NodeId) -> bool {
        is_constant(self.graph, id)
    }

    // ---- Joins ---------------------------------------------------------------------------------

    fn find_joins(&mut self) {
        let dominators = dominators(self.graph);
        for id in self.order.clone() {
            if let Some(entry) = dominators[&id]
                && let Some(composite) = self.composite(id, entry)
            {
                self.joins.insert(id, composite);
            }
        }
    }

    fn composite(&mut self, join: NodeId, entry: NodeId) -> Option<Composite> {
        let kind = self.join_word(join)?;
        let (operands, inner) = self.joined_operands(join, kind, entry);
        if !(2..=MAX_WAYS).contains(&operands.len()) || operands.iter().any(|&o| self.is_constant(o)) {
            return None;
        }
        let mut ways = vec![];
        let mut seen = HashSet::new();
        for &operand in &operands {
            let way = self.way(entry, operand)?;
            if !way.iter().all(|&n| seen.insert(n)) {
                return None;
            }
            ways.push((way, operand));
        }
        // A value that comes back after a long way is better called by its name.
        let comes_back = ways.iter().any(|(way, _)| way.is_empty()) && ways.iter().any(|(way, _)| way.len() > LONG_WAY);
        if kind == "concat" && comes_back {
            return None;
        }
        // Two ways without any node would be the same value twice, which no branch can say.
        if ways.iter().filter(|(way, _)| way.is_empty()).count() > 1 {
            return None;
        }
        let readers: HashSet<NodeId> = inner.iter().copied().chain([join]).collect();
        let is_closed = |&n: &NodeId| {
            !self.graph.is_output(n)
                && self.graph.users(n).iter().all(|(user, _)| seen.contains(user) || readers.contains(user))
        };
        if !seen.iter().all(is_closed) {
            return None;
        }
        let kind = self.order_ways(kind, &mut ways);
        let within = seen.iter().filter_map(|n| self.joins.get(n)).map(|c| c.depth).max();
        let depth = 1 + within.unwrap_or(0);
        (depth <= MAX_DEPTH).then_some(Composite { kind, entry, ways, inner, depth })
    }

    /// The word for a join of several values, where the language has one for branches.
    fn join_word(&self, id: NodeId) -> Option<&'static str> {
        match self.graph.node(id).op()? {
            Op::Concat(op) if op.axis == 1 => Some("concat"),
            Op::Binary(Binary { kind, .. }) => match kind {
                BinaryKind::Add | BinaryKind::Mul | BinaryKind::Max => Some(kind.name()),
                _ => None,
            },
            _ => None,
        }
    }

    /// A join's operands. Sums of sums are one, where nobody else reads the inner ones.
    fn joined_operands(&self, join: NodeId, kind: &str, entry: NodeId) -> (Vec<NodeId>, Vec<NodeId>) {
        let mut operands = self.graph.operands(join);
        let mut inner = vec![];
        while let Some(&first) = operands.first() {
            let same = operands.len() < MAX_WAYS
                && first != entry
                && matches!(self.graph.node(first).op(), Some(Op::Binary(_)));
            let only_reader = self.graph.only_user(first).is_some() && !self.graph.is_output(first);
            if !same
                || !only_reader
                || self.join_word(first) != Some(kind)
                || self.joins.get(&first).is_some_and(|c| c.entry != entry)
            {
                break;
            }
            operands.splice(0..1, self.graph.operands(first));
            inner.push(first);
        }
        (operands, inner)
    }

    /// The nodes between `entry` and `to`, `to` included, in topological order.
    fn way(&mut self, entry: NodeId, to: NodeId) -> Option<Vec<NodeId>> {
        let mut found = BTreeSet::new();
        let mut stack = vec![to];
        while let Some(id) = stack.pop() {
            if id == entry || !found.insert(self.place[&id]) {
                continue;
            }
            self.visits += 1;
            if self.visits > MAX_VISITS || self.graph.node(id).op().is_none() {
                return None;
            }
            stack.extend(self.graph.operands(id));
        }
        Some(found.into_iter().map(|place| self.order[place]).collect())
    }

    /// Of a sum of two, the longer way is the body and the other the skip.
    fn order_ways(&self, kind: &'static str, ways: &mut [(Vec<NodeId>, NodeId)]) -> Join {
        let [first, second] = ways else { return Join::Branches(kind) };
        let (longer, shorter) = (first.0.len().max(second.0.len()), first.0.len().min(second.0.len()));
        // A skip is nothing, or a projection: few layers beside many.
        if kind != "add" || (shorter > 0 && (shorter > 3 || longer < shorter + 2)) {
            return Join::Branches(kind);
        }
        if first.0.len() < second.0.len() {
            ways.reverse();
        }
        Join::Residual
    }

    // ---- Statements ----------------------------------------------------------------------------

    /// The statements that compute `nodes`, which are in topological order, beginning with the
    /// value `entry` at hand. The last one's value is the last node's.
    fn list(&self, nodes: &[NodeId], entry: Option<NodeId>) -> Block {
        let inside = self.inside_joins(nodes);
        let top: Vec<NodeId> = nodes.iter().copied().filter(|n| !inside.contains(n)).collect();
        let members: HashSet<NodeId> = top.iter().copied().collect();
        let mut waiting: HashMap<NodeId, usize> = HashMap::new();
        let mut readers: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        let mut ready = BTreeSet::new();
        for &id in &top {
            let needs: HashSet<NodeId> = self.reads(id).into_iter().collect();
            needs.iter().for_each(|&r| readers.entry(r).or_default().push(id));
            match needs.iter().filter(|r| members.contains(r)).count() {
                0 => drop(ready.insert(self.place[&id])),
                n => drop(waiting.insert(id, n)),
            }
        }
        let mut block = Block::default();
        let mut current = entry;
        while let Some(&first) = ready.first() {
            let next = current.iter().filter_map(|c| readers.get(c)).flatten().map(|r| self.place[r]);
            let place = next.filter(|place| ready.contains(place)).min().unwrap_or(first);
            ready.remove(&place);
            let id = self.order[place];
            self.emit(id, &mut current, &mut block);
            for &reader in readers.get(&id).into_iter().flatten() {
                let left = waiting.get_mut(&reader).expect("counted above");
                *left -= 1;
                if *left == 0 {
                    ready.insert(self.place[&reader]);
                }
            }
        }
        block
    }

    /// Nodes of the list that belong to a join of it.
    fn inside_joins(&self, nodes: &[NodeId]) -> HashSet<NodeId> {
        let composites = nodes.iter().filter_map(|n| self.joins.get(n));
        composites.flat_map(|c| c.ways.iter().flat_map(|(way, _)| way).chain(&c.inner)).copied().collect()
    }

    /// The values that a statement for the node needs.
    fn reads(&self, id: NodeId) -> Vec<NodeId> {
        match self.joins.get(&id) {
            Some(composite) => vec![composite.entry],
            None => self.graph.operands(id),
        }
    }

    fn emit(&self, id: NodeId, current: &mut Option<NodeId>, block: &mut Block) {
        let item = match self.joins.get(&id) {
            Some(composite) => {
                self.go_to(composite.entry, current, block);
                let branches = composite.ways.iter().map(|(way, _)| self.list(way, Some(composite.entry)));
                Item::Join { node: id, kind: composite.kind, branches: branches.collect() }
            }
            None => {
                let mut operands = self.graph.operands(id);
                let flow = self.flow_index(id, &operands, *current);
                if let Some(index) = flow {
                    let flow = operands.remove(index);
                    self.go_to(flow, current, block);
                }
                let place = flow.filter(|_| !self.commutes(id)).unwrap_or(0);
                Item::Layer { node: id, operands, place }
            }
        };
        block.items.push(item);
        *current = Some(id);
        for output in self.graph.outputs().iter().filter(|o| o.node == id) {
            block.items.push(Item::Output { name: output.name.clone(), from: None });
        }
    }

    fn commutes(&self, id: NodeId) -> bool {
        matches!(self.graph.node(id).op(), Some(Op::Binary(b)) if b.kind.commutes())
    }

    /// Which operand is the flow: what is at hand, else the first, or any that is computed where their order does not matter.
    fn flow_index(&self, id: NodeId, operands: &[NodeId], current: Option<NodeId>) -> Option<usize> {
        let commutes = self.commutes(id);
        let at_hand = operands.iter().position(|&o| Some(o) == current);
        let computed = operands.iter().position(|&o| !self.is_constant(o)).filter(|_| commutes);
        (!operands.is_empty()).then(|| at_hand.or(computed).unwrap_or(0))
    }

    fn go_to(&self, value: NodeId, current: &mut Option<NodeId>, block: &mut Block) {
        if *current != Some(value) {
            block.items.push(Item::From(value));
            *current = Some(value);
        }
    }
}
