//! What repeats in a network, whatever it is called, set apart as scopes.
//!
//! ```text
//! conv bn relu conv bn relu …   ⟶  rows of a convolution, a norm and an activation
//! residual { … } residual { … } ⟶  joins, the innermost first
//! conv pool conv pool …         ⟶  any other rows, those first that save the most lines
//! ```
//!
//! Each round wraps statements that are alike, which [`super::modules`] then makes uses of one module, and looks again:
//! what was a block is one statement then, and may be part of what repeats around it. Labels that nobody chose become short
//! ones. Others stay what they are: where a scope's label cannot tell them, the module gets them as an argument.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::alike::{same_weights, token, unlabelled_key};
use super::modules::{Module, Scope, is_closed, strip};
use super::naming::{labels_of, shared_beginning};
use super::parameters::{self, Instance};
use super::parts::{Found, NAME, NAMES, Named, Part, Slot, nodes, references, weight_labels, weights_from};
use super::structure::Join;
use crate::interop::free_number;
use crate::ir::{Graph, NodeId};
use crate::ops::layer::Value;

/// Rounds of looking for what repeats. Each takes time in proportion to the network.
const MAX_ROUNDS: usize = 48;
/// Statements of the longest row that is looked for.
const MAX_ROW: usize = 48;
/// Statements of a join that is worth a module.
const JOIN_SIZE: usize = 3;
/// Rows of a convolution, a norm and an activation that are worth a module.
const MIN_TRIPLES: usize = 4;
/// Lines that a module of a row has to save.
const MIN_SAVED: i64 = 3;
/// The same where a label has to be given with each use, and where several: the text is better off with plain lines.
const MIN_SAVED_BESIDE_NAME: i64 = 6;
const MIN_SAVED_BESIDE_NAMES: i64 = 24;
/// Parameters of a module that is made of a row.
const MAX_PARAMETERS: usize = 6;
/// Rows whose statements are looked at closely in a round.
const MAX_CANDIDATES: usize = 64;
/// Lines that a module takes beside its statements.
const HEAD: i64 = 4;
/// Characters of labels in a line.
const LINE: usize = 90;

pub(crate) struct Repeats<'g> {
    graph: &'g Graph,
    /// The value that the model begins with.
    entry: NodeId,
    /// Labels that nobody chose.
    made_up: HashSet<String>,
    taken: HashSet<String>,
    /// What was wrapped once, or is not worth it.
    tried: HashSet<String>,
    rounds: usize,
}

/// Some statements of a block, by the block's number, which [`blocks`] and [`replace`] count alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    block: usize,
    start: usize,
    length: usize,
}

/// Sites that are alike.
struct Class {
    sites: Vec<Site>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Triple,
    Join,
    Row,
}

/// A block and the value that it begins with.
struct Block<'p> {
    parts: &'p [Part],
    entry: NodeId,
    /// Numbers of the blocks within.
    within: std::ops::Range<usize>,
}

impl<'p> Block<'p> {
    /// The value at hand before a statement.
    fn at_hand(&self, index: usize) -> NodeId {
        self.parts[..index].iter().rev().find_map(Part::node).unwrap_or(self.entry)
    }

    fn scope(&self, site: Site) -> Scope<'p> {
        let parts = &self.parts[site.start..site.start + site.length];
        Scope { label: &[], parts, entry: self.at_hand(site.start), found: None }
    }
}

impl<'g> Repeats<'g> {
    pub(crate) fn new(body: &[Part], graph: &'g Graph, made_up: &HashSet<String>) -> Self {
        let mut labels = vec![];
        labels_of(body, &mut labels);
        let entry = *graph.inputs().last().expect("networks have an input");
        let taken = labels.into_iter().map(|l| l.join(".")).collect();
        Self { graph, entry, made_up: made_up.clone(), taken, tried: HashSet::new(), rounds: MAX_ROUNDS }
    }

