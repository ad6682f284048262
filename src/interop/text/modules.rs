//! Repeated statements become modules with parameters.
//!
//! Scopes that hold the same statements but for some sizes are uses of one module. What differs
//! between them is a parameter, or an expression of parameters and of `in.channels`, and so is a value beside the flow that
//! each takes; a skip that some residuals have and others do not stands in an `if`. A use has weights of its own, or all those of one that has, which
//! it then says it `shares`. The innermost scopes come first, so that modules are made of modules. Scopes that stand alone
//! vanish.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::alike::{exact, key, same_weights, skip_key};
use super::naming;
use super::parameters::{self, Instance, Parameter};
use super::parts::{Found, Named, Part, Slot, given, name_given, nodes, references, weights_from, within};
use super::repeats::Repeats;
use crate::ir::{Graph, NodeId};
use crate::ops::layer::Value;

/// A part of the network that is used more than once.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    pub name: String,
    /// What it is, in a sentence.
    pub doc: String,
    pub params: Vec<(String, Option<Value>)>,
    pub body: Vec<Part>,
    /// The value that the body works on, of the use that it was made of.
    pub entry: NodeId,
}

/// A network's modules, those used by others first, and its own statements.
#[derive(Clone, Debug)]
pub(crate) struct Lifted {
    pub modules: Vec<Module>,
    pub body: Vec<Part>,
}

/// Lifts what repeats: first what names set apart, then what is found to. `made_up` are labels that nobody chose.
pub(crate) fn lift(parts: Vec<Part>, graph: &Graph, made_up: &HashSet<String>) -> Lifted {
    let mut lifted = Lifted { modules: vec![], body: parts };
    lift_scopes(&mut lifted, graph);
    let mut repeats = Repeats::new(&lifted.body, graph, made_up);
    while repeats.wrap(&mut lifted.body, &lifted.modules) {
        lift_scopes(&mut lifted, graph);
    }
    repeats.number_labels(&mut lifted.body, &lifted.modules);
    lifted
}

/// Turns scopes into calls of modules, from the inside out. Each round replaces all scopes that hold no scope, by calls
/// where several are alike, else by their statements: there is one level less then, and so the rounds end. Nodes and
/// their order never change, only what stands around them.
fn lift_scopes(lifted: &mut Lifted, graph: &Graph) {
    loop {
        while dissolve_small(&mut lifted.body) {}
        if !has_scope(&lifted.body) {
            break;
        }
        let mut read = HashMap::new();
        references(&lifted.body, None, &mut read);
        while absorb_followers(&mut lifted.body) {}
        let mut innermost = vec![];
        collect(&lifted.body, &mut innermost);
        let raised = raises(&innermost);
        raise(&mut lifted.body, &mut raised.into_iter());
        let mut innermost = vec![];
        collect(&lifted.body, &mut innermost);
        let uses = classify(&innermost, &read, graph);
        let mut calls: Vec<Option<Use>> = innermost.iter().map(|_| None).collect();
        for members in uses {
            let scopes: Vec<&Scope> = members.iter().map(|&m| &innermost[m]).collect();
            let (module, made) = form(&scopes, &lifted.modules, graph);
            lifted.modules.push(module);
            let id = lifted.modules.len() - 1;
            for (member, args) in members.into_iter().zip(made) {
                let inner = inner_labels(&innermost[member], &lifted.modules[id]);
                let shares = shares(innermost[member].parts, graph);
                calls[member] = Some(Use { module: id, args, inner, shares });
            }
        }
        drop(innermost);
        let mut calls = calls.into_iter();
        lifted.body = replace(std::mem::take(&mut lifted.body), &mut calls);
        let mut taken = layer_labels(&lifted.body);
        rename_twins(&mut lifted.body, &mut taken);
    }
}

// ---- What follows a scope ------------------------------------------------------------------------

/// Takes in the layer without weights that stands behind every scope of a kind; whether there was any.
fn absorb_followers(body: &mut Vec<Part>) -> bool {
    let mut followers: HashMap<String, Option<String>> = HashMap::new();
    survey(body, &mut followers);
    let wanted: HashSet<String> = followers.into_iter().filter_map(|(scope, f)| f.map(|_| scope)).collect();
    take_in(body, &wanted)
}

