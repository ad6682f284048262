//! From an optimized graph to code: plan, functions, image, and the rounds of the probe.
//!
//! ```text
//!              ┌──────── kernels that are out of tolerance ────────┐
//!              ▼                                                   │
//! Graph ─functions─▶ Plan, functions ─build─▶ Image ─probe─▶ all accurate? ─▶ Model | file
//! ```
//!
//! What is tuned, and what was found inaccurate, goes to the plan as data (`plan::Findings`): the plan
//! decides, the driver only goes round.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::codegen_error;
use super::network::Settled;
use super::programs::{ModelFile, Programs};
use super::recipe::precision_of;
use super::{Compiler, Error, Event, Network, Stage};
use crate::artifact::{About, Bundle, Destination, Image, Manifest, Port, StepRecord, Texts};
use crate::codegen::packing::Earlier;
use crate::codegen::{self, Generated};
use crate::diagnostic::Location;
use crate::ir::{Cost, Graph, Remark};
use crate::ops::Op;
use crate::plan::conv::{Arithmetic, Points};
use crate::plan::{self, Coarse, Flaw, Inaccurate, Plan, Precision};
use crate::runtime::Model;
use crate::tensor::Tensor;
use crate::trial::outputs::{difference, outputs};
use crate::trial::probe::{self, Probed, TOLERANCE_BF16};
use crate::trial::store::{Times, Tuning};
use crate::trial::tune::tune;

/// Which parts of a step's packed weights are wanted: plan, step, part.
type Wanted<'w> = &'w (dyn Fn(&Plan, usize, usize) -> bool + Sync);

/// Where a program's packed weights go, and what programs before it have packed there.
#[derive(Clone, Copy)]
pub(super) struct Room<'r> {
    pub destination: &'r Destination,
    pub earlier: &'r Earlier,
    pub kept: &'r [u8],
}

impl<'r> Room<'r> {
    /// For a program that is alone, in memory.
    fn alone(earlier: &'r Earlier) -> Self {
        Self { destination: &Destination::Memory, earlier, kept: &[] }
    }
}

/// What was written to a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    pub name: String,
    /// Of the first program, which is the one for whoever names no size.
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// How it is computed; of a portable model, that is decided where it is opened.
    pub code: Option<CompiledCode>,
    /// The inputs of every program.
    pub sizes: Vec<Vec<Port>>,
    /// Bytes of packed weights in the file.
    pub weight_bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CompiledCode {
    pub steps: Vec<StepRecord>,
    /// CPU features that the code needs.
    pub features: Vec<String>,
    /// Bytes of the activations of one run, and what no plan can do without.
    pub arena_bytes: u64,
    pub arena_lower_bound: u64,
}

impl Compiler {
    /// Generates code for an optimized network, into memory.
    ///
    /// # Errors
    /// Where code generation fails, or this machine is not the target.
    pub fn compile(&self, network: &Network) -> Result<Model, Error> {
        let mut programs = Programs::new(Destination::Memory);
        programs.add(self, network)?;
        Model::from_bundle(programs.finish(), self.options).map_err(Error::Run)
    }

    /// Generates code for an optimized network, into a file. Returns what was compiled.
    ///
    /// # Errors
    /// Where code generation or writing fails, or `output` is a file that the network was read from; then nothing is
    /// written.
    pub fn compile_to(&self, network: &Network, output: &Path) -> Result<Compiled, Error> {
        let mut file = ModelFile::create(output)?;
        file.add(self, network)?;
        file.finish()
    }

    /// The plan and the functions that [`Self::compile`] would make code of. Kernels are tried as there,
    /// but weights are packed only where a trial reads them.
    ///
    /// # Errors
    /// Where code generation fails.
    pub fn generated(&self, network: &Network) -> Result<Generated, Error> {
        let options = self.plan_options(network)?;
        self.begin(Stage::Generate);
        let earlier = Earlier::default();
        let generated = self.functions(&network.graph, &options, &earlier)?;
        let is_tried = |s: &plan::Step| probe::rounding_winograd(s).is_some() || s.multiplies_bf16();
        let measured = matches!(options.precision, Precision::FastestWithin(_));
        if !measured && !generated.plan.steps.iter().any(is_tried) {
            return Ok(generated);
        }
        drop(generated);
        self.settle(network, options, Room::alone(&earlier), &probe::reads).map(|(generated, _)| generated)
    }

    /// A program alone, in memory.
    pub(super) fn generate(&self, network: &Network) -> Result<(Generated, Image), Error> {
        self.generate_in(network, Room::alone(&Earlier::default()))
    }

    pub(super) fn generate_in(&self, network: &Network, room: Room) -> Result<(Generated, Image), Error> {
        let mut options = self.plan_options(network)?;
        options.findings.packed.clone_from(room.earlier.kernels());
        self.begin(Stage::Generate);
        let made = self.settle(network, options, room, &|_, _, _| true)?;
        self.tell_objections(network, &made.0.plan);
        network.made_of.files.check()?;
        Ok(made)
    }

