//! Which weights a word means, and what becomes of them: `freeze`, `no_decay`, `init`.

use std::collections::{BTreeMap, BTreeSet};

use super::clauses::Clauses;
use super::{Draft, Elaborator, Frame, words};
use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::elaborate::expression::{dotted_name, some_of};
use crate::elaborate::value::Val;
use crate::ir::NodeId;
use crate::ops::{Init, Op};
use crate::recipe::TrainingStep;
use crate::syntax::ast::*;
use crate::weights::WeightId;

/// What a word names: weights, and whether it is a label rather than a kind of layer.
struct Selection {
    weights: BTreeSet<WeightId>,
    /// Labels that it names, with the model's prefix.
    labels: Vec<String>,
}

impl<'a> Elaborator<'a> {
    /// The kind of layer that reads each weight.
    fn layers_of_weights(&self) -> BTreeMap<WeightId, &'static str> {
        let mut layers = BTreeMap::new();
        for id in self.graph.order() {
            let Some(op) = self.graph.node(id).op() else { continue };
            for weight in self.graph.weights_read(id) {
                layers.entry(weight).or_insert(op.layer_name());
            }
        }
        layers
    }

    /// The weights that a word names, among those of some models. `with_places` takes layers without weights too, whose
    /// work depends on the phase.
    fn selection(&mut self, frame: &Frame, e: &Expr, models: &[usize], with_places: bool) -> Option<Selection> {
        let name = match (&e.kind, dotted_name(e)) {
            (_, Some(name)) => name,
            (ExprKind::Label(label), _) => self.label_text(frame, label)?,
            (ExprKind::Template(_), _) if self.known(frame, e) => match self.eval(frame, e) {
                Val::Str(name) => name.to_string(),
                _ => return None,
            },
            (ExprKind::Error, _) => {
                self.report.unknown(e.span);
                return None;
            }
            _ => {
                let diagnostic = Diagnostic::error("wrong-clause", "this names no weights").primary(e.span, "a value");
                self.report.add(diagnostic.help("name layers by label or kind: `conv1, batch_norm`"));
                return None;
            }
        };
        // Each name is compared with all weights.
        if !self.step(e.span, (self.graph.len() + self.graph.weights.iter().count()) / 16) {
            return None;
        }
        let layers = self.layers_of_weights();
        let state = self.training.as_ref().expect("a block is evaluated");
        let models: Vec<_> = models.iter().map(|&m| &state.models[m]).collect();
        let mut selection = Selection { weights: BTreeSet::new(), labels: vec![] };
        for model in &models {
            selection.labels.push(format!("{}{name}", model.prefix));
            if model.name == name {
                selection.labels.push(model.prefix.trim_end_matches('.').to_string());
            }
        }
        for (id, weight) in self.graph.weights.iter() {
            if !models.iter().any(|m| weight.name.starts_with(&m.prefix)) {
                continue;
            }
            let role = weight.name.rsplit('.').next().unwrap_or("");
            let of_kind = layers.get(&id).is_some_and(|layer| *layer == name) || role == name;
            if of_kind || selection.labels.iter().any(|label| is_within(&weight.name, label)) {
                selection.weights.insert(id);
            }
        }
        let state = self.training.as_ref().expect("a block is evaluated");
        let is_place = |label: &String| state.places.values().any(|place| is_within(place, label));
        if selection.weights.is_empty() && !(with_places && selection.labels.iter().any(is_place)) {
            self.matches_nothing(&name, e.span, layers.into_values().collect());
            return None;
        }
        Some(selection)
    }

    fn matches_nothing(&mut self, name: &str, span: Span, kinds: BTreeSet<&str>) {
        if self.report.has_errors() {
            return;
        }
        let prefixes: Vec<String> = self.state().models.iter().map(|m| m.prefix.clone()).collect();
        let mut labels: BTreeSet<String> = kinds.into_iter().map(String::from).collect();
        for (_, weight) in self.graph.weights.iter() {
            let own = prefixes.iter().find_map(|p| weight.name.strip_prefix(p.as_str())).unwrap_or(&weight.name);
            let ends = own.match_indices('.').map(|(at, _)| at);
            labels.extend(ends.map(|end| own[..end].to_string()));
        }
        let diagnostic = Diagnostic::error("matches-nothing", format!("no layer with weights is called `{name}`"));
        let diagnostic = diagnostic.primary(span, "matches nothing");
        self.report.add(match nearest(name, labels.iter().map(String::as_str)) {
            Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
            None => {
                let top: Vec<String> = labels.into_iter().filter(|label| !label.contains('.')).collect();
                diagnostic.help(format!("there are {}", some_of(&top)))
            }
        });
    }

    /// The weights that stay as they are, and the labels of frozen scopes.
    pub(super) fn frozen(&mut self, frame: &Frame, common: &Clauses<'a>, drafts: &[Draft<'a>]) -> BTreeSet<WeightId> {
        let all: Vec<usize> = (0..self.state().models.len()).collect();
        let mut chosen: Vec<(&'a Expr, Vec<usize>)> = common.of("freeze").map(|e| (e, all.clone())).collect();
        for draft in drafts {
            chosen.extend(draft.clauses.of("freeze").map(|e| (e, draft.models.clone())));
        }
        let mut frozen = BTreeSet::new();
        for (e, models) in chosen {
            let Some(selection) = self.selection(frame, e, &models, true) else { continue };
            frozen.extend(selection.weights);
            self.state().frozen_labels.extend(selection.labels);
        }
        frozen
    }

    /// The weights of models that are trained.
    pub(super) fn trained(&mut self, models: &[usize], frozen: &BTreeSet<WeightId>) -> Vec<WeightId> {
        let prefixes: Vec<String> = models.iter().map(|&m| self.state().models[m].prefix.clone()).collect();
        let is_own = |name: &str| prefixes.iter().any(|p| name.starts_with(p.as_str()));
        let trained =
            self.graph.weights.iter().filter(|(id, w)| w.learnable && is_own(&w.name) && !frozen.contains(id));
        trained.map(|(id, _)| id).collect()
    }

    pub(super) fn without_decay(
        &mut self,
        frame: &Frame,
        clauses: &[&Clauses<'a>],
        models: &[usize],
    ) -> BTreeSet<WeightId> {
        let all: Vec<usize> = (0..self.state().models.len()).collect();
        let mut weights = BTreeSet::new();
        for (i, clauses) in clauses.iter().enumerate() {
            let values: Vec<&'a Expr> = clauses.of("no_decay").collect();
            for e in values {
                let models = if i == 0 { &all } else { models };
                weights.extend(self.selection(frame, e, models, false).into_iter().flat_map(|s| s.weights));
            }
        }
        weights
    }

    /// By what the learning rates of weights are multiplied; where several clauses name one, by the product.
    pub(super) fn rate_factors(
        &mut self,
        frame: &Frame,
        clauses: &[&Clauses<'a>],
        models: &[usize],
    ) -> BTreeMap<WeightId, f64> {
        let all: Vec<usize> = (0..self.state().models.len()).collect();
        let mut factors = BTreeMap::new();
        for (i, clauses) in clauses.iter().enumerate() {
            let models = if i == 0 { &all } else { models };
            for (labels, by) in &clauses.scales {
                if !self.known(frame, by) {
                    continue;
                }
                let Some((factor, _)) = self.positive_number(frame, "lr_scale", by) else { continue };
                let mut weights = BTreeSet::new();
                for label in *labels {
                    let e = Expr { kind: ExprKind::Label(label.clone()), span: label.span };
                    weights.extend(self.selection(frame, &e, models, false).into_iter().flat_map(|s| s.weights));
                }
                weights.into_iter().for_each(|weight| *factors.entry(weight).or_insert(1.0) *= factor);
            }
        }
        factors
    }

    /// Says how weights begin.
    pub(super) fn initialise(&mut self, frame: &Frame, clauses: &Clauses<'a>) {
        let all: Vec<usize> = (0..self.state().models.len()).collect();
        for (kind, value) in &clauses.inits {
            let Some(called) = self.called(frame, &words::INITS, value) else { continue };
            let chosen = match kind {
                None => self.kernels(),
                Some(label) => {
                    let e = Expr { kind: ExprKind::Label((*label).clone()), span: label.span };
                    let Some(selection) = self.selection(frame, &e, &all, false) else { continue };
                    self.of_one_role(selection.weights)
                }
            };
            for id in chosen {
                let shape = self.graph.weights.get(id).shape.clone();
                let made = words::init(called.word.name, &called.args, &shape);
                let Some(init) = self.made(&called, made) else { break };
                self.graph.weights.set_init(id, init);
            }
        }
    }

    /// The weights that begin at random: those of convolutions and linear layers.
    fn kernels(&self) -> BTreeSet<WeightId> {
        let layers = self.layers_of_weights();
        let is_kernel = |id: WeightId| layers.get(&id).is_none_or(|layer| *layer != "parameter");
        let random = self.graph.weights.iter().filter(|(_, w)| !matches!(w.init, Init::Constant(_)));
        random.map(|(id, _)| id).filter(|&id| is_kernel(id)).collect()
    }

    /// Of the weights of layers, those called `weight`; all, where there are none.
    fn of_one_role(&self, weights: BTreeSet<WeightId>) -> BTreeSet<WeightId> {
        let is_main = |id: &&WeightId| self.graph.weights.get(**id).name.rsplit('.').next() == Some("weight");
        let main: BTreeSet<WeightId> = weights.iter().filter(is_main).copied().collect();
        if main.is_empty() { weights } else { main }
    }

    /// Batch normalisations and dropouts that work as in inference: of models that no step trains, and of frozen layers.
    pub(super) fn inference(&mut self, frozen: &BTreeSet<WeightId>, steps: &[TrainingStep]) -> BTreeSet<NodeId> {
        let trained: BTreeSet<WeightId> = steps.iter().flat_map(|s| s.trained.iter().copied()).collect();
        let state = self.training.as_ref().expect("a block is evaluated");
        let untrained = |place: &str| {
            // Of several models, that one to which the place belongs; one alone is trained.
            let model = state.models.iter().find(|m| !m.prefix.is_empty() && place_is_of(place, &m.prefix));
            model.is_some_and(|m| {
                !self.graph.weights.iter().any(|(id, w)| w.name.starts_with(&m.prefix) && trained.contains(&id))
            })
        };
        let is_frozen = |id: NodeId, place: &str| {
            let reads = self.graph.weights_read(id);
            let by_weight = matches!(self.graph.node(id).op(), Some(Op::BatchNorm(_)))
                && !reads.is_empty()
                && reads.iter().all(|weight| frozen.contains(weight));
            by_weight || state.frozen_labels.iter().any(|label| is_within(place, label))
        };
        let places = state.places.iter().filter(|(id, place)| untrained(place) || is_frozen(**id, place));
        places.map(|(id, _)| *id).collect()
    }
}

fn place_is_of(place: &str, prefix: &str) -> bool {
    is_within(place, prefix.trim_end_matches('.'))
}

/// Whether a name is the label, or of something in its scope. The empty label is that of all.
fn is_within(name: &str, label: &str) -> bool {
    label.is_empty() || name.strip_prefix(label).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