/// What stands behind the scopes of each kind, where it is the same behind all of several.
fn survey(parts: &[Part], followers: &mut HashMap<String, Option<String>>) {
    for (i, part) in parts.iter().enumerate() {
        match part {
            Part::Scope { parts: inner, entry, found: None, .. } if !has_scope(inner) => {
                let follower = parts.get(i + 1).filter(|p| is_plain(p)).map(exact);
                followers
                    .entry(key(inner, *entry))
                    .and_modify(|f| *f = f.take().filter(|f| Some(f) == follower.as_ref()))
                    .or_insert(follower);
            }
            _ => part.blocks().into_iter().for_each(|b| survey(b, followers)),
        }
    }
}

fn take_in(parts: &mut Vec<Part>, wanted: &HashSet<String>) -> bool {
    let mut changed = false;
    for index in 0..parts.len() {
        if index >= parts.len() {
            break;
        }
        let takes = matches!(&parts[index], Part::Scope { parts: inner, entry, found: None, .. }
            if !has_scope(inner) && wanted.contains(&key(inner, *entry)));
        if takes {
            let follower = parts.remove(index + 1);
            if let Part::Scope { parts: inner, .. } = &mut parts[index] {
                inner.push(follower);
            }
            changed = true;
        } else {
            parts[index].blocks_mut().into_iter().for_each(|b| changed |= take_in(b, wanted));
        }
    }
    changed
}

/// A layer on the flow alone, without weights.
fn is_plain(part: &Part) -> bool {
    matches!(part, Part::Layer { label, operands, .. } if label.is_empty() && operands.is_empty())
}

// ---- Where a scope's label ends -----------------------------------------------------------------

/// How many parts of the labels within each scope are to be part of its own label, so that it is like
/// others: `7`, whose layers are `0.conv` and so on, becomes `7.0` beside `2.0` and `2.1`.
fn raises(scopes: &[Scope]) -> Vec<usize> {
    let keys: Vec<String> = scopes.iter().map(|s| key(s.parts, s.entry)).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    keys.iter().for_each(|k| *counts.entry(k).or_default() += 1);
    let raise = |(scope, own): (&Scope, &String)| {
        let mut labels = vec![];
        naming::labels_of(scope.parts, &mut labels);
        let alone = counts[own.as_str()] == 1 && scope.found.is_none();
        let most = if alone { naming::shared_beginning(&labels).len() } else { 0 };
        let fits = |count: &usize| {
            let mut parts = scope.parts.to_vec();
            strip(&mut parts, *count);
            counts.contains_key(key(&parts, scope.entry).as_str())
        };
        (1..=most).find(fits).unwrap_or(0)
    };
    scopes.iter().zip(&keys).map(raise).collect()
}

fn raise(parts: &mut [Part], counts: &mut impl Iterator<Item = usize>) {
    for part in parts {
        match part {
            Part::Scope { label, parts, .. } if !has_scope(parts) => {
                let count = counts.next().expect("one a scope");
                let mut labels = vec![];
                naming::labels_of(parts, &mut labels);
                label.extend_from_slice(&naming::shared_beginning(&labels)[..count]);
                strip(parts, count);
            }
            _ => part.blocks_mut().into_iter().for_each(|b| raise(b, counts)),
        }
    }
}

/// Takes the first parts off all labels.
pub(crate) fn strip(parts: &mut [Part], count: usize) {
    for part in parts {
        match part {
            Part::Layer { label, .. } | Part::Call { label, .. } if !label.is_empty() => drop(label.drain(..count)),
            _ => part.blocks_mut().into_iter().for_each(|b| strip(b, count)),
        }
    }
}

/// A use of a module in the place of a scope.
struct Use {
    module: usize,
    args: Vec<(String, Slot)>,
    inner: Vec<(NodeId, String)>,
    shares: Option<NodeId>,
}

