//! Which statements belong together: those whose layers the model calls by a common name.
//!
//! `layer1.0.conv1`, `layer1.0.bn1`, … lie in a scope `layer1.0`, which is within `layer1`. A scope
//! holds neighbouring statements of a block, those without weights in between, and the activation
//! behind them. Which scopes become modules is for [`super::modules`] to say; all others vanish.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::structure::{Block, Item};
use super::words;
use crate::ir::{Graph, NodeId};
use crate::ops::Op;
use crate::ops::quantized::LABEL_OF_GRID;

/// Scopes that one name may lie in; what is deeper is one part.
const MAX_SCOPES: usize = 12;

/// Labels of nodes, cut into parts.
pub(crate) struct Labels {
    parts: HashMap<NodeId, Vec<String>>,
    weighted: HashMap<NodeId, bool>,
}

impl Labels {
    /// Names with dots have parts between them, others maybe with slashes. Those with underscores stay whole, since a scope
    /// would put a dot in their place, and weights would no longer be found by them. So do names that nobody chose, which tell
    /// nothing. What rounds a value to a grid belongs where the value does: the end of its name is part of what it is called
    /// there.
    pub(crate) fn of(block: &Block, graph: &Graph) -> Self {
        let nodes: Vec<NodeId> = graph.order();
        let names = |id: &NodeId| graph.node(*id).name.clone().unwrap_or_default();
        let weighted: HashMap<NodeId, bool> = nodes.iter().map(|&n| (n, !graph.parameters(n).is_empty())).collect();
        let count = |c: char| nodes.iter().filter(|n| weighted[n] && own(&names(n)).contains(c)).count();
        let separator = ['.', '/'].into_iter().max_by_key(|&c| (count(c), c == '.')).unwrap_or('.');
        let cut = |name: String| {
            if graph.made_up.contains(&name) {
                return vec![name];
            }
            let parts: Vec<&str> = own(&name).split(separator).filter(|p| !p.is_empty()).collect();
            let (scopes, rest) = parts.split_at(parts.len().min(MAX_SCOPES));
            let rest = (!rest.is_empty()).then(|| rest.join("_"));
            let mut parts: Vec<String> = scopes.iter().map(|p| p.to_string()).chain(rest).collect();
            if let Some(last) = parts.last_mut() {
                last.push_str(&name[own(&name).len()..]);
            }
            parts
        };
        let mut taken: HashSet<String> = nodes.iter().map(names).collect();
        // Paths are told by their ends. What a state dict calls its weights stays whole.
        let mut short = |n: &NodeId| match names(n) {
            name if separator == '.' && name.contains('.') => name,
            name => words::shortened(&name, &mut taken),
        };
        let mut parts: HashMap<NodeId, Vec<String>> = nodes.iter().map(|n| (*n, cut(short(n)))).collect();
        name_uses(&mut parts, block, graph);
        set_apart(&mut parts, &weighted, graph);
        Self { parts, weighted }
    }

    pub(crate) fn parts(&self, node: NodeId) -> &[String] {
        &self.parts[&node]
    }

    pub(crate) fn is_weighted(&self, node: NodeId) -> bool {
        self.weighted[&node]
    }
}

/// For each name, the layers that share its weights, in the order of the text, and the names with numbers that these had.
type Uses = BTreeMap<Vec<String>, (Vec<NodeId>, Vec<Vec<String>>)>;