    /// Sets what repeats apart as scopes. Returns whether there was any.
    pub(crate) fn wrap(&mut self, body: &mut Vec<Part>, modules: &[Module]) -> bool {
        while self.rounds > 0 {
            self.rounds -= 1;
            let mut all = vec![];
            blocks(body, self.entry, &mut all);
            let mut read = HashMap::new();
            references(body, None, &mut read);
            let stages = [Self::triples, Self::joins, Self::rows];
            let classes = stages.into_iter().map(|find| find(self, &all, &read, modules)).find(|c| !c.is_empty());
            let Some(classes) = classes else { return false };
            let mut scopes: HashMap<usize, Vec<(Site, Part)>> = HashMap::new();
            for class in classes {
                let first = class.sites[0];
                self.tried.insert(key(&all[first.block].scope(first)));
                for (site, scope) in self.scopes(&class, &all, modules).into_iter().flatten() {
                    scopes.entry(site.block).or_default().push((site, scope));
                }
            }
            if !scopes.is_empty() {
                replace(body, &mut scopes, &mut 0);
                return true;
            }
        }
        false
    }

    // ---- What repeats --------------------------------------------------------------------------

    /// Convolutions with their norm and activation.
    fn triples(&self, all: &[Block], read: &HashMap<NodeId, usize>, _: &[Module]) -> Vec<Class> {
        let sites = all.iter().enumerate().flat_map(|(block, b)| {
            let triple = |start: &usize| b.parts.get(*start..start + 3).is_some_and(is_triple);
            let starts: Vec<usize> = (0..b.parts.len()).filter(triple).collect();
            starts.into_iter().map(move |start| Site { block, start, length: 3 })
        });
        let sites: Vec<Site> = sites.filter(|site| is_closed(&all[site.block].scope(*site), read)).collect();
        let alike = self.alike(sites, all).into_iter().filter(|sites| sites.len() >= MIN_TRIPLES);
        alike.map(|sites| Class { sites, kind: Kind::Triple }).collect()
    }

    /// Joins that hold no others which repeat.
    fn joins(&self, all: &[Block], read: &HashMap<NodeId, usize>, _: &[Module]) -> Vec<Class> {
        let mut sites = vec![];
        for (block, b) in all.iter().enumerate() {
            let units =
                (0..b.parts.len()).filter_map(|start| Some(Site { block, start, length: unit(b.parts, start)? }));
            sites.extend(units.filter(|site| is_closed(&b.scope(*site), read)));
        }
        let classes: Vec<Vec<Site>> = self.alike(sites, all).into_iter().filter(|sites| sites.len() > 1).collect();
        let holding: BTreeSet<usize> = classes.iter().flatten().map(|site| site.block).collect();
        // Blocks within a site have the numbers behind its own block's.
        let is_innermost = |site: &&Site| {
            let inner = within(all, **site);
            holding.range(inner).next().is_none()
        };
        let innermost = classes.into_iter().map(|sites| sites.iter().filter(is_innermost).copied().collect());
        let innermost = innermost.filter(|sites: &Vec<Site>| sites.len() > 1);
        innermost.map(|sites| Class { sites, kind: Kind::Join }).collect()
    }

    /// Sites of one kind each, without those kinds that were tried.
    fn alike(&self, sites: Vec<Site>, all: &[Block]) -> Vec<Vec<Site>> {
        let mut order = vec![];
        let mut classes: HashMap<String, Vec<Site>> = HashMap::new();
        for site in sites {
            let key = key(&all[site.block].scope(site));
            if self.tried.contains(&key) {
                continue;
            }
            let class = classes.entry(key.clone()).or_default();
            if class.is_empty() {
                order.push(key);
            }
            class.push(site);
        }
        let classes = order.into_iter().map(|key| classes.remove(&key).expect("noted above"));
        let parts = |site: Site| all[site.block].scope(site).parts;
        classes.map(|sites| same_weights(sites, parts, self.graph)).filter(|sites| !sites.is_empty()).collect()
    }