    /// The plan and its functions. An algorithm that is asked for all layers must fit one.
    fn functions(&self, graph: &Graph, options: &plan::Options, earlier: &Earlier) -> Result<Generated, Error> {
        let generated = codegen::generate_after(graph, &self.target, options, earlier).map_err(codegen_error)?;
        plan::check_forced(&generated.plan, options).map_err(|e| codegen_error(e.into()))?;
        Ok(generated)
    }

    /// The plan's options, with what is known before the model's own code runs.
    fn plan_options(&self, network: &Network) -> Result<plan::Options, Error> {
        let mut options = self.plan.clone();
        if let Some(Settled { recipe: Some(recipe) }) = &network.settled {
            options.strict |= recipe.strict;
            options.small |= recipe.small;
            if options.precision == Precision::F32 {
                options.precision = precision_of(recipe, &self.target);
            }
            if options.algorithms.is_empty() {
                options.algorithms.clone_from(&recipe.algorithms);
            }
        }
        options.findings.unproved = !self.target.runs_here();
        options.memory = Some(self.options.memory_limit());
        if let Some(path) = &self.tuning {
            options.findings.measured = self.measured(network, &options, path)?;
        }
        Ok(options)
    }

    /// Times of kernels by layer: what the tuning file knows, and what is measured now.
    fn measured(
        &self,
        network: &Network,
        options: &plan::Options,
        path: &Path,
    ) -> Result<BTreeMap<String, Times>, Error> {
        self.begin(Stage::Tune);
        let mut tuning = Tuning::read(path)?;
        let known = tuning.of(&self.target.processor());
        let before = known.len();
        let progress = |done, of| self.tell(Event::Progress { done, of });
        tune(&network.graph, &self.target, options, known, &progress)?;
        let measured = known.clone();
        if measured.len() > before {
            tuning.write(path)?;
        }
        Ok(measured)
    }

    /// Generates code that is as accurate as the options ask for.
    fn settle(
        &self,
        network: &Network,
        mut options: plan::Options,
        room: Room,
        wanted: Wanted,
    ) -> Result<(Generated, Image), Error> {
        let mut bound = TOLERANCE_BF16;
        if let Precision::FastestWithin(tolerance) = options.precision {
            bound = match options.has_bf16(&self.target) {
                true => self.bound_within(network, &mut options, tolerance)?,
                false => 0.0,
            };
        }
        self.settle_to(network, &mut options, bound, room, wanted)
    }

    /// The largest error of a layer in bf16 with which outputs for random inputs stay within `tolerance` of those of f32;
    /// where there is none, the options are those of f32. What was found of layers goes to the options.
    fn bound_within(&self, network: &Network, options: &mut plan::Options, tolerance: f64) -> Result<f64, Error> {
        // No layer that multiplies in bf16 is much nearer.
        const LEAST: f64 = 1.0 / 1024.0;
        let mut exact = plan::Options { precision: Precision::F32, ..options.clone() };
        let expected = self.outputs(network, &mut exact, 0.0)?;
        let mut bound = tolerance;
        while bound >= LEAST {
            let error = difference(&self.outputs(network, options, bound)?, &expected);
            let verdict = if error <= tolerance { "" } else { ", too far" };
            let message = format!("outputs in bf16 are within {error:.1e} of their largest value{verdict}");
            self.remark(message, &[]);
            if error <= tolerance {
                return Ok(bound);
            }
            bound *= (tolerance / error).min(0.5);
        }
        *options = exact;
        Ok(0.0)
    }

    /// What the network computes of random inputs, compiled in memory.
    fn outputs(&self, network: &Network, options: &mut plan::Options, bound: f64) -> Result<Vec<Tensor>, Error> {
        let earlier = Earlier::default();
        let room = Room::alone(&earlier);
        let (_, image) = self.settle_to(network, options, bound, room, &|_, _, _| true)?;
        Ok(outputs(image, self.options)?)
    }

    /// Generates code and tries it; where kernels turn out inaccurate, again with others. Each round
    /// excludes at least one kernel of the first plan, so that there is an end. `bound` is the largest error of a layer that
    /// multiplies in bf16.
    fn settle_to(
        &self,
        network: &Network,
        options: &mut plan::Options,
        bound: f64,
        room: Room,
        wanted: Wanted,
    ) -> Result<(Generated, Image), Error> {
        let graph = &network.graph;
        loop {
            let generated = self.functions(graph, options, room.earlier)?;
            let out_of_range = self.out_of_range(network, &generated.plan);
            if !out_of_range.is_empty() {
                options.findings.inaccurate.extend(out_of_range);
                continue;
            }
            let coarse = self.coarse(network, &generated.plan, bound);
            if !coarse.is_empty() {
                options.findings.coarse.extend(coarse);
                continue;
            }
            let wanted = |step: usize, part: usize| wanted(&generated.plan, step, part);
            let built = codegen::build(graph, &self.target, &generated, room.destination, room.kept, &wanted);
            let mut image = built.map_err(codegen_error)?;
            image.manifest.images = Some(network.images());
            if options.findings.unproved {
                return Ok((generated, image));
            }
            let inaccurate = self.inaccurate(network, &generated, &image, bound)?;
            if inaccurate.is_empty() {
                return Ok((generated, image));
            }
            options.findings.inaccurate.extend(inaccurate);
        }
    }