/// What has the weights of another layer was given that one's name and a number. In the order of the text the first gets the
/// name alone, since weights are called by it, and the number goes to the widest scope all of which is used again:
/// `head.0`, `head.2`, `head_2.0`, `head_2.2` for `head.0_2`, `head.2_2`, `head.0`, `head.2`.
fn name_uses(parts: &mut HashMap<NodeId, Vec<String>>, block: &Block, graph: &Graph) {
    let mut order = vec![];
    block.items.iter().for_each(|item| gather(item, &mut order));
    order.retain(|&n| !graph.parameters(n).is_empty());
    let mut classes: HashMap<_, Vec<NodeId>> = HashMap::new();
    order.iter().for_each(|&n| classes.entry((op_name(graph, n), graph.parameters(n))).or_default().push(n));
    let mut uses = Uses::new();
    for class in classes.values().filter(|class| class.len() > 1) {
        let names: HashSet<&Vec<String>> = class.iter().map(|n| &parts[n]).collect();
        for &node in class {
            let (name, base) = (&parts[&node], without_number(&parts[&node]).filter(|base| names.contains(base)));
            let (nodes, numbered) = uses.entry(base.clone().unwrap_or_else(|| name.clone())).or_default();
            nodes.push(node);
            numbered.extend(base.map(|_| name.clone()));
        }
    }
    uses.retain(|_, (nodes, _)| nodes.len() > 1);
    for (base, (nodes, _)) in &uses {
        nodes.iter().for_each(|&n| drop(parts.insert(n, base.clone())));
    }
    let mut scopes: HashMap<&[String], Vec<&Vec<String>>> = HashMap::new();
    for node in order.iter().filter(|_| !uses.is_empty()) {
        let label = &parts[node];
        (1..=label.len()).for_each(|end| scopes.entry(&label[..end]).or_default().push(label));
    }
    let repeats: HashMap<&[String], usize> = scopes.iter().map(|(scope, labels)| (*scope, turns(labels))).collect();
    let mut taken: HashSet<Vec<String>> = scopes.keys().map(|scope| scope.to_vec()).collect();
    let mut again: HashMap<(&[String], usize), Vec<String>> = HashMap::new();
    let mut renamed = vec![];
    for (base, (nodes, numbered)) in &mut uses {
        numbered.sort_unstable_by_key(|name| (name.last().map_or(0, String::len), name.clone()));
        let scope = (1..base.len()).map(|end| &base[..end]).find(|scope| repeats[scope] == nodes.len());
        for (turn, &node) in nodes.iter().enumerate().skip(1) {
            let label = match (scope, numbered.get(turn - 1)) {
                (None, None) => continue,
                (None, Some(name)) => name.clone(),
                (Some(scope), _) => {
                    let name = again.entry((scope, turn)).or_insert_with(|| with_number(scope, turn + 1, &mut taken));
                    [name.as_slice(), &base[scope.len()..]].concat()
                }
            };
            renamed.push((node, label));
        }
    }
    // What has no weights is called by the scope alone, whichever use it is in: its neighbours know.
    let repeated: HashSet<Vec<String>> = again.into_keys().map(|(scope, _)| scope.to_vec()).collect();
    parts.extend(renamed);
    let has_weights: HashSet<NodeId> = order.into_iter().collect();
    for (_, label) in parts.iter_mut().filter(|(node, _)| !has_weights.contains(node)) {
        if (1..=label.len()).any(|end| repeated.contains(&label[..end])) {
            label.drain(..label.len() - 1);
        }
    }
}

/// How often all that is in a list comes again, in the same order; 1 where it does not.
fn turns(labels: &[&Vec<String>]) -> usize {
    let count = labels.iter().filter(|label| **label == labels[0]).count();
    let length = labels.len() / count;
    let comes_again = labels.len() % count == 0 && labels.iter().zip(&labels[length..]).all(|(a, b)| a == b);
    if comes_again { count } else { 1 }
}

/// A name with the number of a use behind it, or with a higher one.
fn with_number(name: &[String], number: usize, taken: &mut HashSet<Vec<String>>) -> Vec<String> {
    let (last, scope) = name.split_last().expect("names have parts");
    let numbered = |n: usize| [scope, &[format!("{last}_{n}")]].concat();
    let free = (number..).map(numbered).find(|name| taken.insert(name.clone()));
    free.expect("numbers do not end")
}