    /// The statements in a row that save the most lines where they are one.
    fn rows(&self, all: &[Block], read: &HashMap<NodeId, usize>, modules: &[Module]) -> Vec<Class> {
        let mut best: Option<(i64, Class)> = None;
        let mut candidates = candidates(all);
        candidates.sort_by_key(|c| std::cmp::Reverse(c.0));
        candidates.truncate(MAX_CANDIDATES);
        for (most, sites) in candidates {
            if best.as_ref().is_some_and(|(saved, _)| most <= *saved) {
                break;
            }
            let fits = |site: &Site| is_row(&all[site.block], *site) && is_closed(&all[site.block].scope(*site), read);
            for sites in self.alike(sites.into_iter().filter(fits).collect(), all) {
                let saved = saved(&sites, all);
                if sites.len() > 1
                    && saved >= MIN_SAVED
                    && best.as_ref().is_none_or(|(other, _)| saved > *other)
                    && self.parameters(&sites, all, modules) <= MAX_PARAMETERS
                {
                    best = Some((saved, Class { sites, kind: Kind::Row }));
                }
            }
        }
        best.into_iter().map(|(_, class)| class).collect()
    }

    /// How many parameters a module of the sites would have.
    fn parameters(&self, sites: &[Site], all: &[Block], modules: &[Module]) -> usize {
        let scopes: Vec<Scope> = sites.iter().map(|site| all[site.block].scope(*site)).collect();
        let template = scopes.iter().max_by_key(|s| nodes(s.parts).len()).expect("a class has members");
        let instances: Vec<Instance> = scopes.iter().map(|s| Instance { parts: s.parts, entry: s.entry }).collect();
        parameters::find(template.parts, &instances, modules, self.graph).params.len()
    }

    // ---- Their labels --------------------------------------------------------------------------

    /// The scopes that sites become, where it is worth it.
    fn scopes(&mut self, class: &Class, all: &[Block], modules: &[Module]) -> Option<Vec<(Site, Part)>> {
        let windows: Vec<Scope> = class.sites.iter().map(|site| all[site.block].scope(*site)).collect();
        let names: Vec<Vec<String>> = windows.iter().map(|w| names(w.parts)).collect();
        let is_own = names.iter().flatten().any(|name| !self.made_up.contains(name));
        if is_own && saved(&class.sites, all) < MIN_SAVED_BESIDE_NAME {
            return None;
        }
        let scopes = if !is_own {
            windows.iter().map(|w| self.with_new_labels(w, modules)).collect()
        } else if let Some(scopes) = by_scope(&windows).or_else(|| by_only_label(&windows, &names)) {
            scopes
        } else if windows.iter().any(|w| self.reads_others(w.parts)) {
            // Only a call with a label can have the weights of another.
            return None;
        } else {
            let scopes = by_names(&windows, &names)?;
            let given: Vec<String> = scopes.iter().flat_map(given_names).collect();
            let told: usize = given.iter().map(String::len).sum();
            let saved = saved(&class.sites, all) - (told / LINE) as i64;
            let least = if given.len() == scopes.len() { MIN_SAVED_BESIDE_NAME } else { MIN_SAVED_BESIDE_NAMES };
            if class.kind == Kind::Triple || saved < least {
                return None;
            }
            scopes
        };
        Some(class.sites.iter().copied().zip(scopes).collect())
    }

    /// Whether some statement has the weights of another.
    fn reads_others(&self, parts: &[Part]) -> bool {
        let mut weights = vec![];
        weights_from(parts, self.graph, &mut weights);
        weights.iter().any(|(_, shares)| shares.is_some())
    }

    /// A scope of layers whose labels nobody chose: these get names by kind and number.
    fn with_new_labels(&mut self, window: &Scope, modules: &[Module]) -> Part {
        let label = self.made_up_label("block");
        let mut parts = window.parts.to_vec();
        relabel(&mut parts, &mut HashMap::new(), modules);
        scope(vec![label], parts, window)
    }

