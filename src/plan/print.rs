//! The plan as text, for `netc ir --stage plan`.

use std::fmt::{self, Write};

use super::conv::Family;
use super::{Algorithm, BufferId, Layout, Place, Plan, Step, View};
use crate::ir::Graph;
use crate::tensor::Element;

impl Algorithm {
    /// The algorithm's name, as `--algo` takes it.
    pub fn name(&self) -> String {
        match self {
            Algorithm::Convert => "convert".into(),
            Algorithm::Gather(_) => "gather".into(),
            Algorithm::Direct(d) => d.name(),
            Algorithm::Winograd(w) => w.name(),
            Algorithm::Depthwise(d) => d.name(),
            Algorithm::Grouped(g) => g.name(),
            Algorithm::PartialSums(_) => "partial_sums".into(),
            Algorithm::JoinParts(_) => "join_parts".into(),
            Algorithm::Updates(_) => "updates".into(),
            Algorithm::Plain => "plain".into(),
        }
    }

    /// Outputs along each axis of a Winograd tile; 0 of other kernels.
    pub fn tile(&self) -> usize {
        if let Algorithm::Winograd(w) = self { w.m } else { 0 }
    }

    /// How the kernel's weights are packed, as far as that is its choice: of one layer, kernels of the same are packed alike.
    pub fn packing(&self) -> String {
        match self {
            Algorithm::Direct(d) => format!("{} {}", self.name(), d.blocks),
            Algorithm::Winograd(w) => format!("{} {}", self.name(), w.blocks),
            _ => self.name(),
        }
    }

    /// The algorithm with its choices: `direct 14x2`.
    pub fn describe(&self) -> String {
        match self {
            Algorithm::Direct(d) => d.describe(),
            Algorithm::Winograd(w) => w.describe(),
            Algorithm::Updates(updates) if updates.len() > 1 => format!("{} updates", updates.len()),
            Algorithm::Updates(_) => "update".into(),
            other => other.name(),
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Input(i) => write!(f, "in{i}")?,
            Place::Output(i) => write!(f, "out{i}")?,
            Place::Buffer(BufferId(b)) => write!(f, "b{b}")?,
            Place::State(s) => write!(f, "s{s}")?,
        }
        if self.offset > 0 {
            write!(f, "+{}", self.offset)?;
        }
        let layout = if self.layout == Layout::Plain { "plain" } else { "blocked" };
        let of = match self.shape.element() {
            Element::F32 => String::new(),
            element => format!(" {element}"),
        };
        write!(f, ":{layout}{of}{:?}", self.shape.dims())
    }
}

/// The whole plan: one line a step, then the buffers.
pub(crate) fn print(plan: &Plan, graph: &Graph) -> String {
    let mut text = String::new();
    let mut line = |args: fmt::Arguments<'_>| {
        let _ = text.write_fmt(args);
        text.push('\n');
    };
    let strict = if plan.strict { " strict" } else { "" };
    line(format_args!("plan @{} lanes={}{strict} {{", graph.name, plan.unit.lanes));
    for (i, step) in plan.steps.iter().enumerate() {
        line(format_args!("  {}", print_step(i, step, graph)));
    }
    line(format_args!("  arena {} bytes, lower bound {}", plan.arena_bytes, plan.arena_lower_bound));
    for (i, b) in plan.buffers.iter().enumerate() {
        line(format_args!("  b{i}: {} bytes at {}, steps {}..={}", b.bytes, b.offset, b.first, b.last));
    }
    for (i, state) in plan.states.iter().enumerate() {
        let weight = graph.weights.get(state.weight);
        line(format_args!("  s{i}: @{} {} at {}", weight.name, weight.shape, state.offset));
    }
    line(format_args!("}}"));
    text
}

fn print_step(index: usize, step: &Step, graph: &Graph) -> String {
    let node = graph.node(step.node);
    let views = |views: &[View]| views.iter().map(View::to_string).collect::<Vec<_>>().join(", ");
    let op = node.op().map_or("input", |op| op.name());
    let name = node.name.as_deref().unwrap_or("");
    let mut reads = views(&step.inputs);
    if !step.parameters.is_empty() {
        reads = format!("{reads}; {}", views(&step.parameters));
    }
    let with = step.temporary.map(|BufferId(b)| format!(" with b{b}")).unwrap_or_default();
    let mut text = format!(
        "{index:3} {op} {name} [{}] {} -> {}{with} ~{:.1} us",
        step.kernel.describe(),
        reads,
        views(&step.outputs),
        step.estimate_ns / 1e3
    );
    for (other, ns) in &step.alternatives {
        let _ = write!(text, ", {other} {:.1} us", ns / 1e3);
    }
    for note in &step.notes {
        let _ = write!(text, "; {note}");
    }
    if let Some(location) = &node.location {
        let _ = write!(text, "  // {location}");
    }
    text
}
