//! A `train` block → [`Training`]: the graph of its models and losses, and how weights are to change.
//!
//! ```text
//! choose ─▶ batch, epochs ─▶ data, labels, noise ─▶ model, where nothing calls it ─▶ let, loss, metric, step
//!                                                                                    │ losses: calls of models, heads
//!                                 freeze, no_decay, init ◀─ names of weights ◀───────┘
//! ```
//!
//! A block of one model that it does not call itself has that model's inputs as data, and its inputs, outputs and
//! labels as names. Otherwise models are functions: each call evaluates the model's text anew, on other values, with
//! the weights of the first call. What is wrong with the models' own text is reported as elsewhere.

mod arguments;
mod augment;
mod calls;
mod clauses;
mod losses;
mod reach;
#[cfg(test)]
pub(super) mod tests;
mod weights;
pub(crate) mod words;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::model::is_batch;
use super::program::{DefinitionId, Program};
use super::report::Report;
use super::value::Val;
use super::{Elaborator, FileReader, Flow, Frame, MAX_NODES, Options, check};
use crate::diagnostic::{Diagnostic, Severity, SourceId, Sources, Span, nearest};
use crate::ir::{NodeId, Phase};
use crate::ops::layer::Value;
use crate::recipe::{Loss, Metric, Source, TrainedModel, Training, TrainingStep};
use crate::syntax::ast::*;
use crate::tensor::Shape;
use clauses::Clauses;

/// Repetitions of a step.
const MOST_REPETITIONS: usize = 100;

/// What to elaborate, and how.
pub struct TrainingOptions<'a> {
    /// The block; may be left out where the file has one only.
    pub name: Option<String>,
    /// Values of the models' parameters.
    pub set: Vec<(String, Value)>,
    /// Samples of a step, in place of what the block says.
    pub batch: Option<usize>,
    /// Passes over the data, in place of what the block says.
    pub epochs: Option<usize>,
    /// Seed of the weights' initialisation.
    pub seed: u64,
    /// Reads a file that a `use` names, given its path from the root's folder.
    pub loader: FileReader<'a>,
}

impl Default for TrainingOptions<'_> {
    /// What the block says, seed 0, files from the file system.
    fn default() -> Self {
        Self { name: None, set: vec![], batch: None, epochs: None, seed: 0, loader: Options::default().loader }
    }
}

/// A `train` block that is right.
#[derive(Debug)]
pub struct ElaboratedTraining {
    /// What the block says.
    pub training: Training,
    /// What was warned of.
    pub warnings: Vec<Diagnostic>,
}

/// Elaborates a `train` block. `sources` takes the files that `root` uses.
///
/// # Errors
/// All mistakes that were found, and warnings behind them; at least one is an error.
pub fn training(
    sources: &mut Sources,
    root: SourceId,
    options: &TrainingOptions,
) -> Result<ElaboratedTraining, Vec<Diagnostic>> {
    let (set, seed, loader) = (options.set.clone(), options.seed, options.loader);
    let shapes = std::collections::BTreeMap::new();
    let inner = Options { model: None, set, phase: Phase::Train, shapes, pictures: None, batch: 1, seed, loader };
    let mut report = Report::default();
    let program = Program::load(sources, root, &inner, &mut report);
    check::check(&program, &mut report);
    let Some(block) = choose(&program, options.name.as_deref(), root, &mut report) else {
        return Err(report.finish());
    };
    let mut elaborator = Elaborator::new(&program, sources, &inner, report, &block.name.name);
    elaborator.globals();
    let training = elaborator.train(block, options);
    let Elaborator { mut report, .. } = elaborator;
    if training.is_none() {
        report.unknown(block.name.span);
    }
    let diagnostics = report.finish();
    match training {
        Some(training) if diagnostics.iter().all(|d| d.severity != Severity::Error) => {
            Ok(ElaboratedTraining { training, warnings: diagnostics })
        }
        _ => Err(diagnostics),
    }
}