    fn made_up_label(&mut self, kind: &str) -> String {
        let numbered = |number: usize| format!("{kind}{number}");
        let first = numbered(1);
        let label = match self.taken.contains(&first) {
            true => numbered(free_number(|number| self.taken.contains(&numbered(number)))),
            false => first,
        };
        self.taken.insert(label.clone());
        self.made_up.insert(label.clone());
        label
    }

    /// Numbers the layers and uses of modules whose labels nobody chose, in the order of the text.
    pub(crate) fn number_labels(&mut self, body: &mut [Part], modules: &[Module]) {
        let mut labels = vec![];
        labels_of(body, &mut labels);
        let labels = labels.into_iter().map(|l| l.join("."));
        self.taken = labels.filter(|label| !self.made_up.contains(label)).collect();
        self.number(body, modules, &mut HashMap::new());
    }

    fn number(&self, parts: &mut [Part], modules: &[Module], counts: &mut HashMap<String, usize>) {
        for part in parts {
            let kind = kind(part, modules);
            match part {
                Part::Layer { label, .. } | Part::Call { label, .. } if self.made_up.contains(&label.join(".")) => {
                    let count = counts.entry(kind.clone()).or_default();
                    *count += 1;
                    while self.taken.contains(&format!("{kind}{count}")) {
                        *count += 1;
                    }
                    *label = vec![format!("{kind}{count}")];
                }
                _ => part.blocks_mut().into_iter().for_each(|b| self.number(b, modules, counts)),
            }
        }
    }
}

fn key(scope: &Scope) -> String {
    unlabelled_key(scope.parts, scope.entry)
}

fn scope(label: Vec<String>, parts: Vec<Part>, window: &Scope) -> Part {
    let found = Some(Found { original: window.parts.to_vec(), names: None, inner: None });
    Part::Scope { label, parts, entry: window.entry, found }
}

// ---- Blocks ------------------------------------------------------------------------------------

/// All blocks, each before those within it.
fn blocks<'p>(parts: &'p [Part], entry: NodeId, found: &mut Vec<Block<'p>>) {
    let number = found.len();
    found.push(Block { parts, entry, within: 0..0 });
    for part in parts {
        if let Part::Join { branches, entry, .. } = part {
            branches.iter().for_each(|b| blocks(b, *entry, found));
        }
    }
    found[number].within = number + 1..found.len();
}

/// The numbers of the blocks within a site.
fn within(all: &[Block], site: Site) -> std::ops::Range<usize> {
    let block = &all[site.block];
    let mut start = block.within.start;
    let mut end = start;
    for (i, part) in block.parts[..site.start + site.length].iter().enumerate() {
        if i == site.start {
            start = end;
        }
        for _ in part.blocks() {
            end = all[end].within.end;
        }
    }
    start..end
}

/// Puts scopes in the places of their statements.
fn replace(parts: &mut Vec<Part>, scopes: &mut HashMap<usize, Vec<(Site, Part)>>, number: &mut usize) {
    let own = scopes.remove(number);
    *number += 1;
    for part in parts.iter_mut() {
        part.blocks_mut().into_iter().for_each(|b| replace(b, scopes, number));
    }
    let mut own = own.unwrap_or_default();
    own.sort_by_key(|(site, _)| *site);
    for (site, scope) in own.into_iter().rev() {
        parts.splice(site.start..site.start + site.length, [scope]);
    }
}

// ---- Statements --------------------------------------------------------------------------------

/// Layers of the flow alone, with a label where they have weights.
fn layer_of(part: &Part) -> Option<&'static str> {
    match part {
        Part::Layer { layer, operands, .. } if operands.is_empty() => Some(layer),
        _ => None,
    }
}

fn is_wide(part: &Part) -> bool {
    const WIDE: [&str; 8] =
        ["conv", "conv_transpose", "linear", "conv1d", "conv3d", "conv_transpose1d", "conv_transpose3d", "deform_conv"];
    layer_of(part).is_some_and(|layer| WIDE.contains(&layer))
}

