//! Auxiliary classifiers help training only; at inference their outputs and all that only they
//! need go.
//!
//! ```text
//! %a  = conv2d …                              %a = conv2d …
//! %h  = linear … %a …                    ⟶    output main = …
//! output main = …
//! output aux1_logits = %h aux aux1 weight=0.3
//! ```
//!
//! Legal when: the graph is of the infer phase and has another output. Numerics: exact. Order:
//! first, so that no other pass works on what goes, and its remark counts the network as written.

use crate::ir::{Editor, Phase};

pub(crate) fn run(e: &mut Editor) {
    let heads: Vec<(String, _)> =
        e.outputs().iter().filter_map(|o| Some((o.aux.as_ref()?.label.clone(), o.node))).collect();
    if e.phase != Phase::Infer || heads.is_empty() || heads.len() == e.outputs().len() {
        return;
    }
    let locations = e.locations(&heads.iter().map(|(_, node)| *node).collect::<Vec<_>>());
    let mut labels: Vec<String> = heads.into_iter().map(|(label, _)| label).collect();
    labels.dedup();
    e.remove_outputs(|output| output.aux.is_some());
    e.remark(format!("removed {}", labels.join(", ")), locations);
}
