//! Whether losses and weights have anything to do with one another.

use std::collections::{BTreeSet, HashSet};

use super::{Draft, Elaborator};
use crate::diagnostic::{Diagnostic, Span};
use crate::elaborate::expression::some_of;
use crate::ir::NodeId;
use crate::recipe::TrainingStep;
use crate::weights::WeightId;

impl Elaborator<'_> {
    /// A loss that depends on nothing that its step trains cannot become smaller.
    pub(super) fn check_reach(&mut self, draft: &Draft, trained: &[WeightId]) {
        let trained: BTreeSet<WeightId> = trained.iter().copied().collect();
        if trained.is_empty() {
            let message = format!("nothing is left to train in {}", draft.name);
            let diagnostic = Diagnostic::error("nothing-trained", message).primary(draft.span, "all is frozen");
            self.report.add(diagnostic.help("leave something out of `freeze`"));
            return;
        }
        let mut reached: HashSet<NodeId> = HashSet::new();
        for id in self.graph.order() {
            let reads_trained = self.graph.weights_read(id).iter().any(|weight| trained.contains(weight));
            if reads_trained || self.graph.operands(id).iter().any(|operand| reached.contains(operand)) {
                reached.insert(id);
            }
        }
        let dead: Vec<Span> =
            draft.losses.iter().filter(|(loss, _)| !reached.contains(&loss.node)).map(|(_, span)| *span).collect();
        for span in dead {
            let message = format!("this loss depends on no weight that the step of {} trains", draft.name);
            let diagnostic = Diagnostic::error("unreachable-loss", message).primary(span, "cannot become smaller");
            self.report.add(diagnostic.help("leave it out, or call the model that is trained in it"));
        }
    }

    /// Warns of weights that are to be trained and that no loss depends on.
    pub(super) fn warn_unreached(&mut self, steps: &[TrainingStep]) {
        for step in steps {
            let mut needed: HashSet<NodeId> = step.losses.iter().map(|loss| loss.node).collect();
            let mut weights: HashSet<WeightId> = HashSet::new();
            for id in self.graph.order().into_iter().rev() {
                if needed.contains(&id) {
                    needed.extend(self.graph.operands(id));
                    weights.extend(self.graph.weights_read(id));
                }
            }
            let unreached: Vec<String> = step
                .trained
                .iter()
                .filter(|weight| !weights.contains(weight))
                .map(|&weight| self.graph.weights.get(weight).name.clone())
                .collect();
            if let (false, Some(location)) = (unreached.is_empty(), &step.location) {
                let message = format!("no loss of {} depends on {}", step.name, some_of(&unreached));
                let diagnostic = Diagnostic::warning("unreached-weights", message);
                self.report.add(
                    diagnostic.primary(location.span, "this step").help("they stay as they are: `freeze` says so"),
                );
            }
        }
    }

    /// Warns of auxiliary heads that no loss takes.
    pub(super) fn unjoined_heads(&mut self) {
        let state = self.training.as_ref().expect("a block is evaluated");
        let mut dead: Vec<(Span, String)> = vec![];
        for (output, heads) in &state.heads {
            let is_lost = |node: &NodeId| !state.joined.contains(node) && self.graph.users(*node).is_empty();
            let lost = heads.iter().filter(|head| is_lost(&head.node) && state.joined.contains(output));
            dead.extend(lost.map(|head| (head.span, head.name.clone())));
        }
        dead.sort_by_key(|(span, _)| span.start);
        for (span, name) in dead {
            let message = format!("no loss takes the auxiliary head `{name}`: its shape is not that of the output");
            let diagnostic = Diagnostic::warning("unjoined-head", message).primary(span, "this head");
            self.report.add(diagnostic.help("give it a loss of its own by the name of its output"));
        }
    }
}