/// Whose weights all layers of a scope have, by the first of those.
fn shares(parts: &[Part], graph: &Graph) -> Option<NodeId> {
    let mut weights = vec![];
    weights_from(parts, graph, &mut weights);
    weights.first().and_then(|(_, shares)| *shares)
}

/// An innermost scope.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'p> {
    pub label: &'p [String],
    pub parts: &'p [Part],
    pub entry: NodeId,
    pub found: Option<&'p Found>,
}

impl<'p> Scope<'p> {
    fn names(&self) -> Option<&'p Named> {
        self.found?.names.as_ref()
    }
}

fn has_scope(parts: &[Part]) -> bool {
    parts.iter().any(|p| matches!(p, Part::Scope { .. }) || p.blocks().into_iter().any(|b| has_scope(b)))
}

/// Scopes without scopes within, in the order in which [`replace`] meets them.
fn collect<'p>(parts: &'p [Part], found: &mut Vec<Scope<'p>>) {
    for part in parts {
        match part {
            Part::Scope { label, parts, entry, found: how } if !has_scope(parts) => {
                found.push(Scope { label, parts, entry: *entry, found: how.as_ref() });
            }
            _ => part.blocks().into_iter().for_each(|b| collect(b, found)),
        }
    }
}

fn replace(parts: Vec<Part>, calls: &mut impl Iterator<Item = Option<Use>>) -> Vec<Part> {
    let mut out = vec![];
    for mut part in parts {
        match part {
            Part::Scope { label, parts, found, .. } if !has_scope(&parts) => match calls.next().flatten() {
                Some(Use { module, args, inner, shares }) => {
                    let node = parts.iter().rev().find_map(Part::node).expect("a scope computes something");
                    out.push(Part::Call { label, module, args, node, inner, shares });
                }
                None => out.extend(dissolved(parts, &label, found)),
            },
            _ => {
                for block in part.blocks_mut() {
                    *block = replace(std::mem::take(block), calls);
                }
                out.push(part);
            }
        }
    }
    out
}

/// A scope that others came between is there twice, and so would be the label of its calls; layers may be called as
/// scopes are.
fn rename_twins(parts: &mut [Part], taken: &mut HashSet<Vec<String>>) {
    for part in parts {
        match part {
            Part::Call { label, .. } if !label.is_empty() => {
                let (last, mut number) = (label.last().cloned().unwrap_or_default(), 2);
                while !taken.insert(label.clone()) {
                    *label.last_mut().expect("calls have labels") = format!("{last}_{number}");
                    number += 1;
                }
            }
            // What is in another scope has another name.
            Part::Scope { parts, .. } => {
                let mut taken = layer_labels(parts);
                rename_twins(parts, &mut taken);
            }
            _ => part.blocks_mut().into_iter().for_each(|b| rename_twins(b, taken)),
        }
    }
}

/// The labels of layers outside of scopes.
fn layer_labels(parts: &[Part]) -> HashSet<Vec<String>> {
    let mut found = HashSet::new();
    for part in parts {
        match part {
            Part::Layer { label, .. } if !label.is_empty() => drop(found.insert(label.clone())),
            Part::Scope { .. } => {}
            _ => part.blocks().into_iter().for_each(|b| found.extend(layer_labels(b))),
        }
    }
    found
}

/// Dissolves the innermost scopes that are not worth a module; whether there were any.
fn dissolve_small(body: &mut Vec<Part>) -> bool {
    let mut read = HashMap::new();
    references(body, None, &mut read);
    let mut dissolve = |scope: &Scope| !is_eligible(scope, &read);
    dissolve_where(body, &mut dissolve)
}

fn dissolve_where(parts: &mut Vec<Part>, wanted: &mut impl FnMut(&Scope) -> bool) -> bool {
    let mut changed = false;
    let mut out = vec![];
    for mut part in std::mem::take(parts) {
        match part {
            Part::Scope { label, parts, entry, found }
                if !has_scope(&parts)
                    && wanted(&Scope { label: &label, parts: &parts, entry, found: found.as_ref() }) =>
            {
                out.extend(dissolved(parts, &label, found));
                changed = true;
            }
            _ => {
                part.blocks_mut().into_iter().for_each(|b| changed |= dissolve_where(b, wanted));
                out.push(part);
            }
        }
    }
    *parts = out;
    changed
}

