//! Syntax tree → graph: modules are called, `for` and `if` vanish, shapes are inferred, weights get
//! their names.
//!
//! In: sources, of which one is the program's root, and options. Out: the graph of one model, typed,
//! with the line of the spec at every node; or every mistake that could be found.
//!
//! ```text
//! root ─program─▶ files ─check─▶ (names resolved, nothing evaluated) ─model─▶ Graph
//!                                                   statement, join, call, expression, images
//! ```
//!
//! `check` walks all text, called or not, and reports what needs no values: unknown names, wrong
//! arguments, recursion. The evaluation behind it reports what only values show, goes on after a
//! mistake with the likeliest meaning, and gives up on a value (`Unknown`) where there is none.
//!
//! This folder does not know one layer from another, beyond the joins that the language has words
//! for, and knows neither passes nor files: a `use` is read by a function of the options.

mod arithmetic;
mod bindings;
mod call;
mod check;
mod expression;
mod images;
mod join;
mod labels;
mod model;
mod program;
mod recursion;
mod report;
mod statement;
#[cfg(test)]
mod tests;
mod training;
mod unread;
mod value;

use crate::diagnostic::{Diagnostic, Location, Severity, SourceId, Sources, Span};
use crate::ir::stats::Stats;
use crate::ir::{AuxHead, Graph, Images, NodeId, Phase};
use crate::opened;
use crate::ops::WeightDecl;
use crate::ops::layer::Value;
use crate::syntax::MAX_SOURCE;
use crate::weights::WeightId;
use bindings::Bindings;
use labels::{FrameId, Labels};
use program::{DefinitionId, FileId, Program};
use report::Report;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::rc::Rc;
use value::Val;

pub(crate) use training::words;
pub use training::{ElaboratedTraining, TrainingOptions, training};

/// A network may have no more nodes than this.
pub(crate) const MAX_NODES: usize = 100_000;
/// Evaluating a model may take no more steps than this: statements, operations, loop passes.
pub(crate) const MAX_STEPS: usize = 4_000_000;
/// Of a model with mistakes, no more is evaluated than this: more of them may be found.
const MAX_STEPS_AFTER_ERRORS: usize = 100_000;
/// Blocks may be evaluated inside one another no deeper than this, calls included.
pub(crate) const MAX_BLOCKS: usize = 200;
/// Expressions may be evaluated inside one another no deeper than this, functions included.
const MAX_EXPRESSIONS: usize = 300;
/// A program may consist of no more files than this.
pub(crate) const MAX_FILES: usize = 256;

/// Reads a file that a `use` names.
pub(crate) type FileReader<'a> = &'a dyn Fn(&Path) -> std::io::Result<String>;

/// What to elaborate, and how.
pub struct Options<'a> {
    /// The model; may be left out where the file has one only.
    pub model: Option<String>,
    /// Values of the model's parameters.
    pub set: Vec<(String, Value)>,
    /// Whether the graph is to be the one for training or the one for inference.
    pub phase: Phase,
    /// Whole shapes of inputs in place of those that the text states, by name. The first size of an input that begins with
    /// `N` is [`Self::batch`] whatever stands there.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Height and width of the pictures, in place of those that the text states: of the only input with four axes.
    pub pictures: Option<[usize; 2]>,
    /// The size of `N`. A model without `N` has no other than its own; 1 is taken for that.
    pub batch: usize,
    /// Seed of the weights' initialisation.
    pub seed: u64,
    /// Reads a file that a `use` names, given its path from the root's folder.
    pub loader: FileReader<'a>,
}

impl Default for Options<'_> {
    /// Inference of one image, seed 0, files from the file system.
    fn default() -> Self {
        let loader = &|path: &Path| {
            let mut text = String::new();
            let file = opened::open(path)?;
            file.take(MAX_SOURCE as u64 + 1).read_to_string(&mut text).map(|_| text)
        };
        Self {
            model: None,
            set: vec![],
            phase: Phase::Infer,
            shapes: BTreeMap::new(),
            pictures: None,
            batch: 1,
            seed: 0,
            loader,
        }
    }
}

/// A model that is right.
#[derive(Debug)]
pub struct Elaborated {
    pub graph: Graph,
    pub stats: Stats,
    /// The inputs whose first size is `N`.
    pub open: Vec<NodeId>,
    pub images: Images,
    /// The values that labels name, by full names.
    pub labels: HashMap<String, NodeId>,
    pub warnings: Vec<Diagnostic>,
}

