//! Weights that PyTorch keeps in two parts.
//!
//! Weight normalisation (Salimans & Kingma 2016, arXiv:1602.07868) learns a direction and a magnitude: `w = g · v / ‖v‖`. A state
//! dict has both, since only `remove_weight_norm` makes the weight of them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Weights;
use super::entries::Entry;
use crate::tensor::Shape;

/// What the magnitude and the direction of a layer's weight are called: by `weight_norm`, and as a parametrization.
const PARTS: [[&str; 2]; 2] =
    [["weight_g", "weight_v"], ["parametrizations.weight.original0", "parametrizations.weight.original1"]];

/// The entries with the weights that parts of them make, in the place of these, where the network has such a weight. `prefixes` are
/// first words of names that the network may lack.
pub(super) fn with_weight_norm<'e>(weights: &Weights, entries: &'e [Entry], prefixes: &[&str]) -> Cow<'e, [Entry]> {
    let own = |name: &str| {
        let without = prefixes.iter().filter_map(|prefix| name.strip_prefix(prefix));
        std::iter::once(name).chain(without).find_map(|name| weights.find(name))
    };
    let by_name: HashMap<&str, &Entry> = entries.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    let (mut whole, mut used) = (HashMap::new(), HashSet::new());
    for (magnitude, [of_magnitude, of_direction]) in entries.iter().flat_map(|e| PARTS.map(|parts| (e, parts))) {
        let Some(layer) = magnitude.name.strip_suffix(of_magnitude) else { continue };
        let name = format!("{layer}weight");
        let direction = by_name.get(format!("{layer}{of_direction}").as_str()).copied();
        let is_there = own(&magnitude.name).is_some() || by_name.contains_key(name.as_str());
        let is_part = !is_there && (layer.is_empty() || layer.ends_with('.'));
        let fits = |d: &&Entry| own(&name).is_some_and(|id| weights.get(id).shape.elements() == d.shape.elements());
        let Some(direction) = direction.filter(fits).filter(|_| is_part) else { continue };
        if let Some(weight) = product(name, magnitude, direction) {
            used.extend([magnitude.name.as_str(), direction.name.as_str()]);
            whole.insert(direction.name.as_str(), weight);
        }
    }
    if whole.is_empty() {
        return entries.into();
    }
    let kept = entries.iter().filter_map(|entry| match whole.remove(entry.name.as_str()) {
        Some(weight) => Some(weight),
        None => (!used.contains(entry.name.as_str())).then(|| entry.clone()),
    });
    kept.collect::<Vec<_>>().into()
}

/// `g · v / ‖v‖`, with a norm for each element of `g`: over the axes along which `g` has one.
fn product(name: String, magnitude: &Entry, direction: &Entry) -> Option<Entry> {
    let step = steps(&magnitude.shape, &direction.shape)?;
    if !magnitude.encoding.is_float() || !direction.encoding.is_float() {
        return None;
    }
    let (g, v) = (magnitude.values()?, direction.values()?);
    let (g, v): (&[f32], &[f32]) = ((*g).as_ref(), (*v).as_ref());
    let dims = direction.shape.dims();
    let place = |mut i: usize| {
        let mut at = 0;
        for (size, step) in dims.iter().zip(&step).rev() {
            at += i % size * step;
            i /= size;
        }
        at
    };
    let mut squares = vec![0f64; g.len()];
    v.iter().enumerate().for_each(|(i, &v)| squares[place(i)] += f64::from(v) * f64::from(v));
    let factors: Vec<f64> = g.iter().zip(&squares).map(|(&g, square)| f64::from(g) / square.sqrt()).collect();
    let values = v.iter().enumerate().map(|(i, &v)| (f64::from(v) * factors[place(i)]) as f32);
    Some(Entry::of(name, direction.shape.clone(), Arc::new(values.collect::<Vec<f32>>())))
}

