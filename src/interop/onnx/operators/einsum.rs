//! Einstein sums: products of values over named axes, as matrix products, products of elements and sums.
//!
//! Terms are joined from left to right. Of two terms, an axis that both have is one of the matrices' batch where something
//! still needs it, else it is summed over; what one of them has alone becomes rows or columns:
//!
//! ```text
//! bchw,bdhw->bcd     [b, c, hw] · [b, hw, d]
//! bchw,dc->bdhw      a 1×1 convolution, where the second is known
//! ```

use super::elementwise;
use super::linear::times_known;
use super::pool::reduce_axes;
use super::shape::reshaped;
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ops::MatMul;
use crate::ops::binary::BinaryKind;
use crate::ops::reduce::ReduceKind;

/// An axis' name: a letter, or the place of an axis that dots stand for, counted from the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    /// The first is the largest, so that these stand in order, before all letters.
    Dots(std::cmp::Reverse<usize>),
    Letter(char),
}

/// A value, and the names of its axes.
struct Term {
    view: View,
    labels: Vec<Label>,
}

impl Term {
    fn place(&self, label: Label) -> Option<usize> {
        self.labels.iter().position(|&own| own == label)
    }

    fn has(&self, label: Label) -> bool {
        self.labels.contains(&label)
    }

    /// With its axes in that order, which names each once.
    fn arranged(&self, labels: &[Label]) -> Term {
        let perm: Vec<usize> = labels.iter().filter_map(|&label| self.place(label)).collect();
        Term { view: self.view.transposed(&perm), labels: labels.to_vec() }
    }
}

pub(crate) fn einsum(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let equation: String = call.string("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_string(), Some(right.to_string())),
        None => (equation.clone(), None),
    };
    let words: Vec<&str> = left.split(',').collect();
    if words.len() != call.inputs.len() || words.len() > 8 {
        return Err(format!("`{equation}` does not name the axes of its {} inputs", call.inputs.len()));
    }
    let mut terms = vec![];
    for (i, word) in words.iter().enumerate() {
        let view = draft.view(call, i)?;
        let labels = labels(word, view.rank())?;
        terms.push(Term { view, labels });
    }
    let output = match right {
        Some(right) => {
            let dots = terms.iter().flat_map(|t| &t.labels).filter(|l| matches!(l, Label::Dots(_)));
            let mut dots: Vec<Label> = dots.copied().collect();
            dots.sort_unstable();
            dots.dedup();
            output_labels(&right, &dots)?
        }
        None => once(&terms),
    };
    let all: Vec<Label> = terms.iter().flat_map(|t| t.labels.clone()).collect();
    if let Some(odd) = (0..output.len()).find(|&i| output[..i].contains(&output[i]) || !all.contains(&output[i])) {
        return Err(format!("axis {odd} of the result of `{equation}` is none of its terms', or is there twice"));
    }
    let mut plain = vec![];
    for term in terms {
        plain.push(diagonal(draft, term)?);
    }
    squeeze(draft, &mut plain);
    let mut later = plain;
    let mut result = later.remove(0);
    let mut known: Vec<Option<&Array>> = (1..call.inputs.len()).map(|i| call.known(i).ok().flatten()).collect();
    while !later.is_empty() {
        let (second, array) = (later.remove(0), known.remove(0));
        let needed = |label: Label| output.contains(&label) || later.iter().any(|t| t.has(label));
        let first = summed(draft, result, |label| needed(label) || second.has(label))?;
        let second = summed(draft, second, |label| needed(label) || first.has(label))?;
        result = product(draft, &first, &second, array, needed)?;
    }
    let result = summed(draft, result, |label| output.contains(&label))?;
    Ok(vec![Value::Data(aligned(&result, &output))])
}