/// Makes the graph of a model. `sources` takes the files that `root` uses.
///
/// # Errors
/// All mistakes that were found, and warnings behind them; at least one is an error.
pub fn elaborate(sources: &mut Sources, root: SourceId, options: &Options) -> Result<Elaborated, Vec<Diagnostic>> {
    let mut report = Report::default();
    let program = Program::load(sources, root, options, &mut report);
    check::check(&program, &mut report);
    let Some(model) = model::choose(&program, options, root, &mut report) else {
        return Err(report.finish());
    };
    let mut elaborator = Elaborator::new(&program, sources, options, report, &program.definition(model).name.name);
    elaborator.globals();
    let figures = elaborator.model(model);
    let labels = elaborator.labels.values();
    let Elaborator { graph, report, open, .. } = elaborator;
    let diagnostics = report.finish();
    match figures {
        Some((stats, images)) if diagnostics.iter().all(|d| d.severity != Severity::Error) => {
            Ok(Elaborated { graph, stats, open, images, labels, warnings: diagnostics })
        }
        _ => Err(diagnostics),
    }
}

/// The names of the models in a file, in text order. Files that it uses are not read.
pub(crate) fn model_names(sources: &Sources, root: SourceId) -> Vec<String> {
    crate::syntax::model_names(&sources.get(root).text)
}

/// The names of the `train` blocks in a file, in text order.
pub(crate) fn training_names(sources: &Sources, root: SourceId) -> Vec<String> {
    crate::syntax::training_names(&sources.get(root).text)
}

/// The parameters of a model that are integers, and their defaults. Without a name, of the only model.
pub(crate) fn integer_parameters(sources: &Sources, root: SourceId, model: Option<&str>) -> Vec<(String, i64)> {
    use crate::syntax::ast::{DefinitionKind, ExprKind, Item};
    let (file, _) = crate::syntax::parse(sources, root);
    let mut models = file.items.iter().filter_map(|item| match item {
        Item::Definition(d) if d.kind == DefinitionKind::Model => Some(d),
        _ => None,
    });
    let chosen = models.find(|d| model.is_none_or(|name| d.name.name == name));
    let params = chosen.map_or(&[][..], |d| &d.params);
    let integer = |p: &crate::syntax::ast::Param| match p.default.as_ref()?.kind {
        ExprKind::Int(v) => Some((p.name.name.clone(), v)),
        _ => None,
    };
    params.iter().filter_map(integer).collect()
}

/// Reads `name=value`, as a command line sets a model's parameter. A value that is no constant of
/// the language is a string.
///
/// # Errors
/// Where there is no `name=`.
pub(crate) fn parse_setting(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form name=value"))?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() {
        return Err(format!("`{text}` has no name before the `=`"));
    }
    Ok((name.to_string(), setting_value(value)))
}

/// The value of a model's parameter as a text: a constant of the language, else a string.
pub(crate) fn setting_value(text: &str) -> Value {
    let constant = crate::syntax::parse_expr(text.trim()).and_then(|e| expression::constant(&e));
    constant.unwrap_or_else(|| Value::Str(text.trim().to_string()))
}

/// What the next statement works on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flow {
    /// No input has been declared.
    Nothing,
    Node(NodeId),
    /// A mistake, already reported, left no value.
    Unknown,
}

/// Calls that lead to a place, outermost first, with the modules' names.
type Calls = Rc<Vec<(Span, String)>>;

/// The evaluation of one body: a model's, or a module's at one call.
struct Frame {
    id: FrameId,
    file: FileId,
    /// Inner bindings behind outer ones.
    variables: Bindings<Val>,
    /// Labels around the statement at hand, outermost first; those before `base` are the caller's.
    scopes: Vec<String>,
    base: usize,
    /// `in`: what enters the innermost block.
    input: Flow,
    /// `here`: what the statement at hand works on.
    here: Flow,
    /// The auxiliary head around the statement at hand.
    aux: Option<AuxHead>,
    /// Inside a `for`.
    in_loop: bool,
    /// Inside a `when`.
    in_phase: bool,
    /// The body is a `train` block: models, losses and metrics can be called in its expressions.
    in_training: bool,
    /// The calls that led here.
    calls: Calls,
    /// The modules that are being evaluated.
    active: Vec<DefinitionId>,
    /// Whose weights the layers here have.
    shares: Option<Rc<Shares>>,
}

impl Frame {
    /// The full name of the scope at hand.
    fn path(&self) -> String {
        self.scopes.join(".")
    }
}

/// A call that has the weights of another one: `own: tower shares other`.
struct Shares {
    /// The full labels of the call and of the other.
    own: String,
    other: String,
    /// The other's label where the call names it.
    span: Span,
}

impl Shares {
    /// The weight of the other call that one of this call is.
    fn other_name(&self, name: &str) -> String {
        let own = name.strip_prefix(&self.own).unwrap_or(name);
        // A model's first call may have no label.
        if self.other.is_empty() { own.trim_start_matches('.').into() } else { format!("{}{own}", self.other) }
    }
}

/// A layer with weights but without a label, to be named when its scope is complete.
struct Unnamed {
    path: String,
    layer: &'static str,
    node: NodeId,
    span: Span,
    calls: Calls,
    shares: Option<Rc<Shares>>,
}