/// How places in `g` grow along the axes of `v`; `None` where `g` is none of `v`.
fn steps(g: &Shape, v: &Shape) -> Option<Vec<usize>> {
    if g.elements() == 0 || v.elements() == 0 {
        return None;
    }
    if g.rank() == 0 {
        return Some(vec![0; v.rank()]);
    }
    let fits = g.rank() == v.rank() && g.dims().iter().zip(v.dims()).all(|(&g, &v)| g == 1 || g == v);
    let mut due = 1;
    let mut steps: Vec<usize> = g
        .dims()
        .iter()
        .rev()
        .map(|&size| {
            let step = if size == 1 { 0 } else { due };
            due *= size;
            step
        })
        .collect();
    steps.reverse();
    fits.then_some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Init;

    fn entry(name: &str, dims: &[usize], values: &[f32]) -> Entry {
        Entry::of(name.into(), Shape::new(dims), Arc::new(values.to_vec()))
    }

    fn told(weights: &Weights, entries: &[Entry]) -> Vec<(String, Vec<f32>)> {
        let whole = with_weight_norm(weights, entries, &["model."]);
        whole.iter().map(|e| (e.name.clone(), (*e.values().unwrap()).as_ref().to_vec())).collect()
    }

    /// A network with such a weight.
    fn network(name: &str, dims: &[usize]) -> Weights {
        let mut weights = Weights::default();
        weights.declare(name, Shape::new(dims), Init::Constant(0.0), true).unwrap();
        weights
    }

    #[test]
    fn magnitudes_and_directions_make_weights() {
        let a = network("a.weight", &[2, 2, 1]);
        let bias = entry("a.bias", &[2], &[7.0, 8.0]);
        let by_output = [entry("a.weight_g", &[2, 1, 1], &[10.0, 1.0]), bias.clone()];
        let direction = |name: &str| entry(name, &[2, 2, 1], &[3.0, 4.0, 0.0, -2.0]);
        let due = vec![("a.bias".to_string(), vec![7.0, 8.0]), ("a.weight".into(), vec![6.0, 8.0, 0.0, -1.0])];
        assert_eq!(told(&a, &[&by_output[..], &[direction("a.weight_v")]].concat()), due);
        let new = [
            entry("a.parametrizations.weight.original0", &[1, 2, 1], &[3.0, 20f32.sqrt()]),
            direction("a.parametrizations.weight.original1"),
        ];
        assert_eq!(told(&a, &new), [("a.weight".to_string(), vec![3.0, 4.0, 0.0, -2.0])]);
        let whole = [entry("weight_g", &[], &[29f32.sqrt()]), direction("weight_v")];
        assert_eq!(told(&network("weight", &[2, 2, 1]), &whole), [("weight".to_string(), vec![3.0, 4.0, 0.0, -2.0])]);
    }

    #[test]
    fn what_is_no_pair_stays() {
        let a = network("a.weight", &[2, 2]);
        let names = |weights: &Weights, entries: &[Entry]| -> Vec<String> {
            told(weights, entries).into_iter().map(|(name, _)| name).collect()
        };
        let g = entry("a.weight_g", &[2, 1], &[1.0, 1.0]);
        let v = entry("a.weight_v", &[2, 2], &[1.0; 4]);
        let other = entry("a.weight_v", &[3, 2], &[1.0; 6]);
        assert_eq!(names(&a, std::slice::from_ref(&g)), ["a.weight_g"]);
        assert_eq!(names(&a, &[g.clone(), other]), ["a.weight_g", "a.weight_v"]);
        let both = [g, v];
        assert_eq!(names(&a, &both), ["a.weight"]);
        assert_eq!(names(&network("b.weight", &[2, 2]), &both), ["a.weight_g", "a.weight_v"]);
        let mut own = network("a.weight", &[2, 2]);
        own.declare("a.weight_g", Shape::new(vec![2, 1]), Init::Constant(0.0), true).unwrap();
        assert_eq!(names(&own, &both), ["a.weight_g", "a.weight_v"]);
        let named = both.map(|part| Entry { name: format!("model.{}", part.name), ..part });
        assert_eq!(names(&a, &named), ["model.a.weight"]);
        assert_eq!(names(&own, &named), ["model.a.weight_g", "model.a.weight_v"]);
    }
}