/// The block that is asked for, or the only one.
fn choose<'p>(program: &'p Program, name: Option<&str>, root: SourceId, report: &mut Report) -> Option<&'p Train> {
    let blocks: Vec<&Train> = program.trainings(Program::ROOT).collect();
    let names: Vec<&str> = blocks.iter().map(|b| b.name.name.as_str()).collect();
    let start = Span::new(root, 0, 0);
    let diagnostic = match (name, blocks.as_slice()) {
        (Some(name), _) => match blocks.iter().find(|b| b.name.name == name) {
            Some(block) => return Some(block),
            None => {
                let message = format!("the file holds no block `train {name}`");
                let diagnostic = Diagnostic::error("unknown-training", message).primary(start, "this file");
                match nearest(name, names.iter().copied()) {
                    Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
                    None if names.is_empty() => diagnostic.help("it holds none at all"),
                    None => diagnostic.help(format!("it holds {}", names.join(", "))),
                }
            }
        },
        (None, [block]) => return Some(block),
        (None, []) if report.has_errors() => return None,
        (None, []) => Diagnostic::error("no-training", "the file does not say how to train")
            .primary(start, "this file")
            .help("write `train model { … }` behind the model: `netc help training`"),
        (None, several) => several.iter().fold(
            Diagnostic::error("several-trainings", format!("the file holds {} `train` blocks", several.len()))
                .help(format!("say which one: {}", names.join(", "))),
            |diagnostic, block| diagnostic.primary(block.name.span, "a block"),
        ),
    };
    report.add(diagnostic);
    None
}

/// A model that takes part.
struct Model {
    name: String,
    span: Span,
    id: DefinitionId,
    /// What its weights' names begin with, the dot included.
    prefix: String,
    calls: usize,
}

/// An output of an auxiliary head.
#[derive(Clone)]
struct Head {
    node: NodeId,
    name: String,
    weight: f64,
    span: Span,
}

/// The model's call at hand.
struct Call {
    model: usize,
    /// Values for its inputs; `None` where its inputs are the data.
    given: Option<Vec<Given>>,
    /// What each input has become.
    taken: Vec<(String, NodeId)>,
    /// The label of the call, and of the model's first one.
    root: String,
    first: String,
    again: bool,
    span: Span,
}

/// A value for an input of a model.
struct Given {
    name: Option<Ident>,
    value: Flow,
    span: Span,
}

/// A `train` block as far as it has been evaluated.
#[derive(Default)]
pub(super) struct State {
    models: Vec<Model>,
    call: Option<Call>,
    /// Labels of calls, and those of calls after a model's first.
    roots: HashSet<String>,
    later_roots: HashSet<String>,
    /// What is declared, with its line.
    sources: HashMap<NodeId, (Source, Span)>,
    /// Labels that are declared, or were made for a loss that names none.
    labels: Vec<NodeId>,
    /// The auxiliary heads beside each output.
    heads: HashMap<NodeId, Rc<[Head]>>,
    /// What heads add to a loss, by its node.
    of_heads: HashMap<NodeId, Vec<Loss>>,
    /// Heads that a loss has taken.
    joined: HashSet<NodeId>,
    /// The scope of each layer whose work depends on the phase, with the model's prefix.
    places: HashMap<NodeId, String>,
    /// Cross entropies whose classes get weights by the data.
    balanced: BTreeSet<NodeId>,
    /// The class that a loss ignores, by its labels.
    ignored: HashMap<NodeId, i64>,
    /// What `freeze` names, with the models' prefixes.
    frozen_labels: Vec<String>,
    /// Where losses and metrics were written.
    spans: HashMap<NodeId, Span>,
}

/// A step as far as it has been evaluated.
struct Draft<'t> {
    name: String,
    span: Span,
    models: Vec<usize>,
    repeat: usize,
    losses: Vec<(Loss, Span)>,
    nodes: Vec<NodeId>,
    clauses: Clauses<'t>,
}