/// The names of a term's axes, dots among them.
fn labels(word: &str, rank: usize) -> Result<Vec<Label>, String> {
    let (before, after) = word.split_once("...").unwrap_or((word, ""));
    let letters = |text: &str| text.chars().map(Label::Letter).collect::<Vec<_>>();
    let (before, after) = (letters(before), letters(after));
    let odd = |l: &Label| matches!(l, Label::Letter(c) if !c.is_ascii_alphabetic());
    let dots = rank.checked_sub(before.len() + after.len()).filter(|&dots| dots == 0 || word.contains("..."));
    let (Some(dots), None) = (dots, before.iter().chain(&after).find(|l| odd(l))) else {
        return Err(format!("`{word}` names no {rank} axes"));
    };
    let dots = (0..dots).rev().map(|i| Label::Dots(std::cmp::Reverse(i)));
    Ok(before.into_iter().chain(dots).chain(after).collect())
}

fn output_labels(word: &str, dots: &[Label]) -> Result<Vec<Label>, String> {
    let count = if word.contains("...") { dots.len() } else { 0 };
    labels(word, word.replace("...", "").chars().count() + count)
}

/// The result's axes where the equation does not say: those of dots, then what is there once, in order.
fn once(terms: &[Term]) -> Vec<Label> {
    let mut all: Vec<Label> = terms.iter().flat_map(|t| t.labels.clone()).collect();
    all.sort_unstable();
    let count = |label: Label| all.iter().filter(|&&other| other == label).count();
    let mut labels: Vec<Label> =
        all.iter().copied().filter(|&label| matches!(label, Label::Dots(_)) || count(label) == 1).collect();
    labels.dedup();
    labels
}

/// A term that names an axis twice: what lies on the diagonal.
fn diagonal(draft: &mut Draft, mut term: Term) -> Result<Term, String> {
    while let Some(second) = (1..term.labels.len()).find(|&i| term.labels[..i].contains(&term.labels[i])) {
        let first = term.place(term.labels[second]).expect("it is there twice");
        let dims = draft.dims(&term.view);
        if dims[first] != dims[second] {
            return Err(format!("one name for axes of {} and {}", dims[first], dims[second]));
        }
        let size = dims[first];
        draft.reserve(size.saturating_mul(size))?;
        let ones = (0..size * size).map(|i| f32::from(u8::from(i / size == i % size))).collect();
        let mut shape = vec![1; dims.len()];
        (shape[first], shape[second]) = (size, size);
        let mask = Array::floats(shape, ones);
        let masked = elementwise::with_known(draft, BinaryKind::Mul, &term.view, &mask, false, false)?;
        let sum = reduce_axes(draft, &masked, ReduceKind::Sum, &[second])?;
        term.labels.remove(second);
        term.view = sum.without(&[second]);
    }
    Ok(term)
}

/// Drops axes of size 1 that are larger in another term: they repeat there.
fn squeeze(draft: &Draft, terms: &mut [Term]) {
    let sizes: Vec<Vec<usize>> = terms.iter().map(|t| draft.dims(&t.view)).collect();
    let largest = |label: Label, terms: &[Term]| {
        let own = terms.iter().zip(&sizes).filter_map(|(t, s)| t.place(label).map(|place| s[place]));
        own.max().unwrap_or(1)
    };
    let gone: Vec<Vec<usize>> = terms
        .iter()
        .zip(&sizes)
        .map(|(t, s)| (0..s.len()).filter(|&i| s[i] == 1 && largest(t.labels[i], terms) > 1).collect())
        .collect();
    for (term, gone) in terms.iter_mut().zip(gone) {
        term.view = term.view.without(&gone);
        let mut place = 0..;
        term.labels.retain(|_| !gone.contains(&place.next().expect("endless")));
    }
}

/// The sum over the axes that nobody needs.
fn summed(draft: &mut Draft, term: Term, needed: impl Fn(Label) -> bool) -> Result<Term, String> {
    let gone: Vec<usize> = (0..term.labels.len()).filter(|&i| !needed(term.labels[i])).collect();
    if gone.is_empty() {
        return Ok(term);
    }
    let sum = reduce_axes(draft, &term.view, ReduceKind::Sum, &gone)?;
    let labels = term.labels.iter().copied().filter(|&label| needed(label)).collect();
    Ok(Term { view: sum.without(&gone), labels })
}