fn is_norm(part: &Part) -> bool {
    const NORMS: [&str; 5] = ["batch_norm", "instance_norm", "group_norm", "layer_norm", "scale"];
    layer_of(part).is_some_and(|layer| NORMS.contains(&layer))
}

fn is_activation(part: &Part) -> bool {
    const ACTIVATIONS: [&str; 13] = [
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "elu",
        "sigmoid",
        "tanh",
        "hard_sigmoid",
        "hard_swish",
        "silu",
        "gelu",
        "softplus",
        "clip",
    ];
    layer_of(part).is_some_and(|layer| ACTIVATIONS.contains(&layer))
}

fn is_triple(parts: &[Part]) -> bool {
    matches!(parts, [conv, norm, activation] if is_wide(conv) && is_norm(norm) && is_activation(activation))
}

/// The length of a join of some layers with the activation behind it.
fn unit(parts: &[Part], index: usize) -> Option<usize> {
    let Part::Join { branches, .. } = &parts[index] else { return None };
    let size: usize = branches.iter().map(|b| count(b)).sum();
    let activation = parts.get(index + 1).is_some_and(is_activation);
    (size >= JOIN_SIZE).then_some(1 + usize::from(activation))
}

fn count(parts: &[Part]) -> usize {
    parts.iter().map(|p| 1 + p.blocks().into_iter().map(|b| count(b)).sum::<usize>()).sum()
}

/// Whether statements in a row may be a module: they begin with what changes channels, leave no activation behind, and take
/// all of what is used several times one after the other, which is a loop, or nothing of it. Uses of modules in a row say
/// what they do already.
fn is_row(block: &Block, site: Site) -> bool {
    let end = site.start + site.length;
    let parts = &block.parts[site.start..end];
    let module = |i: usize| match block.parts.get(i) {
        Some(Part::Call { module, .. }) => Some(*module),
        _ => None,
    };
    let goes_on = |i: usize| module(i).is_some() && module(i) == module(i - 1);
    if (site.start > 0 && goes_on(site.start)) || goes_on(end) {
        return false;
    }
    let begins = match &parts[0] {
        Part::Call { .. } | Part::Join { .. } => true,
        // Side by side with a skip or a state.
        Part::Layer { layer: "concat", operands, .. } => !operands.is_empty(),
        first => is_wide(first) || is_norm(first),
    };
    let next = block.parts.get(end);
    let cuts = next.is_some_and(|n| is_activation(n) || (is_norm(n) && !is_norm(&parts[0])));
    let modules: HashSet<usize> =
        parts.iter().filter_map(|p| if let Part::Call { module, .. } = p { Some(*module) } else { None }).collect();
    let only_calls = parts.iter().all(|p| matches!(p, Part::Call { .. }));
    begins && !cuts && !(only_calls && (modules.len() < 2 || parts.len() < 3))
}

/// Lines that a statement takes.
fn lines(part: &Part) -> i64 {
    let all = |parts: &[Part]| parts.iter().map(lines).sum::<i64>();
    match part {
        Part::Layer { .. } | Part::Call { .. } | Part::From(_) | Part::Output { .. } => 1,
        Part::Scope { parts, .. } => all(parts),
        Part::Join { kind: Join::Residual, branches, .. } => {
            let skip = if branches[1].is_empty() { 0 } else { 1 + all(&branches[1]) };
            2 + all(&branches[0]) + skip
        }
        Part::Join { branches, .. } => {
            let branch = |b: &Vec<Part>| if b.len() <= 3 { 1 } else { 2 + all(b) };
            2 + branches.iter().map(branch).sum::<i64>()
        }
    }
}

/// Lines that a module of the sites saves.
fn saved(sites: &[Site], all: &[Block]) -> i64 {
    let scope = all[sites[0].block].scope(sites[0]);
    let lines: i64 = scope.parts.iter().map(lines).sum();
    sites.len() as i64 * (lines - 1) - lines - HEAD
}