    /// The kernels that are out of tolerance, but for those that the user forces: these are only
    /// remarked on.
    fn inaccurate(
        &self,
        network: &Network,
        generated: &Generated,
        image: &Image,
        bound: f64,
    ) -> Result<Vec<Inaccurate>, Error> {
        let probed = probe::probe(&network.graph, generated, image).map_err(Error::Run)?;
        let (accurate, others): (Vec<Probed>, Vec<Probed>) = probed.into_iter().partition(|p| p.is_accurate(bound));
        if let Some(worst) = accurate.iter().max_by(|a, b| a.error.total_cmp(&b.error)) {
            let message = format!("{} layers are within {:.1e} of their largest value", accurate.len(), worst.error);
            self.remark(message, &[]);
        }
        let judge = |p: Probed| {
            self.judge(network, &generated.plan.steps[p.step], (p.products, p.points, p.m), Flaw::Rounding(p.error))
        };
        Ok(others.into_iter().filter_map(judge).collect())
    }

    /// The layers that must not multiply in bf16: rounded weights put results off by more than `bound`.
    fn coarse(&self, network: &Network, plan: &Plan, bound: f64) -> Vec<Coarse> {
        let found = probe::rounding(&network.graph, plan).into_iter().filter(|(_, error)| *error > bound);
        let judge = |(step, error): (&plan::Step, f64)| {
            let coarse = Coarse { node: step.node, error };
            let node = network.graph.node(step.node);
            let name = node.name.as_deref().or(node.op().map(Op::name)).unwrap_or_default();
            self.remark(format!("{name}: {coarse}: stays f32"), node.location.as_slice());
            coarse
        };
        found.map(judge).collect()
    }

    /// The layers whose weights Winograd's transforms have no room for, whatever the size of tiles.
    fn out_of_range(&self, network: &Network, plan: &Plan) -> Vec<Inaccurate> {
        let found = probe::out_of_range(&network.graph, plan).into_iter();
        found
            .filter_map(|(step, largest)| {
                self.judge(network, step, (Arithmetic::F32, Points::Real, 0), Flaw::Range(largest))
            })
            .collect()
    }

    /// Remarks on a kernel with a flaw, and gives it, unless the user forces the kernel.
    fn judge(
        &self,
        network: &Network,
        step: &plan::Step,
        (products, points, m): (Arithmetic, Points, usize),
        flaw: Flaw,
    ) -> Option<Inaccurate> {
        let inaccurate = Inaccurate { node: step.node, products, points, m, flaw };
        let node = network.graph.node(step.node);
        let name = node.name.as_deref().unwrap_or("conv2d");
        let verdict = if step.forced { "kept, since it is forced" } else { "not used" };
        self.remark(format!("{name}: {inaccurate}: {verdict}"), node.location.as_slice());
        (!step.forced).then_some(inaccurate)
    }

    /// Remarks on layers whose weights exclude an algorithm without any of its kernels being tried.
    fn tell_objections(&self, network: &Network, plan: &Plan) {
        for step in &plan.steps {
            let Some(objection) = step.layer.as_ref().and_then(|layer| layer.objection()) else { continue };
            let node = network.graph.node(step.node);
            let name = node.name.as_deref().unwrap_or("conv2d");
            self.remark(format!("{name}: {objection}: not used"), node.location.as_slice());
        }
    }

    fn remark(&self, message: String, locations: &[Location]) {
        let remark = Remark { pass: "probe", message, locations: locations.to_vec(), saved: Cost::default() };
        self.tell(Event::Remark(&remark));
    }
}

impl Compiled {
    /// What an image becomes that is alone.
    pub(super) fn of_image(image: Image) -> Self {
        Bundle::new(image, About::default(), Texts::default()).into()
    }
}

impl From<Bundle> for Compiled {
    fn from(Bundle { programs, weights, .. }: Bundle) -> Self {
        let sizes = programs.iter().map(|program| program.manifest.inputs.clone()).collect();
        let first = programs.into_iter().next().expect("there is a program");
        let Manifest { name, features, inputs, outputs, steps, arena_bytes, arena_lower_bound, .. } = first.manifest;
        let code = Some(CompiledCode { steps, features, arena_bytes, arena_lower_bound });
        Self { name, inputs, outputs, code, sizes, weight_bytes: weights.len() as u64 }
    }
}