/// A scope's statements with its label before theirs, or as they were before it was found.
fn dissolved(mut parts: Vec<Part>, scope: &[String], found: Option<Found>) -> Vec<Part> {
    if let Some(found) = found {
        return found.original;
    }
    prefix(&mut parts, scope);
    parts
}

fn prefix(parts: &mut [Part], scope: &[String]) {
    for part in parts {
        match part {
            Part::Layer { label, .. } | Part::Call { label, .. } if !label.is_empty() => {
                drop(label.splice(0..0, scope.iter().cloned()));
            }
            // What vanishes later says its own part.
            Part::Scope { label, .. } => drop(label.splice(0..0, scope.iter().cloned())),
            _ => part.blocks_mut().into_iter().for_each(|b| prefix(b, scope)),
        }
    }
}

// ---- What is alike -----------------------------------------------------------------------------

/// The scopes that are to be uses of one module, those of each module together.
fn classify(scopes: &[Scope], read: &HashMap<NodeId, usize>, graph: &Graph) -> Vec<Vec<usize>> {
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut first_of: HashMap<String, usize> = HashMap::new();
    for (i, scope) in scopes.iter().enumerate() {
        if is_eligible(scope, read) {
            let first = *first_of.entry(key(scope.parts, scope.entry)).or_insert(i);
            classes.entry(first).or_default().push(i);
        }
    }
    let alike = classes.into_values().flat_map(|members| by_skip(members, scopes));
    let alike = alike.map(|members| same_weights(members, |m| scopes[m].parts, graph));
    alike.filter(|members| members.len() > 1).collect()
}

/// A scope can be a module where it is more than a line or two, few values go in, and one comes out. What was found is
/// worth its name.
fn is_eligible(scope: &Scope, read: &HashMap<NodeId, usize>) -> bool {
    (scope.found.is_some() || is_worth_a_name(scope.parts)) && is_closed(scope, read)
}

/// Values beside the flow that a module takes: a skip, a state.
const MAX_GIVEN: usize = 2;

/// Whether few values go in and one comes out. `read` are the values that are named anywhere.
pub(crate) fn is_closed(scope: &Scope, read: &HashMap<NodeId, usize>) -> bool {
    let inside: HashSet<NodeId> = nodes(scope.parts).into_iter().collect();
    let result = scope.parts.iter().rev().find_map(Part::node);
    let mut own = HashMap::new();
    references(scope.parts, Some(scope.entry), &mut own);
    let reaches_out = given(scope.parts, scope.entry).len() > MAX_GIVEN;
    // A value that others read by its label is the module's result.
    let escapes = inside.iter().any(|n| read.get(n) != own.get(n) && Some(*n) != result);
    !escapes && !reaches_out && !puts_out(scope.parts)
}

/// Joins are; of statements in a row, a convolution with all that follows it, or many. Calls in a row
/// say what they do already.
fn is_worth_a_name(parts: &[Part]) -> bool {
    const WIDE: [&str; 3] = ["conv", "conv_transpose", "linear"];
    let has_join = parts.iter().any(|p| matches!(p, Part::Join { .. }));
    let wide = parts.iter().filter(|p| matches!(p, Part::Layer { layer, .. } if WIDE.contains(layer))).count();
    has_join || (wide > 0 && (parts.len() >= 5 || (wide == 1 && parts.len() >= 3)))
}

fn puts_out(parts: &[Part]) -> bool {
    parts.iter().any(|p| matches!(p, Part::Output { .. }) || p.blocks().into_iter().any(|b| puts_out(b)))
}