// ---- Rows --------------------------------------------------------------------------------------

/// Rows of statements that may be alike, and the lines that they would save.
fn candidates(all: &[Block]) -> Vec<(i64, Vec<Site>)> {
    let mut numbers: HashMap<String, u64> = HashMap::new();
    let mut number = |part: &Part, entry: NodeId| {
        let next = numbers.len() as u64 + 1;
        *numbers.entry(token(part, entry)).or_insert(next)
    };
    let tokens: Vec<Vec<u64>> = all.iter().map(|b| b.parts.iter().map(|p| number(p, b.entry)).collect()).collect();
    // Rows of each length that occur more than once; longer ones begin where they do.
    let mut alive: Vec<(Site, u64)> = vec![];
    for (block, tokens) in tokens.iter().enumerate() {
        alive.extend(tokens.iter().enumerate().map(|(start, &hash)| (Site { block, start, length: 1 }, hash)));
    }
    let mut found = vec![];
    for length in 2..=MAX_ROW {
        let mut rows: HashMap<u64, Vec<Site>> = HashMap::new();
        for (site, hash) in &alive {
            if let Some(&next) = tokens[site.block].get(site.start + length - 1) {
                let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ next;
                rows.entry(hash).or_default().push(Site { length, ..*site });
            }
        }
        rows.retain(|_, sites| sites.len() > 1);
        alive = rows.iter().flat_map(|(&hash, sites)| sites.iter().map(move |&site| (site, hash))).collect();
        alive.sort_unstable();
        let apart = rows.into_values().map(apart).filter(|sites| sites.len() > 1);
        found.extend(apart.map(|sites| (saved(&sites, all), sites)).filter(|(saved, _)| *saved >= MIN_SAVED));
        if alive.is_empty() {
            break;
        }
    }
    // The order of equals is that of the text.
    found.sort_by(|a, b| a.1.cmp(&b.1));
    found
}

/// The sites that overlap none before them.
fn apart(mut sites: Vec<Site>) -> Vec<Site> {
    sites.sort_unstable();
    let mut kept: Vec<Site> = vec![];
    for site in sites {
        let is_free = kept.last().is_none_or(|last| last.block != site.block || last.start + last.length <= site.start);
        if is_free {
            kept.push(site);
        }
    }
    kept
}

// ---- Labels ------------------------------------------------------------------------------------

/// A short word for what a statement is, of which labels are made.
fn kind(part: &Part, modules: &[Module]) -> String {
    match part {
        Part::Layer { layer, .. } => match *layer {
            "batch_norm" => "bn",
            "linear" => "fc",
            "conv_transpose" => "deconv",
            other => other,
        }
        .to_string(),
        Part::Call { module, .. } => {
            let body = &modules[*module].body;
            let is_row = body.iter().all(|p| matches!(p, Part::Layer { .. }));
            let wide = body.iter().filter(|p| is_wide(p)).count();
            match body.first().filter(|first| is_row && wide == 1 && is_wide(first)) {
                Some(first) => kind(first, modules),
                None => "block".into(),
            }
        }
        _ => String::new(),
    }
}

/// Labels by kind and number: `conv1`, `bn1`, `conv2`, …
fn relabel(parts: &mut [Part], counts: &mut HashMap<String, usize>, modules: &[Module]) {
    for part in parts {
        let kind = kind(part, modules);
        match part {
            Part::Layer { label, .. } | Part::Call { label, .. } if !label.is_empty() => {
                let count = counts.entry(kind.clone()).or_default();
                *count += 1;
                *label = vec![format!("{kind}{count}")];
            }
            _ => part.blocks_mut().into_iter().for_each(|b| relabel(b, counts, modules)),
        }
    }
}