/// The product of two terms, summed over the axes of both that nobody needs later.
fn product(
    draft: &mut Draft,
    first: &Term,
    second: &Term,
    array: Option<&Array>,
    needed: impl Fn(Label) -> bool,
) -> Result<Term, String> {
    let dims = [first, second].map(|term| draft.dims(&term.view));
    let size = |label: Label| {
        let own = [first, second].into_iter().zip(&dims).filter_map(|(t, d)| t.place(label).map(|place| d[place]));
        own.max().unwrap_or(1)
    };
    for &label in first.labels.iter().filter(|&&label| second.has(label)) {
        let [a, b] = [0, 1].map(|i| dims[i][[first, second][i].place(label).expect("both have it")]);
        if a != b {
            return Err(format!("one name for axes of {a} and {b}"));
        }
    }
    let pick = |of: &Term, keep: &dyn Fn(Label) -> bool| of.labels.iter().copied().filter(|&l| keep(l)).collect();
    let shared: Vec<Label> = pick(first, &|l| second.has(l) && needed(l));
    let inner: Vec<Label> = pick(first, &|l| second.has(l) && !needed(l));
    let rows: Vec<Label> = pick(first, &|l| !second.has(l));
    let columns: Vec<Label> = pick(second, &|l| !first.has(l));
    if inner.is_empty() {
        return multiplied(draft, first, second);
    }
    let sizes = |labels: &[Label]| labels.iter().map(|&label| size(label)).collect::<Vec<usize>>();
    let count = |labels: &[Label]| sizes(labels).iter().product::<usize>();
    if let (Some(array), true) = (array.filter(|a| a.rank() == second.labels.len()), shared.is_empty()) {
        // Images with their channels last are what 1×1 convolutions are known by.
        let perm: Vec<usize> = inner.iter().chain(&columns).filter_map(|&label| second.place(label)).collect();
        let matrix = draft.transposed(array, &perm).reshaped([count(&inner), count(&columns)]);
        let left = first.arranged(&[&rows[..], &inner].concat());
        let left = match inner.len() {
            1 => left.view,
            _ => reshaped(draft, &left.view, &[&sizes(&rows)[..], &[count(&inner)]].concat())?,
        };
        let result = times_known(draft, &left, &matrix)?;
        let view = match columns.len() {
            1 => result,
            _ => reshaped(draft, &result, &[sizes(&rows), sizes(&columns)].concat())?,
        };
        return Ok(Term { view, labels: [rows, columns].concat() });
    }
    let left = first.arranged(&[&shared[..], &rows, &inner].concat());
    let right = second.arranged(&[&shared[..], &inner, &columns].concat());
    let lead = sizes(&shared);
    let left = reshaped(draft, &left.view, &[&lead[..], &[count(&rows), count(&inner)]].concat())?;
    let right = reshaped(draft, &right.view, &[&lead[..], &[count(&inner), count(&columns)]].concat())?;
    let (left, right) = (draft.in_order(&left)?, draft.in_order(&right)?);
    let result = View::whole(draft.add(MatMul {}, &[left, right], vec![])?, lead.len() + 2);
    let view = reshaped(draft, &result, &[lead, sizes(&rows), sizes(&columns)].concat())?;
    Ok(Term { view, labels: [shared, rows, columns].concat() })
}

/// The product element by element, of axes that either has.
fn multiplied(draft: &mut Draft, first: &Term, second: &Term) -> Result<Term, String> {
    let mut labels = first.labels.clone();
    labels.extend(second.labels.iter().copied().filter(|&label| !first.has(label)));
    let (a, b) = (aligned(first, &labels), aligned(second, &labels));
    Ok(Term { view: elementwise::join(draft, BinaryKind::Mul, &a, &b)?, labels })
}

/// The term's axes in that order, those that it lacks of size 1.
fn aligned(term: &Term, labels: &[Label]) -> View {
    let own: Vec<Label> = labels.iter().copied().filter(|&label| term.has(label)).collect();
    let new: Vec<usize> = (0..labels.len()).filter(|&i| !term.has(labels[i])).collect();
    term.arranged(&own).view.with_new(&new)
}