impl<'a> Elaborator<'a> {
    /// Evaluates a block; `None` behind a mistake.
    fn train(&mut self, block: &'a Train, options: &TrainingOptions) -> Option<Training> {
        let mut state = State::default();
        self.train_models(block, &mut state);
        if state.models.is_empty() {
            return None;
        }
        self.check_settings(block, &state);
        self.training = Some(Box::new(state));
        let mut frame = self.new_frame(Program::ROOT, None);
        frame.in_training = true;
        let clauses = self.clauses(&block.body, true);
        let plain = self.plain_lets(&mut frame, &block.body);
        let batch = self.count(&frame, &clauses, "batch", options.batch, block);
        let epochs = self.count(&frame, &clauses, "epochs", options.epochs, block);
        self.batch = batch.unwrap_or(1);
        self.declare_sources(&mut frame, &block.body);
        self.implied_call(&mut frame, block);
        let mut drafts = vec![];
        self.statements_of(&mut frame, &block.body, &plain, &mut drafts);
        let drafts = self.all_steps(&frame, block, &clauses, drafts);
        let metrics = self.metrics(&frame, &clauses);
        self.unused_models();
        let augment = self.augmentations(&frame, &block.body);
        let ema = self.positive(&frame, &clauses, "ema").filter(|&(ema, span)| self.is_share(&frame, "ema", ema, span));
        let memory = self.memory_budgets(&frame, &block.body);
        self.name_unnamed();
        self.share_weights();
        self.name_results();
        self.initialise(&frame, &clauses);
        let frozen = self.frozen(&frame, &clauses, &drafts);
        let steps = self.finish_steps(&frame, &clauses, drafts, &frozen, epochs.unwrap_or(1), options.epochs.is_some());
        let inference = self.inference(&frozen, &steps);
        self.unread_sources();
        self.unjoined_heads();
        if self.report.has_errors() {
            return None;
        }
        self.warn_unreached(&steps);
        let location = Some(self.location(block.name.span));
        let state = self.training.take()?;
        let models = state.models.iter().map(|m| TrainedModel { name: m.name.clone(), prefix: m.prefix.clone() });
        let source = |id: &NodeId| state.sources.get(id).map_or(Source::Data, |(source, _)| source.clone());
        let sources = self.graph.inputs().iter().map(source).collect();
        let graph = std::mem::replace(&mut self.graph, crate::ir::Graph::new("", Phase::Train));
        Some(Training {
            name: block.name.name.clone(),
            location,
            models: models.collect(),
            graph,
            sources,
            steps,
            metrics,
            batch: batch?,
            parts: 1,
            epochs: epochs?,
            augment,
            ema: ema.map(|(ema, _)| ema),
            inference,
            balanced: state.balanced,
            memory,
        })
    }

    /// The models that a block names.
    fn train_models(&mut self, block: &Train, state: &mut State) {
        let named = if block.models.is_empty() { std::slice::from_ref(&block.name) } else { &block.models };
        let program = self.program;
        let known: Vec<_> = program.definitions(Program::ROOT, DefinitionKind::Model).collect();
        for Ident { name, span } in named {
            if let Some(first) = state.models.iter().find(|m| m.name == *name) {
                let diagnostic = Diagnostic::error("duplicate-model", format!("the model `{name}` is named twice"));
                self.report.add(diagnostic.primary(*span, "again").secondary(first.span, "first"));
                continue;
            }
            let found = known.iter().find(|(_, definition)| definition.name.name == *name);
            let Some((id, _)) = found else {
                if self.report.lost_words.contains(name) {
                    continue;
                }
                let message = format!("there is no model `{name}` that could be trained");
                let diagnostic = Diagnostic::error("unknown-model", message).primary(*span, "unknown");
                let names: Vec<&str> = known.iter().map(|(_, d)| d.name.name.as_str()).collect();
                self.report.add(match (nearest(name, names.iter().copied()), names.as_slice()) {
                    (Some(similar), _) => diagnostic.help(format!("did you mean `{similar}`?")),
                    (None, [only]) if block.models.is_empty() => {
                        diagnostic.help(format!("write `train {name}({only}) {{ … }}` for a block with another name"))
                    }
                    (None, []) => diagnostic.help("the file holds no model"),
                    (None, _) => diagnostic.help(format!("there are {}", names.join(", "))),
                });
                continue;
            };
            let prefix = if named.len() == 1 { String::new() } else { format!("{name}.") };
            state.models.push(Model { name: name.clone(), span: *span, id: *id, prefix, calls: 0 });
        }
    }

    /// What is set must be a parameter of one of the models.
    fn check_settings(&mut self, block: &Train, state: &State) {
        let program = self.program;
        let params: Vec<&str> = state
            .models
            .iter()
            .flat_map(|m| program.definition(m.id).params.iter().map(|p| p.name.name.as_str()))
            .collect();
        for (name, _) in &self.options.set {
            if !params.contains(&name.as_str()) {
                let message = format!("no model of this block has a parameter `{name}`");
                let diagnostic = Diagnostic::error("unknown-parameter", message).primary(block.name.span, "this block");
                self.report.add(match nearest(name, params.iter().copied()) {
                    Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
                    None if params.is_empty() => diagnostic.help("they have no parameters"),
                    None => diagnostic.help(format!("their parameters: {}", params.join(", "))),
                });
            }
        }
    }

    fn state(&mut self) -> &mut State {
        self.training.as_mut().expect("only a `train` block is evaluated by this")
    }

    // ---- Inputs --------------------------------------------------------------------------------

