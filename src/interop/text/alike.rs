//! When statements are alike: the same layers on the same values, whatever their sizes are.

use std::collections::{HashMap, HashSet};

use super::parts::{NAMES, Part, Slot, given, nodes, weights_from};
use super::structure::Join;
use crate::ir::{Graph, NodeId};
use crate::ops::layer::Value;

/// Equal for statements that are the same but for sizes and for residuals' skips. `entry` is the value that they work on.
pub(crate) fn key(parts: &[Part], entry: NodeId) -> String {
    Key::of(parts, entry, Detail::Labelled).text
}

/// The skips that [`key`] leaves out.
pub(crate) fn skip_key(parts: &[Part], entry: NodeId) -> String {
    Key::of(parts, entry, Detail::Labelled).skips
}

/// As [`key`], for statements whose labels do not matter.
pub(crate) fn unlabelled_key(parts: &[Part], entry: NodeId) -> String {
    Key::of(parts, entry, Detail::Unlabelled).text
}

/// Equal where [`unlabelled_key`]s may be equal, whatever stands around the statement: without the values that it names.
pub(crate) fn token(part: &Part, entry: NodeId) -> String {
    Key::of(std::slice::from_ref(part), entry, Detail::Loose).text
}

/// Equal for layers that are the same, sizes included.
pub(crate) fn exact(part: &Part) -> String {
    match part {
        Part::Layer { layer, args, .. } => format!("{layer}{args:?}"),
        _ => String::new(),
    }
}

/// Those of alike scopes that may be uses of one module: with weights of their own, or with all weights of one that has.
/// What has only some of another's weights no call can say.
pub(crate) fn same_weights<'p, T: Copy>(members: Vec<T>, parts: impl Fn(T) -> &'p [Part], graph: &Graph) -> Vec<T> {
    let of = |member: T| {
        let mut weights = vec![];
        weights_from(parts(member), graph, &mut weights);
        let own: HashSet<NodeId> = weights.iter().map(|(node, _)| *node).collect();
        // What is shared within is the same in every use.
        weights.retain(|(_, shares)| shares.is_none_or(|other| !own.contains(&other)));
        weights
    };
    let all: Vec<Vec<(NodeId, Option<NodeId>)>> = members.iter().map(|&m| of(m)).collect();
    let is_own = |weights: &[(NodeId, Option<NodeId>)]| weights.iter().all(|(_, shares)| shares.is_none());
    let nodes = |weights: &[(NodeId, Option<NodeId>)]| weights.iter().map(|(node, _)| *node).collect::<Vec<_>>();
    let holders: HashSet<Vec<NodeId>> = all.iter().filter(|w| is_own(w)).map(|w| nodes(w)).collect();
    let read = |weights: &[(NodeId, Option<NodeId>)]| weights.iter().map(|(_, shares)| *shares).collect();
    let fits = |weights: &[(NodeId, Option<NodeId>)]| {
        let others: Option<Vec<NodeId>> = read(weights);
        is_own(weights) || others.is_some_and(|others| holders.contains(&others))
    };
    members.into_iter().zip(&all).filter(|(_, weights)| fits(weights)).map(|(member, _)| member).collect()
}

/// What a key tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Labelled,
    /// Whether there is a label, but not which.
    Unlabelled,
    /// Nor what is named.
    Loose,
}

struct Key {
    detail: Detail,
    places: HashMap<NodeId, usize>,
    /// Values from outside, each of which is a parameter.
    given: Vec<NodeId>,
    /// The value that the block at hand begins with.
    entry: NodeId,
    text: String,
    skips: String,
}

impl Key {
    fn of(parts: &[Part], entry: NodeId, detail: Detail) -> Self {
        let places = nodes(parts).into_iter().enumerate().map(|(i, n)| (n, i)).collect();
        let given = given(parts, entry);
        // A use without the skip that takes a value would be one without the parameter.
        let text = if detail == Detail::Loose { String::new() } else { format!("{} ", given.len()) };
        let mut key = Key { detail, places, given, entry, text, skips: String::new() };
        key.block(parts, entry);
        key
    }

    fn block(&mut self, parts: &[Part], entry: NodeId) {
        let outer = std::mem::replace(&mut self.entry, entry);
        self.text.push('{');
        parts.iter().for_each(|p| self.part(p));
        self.text.push('}');
        self.entry = outer;
    }

    fn label(&mut self, label: &[String]) {
        match self.detail {
            Detail::Labelled => self.text += &label.join("."),
            _ if !label.is_empty() => self.text.push('l'),
            _ => {}
        }
        self.text.push(':');
    }

    /// Whose weights a statement has, where these are within. Whether others outside fit is for [`same_weights`] to say.
    fn shared(&mut self, shares: Option<NodeId>) {
        if self.detail != Detail::Loose
            && let Some(place) = shares.and_then(|other| self.places.get(&other))
        {
            self.text += &format!("shares @{place}");
        }
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::Layer { label, layer, args, operands, shares, .. } => {
                self.label(label);
                self.text += layer;
                self.text.push('(');
                args.iter().for_each(|(name, slot)| self.argument(name, slot));
                operands.iter().for_each(|slot| self.reference(slot));
                self.text.push(')');
                self.shared(*shares);
            }
            Part::Call { label, module, args, shares, .. } => {
                self.label(label);
                self.text += &format!("#{module}(");
                args.iter().for_each(|(name, slot)| self.argument(name, slot));
                self.text.push(')');
                self.shared(*shares);
            }
            Part::Join { kind: Join::Residual, branches, entry, .. } => {
                self.text += "residual";
                self.block(&branches[0], *entry);
                if !branches[1].is_empty() {
                    let text = std::mem::take(&mut self.text);
                    self.block(&branches[1], *entry);
                    let skip = std::mem::replace(&mut self.text, text);
                    self.skips += &format!("{}{skip}", self.text.len());
                }
            }
            Part::Join { kind: Join::Branches(word), branches, entry, .. } => {
                self.text += word;
                branches.iter().for_each(|b| self.block(b, *entry));
            }
            Part::Scope { label, parts, .. } => {
                self.label(label);
                self.block(parts, self.entry);
            }
            Part::From(slot) => {
                self.text += "from";
                self.reference(slot);
            }
            Part::Output { name, .. } => self.text += name,
        }
    }

    /// Sizes may differ; words, numbers with a point and lists may not. Names are what labels are.
    fn argument(&mut self, name: &str, slot: &Slot) {
        self.text += name;
        match slot {
            Slot::Value(Value::Int(_) | Value::Tuple(_)) => self.text.push(','),
            Slot::Value(names) if NAMES.contains(&name) && self.detail != Detail::Labelled => {
                let count = if let Value::List(names) = names { names.len() } else { 1 };
                self.text += &format!("{count},");
            }
            Slot::Node(_) => self.reference(slot),
            Slot::Value(value) => self.text += &format!("={value},"),
            Slot::Text(text) => self.text += &format!("={text},"),
            Slot::Here => {}
        }
    }

    /// Values within, by their place; those from outside, by their number.
    fn reference(&mut self, slot: &Slot) {
        match slot {
            Slot::Node(_) if self.detail == Detail::Loose => self.text += "@,",
            Slot::Node(node) if *node == self.entry => self.text += "@in,",
            Slot::Node(node) => match self.places.get(node) {
                Some(place) => self.text += &format!("@{place},"),
                None => {
                    let number = self.given.iter().position(|given| given == node);
                    self.text += &format!("@given{number:?},");
                }
            },
            other => self.text += &format!("{other:?},"),
        }
    }
}