/// Scopes whose labels are what the labels within begin with, where the rest is the same in all.
fn by_scope(windows: &[Scope]) -> Option<Vec<Part>> {
    let mut scopes = vec![];
    let (mut beginnings, mut rests) = (HashSet::new(), HashSet::new());
    for window in windows {
        let mut labels = vec![];
        labels_of(window.parts, &mut labels);
        let beginning = shared_beginning(&labels);
        let mut parts = window.parts.to_vec();
        strip(&mut parts, beginning.len());
        labels.iter_mut().for_each(|label| drop(label.drain(..beginning.len())));
        rests.insert(labels);
        if beginning.is_empty() || rests.len() > 1 || !beginnings.insert(beginning.clone()) || gets_names(&parts) {
            return None;
        }
        scopes.push(scope(beginning, parts, window));
    }
    Some(scopes)
}

/// Scopes with the label of the only layer in them that has weights, which needs none then.
fn by_only_label(windows: &[Scope], names: &[Vec<String>]) -> Option<Vec<Part>> {
    if names.iter().any(|names| names.len() != 1) {
        return None;
    }
    let made = windows.iter().map(|window| {
        let mut only = None;
        let mut parts = window.parts.to_vec();
        // What is named keeps its label.
        let mut read = HashMap::new();
        references(&parts, Some(window.entry), &mut read);
        for part in &mut parts {
            if let Part::Layer { label, node, .. } = part
                && !label.is_empty()
                && !read.contains_key(node)
            {
                only = Some((*node, std::mem::take(label)));
            }
        }
        let (node, label) = only?;
        let inner = Some(vec![(node, String::new())]);
        let found = Some(Found { original: window.parts.to_vec(), names: None, inner });
        Some(Part::Scope { label, parts, entry: window.entry, found })
    });
    made.collect()
}

/// Whether a use of a module gets labels as an argument, which are whole ones.
pub(crate) fn gets_names(parts: &[Part]) -> bool {
    parts.iter().any(|part| match part {
        Part::Call { args, .. } => args.iter().any(|(name, _)| NAMES.contains(&name.as_str())),
        _ => part.blocks().into_iter().any(|b| gets_names(b)),
    })
}

/// The labels that a scope will get.
fn given_names(scope: &Part) -> Vec<String> {
    match scope {
        Part::Scope { found: Some(Found { names: Some(names), .. }), .. } => texts(&names.value),
        _ => vec![],
    }
}