    fn declare_sources(&mut self, frame: &mut Frame, body: &TrainBlock) {
        for statement in &body.statements {
            let TrainStatementKind::Source { kind, name, of, dims } = &statement.kind else { continue };
            let shape = self.source_shape(frame, *kind, name, of, dims, statement.span);
            let Some((source, shape)) = shape else {
                // What is said of it has been reported.
                frame.variables.bind(&name.name, Val::Unknown);
                continue;
            };
            let id = match self.labels.define(&name.name, name.span, frame.id) {
                Ok(id) => id,
                Err(first) => {
                    let message = format!("the name `{}` is given twice", name.name);
                    let diagnostic = Diagnostic::error("duplicate-name", message).primary(name.span, "again");
                    self.report.add(diagnostic.secondary(first, "first"));
                    continue;
                }
            };
            let location = Some(self.location(statement.span));
            let node = self.graph.add_input(&*name.name, shape, None, location);
            self.labels.set(id, Flow::Node(node), true);
            if *kind == SourceKind::Labels {
                self.second_labels(name.span);
                self.state().labels.push(node);
            }
            self.state().sources.insert(node, (source, name.span));
        }
    }

    /// A data set has one set of labels.
    fn second_labels(&mut self, span: Span) {
        let Some(first) = self.state().labels.first().copied() else { return };
        let first = self.state().sources[&first].1;
        let diagnostic =
            Diagnostic::error("second-labels", "a data set has one set of labels").primary(span, "the second");
        let diagnostic = diagnostic.secondary(first, "the first");
        self.report.add(diagnostic.help("other targets are `data`: `data target: f32[N, 5]`"));
    }

    fn source_shape(
        &mut self,
        frame: &Frame,
        kind: SourceKind,
        name: &Ident,
        of: &Ident,
        dims: &[Expr],
        span: Span,
    ) -> Option<(Source, Shape)> {
        let source = self.source_type(kind, of)?;
        if let Some(first) = dims.first().filter(|first| !is_batch(first)) {
            let message = format!("the first size of `{}` is the batch, `N`", name.name);
            let diagnostic = Diagnostic::error("no-batch", message).primary(first.span, "not `N`");
            self.report.add(diagnostic.help(format!("write `{} {}: {}[N, …]`", kind.word(), name.name, of.name)));
            return None;
        }
        let known = dims.iter().skip(1).all(|dim| self.known(frame, dim));
        let shape = if known { self.input_shape(frame, dims, span) } else { None };
        shape.map(|shape| (source, shape))
    }

    /// What stands before the sizes: an element, or a distribution.
    fn source_type(&mut self, kind: SourceKind, of: &Ident) -> Option<Source> {
        let (known, help): (&[(&str, Source)], _) = match kind {
            SourceKind::Data => (&[("f32", Source::Data)], "data is of type `f32`"),
            SourceKind::Labels => (
                &[("class", Source::Labels)],
                "labels are numbers of classes: `class[N]`, or `class[N, height, width]`",
            ),
            SourceKind::Noise => (
                &[("normal", Source::Normal), ("uniform", Source::Uniform)],
                "noise is `normal[N, …]` or `uniform[N, …]`",
            ),
        };
        let found = known.iter().find(|(name, _)| *name == of.name);
        if found.is_none() {
            let message = format!("`{}` is of no type `{}`", kind.word(), of.name);
            self.report.add(Diagnostic::error("unknown-type", message).primary(of.span, "unknown").help(help));
        }
        found.map(|(_, source)| source.clone())
    }

    fn unread_sources(&mut self) {
        let state = self.training.as_ref().expect("a block is evaluated");
        let mut unread: Vec<Span> = state
            .sources
            .iter()
            .filter(|(id, _)| self.graph.contains(**id) && self.graph.users(**id).is_empty())
            .map(|(_, (_, span))| *span)
            .collect();
        if self.report.has_errors() {
            return;
        }
        unread.sort_by_key(|span| span.start);
        for span in unread {
            let diagnostic = Diagnostic::warning("unread-value", "nothing reads this input");
            self.report.add(diagnostic.primary(span, "never used"));
        }
    }

    // ---- Statements ----------------------------------------------------------------------------

    /// Binds those `let`s that hold plain values: `batch` and the sizes of inputs may name them. Gives their spans.
    fn plain_lets(&mut self, frame: &mut Frame, body: &'a TrainBlock) -> BTreeSet<u32> {
        let mut plain = BTreeSet::new();
        for statement in &body.statements {
            let TrainStatementKind::Let(l) = &statement.kind else { continue };
            if self.is_plain(frame, &l.value) {
                self.bind_let(frame, l);
                plain.insert(statement.span.start);
            }
        }
        plain
    }