/// Splits scopes of one kind by the skips that they have; those without go with the most.
fn by_skip(members: Vec<usize>, scopes: &[Scope]) -> Vec<Vec<usize>> {
    let mut kinds: Vec<(String, Vec<usize>)> = vec![];
    let mut without = vec![];
    for member in members {
        let skips = skip_key(scopes[member].parts, scopes[member].entry);
        match kinds.iter_mut().find(|(k, _)| *k == skips) {
            _ if skips.is_empty() => without.push(member),
            Some((_, found)) => found.push(member),
            None => kinds.push((skips, vec![member])),
        }
    }
    let most = kinds.iter_mut().max_by_key(|(_, found)| found.len());
    match most {
        Some((_, found)) => {
            found.extend(without);
            found.sort_unstable();
        }
        None => kinds.push((String::new(), without)),
    }
    kinds.into_iter().map(|(_, found)| found).collect()
}

// ---- One module of several scopes --------------------------------------------------------------

/// What a value beside the flow is called in a module.
const GIVEN: &str = "other";

/// The module that the scopes are uses of, and the arguments of each use.
fn form(scopes: &[&Scope], modules: &[Module], graph: &Graph) -> (Module, Vec<Vec<(String, Slot)>>) {
    // The fullest one is the model for all: it has every skip that any has.
    let template = scopes.iter().max_by_key(|s| nodes(s.parts).len()).expect("a class has members");
    let instances: Vec<Instance> = scopes.iter().map(|s| Instance { parts: s.parts, entry: s.entry }).collect();
    let labels: Vec<&[String]> = scopes.iter().map(|s| s.label).collect();
    let (name, doc) = naming::describe(template.parts, modules, &labels);
    let mut made = parameters::find(template.parts, &instances, modules, graph);
    // Values come first: they are what a use is about.
    let values = given(template.parts, template.entry);
    let mut taken: HashSet<String> = made.params.iter().map(|p| p.name.clone()).collect();
    let mut labels = vec![];
    naming::labels_of(&made.body, &mut labels);
    taken.extend(labels.into_iter().filter_map(|label| label.into_iter().next()));
    let of_values: Vec<String> = values.iter().map(|_| naming::unique(GIVEN, &mut taken)).collect();
    name_given(&mut made.body, &values.into_iter().zip(of_values.iter().cloned()).collect());
    let of_names = template.names().map(|n| (n.parameter.to_string(), None));
    let params = made.params.iter().map(|p| (p.name.clone(), p.default.clone()));
    let params = of_values.iter().map(|name| (name.clone(), None)).chain(of_names).chain(params).collect();
    let argument = |p: &Parameter, i: usize| {
        // A use that lacks the part takes whatever the first has.
        let value = p.arguments[i].clone().or_else(|| p.default.clone());
        value.or_else(|| p.arguments.iter().flatten().next().cloned()).expect("some use has the part")
    };
    let arguments = |i: usize| {
        let values = given(scopes[i].parts, scopes[i].entry).into_iter().map(Slot::Node);
        let names = scopes[i].names().map(|n| (n.parameter.to_string(), Slot::Value(n.value.clone())));
        let sizes = made.params.iter().map(|p| (p.name.clone(), Slot::Value(argument(p, i))));
        of_values.iter().cloned().zip(values).chain(names).chain(sizes).collect()
    };
    let all = (0..scopes.len()).map(arguments).collect();
    (Module { name, doc, params, body: made.body, entry: template.entry }, all)
}

/// The nodes with weights of a scope, labelled as the module has them.
fn inner_labels(scope: &Scope, module: &Module) -> Vec<(NodeId, String)> {
    if let Some(inner) = scope.found.and_then(|found| found.inner.as_ref()) {
        return inner.clone();
    }
    let mut found = vec![];
    pair(scope.parts, &module.body, &mut found);
    found
}

fn pair(own: &[Part], body: &[Part], found: &mut Vec<(NodeId, String)>) {
    for (own, shared) in own.iter().zip(body) {
        match (own, shared) {
            (Part::Layer { node, .. }, Part::Layer { label, .. }) if !label.is_empty() => {
                found.push((*node, label.join(".")))
            }
            (Part::Call { inner, .. }, Part::Call { label, .. }) => {
                found.extend(inner.iter().map(|(n, l)| (*n, within(&label.join("."), l))));
            }
            _ => own.blocks().into_iter().zip(shared.blocks()).for_each(|(own, shared)| pair(own, shared, found)),
        }
    }
}