/// A layer that has another's weights: found when those of all layers have names.
struct Sharing {
    /// What its weights would be called.
    path: String,
    node: NodeId,
    decls: Vec<WeightDecl>,
    span: Span,
    calls: Calls,
    shares: Rc<Shares>,
}

/// Where a weight was declared.
#[derive(Clone)]
struct Origin {
    span: Span,
    calls: Calls,
}

struct Elaborator<'a> {
    program: &'a Program,
    sources: &'a Sources,
    options: &'a Options<'a>,
    /// The size of `N`.
    batch: usize,
    report: Report,
    graph: Graph,
    /// The `train` block that is evaluated.
    training: Option<Box<training::State>>,
    /// The inputs whose first size is `N`.
    open: Vec<NodeId>,
    labels: Labels,
    unnamed: Vec<Unnamed>,
    sharing: Vec<Sharing>,
    origins: HashMap<WeightId, Origin>,
    output_spans: HashMap<String, Span>,
    /// The `preprocess` of each input that has one.
    preprocess_spans: HashMap<NodeId, Span>,
    /// Inputs that are none, of which a mistake told.
    refused_inputs: HashSet<String>,
    /// Heights and widths that the text states of inputs which have others now.
    stated_sizes: HashMap<NodeId, [usize; 2]>,
    /// The names of classes, where they are given.
    class_labels_span: Option<Span>,
    /// The last node of each labelled statement.
    results: Vec<(NodeId, String)>,
    /// The calls that ops were added in.
    node_calls: HashMap<NodeId, Calls>,
    /// What the `let`s and `table`s at the top of each file bind.
    globals: HashMap<FileId, Bindings<Val>>,
    /// What the expression at hand binds itself: inside of all that its frame binds.
    locals: Bindings<Val>,
    locations: HashMap<Span, Location>,
    steps: usize,
    /// Blocks being evaluated.
    depth: usize,
    /// Expressions being evaluated.
    expressions: usize,
    /// Statements were left out because of a mistake, and with them labels.
    lacks_labels: bool,
    /// A limit was hit: nothing more is evaluated.
    stopped: bool,
    budgets: Vec<model::Budget>,
}

impl<'a> Elaborator<'a> {
    fn new(
        program: &'a Program,
        sources: &'a Sources,
        options: &'a Options<'a>,
        report: Report,
        name: &str,
    ) -> Elaborator<'a> {
        let mut graph = Graph::new(name, options.phase);
        graph.weights.seed = options.seed;
        Elaborator {
            program,
            sources,
            options,
            batch: options.batch.max(1),
            report,
            graph,
            training: None,
            open: vec![],
            labels: Labels::default(),
            unnamed: vec![],
            sharing: vec![],
            origins: HashMap::new(),
            output_spans: HashMap::new(),
            preprocess_spans: HashMap::new(),
            refused_inputs: HashSet::new(),
            stated_sizes: HashMap::new(),
            class_labels_span: None,
            results: vec![],
            node_calls: HashMap::new(),
            globals: HashMap::new(),
            locals: Bindings::default(),
            locations: HashMap::new(),
            steps: 0,
            depth: 0,
            expressions: 0,
            lacks_labels: false,
            stopped: false,
            budgets: vec![],
        }
    }

    /// Reports a mistake in the body at hand, with the calls that led there.
    fn error(&mut self, frame: &Frame, diagnostic: Diagnostic) {
        self.report.add(with_calls(diagnostic, &frame.calls));
    }

    /// Counts work that `span` asks for. False once the limit is reached.
    fn step(&mut self, span: Span, work: usize) -> bool {
        self.steps = self.steps.saturating_add(work);
        if self.steps > MAX_STEPS_AFTER_ERRORS && self.report.has_errors() {
            self.stopped = true;
        }
        if self.steps > MAX_STEPS && !self.stopped {
            self.stopped = true;
            let message = format!("the model takes more than {MAX_STEPS} steps to evaluate");
            self.report.add(
                Diagnostic::error("unroll-limit", message)
                    .primary(span, "the limit is reached here")
                    .help("a `for` is unrolled when the network is compiled: look for one that runs too often"),
            );
        }
        !self.stopped
    }

    fn location(&mut self, span: Span) -> Location {
        let sources = self.sources;
        self.locations.entry(span).or_insert_with(|| sources.location(span)).clone()
    }
}

/// Adds the calls that led to a mistake, the innermost ones where there are many.
fn with_calls(mut diagnostic: Diagnostic, calls: &[(Span, String)]) -> Diagnostic {
    for (span, name) in calls.iter().rev().take(3) {
        diagnostic = diagnostic.secondary(*span, format!("in this call of `{name}`"));
    }
    diagnostic
}