    /// Evaluates what is computed, in the order of the text.
    fn statements_of(
        &mut self,
        frame: &mut Frame,
        body: &'a TrainBlock,
        plain: &BTreeSet<u32>,
        drafts: &mut Vec<Draft<'a>>,
    ) {
        for statement in &body.statements {
            if !self.step(statement.span, 1) {
                return;
            }
            match &statement.kind {
                TrainStatementKind::Let(l) if !plain.contains(&statement.span.start) => {
                    match self.known(frame, &l.value) {
                        true => self.bind_let(frame, l),
                        false => l.pattern.names().iter().for_each(|n| frame.variables.bind(&n.name, Val::Unknown)),
                    }
                }
                TrainStatementKind::Step { models, args, body } => {
                    let draft = self.draft(frame, models, args, body, drafts);
                    drafts.extend(draft);
                }
                TrainStatementKind::Error(_) => self.report.unknown(statement.span),
                _ => {}
            }
        }
    }

    /// A `step`, with its losses.
    fn draft(
        &mut self,
        frame: &mut Frame,
        names: &'a [Ident],
        args: &'a [Arg],
        body: &'a TrainBlock,
        before: &[Draft],
    ) -> Option<Draft<'a>> {
        let models = self.step_models(names, before)?;
        let clauses = self.clauses(body, false);
        let (bound, first) = (frame.variables.len(), self.graph.len());
        let mut inner = vec![];
        self.statements_of(frame, body, &BTreeSet::new(), &mut inner);
        let losses = self.loss(frame, &clauses, Some(names));
        let repeat = self.repetitions(frame, args, names[names.len() - 1].span);
        frame.variables.leave(bound);
        let nodes = self.graph.order().into_iter().filter(|id| id.index() >= first).collect();
        let name = names.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join("+");
        Some(Draft { name, span: names[0].span, models, repeat: repeat?, losses: losses?, nodes, clauses })
    }

    /// How often a step is done: `step critic(repeat = 5)`.
    fn repetitions(&mut self, frame: &Frame, args: &[Arg], step: Span) -> Option<usize> {
        if !args.iter().all(|a| self.known(frame, &a.value)) {
            return None;
        }
        let called = self.arguments_of(frame, &words::STEP, args, step)?;
        let repeat = called.args.size("repeat");
        // Each repetition is written out; a graph has an end.
        let nodes = self.graph.len().saturating_mul(repeat);
        if repeat > MOST_REPETITIONS || nodes > MAX_NODES {
            let message = match repeat > MOST_REPETITIONS {
                true => format!("a step is repeated {MOST_REPETITIONS} times at most, not {repeat}"),
                false => format!("{repeat} repetitions of {} layers and losses are too many", self.graph.len()),
            };
            let diagnostic = Diagnostic::error("too-many-repetitions", message).primary(called.span_of("repeat"), "");
            self.report.add(diagnostic.help("each repetition is a part of the compiled step"));
            return None;
        }
        Some(repeat)
    }

    fn step_models(&mut self, names: &[Ident], before: &[Draft]) -> Option<Vec<usize>> {
        let mut models = vec![];
        for Ident { name, span } in names {
            let all = &self.state().models;
            let Some(model) = all.iter().position(|m| m.name == *name) else {
                let known: Vec<String> = all.iter().map(|m| m.name.clone()).collect();
                let diagnostic = Diagnostic::error("unknown-model", format!("this block trains no model `{name}`"));
                let diagnostic = diagnostic.primary(*span, "unknown");
                self.report.add(match nearest(name, known.iter().map(String::as_str)) {
                    Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
                    None => diagnostic.help(format!("its models: {}", known.join(", "))),
                });
                return None;
            };
            if models.contains(&model) || before.iter().any(|draft| draft.models.contains(&model)) {
                let message = format!("the weights of `{name}` are trained by two steps");
                let diagnostic = Diagnostic::error("trained-twice", message).primary(*span, "again");
                let first = before.iter().find(|draft| draft.models.contains(&model)).map(|draft| draft.span);
                let diagnostic = first.into_iter().fold(diagnostic, |d, span| d.secondary(span, "first"));
                self.report.add(diagnostic.help("join the losses of both with `+` in one step"));
                return None;
            }
            models.push(model);
        }
        Some(models)
    }

    /// The steps of a block: those that are written, or the block itself as one.
    fn all_steps(
        &mut self,
        frame: &Frame,
        block: &Train,
        clauses: &Clauses<'a>,
        mut drafts: Vec<Draft<'a>>,
    ) -> Vec<Draft<'a>> {
        let has_steps = block.body.statements.iter().any(|s| matches!(s.kind, TrainStatementKind::Step { .. }));
        if has_steps {
            if let Some((_, span)) = clauses.single.get("loss") {
                let diagnostic = Diagnostic::error("misplaced-clause", "a loss beside steps, which have their own");
                self.report.add(diagnostic.primary(*span, "of which step?").help("write it into a `step`"));
            }
            return drafts;
        }
        let models = (0..self.state().models.len()).collect();
        if let Some(losses) = self.loss(frame, clauses, None) {
            drafts.push(Draft {
                name: block.name.name.clone(),
                span: block.name.span,
                models,
                repeat: 1,
                losses,
                nodes: self.graph.order(),
                clauses: Clauses::default(),
            });
        }
        drafts
    }

    /// A model that nothing calls has no part in what is trained.
    fn unused_models(&mut self) {
        let unused: Vec<(String, Span)> =
            self.state().models.iter().filter(|m| m.calls == 0).map(|m| (m.name.clone(), m.span)).collect();
        if self.report.has_errors() {
            return;
        }
        for (name, span) in unused {
            let diagnostic =
                Diagnostic::error("unused-model", format!("nothing in the block calls the model `{name}`"));
            let help = format!("give it a value, `let out = {name}(image)`, or leave it out");
            self.report.add(diagnostic.primary(span, "never called").help(help));
        }
    }

    /// Joins the parts of steps, now that weights have names.
    fn finish_steps(
        &mut self,
        frame: &Frame,
        common: &Clauses<'a>,
        drafts: Vec<Draft<'a>>,
        frozen: &BTreeSet<crate::weights::WeightId>,
        epochs: usize,
        is_set: bool,
    ) -> Vec<TrainingStep> {
        let mut steps = vec![];
        for draft in drafts {
            let own = |name| if draft.clauses.single.contains_key(name) { &draft.clauses } else { common };
            let optimizer = self.optimizer(frame, own("optimizer"), draft.span);
            let schedule = self.schedule(frame, own("schedule"), epochs, is_set);
            let clip = self.positive(frame, own("clip"), "clip").map(|(clip, _)| clip);
            let clamp = self.positive(frame, own("clamp"), "clamp").map(|(clamp, _)| clamp);
            let trained = self.trained(&draft.models, frozen);
            let no_decay = self.without_decay(frame, &[common, &draft.clauses], &draft.models);
            let mut lr_scale = self.rate_factors(frame, &[common, &draft.clauses], &draft.models);
            lr_scale.retain(|weight, _| trained.contains(weight));
            if self.report.has_errors() {
                // Losses that could not be evaluated reach nothing.
                continue;
            }
            self.check_reach(&draft, &trained);
            let Some(optimizer) = optimizer else { continue };
            steps.push(TrainingStep {
                name: draft.name,
                location: Some(self.location(draft.span)),
                losses: draft.losses.into_iter().map(|(loss, _)| loss).collect(),
                repeat: draft.repeat,
                nodes: draft.nodes,
                no_decay: no_decay.into_iter().filter(|weight| trained.contains(weight)).collect(),
                trained,
                lr_scale,
                optimizer,
                schedule,
                clip,
                clamp,
            });
        }
        steps
    }

    fn metrics(&mut self, frame: &Frame, clauses: &Clauses<'a>) -> Vec<Metric> {
        let values: Vec<&Expr> = clauses.of("metric").collect();
        values.into_iter().filter_map(|value| self.metric(frame, value)).collect()
    }

    fn no_such(&mut self, table: &words::Table, name: &str, span: Span) {
        let diagnostic = Diagnostic::error("unknown-word", format!("there is no {} `{name}`", table.what));
        let diagnostic = diagnostic.primary(span, "unknown");
        self.report.add(match nearest(name, table.names()) {
            Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
            None => diagnostic.help(format!("there are {}", table.names().collect::<Vec<_>>().join(", "))),
        });
    }

    /// The shape of labels for scores: one a sample, or one a pixel.
    fn labels_of(&self, scores: NodeId) -> Shape {
        let dims = self.graph.node(scores).shape.dims();
        Shape::new([&dims[..1], &dims[2..]].concat())
    }
}