fn op_name(graph: &Graph, node: NodeId) -> &'static str {
    graph.node(node).op().map_or("", Op::name)
}

/// A name without a use's number behind it.
fn without_number(name: &[String]) -> Option<Vec<String>> {
    let (last, scope) = name.split_last()?;
    let (own, number) = last.rsplit_once('_')?;
    let is_number = !own.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| [scope, &[own.to_string()]].concat())
}

/// A name without what says that it is of a grid.
fn own(name: &str) -> &str {
    name.strip_suffix(LABEL_OF_GRID).filter(|own| !own.is_empty()).unwrap_or(name)
}

/// A layer that is called as the scope of others is (`blocks.0` beside `blocks.0.conv`) gets a part of
/// its own: one label cannot be both.
fn set_apart(parts: &mut HashMap<NodeId, Vec<String>>, weighted: &HashMap<NodeId, bool>, graph: &Graph) {
    let labels = || weighted.iter().filter(|(_, w)| **w).map(|(n, _)| &parts[n]);
    let mut scopes: HashSet<Vec<String>> = HashSet::new();
    labels().for_each(|label| scopes.extend((1..label.len()).map(|end| label[..end].to_vec())));
    let mut taken: HashSet<Vec<String>> = labels().cloned().collect();
    for id in graph.order().into_iter().filter(|id| weighted[id]) {
        let label = &parts[&id];
        if scopes.contains(label) {
            let layer = graph.node(id).op().map_or("layer", |op| op.layer_name());
            let with = |last: String| [label.as_slice(), &[last]].concat();
            let names = std::iter::once(layer.to_string()).chain((2..).map(|n: usize| format!("{layer}{n}")));
            let own = names.map(with).find(|l| !taken.contains(l) && !scopes.contains(l)).expect("numbers do not end");
            taken.insert(own.clone());
            parts.insert(id, own);
        }
    }
}

/// Where an item belongs below the scope around it.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    /// In the scope of this name.
    Within(String),
    /// A layer, or layers of several scopes.
    Apart,
    /// Without weights: wherever its neighbours are.
    Free,
}

/// Groups a block's statements, and those of blocks within. `around` is the scope that they are in, of
/// which `said` parts are scopes already.
pub(crate) fn group(block: Block, around: &[String], said: usize, labels: &Labels, graph: &Graph) -> Block {
    let places: Vec<Place> = block.items.iter().map(|item| place(item, around, labels)).collect();
    if let Some(only) = only_scope(&block, &places, labels) {
        // What all of the block is in says nothing, where there is more to say within.
        let within = group(block.clone(), &[around, &[only]].concat(), said, labels, graph);
        if within.items.iter().any(|i| matches!(i, Item::Scope { .. } | Item::Join { .. })) {
            return within;
        }
    }
    let mut grouped = Block::default();
    let mut start = 0;
    while start < places.len() {
        let Place::Within(name) = &places[start] else {
            grouped.items.push(within(block.items[start].clone(), around, said, labels, graph));
            start += 1;
            continue;
        };
        let mut end = scope_end(name, start, &places);
        let free = places[end..].iter().take_while(|place| **place == Place::Free).count();
        // What joins values from within, in one or several steps.
        end += joins_from_within(&block.items[start..end], &block.items[end..end + free]);
        if places.get(end) == Some(&Place::Free) && ends_a_block(&block.items[end], graph) {
            end += 1;
        }
        let around = [around, std::slice::from_ref(name)].concat();
        let inner = Block { items: block.items[start..end].to_vec() };
        let block = group(inner, &around, around.len(), labels, graph);
        grouped.items.push(Item::Scope { label: around[said..].to_vec(), block });
        start = end;
    }
    grouped
}