/// A place of a label, or of several that a use of a module gets.
enum Place<'p> {
    Label(&'p mut Vec<String>),
    Argument(&'p mut Slot),
}

fn each_place(parts: &mut [Part], f: &mut impl FnMut(Place)) {
    for part in parts {
        match part {
            Part::Layer { label, .. } if !label.is_empty() => f(Place::Label(label)),
            Part::Call { label, args, .. } => match args.iter_mut().find(|(name, _)| NAMES.contains(&name.as_str())) {
                Some((_, slot)) => f(Place::Argument(slot)),
                None if !label.is_empty() => f(Place::Label(label)),
                None => {}
            },
            _ => part.blocks_mut().into_iter().for_each(|b| each_place(b, f)),
        }
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Str(text) => vec![text.clone()],
        Value::List(values) => values.iter().flat_map(texts).collect(),
        _ => vec![],
    }
}

/// The labels within, in order.
fn names(parts: &[Part]) -> Vec<String> {
    let mut found = vec![];
    each_place(&mut parts.to_vec(), &mut |place| match place {
        Place::Label(label) => found.push(label.join(".")),
        Place::Argument(Slot::Value(value)) => found.extend(texts(value)),
        Place::Argument(_) => {}
    });
    found
}

/// Scopes whose labels are given to them: by what they begin with, where the rest is the same in all, else one by one.
/// `None` where some have labels that others lack, and not behind all others.
fn by_names(windows: &[Scope], names: &[Vec<String>]) -> Option<Vec<Part>> {
    let common: HashSet<usize> = windows.iter().map(|w| names_before_skip(w.parts)).collect();
    let counts: HashSet<usize> = names.iter().map(Vec::len).collect();
    if counts.len() > 1 && common.len() > 1 {
        return None;
    }
    let beginnings: Vec<String> = names.iter().map(|names| beginning(names)).collect();
    let rest = |(names, beginning): (&Vec<String>, &String)| -> Vec<String> {
        names.iter().map(|name| name[beginning.len()..].to_string()).collect()
    };
    let rests: HashSet<Vec<String>> = names.iter().zip(&beginnings).map(rest).collect();
    let rest = rests.into_iter().next().filter(|_| {
        let first = names[0].iter().map(|name| &name[beginnings[0].len()..]);
        beginnings.iter().all(|b| !b.is_empty())
            && names.iter().zip(&beginnings).all(|(n, b)| n.iter().map(|n| &n[b.len()..]).eq(first.clone()))
    });
    let made = windows.iter().zip(names).zip(beginnings).map(|((window, names), beginning)| {
        let mut parts = window.parts.to_vec();
        let named = match &rest {
            Some(rest) => {
                fill(&mut parts, &|i| format!("{{{NAME}}}{}", rest[i]), None);
                Named { parameter: NAME, value: Value::Str(beginning) }
            }
            None => {
                let list = NAMES[1];
                fill(&mut parts, &|i| format!("{{{list}[{i}]}}"), Some(list));
                let values = names.iter().cloned().map(Value::Str).collect();
                Named { parameter: list, value: Value::List(values) }
            }
        };
        let mut inner = HashMap::new();
        weight_labels(window.parts, "", &mut inner);
        let mut inner: Vec<(NodeId, String)> = inner.into_iter().collect();
        inner.sort_unstable();
        let found = Found { original: window.parts.to_vec(), names: Some(named), inner: Some(inner) };
        Part::Scope { label: vec![], parts, entry: window.entry, found: Some(found) }
    });
    Some(made.collect())
}

/// How many labels come before those of a residual's skip, where no others follow; else of all.
fn names_before_skip(parts: &[Part]) -> usize {
    match parts {
        [Part::Join { kind: Join::Residual, branches, .. }] => names(&branches[0]).len(),
        [Part::Join { kind: Join::Residual, branches, .. }, next] if is_activation(next) => names(&branches[0]).len(),
        _ => names(parts).len(),
    }
}

/// Puts expressions in the places of labels. `list` is what they are parts of, where they are.
fn fill(parts: &mut [Part], text: &dyn Fn(usize) -> String, list: Option<&str>) {
    let mut next = 0;
    each_place(parts, &mut |place| match place {
        Place::Label(label) => {
            *label = vec![text(next)];
            next += 1;
        }
        Place::Argument(slot) => {
            let Slot::Value(value) = &*slot else { return };
            let count = texts(value).len();
            let of_list = matches!(value, Value::List(_));
            let all: Vec<String> = (next..next + count).map(|i| format!("\"{}\"", text(i))).collect();
            *slot = Slot::Text(match (list, of_list) {
                (Some(list), true) => format!("{list}[{next}..{}]", next + count),
                (Some(list), false) => format!("{list}[{next}]"),
                (None, true) => format!("[{}]", all.join(", ")),
                (None, false) => all.concat(),
            });
            next += count;
        }
    });
}

/// What labels begin with, to the end of a word.
fn beginning(names: &[String]) -> String {
    let Some((first, others)) = names.split_first() else { return String::new() };
    if others.is_empty() {
        return first.clone();
    }
    let shared = |other: &String| first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let most = others.iter().map(shared).min().unwrap_or(0);
    let is_end = |at: &usize| {
        let ends = |name: &String| name[*at..].starts_with(['_', '.', '-', '/']);
        first.is_char_boundary(*at) && names.iter().all(|n| n.is_char_boundary(*at) && ends(n))
    };
    first[..(0..=most).rev().find(is_end).unwrap_or(0)].to_string()
}
