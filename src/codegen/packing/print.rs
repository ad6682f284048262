//! Packings as text: those of a plan for `netc ir --stage packing`, one by one for tests.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::super::Generated;
use super::{Affine, BatchNorm, Fill, Packing, Part, Starts, Walk, Winograd};
use crate::ir::Graph;
use crate::plan::conv::Points;
use crate::weights::WeightId;

/// For each step that reads packed weights: what they take, the weights that they are made of, a line for each
/// part. A step that reads another's is said to.
pub(crate) fn print(generated: &Generated, graph: &Graph) -> String {
    let mut text = format!("packing @{} {{\n", graph.name);
    for (step, packing) in generated.packing_of.iter().enumerate() {
        let Some(packing) = *packing else { continue };
        let first = generated.packing_of.iter().position(|&p| p == Some(packing)).expect("the step itself has it");
        let name = print_step(generated, graph, step);
        let _ = match first == step {
            true => write!(text, "{name}: {}", print_packing(&generated.packings[packing], graph)),
            false => writeln!(text, "{name}: as step {first}"),
        };
    }
    text + &print_total(generated, graph) + "}\n"
}

fn print_step(generated: &Generated, graph: &Graph, index: usize) -> String {
    let step = &generated.plan.steps[index];
    let node = graph.node(step.node);
    let op = node.op().map_or("input", |op| op.name());
    format!("  {index:3} {op} {} [{}]", node.name.as_deref().unwrap_or(""), step.kernel.describe())
}

fn print_packing(packing: &Packing, graph: &Graph) -> String {
    let mut text = format!("{} bytes at {}\n", packing.bytes(), packing.offset);
    for (index, &id) in packing.weights.iter().enumerate() {
        let weight = graph.weights.get(id);
        let _ = writeln!(text, "        weight {index} is @{} : {}", weight.name, weight.shape);
    }
    packing.to_string().lines().for_each(|line| text += &format!("        {line}\n"));
    text
}

/// What all packings take beside what the weights do: kernels may want channels that fill up blocks, and
/// transformed filters are larger.
fn print_total(generated: &Generated, graph: &Graph) -> String {
    let weights: BTreeSet<WeightId> = generated.packings.iter().flat_map(|p| p.weights.iter().copied()).collect();
    let stored: usize = weights.iter().map(|&id| graph.weights.get(id).shape.bytes()).sum();
    let (count, bytes) = (generated.packings.len(), generated.weight_bytes);
    format!("  total {bytes} bytes in {count} packings, made of {stored} bytes of weights\n")
}

/// A line for each part.
impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            writeln!(f, "{part}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}] = ", self.element, self.elements)?;
        match &self.fill {
            Fill::Zeros => write!(f, "zeros"),
            Fill::Copy { weight, walk } => write!(f, "weight {weight}: {walk}"),
            Fill::Copies(walks) => {
                for (i, (weight, walk)) in walks.iter().enumerate() {
                    write!(f, "{}weight {weight}: {walk}", if i == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Fill::Filters { weight, walks } => {
                write!(f, "filters of weight {weight}")?;
                for (i, walk) in walks.iter().enumerate() {
                    write!(f, "{} {walk}", if i == 0 { ":" } else { ";" })?;
                }
                Ok(())
            }
            Fill::Winograd(w) => {
                let Winograd {
                    m,
                    taps,
                    stride,
                    points,
                    weight,
                    filters,
                    inputs,
                    input_step,
                    channels,
                    together,
                    element_step,
                } = w;
                write!(f, "winograd{m} of {taps}x{taps} stride {stride} of weight {weight}: ")?;
                if *points == Points::Complex {
                    write!(f, "complex points, ")?;
                }
                if *together > 1 {
                    write!(f, "by {together} ")?;
                }
                write!(f, "{inputs} inputs ({input_step} -> {channels}), elements -> {element_step}, filters {filters}")
            }
            Fill::BatchNorm(BatchNorm { which, channels, affine, eps }) => {
                let which = if *which == Affine::Factor { "factor" } else { "term" };
                let weights = if *affine { "weights 0 to 3" } else { "weights 0 and 1" };
                write!(f, "{which} of the normalization of {channels} channels by {weights}, eps {eps:e}")
            }
            Fill::Starts(Starts { weight, zeros, channels, rows, columns, .. }) => {
                let (rows, columns) = (rows.sets.len(), columns.sets.len());
                let zero = zeros.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
                write!(
                    f,
                    "-{zero} times sums of weight {weight}, of {channels} channels, {rows}x{columns} sets of taps"
                )
            }
            Fill::Words(_) => write!(f, "words"),
        }
    }
}

/// `from -> to`, then each loop as `count (step in the weight -> step in the part)`.
impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)?;
        self.loops.iter().try_for_each(|l| write!(f, ", {} ({} -> {})", l.count, l.from, l.to))
    }
}