/// The scope that all layers with weights of a block are in.
fn only_scope(block: &Block, places: &[Place], labels: &Labels) -> Option<String> {
    let weighted = block.items.iter().zip(places).filter(|(item, _)| {
        let mut nodes = vec![];
        gather(item, &mut nodes);
        nodes.iter().any(|&n| labels.is_weighted(n))
    });
    let mut scopes = weighted.map(|(_, place)| if let Place::Within(name) = place { Some(name) } else { None });
    let first = scopes.next()??;
    scopes.all(|s| s == Some(first)).then(|| first.clone())
}

/// Groups within the branches of a join that is in no scope of its own.
fn within(item: Item, around: &[String], said: usize, labels: &Labels, graph: &Graph) -> Item {
    match item {
        Item::Join { node, kind, branches } => {
            let branches = branches.into_iter().map(|b| group(b, around, said, labels, graph)).collect();
            Item::Join { node, kind, branches }
        }
        other => other,
    }
}

/// One past the last item of the scope that begins at `start`.
fn scope_end(name: &str, start: usize, places: &[Place]) -> usize {
    let mut end = start + 1;
    for (i, place) in places.iter().enumerate().skip(start + 1) {
        match place {
            Place::Within(other) if other == name => end = i + 1,
            Place::Free => {}
            _ => break,
        }
    }
    end
}

/// How many of the items behind those of a scope belong to it, since the last of them takes a value by name that is within.
fn joins_from_within(scope: &[Item], behind: &[Item]) -> usize {
    let mut nodes = vec![];
    scope.iter().for_each(|item| gather(item, &mut nodes));
    let mut inside: HashSet<NodeId> = nodes.into_iter().collect();
    let mut own = 0;
    for (i, item) in behind.iter().enumerate() {
        let Item::Layer { node, operands, .. } = item else { break };
        inside.insert(*node);
        if operands.iter().any(|operand| inside.contains(operand)) {
            own = i + 1;
        }
    }
    own
}

/// What stands behind the layers that it belongs to.
fn ends_a_block(item: &Item, graph: &Graph) -> bool {
    matches!(item, Item::Layer { node, .. } if matches!(graph.node(*node).op(), Some(Op::Activate(_) | Op::ChannelShuffle(_))))
}

fn place(item: &Item, around: &[String], labels: &Labels) -> Place {
    let depth = around.len();
    match item {
        Item::Output { .. } => return Place::Apart,
        // Between layers of one scope, it goes on from another value within.
        Item::From(_) => return Place::Free,
        _ => {}
    }
    let mut nodes = vec![];
    gather(item, &mut nodes);
    let weighted: Vec<NodeId> = nodes.iter().copied().filter(|n| labels.is_weighted(*n)).collect();
    if weighted.is_empty() {
        return hinted(&nodes, around, labels);
    }
    let mut names = weighted.iter().map(|&n| (labels.parts(n).get(depth), labels.parts(n).len() > depth + 1));
    let Some((Some(first), true)) = names.next() else { return Place::Apart };
    match names.all(|(name, is_scope)| name == Some(first) && is_scope) {
        true => Place::Within(first.clone()),
        false => Place::Apart,
    }
}

/// Where a node without weights says that it belongs, by its own name.
fn hinted(nodes: &[NodeId], around: &[String], labels: &Labels) -> Place {
    match nodes {
        [node] if labels.parts(*node).len() > around.len() + 1 && labels.parts(*node).starts_with(around) => {
            Place::Within(labels.parts(*node)[around.len()].clone())
        }
        _ => Place::Free,
    }
}

/// The nodes of an item.
pub(crate) fn gather(item: &Item, nodes: &mut Vec<NodeId>) {
    match item {
        Item::Layer { node, .. } => nodes.push(*node),
        Item::Join { node, branches, .. } => {
            branches.iter().flat_map(|b| &b.items).for_each(|i| gather(i, nodes));
            nodes.push(*node);
        }
        Item::Scope { block, .. } => block.items.iter().for_each(|i| gather(i, nodes)),
        Item::From(_) | Item::Output { .. } => {}
    }
}
